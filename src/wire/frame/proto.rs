//! Small framed messages of any protobuf type.

use std::marker::PhantomData;

use bytes::{BufMut, Bytes, BytesMut};

use super::{PREFIX, Rope, prefix};
use crate::wire::error::WireError;

/// A message with its prefix.
#[must_use]
pub fn frame_proto(message: &impl prost::Message) -> Bytes {
    let len = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX + len);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    message.encode_raw(&mut framed);
    framed.freeze()
}

/// Reads framed messages from chunks cut anywhere.
#[derive(Debug)]
pub struct ProtoReader<M> {
    rope: Rope,
    pending: Option<usize>,
    message_bytes_max: u64,
    message: PhantomData<fn() -> M>,
}

impl<M: prost::Message + Default> ProtoReader<M> {
    /// Takes messages of up to so many bytes.
    #[must_use]
    pub fn new(message_bytes_max: u64) -> Self {
        Self { rope: Rope::default(), pending: None, message_bytes_max, message: PhantomData }
    }

    /// Takes in what was received.
    pub fn push(&mut self, chunk: Bytes) {
        self.rope.push(chunk);
    }

    /// The next message; none: push more.
    ///
    /// # Errors
    /// [`WireError::MessageTooLarge`], [`WireError::Malformed`].
    #[expect(clippy::should_implement_trait, reason = "an iterator's end is final, this one's is not")]
    pub fn next(&mut self) -> Result<Option<M>, WireError> {
        let len = match self.pending {
            Some(len) => len,
            None => match prefix(&mut self.rope, self.message_bytes_max)? {
                Some(len) => *self.pending.insert(len),
                None => return Ok(None),
            },
        };
        if self.rope.len() < len {
            return Ok(None);
        }
        self.pending = None;
        M::decode(self.rope.take(len).contiguous()).map(Some).map_err(WireError::malformed)
    }
}
