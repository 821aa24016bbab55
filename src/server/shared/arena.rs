//! An arena that a producer lends, and the places of bodies in it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use bowstring_arena::{GRAIN, Shown, View, punch};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::shared::{Frame, Outbox, Said};
use crate::wire::body::Body;

/// A producer's arena. As long as a batch lies in it, or a link may name it, it is mapped; its memory outlives its producer.
#[derive(Debug)]
pub(super) struct LentArena {
    /// Its number among all arenas of the coordinator.
    pub(super) number: u64,
    view: Option<Arc<View>>,
    descriptor: Arc<OwnedFd>,
    /// Its number on its producer's link.
    offered_as: u64,
    producer: Arc<Outbox>,
    /// Links that it was shown on.
    shown_on: Mutex<Vec<Weak<Outbox>>>,
    used: Mutex<Used>,
    all: Arc<AllArenas>,
}

/// What is known of all arenas of a server.
#[derive(Debug)]
pub(super) struct AllArenas {
    /// A forked child has copies of places, which mean nothing.
    process: u32,
    /// Bytes of those that are mapped.
    pub(super) mapped_bytes: AtomicU64,
    /// The server has ended: who lets go does not do so because nobody looks any more.
    pub(super) hushed: AtomicBool,
}

/// The slots that bodies lie in.
#[derive(Debug, Default)]
struct Used {
    /// Their bytes, in whole pages, by where they begin.
    slots: BTreeMap<u64, u64>,
    /// The producer is gone: what is free, nobody will use again.
    is_orphan: bool,
}

impl Default for AllArenas {
    fn default() -> Self {
        Self { process: std::process::id(), mapped_bytes: AtomicU64::new(0), hushed: AtomicBool::new(false) }
    }
}

impl LentArena {
    pub(super) fn new(
        number: u64,
        (view, descriptor): (Arc<View>, OwnedFd),
        offered_as: u64,
        producer: Arc<Outbox>,
        all: Arc<AllArenas>,
    ) -> Self {
        all.mapped_bytes.fetch_add(view.bytes() as u64, Relaxed);
        Self {
            number,
            view: Some(view),
            descriptor: Arc::new(descriptor),
            offered_as,
            producer,
            shown_on: Mutex::default(),
            used: Mutex::default(),
            all,
        }
    }

    /// Shows it to a consumer, which is told when it is gone.
    pub(super) fn show(&self, consumer: &Arc<Outbox>) {
        let mut shown_on = self.shown_on.lock();
        shown_on.retain(|outbox| outbox.strong_count() > 0);
        shown_on.push(Arc::downgrade(consumer));
        drop(shown_on);
        consumer.say(Said::Show(Frame::Show { arena: self.number }, self.descriptor.clone()));
    }

    /// The body in one of its slots. From now on the slot is the coordinator's, until the body and all its copies are
    /// dropped. None if it goes beyond the arena, or another body lies there, or the producer is gone.
    pub(super) fn body(self: &Arc<Self>, start: u64, bytes: u64) -> Option<Body> {
        let shown = self.view.as_ref()?.show(usize::try_from(start).ok()?, usize::try_from(bytes).ok()?)?;
        let mut used = self.used.lock();
        let end = start + pages(bytes);
        let is_free = used.slots.range(..end).next_back().is_none_or(|(other, length)| other + length <= start);
        if !is_free || used.is_orphan || !start.is_multiple_of(GRAIN as u64) {
            return None;
        }
        used.slots.insert(start, end - start);
        drop(used);
        let place = Arc::new(SharedPlace { arena: Some(self.clone()), number: self.number, start, bytes });
        Some(Body::placed(Bytes::from_owner(Placed { shown, _place: place.clone() }), place))
    }

    /// The producer is gone: what no body lies in goes back to the system, now and later.
    pub(super) fn orphan(&self) {
        let whole = self.view.as_ref().map_or(0, |view| view.bytes() as u64);
        let mut used = self.used.lock();
        used.is_orphan = true;
        let ends = used.slots.iter().map(|(start, bytes)| start + bytes);
        let starts = used.slots.keys().copied().chain([whole]);
        let gaps: Vec<_> = std::iter::once(0).chain(ends).zip(starts).collect();
        drop(used);
        let descriptor = self.descriptor.clone();
        in_background(move || gaps.iter().for_each(|(end, start)| give_back(&descriptor, *end, start - end)));
    }

    fn free(&self, start: u64) {
        if self.all.hushed.load(Relaxed) {
            return;
        }
        let mut used = self.used.lock();
        let freed = used.slots.remove(&start);
        if let Some(bytes) = freed.filter(|_| used.is_orphan) {
            let descriptor = self.descriptor.clone();
            in_background(move || give_back(&descriptor, start, bytes));
        }
        drop(used);
        self.producer.say(Said::Word(Frame::Free { arena: self.offered_as, start }));
    }
}

fn pages(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(GRAIN as u64)
}

fn give_back(descriptor: &OwnedFd, start: u64, bytes: u64) {
    let (Ok(start), Ok(bytes)) = (usize::try_from(start), usize::try_from(bytes)) else { return };
    if bytes > 0
        && let Err(error) = punch(descriptor.as_fd(), start, bytes)
    {
        tracing::debug!(%error, "memory of a producer that is gone was not given back");
    }
}

/// The system takes its time over many pages, and this may be under a stream's lock.
fn in_background(work: impl FnOnce() + Send + 'static) {
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        Err(_) => work(),
    }
}

impl Drop for LentArena {
    fn drop(&mut self) {
        for consumer in self.shown_on.get_mut().iter().filter_map(Weak::upgrade) {
            consumer.say(Said::Word(Frame::Gone { arena: self.number }));
        }
        if let Some(view) = self.view.take() {
            self.all.mapped_bytes.fetch_sub(view.bytes() as u64, Relaxed);
            let descriptor = self.descriptor.clone();
            in_background(move || drop((view, descriptor)));
        }
    }
}

/// Where a body lies. When the last one who looks there is done, its producer may write the slot again.
#[derive(Debug)]
pub(in crate::server) struct SharedPlace {
    /// Always there, but while this is dropped.
    arena: Option<Arc<LentArena>>,
    /// The arena's.
    pub(super) number: u64,
    pub(super) start: u64,
    pub(super) bytes: u64,
}

impl SharedPlace {
    pub(super) fn arena(&self) -> Option<&Arc<LentArena>> {
        self.arena.as_ref()
    }
}

impl Drop for SharedPlace {
    fn drop(&mut self) {
        let Some(arena) = self.arena.take() else { return };
        if arena.all.process == std::process::id() {
            arena.free(self.start);
        } else {
            // A forked child's copy, of an array that it has from its parent's coordinator.
            std::mem::forget(arena);
        }
    }
}

/// A body's bytes, which hold on to their place.
struct Placed {
    shown: Shown,
    _place: Arc<SharedPlace>,
}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        self.shown.as_ref()
    }
}
