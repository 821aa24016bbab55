//! The facts that travel with each batch in `app_metadata`: `proto/bowstring/v1/flight.proto`.

use bytes::Bytes;
use prost::Message;

use super::error::WireError;
pub use super::proto::{AppendMetadata, AppendResult, BatchMetadata};

macro_rules! metadata {
    ($($name:ident),*) => {$(
        impl $name {
            /// Reads it from `app_metadata`.
            ///
            /// # Errors
            /// [`WireError::Malformed`] if the bytes are another message.
            pub fn from_bytes(bytes: &Bytes) -> Result<Self, WireError> {
                Self::decode(bytes.clone()).map_err(|error| WireError::malformed(format!("app_metadata is no {}: {error}", stringify!($name))))
            }

            /// Its bytes for `app_metadata`.
            #[must_use]
            pub fn to_bytes(&self) -> Bytes {
                self.encode_to_vec().into()
            }
        }
    )*};
}

metadata!(AppendMetadata, AppendResult, BatchMetadata);
