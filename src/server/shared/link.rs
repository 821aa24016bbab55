//! One client's link: what it lends, and what it looks at.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use bowstring_arena::View;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::arena::{AllArenas, LentArena, SharedPlace};
use crate::server::error::Error;
use crate::shared::{Frame, LinkReader, LinkWriter, Outbox, Said};
use crate::wire::body::Body;
use crate::wire::error::WireError;
use crate::wire::proto::SharedBody;

/// Arenas that one producer may lend at a time; it opens larger ones rather than more.
const ARENAS_MAX: usize = 64;
/// Bytes that one `DoGet`'s consumer may look at, beyond which its batches come by the socket. What it looks at is kept
/// though all have acked it.
const LOOKED_AT_BYTES_MAX: u64 = 4 << 30;
/// What is on its way to a consumer, in bytes of bodies, beyond which its reader waits: a connection's window does not
/// count what lies in arenas.
const UNDER_WAY_BYTES_MAX: u64 = 64 << 20;

/// Numbers of arenas, over all links.
static NEXT_ARENA: AtomicU64 = AtomicU64::new(0);

/// A link, as those see it who serve its client's calls.
#[derive(Debug)]
pub(in crate::server) struct Link {
    outbox: Arc<Outbox>,
    lent: Mutex<Lent>,
    looked_at: Mutex<LookedAt>,
    taken: Notify,
    /// A `DoGet` shows batches on it: there is one at a time.
    is_read: AtomicBool,
    /// The principal that has named it first.
    owner: OnceLock<Arc<str>>,
    all: Arc<AllArenas>,
}

/// What a producer lends.
#[derive(Debug, Default)]
struct Lent {
    /// By the numbers that their producer gave them.
    arenas: HashMap<u64, Arc<LentArena>>,
    ended: bool,
}

/// What a consumer looks at.
#[derive(Debug, Default)]
struct LookedAt {
    /// Invariant: empty once the client is gone.
    places: HashMap<(u64, u64), Arc<SharedPlace>>,
    bytes: u64,
    /// Bytes that the consumer was told of and has not taken off its connection.
    under_way_bytes: u64,
    shown: HashMap<u64, Weak<LentArena>>,
    /// Nothing more can be shown.
    ended: bool,
}

impl Link {
    pub(super) fn new(all: Arc<AllArenas>) -> Self {
        Self {
            outbox: Arc::default(),
            lent: Mutex::default(),
            looked_at: Mutex::default(),
            taken: Notify::new(),
            is_read: AtomicBool::new(false),
            owner: OnceLock::new(),
            all,
        }
    }

    /// Whose it is: the principal's that has named it first.
    pub(super) fn owner(&self, principal: &Arc<str>) -> &Arc<str> {
        self.owner.get_or_init(|| principal.clone())
    }

    /// The body that a producer says lies in one of its arenas.
    ///
    /// # Errors
    /// `unavailable` if the link has ended: the producer sends it again another way; `malformed_message` if none lies there.
    pub(in crate::server) fn body(&self, shared: &SharedBody) -> Result<Body, Error> {
        let arena = self.lent.lock().arenas.get(&shared.arena).cloned();
        let SharedBody { arena: number, start, bytes } = shared;
        let nowhere = || Error::Wire(WireError::malformed(format!("no body of {bytes} bytes lies at {start} of arena {number}")));
        let body = arena.and_then(|arena| arena.body(*start, *bytes));
        // Looked at last: a link that has ended lends nothing.
        body.ok_or_else(|| if self.lent.lock().ended { Error::LinkEnded } else { nowhere() })
    }

    /// Shows batches from now on, unless another call does.
    pub(in crate::server) fn begin_reading(self: Arc<Self>) -> Option<ReadLink> {
        (!self.is_read.swap(true, Relaxed)).then_some(ReadLink(self))
    }

    /// Bytes that the consumer looks at.
    pub(in crate::server) fn looked_at_bytes(&self) -> u64 {
        self.looked_at.lock().bytes
    }

    /// Serves the link until its client ends it, or breaks its rules.
    pub(super) async fn run(&self, reader: &mut LinkReader, writer: &LinkWriter) -> io::Result<()> {
        let listening = async {
            while let Some((frame, descriptor)) = reader.next().await? {
                match (frame, descriptor) {
                    (Frame::Offer { arena }, Some(descriptor)) => self.lend(arena, descriptor)?,
                    (Frame::Release { arena, start }, None) => self.release(arena, start),
                    (Frame::Took { bytes }, None) => self.took(bytes),
                    _ => return Err(io::ErrorKind::InvalidData.into()),
                }
            }
            Ok(())
        };
        tokio::select! {
            result = listening => result,
            result = writer.send_from(&self.outbox) => result,
        }
    }

    fn lend(&self, offered_as: u64, descriptor: OwnedFd) -> io::Result<()> {
        let view = View::open(descriptor.as_fd())?;
        let mut lent = self.lent.lock();
        if lent.arenas.len() >= ARENAS_MAX || lent.arenas.contains_key(&offered_as) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let number = NEXT_ARENA.fetch_add(1, Relaxed);
        let arena = LentArena::new(number, (view, descriptor), offered_as, self.outbox.clone(), self.all.clone());
        lent.arenas.insert(offered_as, Arc::new(arena));
        drop(lent);
        self.outbox.say(Said::Word(Frame::Taken { arena: offered_as }));
        Ok(())
    }

    fn took(&self, bytes: u64) {
        let mut looked_at = self.looked_at.lock();
        looked_at.under_way_bytes = looked_at.under_way_bytes.saturating_sub(bytes);
        drop(looked_at);
        self.taken.notify_one();
    }

    fn release(&self, arena: u64, start: u64) {
        let mut looked_at = self.looked_at.lock();
        let released = looked_at.places.remove(&(arena, start));
        looked_at.bytes -= released.as_ref().map_or(0, |place| place.bytes);
        drop(looked_at);
        // Outside the lock: it may be the last one who looked there, and the arena's last body.
        drop(released);
    }

    /// The link carries nothing any more. The client may still look at what it looks at.
    pub(super) fn stop(&self) {
        self.looked_at.lock().ended = true;
        self.taken.notify_one();
        self.outbox.close();
        let mut lent = self.lent.lock();
        lent.ended = true;
        let arenas = std::mem::take(&mut lent.arenas);
        drop(lent);
        arenas.values().for_each(|arena| arena.orphan());
    }

    /// The client is gone, by its own will or not: it looks at nothing.
    pub(super) fn end(&self) {
        self.stop();
        let mut looked_at = self.looked_at.lock();
        looked_at.bytes = 0;
        let places = std::mem::take(&mut looked_at.places);
        drop(looked_at);
        drop(places);
    }

    /// Whether [`end`](Self::end) would take anything from somebody.
    pub(super) fn is_looked_at(&self) -> bool {
        !self.looked_at.lock().places.is_empty()
    }

    /// Nothing more is said: slots that are let go from now on are not free.
    pub(super) fn hush(&self) {
        self.outbox.close();
    }
}

/// A link on which a `DoGet` shows its batches.
pub(in crate::server) struct ReadLink(Arc<Link>);

impl ReadLink {
    /// Lets the consumer look at a body, until it says that it is done or is gone. None: send it the bytes.
    pub(in crate::server) fn look_at(&self, place: &Arc<SharedPlace>) -> Option<SharedBody> {
        let arena = place.arena()?;
        let key = (place.number, place.start);
        let mut looked_at = self.0.looked_at.lock();
        if looked_at.ended || looked_at.bytes + place.bytes > LOOKED_AT_BYTES_MAX || looked_at.places.contains_key(&key) {
            return None;
        }
        if !looked_at.shown.contains_key(&place.number) {
            looked_at.shown.retain(|_, arena| arena.strong_count() > 0);
            looked_at.shown.insert(place.number, Arc::downgrade(arena));
            arena.show(&self.0.outbox);
        }
        looked_at.bytes += place.bytes;
        looked_at.under_way_bytes += place.bytes;
        looked_at.places.insert(key, place.clone());
        Some(SharedBody { arena: place.number, start: place.start, bytes: place.bytes })
    }

    /// Waits until not too much is on its way to the consumer, or the link has ended.
    pub(in crate::server) async fn has_room(&self) {
        while self.is_full() {
            self.0.taken.notified().await;
        }
    }

    /// Whether [`has_room`](Self::has_room) would wait.
    pub(in crate::server) fn is_full(&self) -> bool {
        let looked_at = self.0.looked_at.lock();
        !looked_at.ended && looked_at.under_way_bytes >= UNDER_WAY_BYTES_MAX
    }
}

impl Drop for ReadLink {
    fn drop(&mut self) {
        self.0.is_read.store(false, Relaxed);
    }
}
