//! What a `DoPut` brings: its messages one by one, their bodies by the connection or in shared memory.

use std::sync::Arc;

use bytes::Bytes;
use http_body::Body as HttpBody;
use http_body_util::BodyExt;

use super::error::Error;
use super::shared::Link;
use crate::wire::body::Body;
use crate::wire::error::WireError;
use crate::wire::frame::{FlightHead, FrameReader, Small};
use crate::wire::metadata::AppendMetadata;

/// The request's messages.
pub(super) struct Input<B> {
    body: B,
    frames: FrameReader,
    message_bytes_max: u64,
    link: Option<Arc<Link>>,
    /// Of the last head: its body, if that lies in shared memory.
    placed: Option<Body>,
}

impl<B> Input<B> {
    pub(super) fn new(body: B, message_bytes_max: u64) -> Self {
        Self { body, frames: FrameReader::new(message_bytes_max, Small::Copied), message_bytes_max, link: None, placed: None }
    }

    /// From now on bodies may lie in the link's arenas.
    pub(super) fn use_link(&mut self, link: Arc<Link>) {
        self.link = Some(link);
    }

    /// The next message but for its body, if it has been received already.
    pub(super) fn ready(&mut self) -> Result<Option<FlightHead>, Error> {
        let Some(mut head) = self.frames.head()? else { return Ok(None) };
        if let Some(link) = &self.link
            && head.body_len == 0
            && !head.metadata.is_empty()
            && let Some(shared) = AppendMetadata::from_bytes(&head.metadata)?.shared
        {
            let bytes = shared.bytes.saturating_add(head.header.len() as u64);
            if bytes > self.message_bytes_max {
                return Err(Error::Wire(WireError::MessageTooLarge { bytes, limit: self.message_bytes_max }));
            }
            let body = link.body(&shared)?;
            head.body_len = body.len();
            self.placed = Some(body);
        }
        Ok(Some(head))
    }
}

impl<B> Input<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    /// The next message but for its body; none at the end.
    pub(super) async fn head(&mut self) -> Result<Option<FlightHead>, Error> {
        loop {
            if let Some(head) = self.ready()? {
                return Ok(Some(head));
            }
            if !self.receive().await? {
                return if self.frames.is_between_messages() { Ok(None) } else { Err(Error::Wire(WireError::cut_short())) };
            }
        }
    }

    /// The body that belongs to the last head.
    pub(super) async fn body(&mut self) -> Result<Body, Error> {
        loop {
            if let Some(body) = self.frames.body()? {
                return Ok(self.placed.take().unwrap_or(body));
            }
            if !self.receive().await? {
                return Err(Error::Wire(WireError::cut_short()));
            }
        }
    }

    /// Takes in what the connection has next; false at the end of the request.
    async fn receive(&mut self) -> Result<bool, Error> {
        match self.body.frame().await {
            None => Ok(false),
            Some(Err(error)) => Err(Error::Disconnected { reason: error.to_string() }),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.frames.push(data);
                }
                Ok(true)
            }
        }
    }
}
