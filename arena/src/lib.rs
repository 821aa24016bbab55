//! Arenas: memory that one process writes and others on the same host read, by descriptors that they pass on.
//!
//! A writer makes an [`Arena`], takes [`Slot`]s of it and fills them; a reader gets the arena's descriptor over a Unix
//! socket, opens a [`View`] of it, and looks at slots as bytes. Who tells whom which slot is free is not decided here.
//!
//! A crate of its own, because seeing mapped memory as bytes is `unsafe`. What makes it sound:
//!
//! - Nobody can make the memory smaller, which would kill whoever looks at it: it is sealed, and a view checks the seal.
//! - In the writer's process a slot is the only way to its range, and slots do not overlap.
//! - A slot is not written again while others look at it. The writer's process keeps to that; another program of the same
//!   user could break it, as it could write into any process of that user's. So descriptors are taken from the same user only.

mod ranges;
mod view;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};
use parking_lot::Mutex;

use ranges::Ranges;
pub use view::{Shown, View};

/// Slots begin at multiples of this and take up multiples of it: a page, so that free ones can be given back, and aligned
/// for any Arrow buffer.
pub const GRAIN: usize = 4096;

/// Memory of this process's that others can read.
pub struct Arena {
    file: OwnedFd,
    map: MmapRaw,
    free: Mutex<Ranges>,
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").field("bytes", &self.map.len()).finish_non_exhaustive()
    }
}

impl Arena {
    /// An arena of so many bytes, rounded up to a page. It takes memory only where it is written.
    ///
    /// # Errors
    /// What the system says; `Unsupported` on systems without sealed memory files.
    pub fn create(bytes: usize) -> io::Result<Arc<Self>> {
        let bytes = bytes.max(1).next_multiple_of(GRAIN);
        let file = sealed_file(bytes)?;
        let map = MmapOptions::new().len(bytes).map_raw(&file)?;
        // Only a wish, and only where the system lends huge pages to shared memory.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Arc::new(Self { file, map, free: Mutex::new(Ranges::new(bytes)) }))
    }

    /// Its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.map.len()
    }

    /// Whether no slot is taken.
    #[cfg(test)]
    fn is_unused(&self) -> bool {
        self.free.lock().bytes() == self.bytes()
    }

    /// Takes a range of so many bytes, the first one that is free: what was used before is touched again before anything
    /// new is. None if there is no such range.
    #[must_use]
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<Slot> {
        let taken = bytes.max(1).checked_next_multiple_of(GRAIN)?;
        let start = self.free.lock().take(taken)?;
        Some(Slot { arena: self.clone(), start, bytes })
    }

    /// Gives the memory of what is free back to the system, one range after the other: while it does, that one cannot be taken.
    ///
    /// # Errors
    /// What the system says.
    pub fn give_back(&self) -> io::Result<()> {
        let mut from = 0;
        loop {
            // A statement of its own: the lock is not held while the system works.
            let next = self.free.lock().take_after(from);
            let Some((start, bytes)) = next else { return Ok(()) };
            let given = punch(self.file.as_fd(), start, bytes);
            self.free.lock().put_back(start, bytes);
            given?;
            from = start + bytes;
        }
    }

    /// From now on nothing is free, and slots that are dropped are not either: nobody says any more who looks at them.
    pub fn abandon(&self) {
        self.free.lock().close();
    }
}

impl AsFd for Arena {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A range of an arena that nobody else has; free again when it is dropped.
#[derive(Debug)]
pub struct Slot {
    arena: Arc<Arena>,
    start: usize,
    bytes: usize,
}

impl Slot {
    /// Where it begins in its arena, in bytes.
    #[must_use]
    pub fn start(&self) -> usize {
        self.start
    }

    /// Its memory.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the range lies in the mapping, which lives as long as the arena that this holds; no other slot has any
        // of it, and `self` is borrowed mutably. Other processes do not write (see the crate's docs).
        unsafe { std::slice::from_raw_parts_mut(self.arena.map.as_mut_ptr().add(self.start), self.bytes) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.arena.free.lock().put_back(self.start, self.bytes.max(1).next_multiple_of(GRAIN));
    }
}

#[cfg(target_os = "linux")]
fn sealed_file(bytes: usize) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
    let file = memfd_create("bowstring", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, bytes as u64)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// Gives whole pages of an arena back to the system: they read as zeros from then on.
///
/// # Errors
/// What the system says; `Unsupported` on systems without sealed memory files.
#[cfg(target_os = "linux")]
pub fn punch(file: BorrowedFd<'_>, start: usize, bytes: usize) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    Ok(fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, start as u64, bytes as u64)?)
}

#[cfg(not(target_os = "linux"))]
fn sealed_file(_: usize) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Gives whole pages of an arena back to the system.
///
/// # Errors
/// `Unsupported`.
#[cfg(not(target_os = "linux"))]
pub fn punch(_: BorrowedFd<'_>, _: usize, _: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn view(arena: &Arena) -> Arc<View> {
        View::open(arena.as_fd()).expect("is sealed")
    }

    fn filled(arena: &Arc<Arena>, bytes: usize, with: u8) -> Slot {
        let mut slot = arena.take(bytes).expect("room");
        slot.bytes_mut().fill(with);
        slot
    }

    #[test]
    fn what_is_written_into_a_slot_is_seen_through_a_view() {
        let arena = Arena::create(10 * GRAIN).expect("memory");
        let (first, second) = (filled(&arena, GRAIN + 1, 1), filled(&arena, 5, 2));
        let view = view(&arena);
        assert_eq!(view.bytes(), 10 * GRAIN);
        assert!(view.show(first.start(), GRAIN + 1).expect("inside").as_ref().iter().all(|byte| *byte == 1));
        assert_eq!(view.show(second.start(), 5).expect("inside").as_ref(), [2; 5]);
    }

    #[test]
    fn a_slot_that_is_dropped_is_taken_again_before_anything_new() {
        let arena = Arena::create(4 * GRAIN).expect("memory");
        let slots: Vec<_> = (0..4).map(|with| filled(&arena, GRAIN, with)).collect();
        assert!(arena.take(1).is_none(), "it is full");
        let starts: Vec<_> = slots.iter().map(Slot::start).collect();
        assert_eq!(starts, [0, GRAIN, 2 * GRAIN, 3 * GRAIN]);
        drop(slots);
        assert!(arena.is_unused());
        assert_eq!(arena.take(4 * GRAIN).expect("all of it").start(), 0);
        assert!(arena.take(4 * GRAIN + 1).is_none());
        assert!(arena.take(usize::MAX).is_none());
    }

    #[test]
    fn a_range_beyond_the_arena_is_not_shown() {
        let arena = Arena::create(GRAIN).expect("memory");
        let view = view(&arena);
        for (start, bytes, shown) in [(0, GRAIN, true), (GRAIN, 0, true), (1, GRAIN, false), (GRAIN + 1, 0, false), (usize::MAX, 2, false)]
        {
            assert_eq!(view.show(start, bytes).is_some(), shown, "{bytes} at {start}");
        }
    }

    #[test]
    fn what_is_free_is_given_back_and_what_is_taken_stays() {
        let arena = Arena::create(3 * GRAIN).expect("memory");
        let slots = [1, 2, 3].map(|with| filled(&arena, GRAIN, with));
        let view = view(&arena);
        let [first, second, third] = slots;
        drop((first, third));
        arena.give_back().expect("the system takes it");
        let seen = [0, 1, 2].map(|page| view.show(page * GRAIN, 1).expect("inside").as_ref()[0]);
        assert_eq!(seen, [0, 2, 0]);
        drop(second);
    }

    #[test]
    fn a_file_that_could_be_made_smaller_is_refused() {
        let file = rustix::fs::memfd_create("unsealed", rustix::fs::MemfdFlags::ALLOW_SEALING).expect("memory");
        rustix::fs::ftruncate(&file, 4096).expect("grows");
        assert_eq!(View::open(file.as_fd()).expect_err("not sealed").kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn an_arena_that_was_abandoned_neither_lends_nor_gives_back() {
        let arena = Arena::create(2 * GRAIN).expect("memory");
        let slot = filled(&arena, GRAIN, 7);
        let view = view(&arena);
        arena.abandon();
        drop(slot);
        arena.give_back().expect("nothing to do");
        assert!(arena.take(1).is_none());
        assert_eq!(view.show(0, 1).expect("inside").as_ref(), [7]);
    }

    #[test]
    fn whoever_has_the_descriptor_gives_memory_back() {
        let arena = Arena::create(2 * GRAIN).expect("memory");
        let slots = [filled(&arena, GRAIN, 7), filled(&arena, GRAIN, 8)];
        punch(arena.as_fd(), 0, GRAIN).expect("the system takes it");
        let view = view(&arena);
        assert_eq!([0, GRAIN].map(|start| view.show(start, 1).expect("inside").as_ref()[0]), [0, 8]);
        drop(slots);
    }
}
