//! An outbox: what is to be said on a link, put there from wherever in the process and sent by the link's own task.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bowstring_arena::Arena;
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
    /// The descriptor of an arena that somebody else writes.
    Show(Frame, Arc<OwnedFd>),
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
            Self::Show(_, descriptor) => Some(descriptor.as_fd()),
        }
    }
}

/// Frames that may wait to be sent: more would wait only if the peer did not read its link. Once it reads again, the link ends.
const WAITING_MAX: usize = 1 << 18;

/// What is to be said. Closed, it takes nothing more.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Mutex<Waiting>,
    something: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    said: Vec<Said>,
    overflown: bool,
    closed: bool,
}

impl Outbox {
    /// To be sent soon. Never waits.
    pub fn say(&self, said: Said) {
        let mut waiting = self.waiting.lock();
        if waiting.closed || waiting.said.len() >= WAITING_MAX {
            waiting.overflown |= !waiting.closed;
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
    /// # Errors
    /// `TimedOut` if the peer has not read for too long, and something could not be kept for it.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn take(&self) -> io::Result<Vec<Said>> {
        loop {
            let said = self.take_waiting()?;
            if !said.is_empty() {
                return Ok(said);
            }
            self.something.notified().await;
        }
    }

    fn take_waiting(&self) -> io::Result<Vec<Said>> {
        let mut waiting = self.waiting.lock();
        if waiting.overflown { Err(io::ErrorKind::TimedOut.into()) } else { Ok(std::mem::take(&mut waiting.said)) }
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
