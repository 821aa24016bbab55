//! An outbox: what is to be said on a link, put there from wherever in the process and sent by the link's own task.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use bowstring_arena::{Arena, View};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::frame::Frame;

/// A frame, and the arena whose descriptor goes with it.
#[derive(Debug)]
pub enum Said {
    /// Nothing goes with it.
    Word(Frame),
    /// A producer's own arena.
    Offer(Frame, Arc<Arena>),
    /// An arena that somebody else writes.
    Show(Frame, Arc<View>),
}

impl Said {
    pub(super) fn frame(&self) -> Frame {
        match self {
            Self::Word(frame) | Self::Offer(frame, _) | Self::Show(frame, _) => *frame,
        }
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Word(_) => None,
            Self::Offer(_, arena) => Some(arena.as_fd()),
            Self::Show(_, view) => Some(view.as_fd()),
        }
    }
}

/// What is to be said. Bounded by what there is to talk about: each slot is freed or released once for each time that it
/// was lent, and each arena comes and goes once. Closed, it takes nothing more.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Mutex<Waiting>,
    something: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    said: Vec<Said>,
    closed: bool,
}

impl Outbox {
    /// To be sent soon. Never waits.
    pub fn say(&self, said: Said) {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return;
        }
        waiting.said.push(said);
        let first = waiting.said.len() == 1;
        drop(waiting);
        if first {
            self.something.notify_one();
        }
    }

    /// Everything that is to be sent, at least one.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn take(&self) -> Vec<Said> {
        loop {
            let said = std::mem::take(&mut self.waiting.lock().said);
            if !said.is_empty() {
                return said;
            }
            self.something.notified().await;
        }
    }

    /// The link has ended: nobody will send what is there.
    pub fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        let said = std::mem::take(&mut waiting.said);
        drop(waiting);
        // Outside the lock: an arena that goes with it says so in other outboxes, or in this one.
        drop(said);
    }

    /// Whether the link has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }
}
