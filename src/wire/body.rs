//! A message body as the chunks it came in, never made contiguous on its way through the server.

use std::any::Any;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

/// A body of one or more chunks, shared and not copied.
#[derive(Clone, Debug, Default)]
pub struct Body {
    chunks: Vec<Bytes>,
    len: u64,
    place: Option<Arc<dyn Any + Send + Sync>>,
}

impl Body {
    /// An empty body.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A body in shared memory. What the place is matters to those alone who know its type.
    #[must_use]
    pub fn placed(bytes: Bytes, place: Arc<dyn Any + Send + Sync>) -> Self {
        Self { place: Some(place), ..Self::from(bytes) }
    }

    /// Where it lies in shared memory, if that is a place of this type.
    #[must_use]
    pub fn place<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.place.clone()?.downcast().ok()
    }

    /// Whether it lies in shared memory: aligned, in one piece, and no part of anything larger that it would hold on to.
    #[must_use]
    pub fn is_placed(&self) -> bool {
        self.place.is_some()
    }

    /// Appends a chunk.
    pub fn push(&mut self, chunk: Bytes) {
        self.place = None;
        if !chunk.is_empty() {
            self.len += chunk.len() as u64;
            self.chunks.push(chunk);
        }
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its chunks, none of them empty.
    #[must_use]
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// The chunks of a part of it, not copied; what lies behind its end is left out.
    pub(super) fn part(&self, start: u64, len: u64) -> impl Iterator<Item = Bytes> {
        let end = start.saturating_add(len);
        let mut at = 0;
        self.chunks.iter().filter_map(move |chunk| {
            let chunk_at = at;
            at += chunk.len() as u64;
            let within = |place: u64| usize::try_from(place.clamp(chunk_at, at) - chunk_at).unwrap_or(chunk.len());
            let (from, to) = (within(start), within(end));
            (from < to).then(|| chunk.slice(from..to))
        })
    }

    /// All of it in one piece: copied, unless it is one chunk.
    #[must_use]
    pub fn contiguous(&self) -> Bytes {
        match self.chunks.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => {
                let mut all = BytesMut::with_capacity(many.iter().map(Bytes::len).sum());
                many.iter().for_each(|chunk| all.extend_from_slice(chunk));
                all.freeze()
            }
        }
    }

    /// Reads here and there, fastest from front to back.
    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor { chunks: &self.chunks, index: 0, start: 0 }
    }
}

/// A place in a body: what lies behind it is found without looking at the chunks before it again.
pub(super) struct Cursor<'a> {
    chunks: &'a [Bytes],
    index: usize,
    /// Where the chunk at `index` starts.
    start: u64,
}

impl Cursor<'_> {
    /// Fills `into` with the bytes at `at`, wherever the chunks are cut; false if the body ends before.
    pub(super) fn read(&mut self, at: u64, into: &mut [u8]) -> bool {
        if at < self.start {
            (self.index, self.start) = (0, 0);
        }
        let mut filled = 0;
        while let Some(chunk) = self.chunks.get(self.index) {
            let skip = usize::try_from(at + filled as u64 - self.start).unwrap_or(usize::MAX);
            if let Some(there) = chunk.get(skip..) {
                let take = there.len().min(into.len() - filled);
                into[filled..filled + take].copy_from_slice(&there[..take]);
                filled += take;
                if filled == into.len() {
                    return true;
                }
            }
            self.start += chunk.len() as u64;
            self.index += 1;
        }
        false
    }
}

impl From<Bytes> for Body {
    fn from(chunk: Bytes) -> Self {
        let mut body = Self::new();
        body.push(chunk);
        body
    }
}
