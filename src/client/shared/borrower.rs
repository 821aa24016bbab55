//! A borrower: the arenas that one consumer's batches lie in.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bowstring_arena::{Shown, View};
use bytes::Bytes;
use tokio::runtime::Handle;

use super::LinkAddress;
use crate::client::Error;
use crate::client::task::OwnedTask;
use crate::client::watched::Watched;
use crate::shared::{Frame, LinkReader, LinkWriter, Outbox, Said};
use crate::wire::body::Body;
use crate::wire::proto::SharedBody;

/// Looks at batches for one `DoGet`, over a link of its own. The link lasts as long as anybody looks: the process's death
/// ends it, and so does the drop of the last array once the call has ended; both give back all that is not given back yet,
/// also what had not been received.
#[derive(Debug)]
pub(in crate::client) struct Borrower {
    number: u64,
    outbox: Arc<Outbox>,
    views: Arc<Watched<Views>>,
    /// Bytes that were taken since the coordinator was told.
    taken_bytes: AtomicU64,
    _task: OwnedTask,
}

/// The coordinator is told of what was taken once it is as much, a part of what it lets be under way.
const TOLD_BYTES: u64 = 16 << 20;

#[derive(Debug, Default)]
struct Views {
    by_number: HashMap<u64, Arc<View>>,
    ended: bool,
}

impl Borrower {
    pub(in crate::client) async fn open(address: &LinkAddress, runtime: &Handle) -> Option<Arc<Self>> {
        let (number, reader, writer) = address.open().await?;
        let (outbox, views) = (Arc::<Outbox>::default(), Arc::<Watched<Views>>::default());
        let serving = {
            let (outbox, views) = (outbox.clone(), views.clone());
            async move {
                if let Err(error) = run(&outbox, &views, reader, writer).await {
                    tracing::debug!(%error, "a consumer's link ended with an error");
                }
                end(&outbox, &views);
            }
        };
        let on_panic = {
            let (outbox, views) = (outbox.clone(), views.clone());
            move |_| end(&outbox, &views)
        };
        let task = OwnedTask::spawn(runtime, serving, on_panic);
        Some(Arc::new(Self { number, outbox, views, taken_bytes: AtomicU64::new(0), _task: task }))
    }

    /// What calls name the link by.
    pub(in crate::client) fn number(&self) -> u64 {
        self.number
    }

    /// Whether the arena that the body lies in was shown, so that [`body`](Self::body) does not wait.
    pub(in crate::client) fn has_shown(&self, shared: &SharedBody) -> bool {
        self.views.with(|views| views.by_number.contains_key(&shared.arena))
    }

    /// The body, looked at where it lies. Given back when the last copy of it is dropped.
    ///
    /// # Errors
    /// `unavailable` if the link has ended; a protocol error if the body does not lie in its arena.
    pub(in crate::client) async fn body(self: &Arc<Self>, shared: &SharedBody, url: &Arc<str>) -> Result<Body, Error> {
        let shown = self.views.wait(|views| match views.by_number.get(&shared.arena) {
            Some(view) => Some(Some(view.clone())),
            None => views.ended.then_some(None),
        });
        let lost = || Error::ConnectionLost { url: url.clone(), reason: "the link to shared memory has ended".into() };
        let view = shown.await.ok_or_else(lost)?;
        let (start, bytes) = (usize::try_from(shared.start), usize::try_from(shared.bytes));
        let (Ok(start), Ok(bytes)) = (start, bytes) else { return Err(Error::protocol("a body beyond any memory")) };
        let shown = view.show(start, bytes).ok_or_else(|| Error::protocol("a body beyond its arena"))?;
        self.count_taken(shared.bytes);
        let borrowed = Borrowed { shown, borrower: self.clone(), arena: shared.arena, start: shared.start };
        Ok(Body::placed(Bytes::from_owner(borrowed), Arc::new(())))
    }

    /// One task takes, so the two steps need not be one.
    fn count_taken(&self, bytes: u64) {
        let taken = self.taken_bytes.fetch_add(bytes, Relaxed) + bytes;
        if taken >= TOLD_BYTES {
            self.taken_bytes.store(0, Relaxed);
            self.outbox.say(Said::Word(Frame::Took { bytes: taken }));
        }
    }
}

/// A body's bytes in another process's memory.
struct Borrowed {
    shown: Shown,
    borrower: Arc<Borrower>,
    arena: u64,
    start: u64,
}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        self.shown.as_ref()
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.borrower.outbox.say(Said::Word(Frame::Release { arena: self.arena, start: self.start }));
    }
}

async fn run(outbox: &Outbox, views: &Watched<Views>, mut reader: LinkReader, writer: LinkWriter) -> io::Result<()> {
    let saying = async {
        loop {
            writer.send(&outbox.take().await).await?;
        }
    };
    let listening = async {
        while let Some((frame, descriptor)) = reader.next().await? {
            match (frame, descriptor) {
                (Frame::Show { arena }, Some(descriptor)) => {
                    let view = View::open(descriptor)?;
                    views.update(|views| views.by_number.insert(arena, view));
                }
                (Frame::Gone { arena }, None) => {
                    let gone = views.with(|views| views.by_number.remove(&arena));
                    drop(gone);
                }
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        Ok(())
    };
    tokio::select! {
        result = listening => result,
        result = saying => result,
    }
}

fn end(outbox: &Outbox, views: &Watched<Views>) {
    outbox.close();
    let ended = views.update(|views| std::mem::replace(views, Views { by_number: HashMap::new(), ended: true }));
    drop(ended);
}
