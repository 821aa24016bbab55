//! A lender: this process's arenas, that the batches of its producers lie in.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bowstring_arena::{Arena, Slot};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::LinkAddress;
use crate::client::task::OwnedTask;
use crate::shared::{BODY_BYTES_MIN, Frame, LinkReader, LinkWriter, OpenLink, Outbox, Said};
use crate::wire::body::Body;
use crate::wire::proto::SharedBody;

/// An arena has at least this size: it takes memory only where it is written, first at its beginning.
const ARENA_BYTES_MIN: usize = 256 << 20;
/// What all arenas of a lender have together, as much as a stream buffers by default. What does not fit goes by the socket.
const LENT_BYTES_MAX: usize = 2 << 30;
/// An arena that was not used for this long gives its memory back.
const IDLE: Duration = Duration::from_secs(10);

/// Lends what producers send, over one link to the coordinator.
#[derive(Debug)]
pub(in crate::client) struct Lender {
    number: u64,
    address: LinkAddress,
    outbox: Arc<Outbox>,
    arenas: Arc<Mutex<Arenas>>,
    retired: AtomicBool,
    _task: OwnedTask,
    /// Ends the link with this, also where a forked child has a copy of its socket.
    _open: OpenLink,
}

#[derive(Debug, Default)]
struct Arenas {
    /// Those that the coordinator has taken, by their numbers.
    usable: Vec<(u64, Arc<Arena>)>,
    /// One that it was offered.
    offered: Option<(u64, Arc<Arena>)>,
    /// What is lent, by arena and start. Invariant: a slot is here from before the coordinator is told of it until it says
    /// that nobody looks at it any more.
    lent: HashMap<(u64, u64), Slot>,
    next: u64,
    bytes: usize,
    /// The system gives no more.
    is_refused: bool,
    /// Whether anything was lent since the last look.
    used: bool,
    /// What is free was given back since then.
    rested: bool,
    /// The link has ended: nobody says any more what is free, so nothing is written again.
    ended: bool,
}

impl Lender {
    pub(in crate::client) async fn open(address: &LinkAddress, runtime: &Handle) -> Option<Arc<Self>> {
        let (number, reader, writer) = address.open().await?;
        let open = writer.hold_open();
        let (outbox, arenas) = (Arc::<Outbox>::default(), Arc::<Mutex<Arenas>>::default());
        let serving = {
            let (outbox, arenas) = (outbox.clone(), arenas.clone());
            async move {
                if let Err(error) = run(&outbox, &arenas, reader, writer).await {
                    tracing::debug!(%error, "a producer's link ended with an error");
                }
                end(&outbox, &arenas);
            }
        };
        let on_panic = {
            let (outbox, arenas) = (outbox.clone(), arenas.clone());
            move |_| end(&outbox, &arenas)
        };
        let task = OwnedTask::spawn(runtime, serving, on_panic);
        Some(Arc::new(Self { number, address: address.clone(), outbox, arenas, retired: AtomicBool::new(false), _task: task, _open: open }))
    }

    /// What calls name the link by.
    pub(in crate::client) fn number(&self) -> u64 {
        self.number
    }

    /// Whether new calls to the coordinator that takes links there may use it.
    pub(in crate::client) fn is_for(&self, address: &LinkAddress) -> bool {
        self.address == *address && !self.retired.load(Relaxed) && !self.outbox.is_closed()
    }

    /// A call has ended, and it is not known which of its slots have reached the coordinator: those that have not would
    /// stay lent for ever. Once the calls that still use it end, all are free together.
    pub(in crate::client) fn retire(&self) {
        self.retired.store(true, Relaxed);
    }

    /// Copies a body into an arena. None: send the bytes, since they are too few, or no arena has room.
    pub(in crate::client) fn lend(&self, body: &Body) -> Option<SharedBody> {
        if body.len() < BODY_BYTES_MIN {
            return None;
        }
        let bytes = usize::try_from(body.len()).ok()?;
        let (arena, mut slot) = self.take(bytes)?;
        let mut rest = slot.bytes_mut();
        for chunk in body.chunks() {
            let (into, after) = rest.split_at_mut(chunk.len());
            into.copy_from_slice(chunk);
            rest = after;
        }
        let start = slot.start() as u64;
        let mut arenas = self.arenas.lock();
        if arenas.ended {
            return None;
        }
        arenas.lent.insert((arena, start), slot);
        Some(SharedBody { arena, start, bytes: body.len() })
    }

    fn take(&self, bytes: usize) -> Option<(u64, Slot)> {
        let mut arenas = self.arenas.lock();
        if arenas.ended {
            return None;
        }
        arenas.used = true;
        if let Some(taken) = arenas.usable.iter().find_map(|(number, arena)| Some((*number, arena.take(bytes)?))) {
            return Some(taken);
        }
        let size = bytes.max(ARENA_BYTES_MIN);
        if arenas.offered.is_none() && !arenas.is_refused && arenas.bytes.saturating_add(size) <= LENT_BYTES_MAX {
            match Arena::create(size) {
                Ok(arena) => self.offer(&mut arenas, arena),
                Err(error) => {
                    tracing::debug!(%error, "no more shared memory: no arena");
                    arenas.is_refused = true;
                }
            }
        }
        None
    }

    fn offer(&self, arenas: &mut Arenas, arena: Arc<Arena>) {
        let number = arenas.next;
        arenas.next += 1;
        arenas.bytes += arena.bytes();
        arenas.offered = Some((number, arena.clone()));
        self.outbox.say(Said::Offer(Frame::Offer { arena: number }, arena));
    }
}

async fn run(outbox: &Outbox, arenas: &Mutex<Arenas>, mut reader: LinkReader, writer: LinkWriter) -> io::Result<()> {
    let listening = async {
        while let Some((frame, _)) = reader.next().await? {
            match frame {
                Frame::Taken { arena } => arenas.lock().taken(arena)?,
                Frame::Free { arena, start } => {
                    let free = arenas.lock().free(arena, start);
                    drop(free);
                }
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        Ok(())
    };
    let resting = async {
        let mut interval = tokio::time::interval(IDLE);
        loop {
            interval.tick().await;
            let idle = arenas.lock().take_idle();
            // Thousands of pages take the system a while.
            let given_back = tokio::task::spawn_blocking(move || idle.iter().try_for_each(|arena| arena.give_back())).await;
            given_back.map_err(io::Error::other)??;
        }
    };
    tokio::select! {
        result = listening => result,
        result = writer.send_from(outbox) => result,
        result = resting => result,
    }
}

fn end(outbox: &Outbox, arenas: &Mutex<Arenas>) {
    outbox.close();
    let mut ended = Arenas::default();
    ended.ended = true;
    std::mem::swap(&mut *arenas.lock(), &mut ended);
    drop(ended);
}

impl Drop for Arenas {
    fn drop(&mut self) {
        // Others may still look at what is lent, though nobody here hears of it.
        self.usable.iter().chain(&self.offered).for_each(|(_, arena)| arena.abandon());
    }
}

impl Arenas {
    fn taken(&mut self, number: u64) -> io::Result<()> {
        match self.offered.take() {
            Some((offered, arena)) if offered == number => {
                self.usable.push((number, arena));
                Ok(())
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn free(&mut self, arena: u64, start: u64) -> Option<Slot> {
        self.rested = false;
        self.lent.remove(&(arena, start))
    }

    /// The arenas, if none of them was used since the last time that this was asked; once.
    fn take_idle(&mut self) -> Vec<Arc<Arena>> {
        let was_used = std::mem::take(&mut self.used);
        let has_rested = std::mem::replace(&mut self.rested, !was_used);
        if was_used || has_rested {
            return Vec::new();
        }
        self.usable.iter().map(|(_, arena)| arena.clone()).collect()
    }
}
