//! A borrower: the arenas that one consumer's batches lie in.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bowstring_arena::{Shown, View};
use bytes::Bytes;
use tokio::runtime::Handle;

use super::LinkAddress;
use crate::client::Error;
use crate::client::task::OwnedTask;
use crate::client::watched::Watched;
use crate::shared::{Frame, LinkReader, LinkWriter, OpenLink, Outbox, Said};
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
    /// A forked child has copies of arrays, but neither threads nor links.
    process: u32,
    _task: OwnedTask,
    /// Not the task's: whatever happens to that, the coordinator must not think that nobody looks any more.
    _open: OpenLink,
}

/// The coordinator is told of what was taken once it is as much, a part of what it lets be under way.
const TOLD_BYTES: u64 = 16 << 20;

#[derive(Debug, Default)]
struct Views {
    by_number: HashMap<u64, Arc<View>>,
    ended: bool,
    /// It has ended because this process cannot use it, and could not use another.
    unusable: bool,
}

impl Borrower {
    pub(in crate::client) async fn open(address: &LinkAddress, runtime: &Handle) -> Option<Arc<Self>> {
        let (number, reader, writer) = address.open().await?;
        let open = writer.hold_open();
        let (outbox, views) = (Arc::<Outbox>::default(), Arc::<Watched<Views>>::default());
        let serving = {
            let (outbox, views) = (outbox.clone(), views.clone());
            async move {
                if let Err(error) = run(&outbox, &views, reader, writer).await {
                    tracing::debug!(%error, "a consumer's link ended with an error");
                    let is_gone = matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
                    views.with(|views| views.unusable = !is_gone);
                }
                end(&outbox, &views);
            }
        };
        let on_panic = {
            let (outbox, views) = (outbox.clone(), views.clone());
            move |_| end(&outbox, &views)
        };
        let task = OwnedTask::spawn(runtime, serving, on_panic);
        Some(Arc::new(Self {
            number,
            outbox,
            views,
            taken_bytes: AtomicU64::new(0),
            process: std::process::id(),
            _task: task,
            _open: open,
        }))
    }

    /// What calls name the link by.
    pub(in crate::client) fn number(&self) -> u64 {
        self.number
    }

    /// Whether bodies have to come another way: for instance, this process cannot map more memory.
    pub(in crate::client) fn is_unusable(&self) -> bool {
        self.views.with(|views| views.unusable)
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
        let borrowed = Borrowed { shown, borrower: Some(self.clone()), arena: shared.arena, start: shared.start };
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
    /// Always there, but while this is dropped.
    borrower: Option<Arc<Borrower>>,
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
        let Some(borrower) = self.borrower.take() else { return };
        if borrower.process == std::process::id() {
            borrower.outbox.say(Said::Word(Frame::Release { arena: self.arena, start: self.start }));
        } else {
            // Its locks may be held by threads that a forked child does not have, and its socket is the parent's.
            std::mem::forget(borrower);
        }
    }
}

async fn run(outbox: &Outbox, views: &Watched<Views>, mut reader: LinkReader, writer: LinkWriter) -> io::Result<()> {
    let listening = async {
        while let Some((frame, descriptor)) = reader.next().await? {
            match (frame, descriptor) {
                (Frame::Show { arena }, Some(descriptor)) => {
                    let view = View::open(descriptor.as_fd())?;
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
        result = writer.send_from(outbox) => result,
    }
}

fn end(outbox: &Outbox, views: &Watched<Views>) {
    outbox.close();
    let ended = views.update(|views| {
        views.ended = true;
        std::mem::take(&mut views.by_number)
    });
    drop(ended);
}
