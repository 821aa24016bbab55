//! One `DoPut` on the wire: the request body takes batches straight from the window, the answers are read by the sender.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};

use super::Error;
use super::decode::{OWN_BYTES_MIN, aligned_copy};
use super::shared::Lender;
use super::watched::Watched;
use super::window::{Entry, Next, Window};
use crate::wire::body::Body;
use crate::wire::dictionary::DictionarySet;
use crate::wire::frame::FrameWriter;
use crate::wire::metadata::AppendMetadata;

/// Batches taken from the window under one lock: enough to fill a few chunks, little enough to hold it briefly.
const TAKE_BYTES: u64 = 256 << 10;

/// The request body of one `DoPut`: descriptor and schema, then what the window gives.
pub(super) struct PutBody {
    window: Arc<Watched<Window>>,
    lane: u64,
    frames: FrameWriter,
    /// Dictionaries that this connection has sent.
    held: Arc<DictionarySet>,
    /// Known when the first batch is sent.
    partitions: Option<u32>,
    /// Lends bodies instead of sending them.
    lender: Option<Arc<Lender>>,
    /// The coordinator keeps what it is handed.
    is_within_process: bool,
    /// Of the message whose head was handed over last: copied when it is asked for, which is once there is room for it.
    body: Option<Body>,
    ended: bool,
}

impl PutBody {
    /// `descriptor` is an encoded `FlightDescriptor`. Takes over the window's sending.
    pub(super) fn new(
        window: Arc<Watched<Window>>,
        descriptor: &[u8],
        schema_header: &Bytes,
        lender: Option<Arc<Lender>>,
        is_within_process: bool,
    ) -> Self {
        let lane = window.with(Window::open_lane);
        let mut frames = if is_within_process { FrameWriter::within_process() } else { FrameWriter::new() };
        frames.push(descriptor, schema_header, &[], &Body::new());
        frames.flush();
        Self { window, lane, frames, held: DictionarySet::empty(), partitions: None, lender, is_within_process, body: None, ended: false }
    }

    fn push(&mut self, ordinal: u64, entry: &Entry) {
        for dictionary in entry.batch.dictionaries.missing_from(&self.held) {
            if self.is_within_process {
                self.frames.push(&[], &dictionary.header, &[], &owned(&dictionary.body));
            } else {
                self.frames.push(&[], &dictionary.header, &[], &dictionary.body);
            }
        }
        self.held = entry.batch.dictionaries.clone();
        let partition = entry.partition.map_or_else(|| self.round_robin(ordinal), |partition| partition.0);
        let body = &entry.batch.message.body;
        let shared = self.lender.as_ref().and_then(|lender| lender.lend(body));
        let is_lent = shared.is_some();
        let metadata = AppendMetadata { partition: Some(partition), ordinal, user: entry.batch.user.clone(), shared }.to_bytes();
        let header = &entry.batch.message.header;
        if is_lent {
            self.frames.push(&[], header, &metadata, &Body::new());
        } else if self.is_within_process && body.len() >= OWN_BYTES_MIN {
            self.frames.push_head(&[], header, &metadata, body.len());
            self.body = Some(body.clone());
        } else {
            self.frames.push(&[], header, &metadata, body);
        }
    }

    fn round_robin(&self, ordinal: u64) -> u32 {
        let partitions = u64::from(self.partitions.unwrap_or(1).max(1));
        u32::try_from(ordinal % partitions).unwrap_or(0)
    }
}

/// A body as memory of its own, aligned so that a reader in the process can use it as it is. What its batch lies in is the
/// caller's: that may be a slice of something larger, and be written again once the batch is stored.
fn owned(body: &Body) -> Body {
    Body::from(Bytes::from_owner(aligned_copy(body)))
}

impl HttpBody for PutBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            if let Some(chunk) = self.frames.next_chunk() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            if let Some(body) = self.body.take() {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(aligned_copy(&body))))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let lane = self.lane;
            // Within the process a body that is handed over follows its head: it is the last of those that are taken.
            let bytes_max = if self.is_within_process { OWN_BYTES_MIN } else { TAKE_BYTES };
            let (next, partitions) = self.window.with(|window| (window.next_unsent(lane, bytes_max, context.waker()), window.partitions));
            self.partitions = partitions;
            match next {
                Next::Batches(batches) => {
                    for (ordinal, entry) in &batches {
                        self.push(*ordinal, entry);
                    }
                    self.frames.flush();
                }
                Next::Wait => return Poll::Pending,
                Next::Close => self.ended = true,
                Next::Superseded => return Poll::Ready(Some(Err(Error::invalid("a newer connection sends these batches")))),
            }
        }
    }
}
