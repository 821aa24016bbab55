//! An arena that a producer lends, and the places of bodies in it.

use std::sync::{Arc, Weak};

use bowstring_arena::{Shown, View};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::shared::{Frame, Outbox, Said};
use crate::wire::body::Body;

/// A producer's arena. As long as a batch lies in it, or a link may name it, it is mapped; its memory outlives its producer.
#[derive(Debug)]
pub(super) struct LentArena {
    /// Its number among all arenas of the coordinator.
    pub(super) number: u64,
    pub(super) view: Arc<View>,
    /// Its number on its producer's link.
    offered_as: u64,
    producer: Arc<Outbox>,
    /// Links that it was shown on.
    shown_on: Mutex<Vec<Weak<Outbox>>>,
}

impl LentArena {
    pub(super) fn new(number: u64, view: Arc<View>, offered_as: u64, producer: Arc<Outbox>) -> Self {
        Self { number, view, offered_as, producer, shown_on: Mutex::default() }
    }

    /// Shows it to a consumer, which is told when it is gone.
    pub(super) fn show(&self, consumer: &Arc<Outbox>) {
        let mut shown_on = self.shown_on.lock();
        shown_on.retain(|outbox| outbox.strong_count() > 0);
        shown_on.push(Arc::downgrade(consumer));
        drop(shown_on);
        consumer.say(Said::Show(Frame::Show { arena: self.number }, self.view.clone()));
    }

    /// The body in one of its slots; none if it goes beyond the arena. From now on the slot is the coordinator's, until
    /// the body and all its copies are dropped.
    pub(super) fn body(self: &Arc<Self>, start: u64, bytes: u64) -> Option<Body> {
        let shown = self.view.show(usize::try_from(start).ok()?, usize::try_from(bytes).ok()?)?;
        let place = Arc::new(Place { arena: self.clone(), start, bytes });
        Some(Body::placed(Bytes::from_owner(Placed { shown, _place: place.clone() }), place))
    }
}

impl Drop for LentArena {
    fn drop(&mut self) {
        for consumer in self.shown_on.get_mut().iter().filter_map(Weak::upgrade) {
            consumer.say(Said::Word(Frame::Gone { arena: self.number }));
        }
    }
}

/// Where a body lies. When the last one who looks there is done, its producer may write the slot again.
#[derive(Debug)]
pub(in crate::server) struct Place {
    pub(super) arena: Arc<LentArena>,
    pub(super) start: u64,
    pub(super) bytes: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.arena.producer.say(Said::Word(Frame::Free { arena: self.arena.offered_as, start: self.start }));
    }
}

/// A body's bytes, which hold on to their place.
struct Placed {
    shown: Shown,
    _place: Arc<Place>,
}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        self.shown.as_ref()
    }
}
