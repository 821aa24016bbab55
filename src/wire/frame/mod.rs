//! gRPC framing of `FlightData` by hand: five bytes of prefix, then the protobuf fields `flight_descriptor` = 1,
//! `data_header` = 2, `app_metadata` = 3 and `data_body` = 1000, of which a large body is never copied.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>,
//! <https://github.com/apache/arrow/blob/main/format/Flight.proto>

mod proto;
mod reader;
mod rope;
mod writer;

use bytes::Bytes;

pub use proto::{ProtoReader, frame_proto};
pub use reader::{FrameReader, Small};
pub use writer::{FrameWriter, WithinProcess};

use super::error::WireError;
pub use super::limits::HEAD_BYTES_MAX;
use rope::Rope;

/// Length of the prefix: a flag for compression and a big-endian length.
const PREFIX: usize = 5;
const DESCRIPTOR: u32 = 1;
const HEADER: u32 = 2;
const METADATA: u32 = 3;
const BODY: u32 = 1000;

/// A `FlightData` but for its body.
#[derive(Debug, Clone, Default)]
pub struct FlightHead {
    /// Encoded `FlightDescriptor`, or empty.
    pub descriptor: Bytes,
    /// The IPC message's flatbuffer, or empty.
    pub header: Bytes,
    /// `app_metadata`, or empty.
    pub metadata: Bytes,
    /// Length of the body, which [`FrameReader::body`] gives once it is there.
    pub body_len: u64,
}

/// The length of the next message, once its prefix is there.
fn prefix(rope: &mut Rope, message_bytes_max: u64) -> Result<Option<usize>, WireError> {
    let mut bytes = [0; PREFIX];
    if rope.peek(&mut bytes) < PREFIX {
        return Ok(None);
    }
    let [compressed, length @ ..] = bytes;
    if compressed != 0 {
        return Err(WireError::malformed("a compressed gRPC message; send it plain (Arrow's own body compression is welcome)"));
    }
    let length = u32::from_be_bytes(length);
    if u64::from(length) > message_bytes_max {
        return Err(WireError::MessageTooLarge { bytes: length.into(), limit: message_bytes_max });
    }
    rope.skip(PREFIX);
    Ok(Some(length as usize))
}
