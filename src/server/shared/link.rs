//! One client's link: what it lends, and what it looks at.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bowstring_arena::View;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::arena::{LentArena, Place};
use crate::shared::{Frame, LinkReader, LinkWriter, Outbox, Said};
use crate::wire::body::Body;
use crate::wire::proto::SharedBody;

/// Arenas that one producer may lend at a time; it opens larger ones rather than more.
const ARENAS_MAX: usize = 64;
/// Bytes that one consumer may look at, beyond which its batches come by the socket. What it looks at is kept though all
/// have acked it.
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
    /// By the numbers that their producer gave them.
    lent: Mutex<HashMap<u64, Arc<LentArena>>>,
    looked_at: Mutex<LookedAt>,
    taken: Notify,
}

/// What a consumer looks at. Invariant: empty once the link has ended.
#[derive(Debug, Default)]
struct LookedAt {
    places: HashMap<(u64, u64), Arc<Place>>,
    bytes: u64,
    /// Bytes that the consumer was told of and has not taken off its connection.
    under_way_bytes: u64,
    shown: HashSet<u64>,
    ended: bool,
}

impl Link {
    pub(super) fn new() -> Self {
        Self { outbox: Arc::default(), lent: Mutex::default(), looked_at: Mutex::default(), taken: Notify::new() }
    }

    /// The body that a producer says lies in one of its arenas; none if it lies in none.
    pub(in crate::server) fn body(&self, shared: &SharedBody) -> Option<Body> {
        let arena = self.lent.lock().get(&shared.arena).cloned()?;
        arena.body(shared.start, shared.bytes)
    }

    /// Lets the consumer look at a body, until it says that it is done or its link ends. None: send it the bytes.
    pub(in crate::server) fn look_at(&self, place: &Arc<Place>) -> Option<SharedBody> {
        let key = (place.arena.number, place.start);
        let mut looked_at = self.looked_at.lock();
        if looked_at.ended || looked_at.bytes + place.bytes > LOOKED_AT_BYTES_MAX || looked_at.places.contains_key(&key) {
            return None;
        }
        if looked_at.shown.insert(place.arena.number) {
            place.arena.show(&self.outbox);
        }
        looked_at.bytes += place.bytes;
        looked_at.under_way_bytes += place.bytes;
        looked_at.places.insert(key, place.clone());
        Some(SharedBody { arena: place.arena.number, start: place.start, bytes: place.bytes })
    }

    /// Waits until not too much is on its way to the consumer, or the link has ended. There is one reader per link.
    pub(in crate::server) async fn has_room(&self) {
        while self.is_full() {
            self.taken.notified().await;
        }
    }

    /// Whether [`has_room`](Self::has_room) would wait.
    pub(in crate::server) fn is_full(&self) -> bool {
        let looked_at = self.looked_at.lock();
        !looked_at.ended && looked_at.under_way_bytes >= UNDER_WAY_BYTES_MAX
    }

    /// Bytes that the consumer looks at.
    pub(in crate::server) fn looked_at_bytes(&self) -> u64 {
        self.looked_at.lock().bytes
    }

    /// Bytes of the arenas that the producer lends.
    pub(in crate::server) fn lent_bytes(&self) -> u64 {
        self.lent.lock().values().map(|arena| arena.view.bytes() as u64).sum()
    }

    /// Serves the link until its client ends it, or breaks its rules.
    pub(super) async fn run(&self, mut reader: LinkReader, writer: LinkWriter) -> io::Result<()> {
        let saying = async {
            loop {
                writer.send(&self.outbox.take().await).await?;
            }
        };
        let listening = async {
            while let Some((frame, descriptor)) = reader.next().await? {
                match (frame, descriptor) {
                    (Frame::Offer { arena }, Some(descriptor)) => self.lend(arena, View::open(descriptor)?)?,
                    (Frame::Release { arena, start }, None) => self.release(arena, start),
                    (Frame::Took { bytes }, None) => self.took(bytes),
                    (Frame::Gone { arena }, None) => drop(self.lent.lock().remove(&arena)),
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

    fn lend(&self, offered_as: u64, view: Arc<View>) -> io::Result<()> {
        let mut lent = self.lent.lock();
        if lent.len() >= ARENAS_MAX || lent.contains_key(&offered_as) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let number = NEXT_ARENA.fetch_add(1, Relaxed);
        lent.insert(offered_as, Arc::new(LentArena::new(number, view, offered_as, self.outbox.clone())));
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

    /// The client has ended the link, or is dead: what it looked at is free, and nobody hears what would be said.
    pub(super) fn end(&self) {
        let places = {
            let mut looked_at = self.looked_at.lock();
            looked_at.ended = true;
            looked_at.bytes = 0;
            std::mem::take(&mut looked_at.places)
        };
        self.taken.notify_one();
        drop(places);
        self.outbox.close();
        let lent = std::mem::take(&mut *self.lent.lock());
        drop(lent);
    }
}
