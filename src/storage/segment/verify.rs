//! The check of a whole segment: all of it is read.

use super::damage::Damage;
use super::message;
use super::window::Window;
use super::{Entry, Segment};
use crate::storage::StorageError;

/// Reads and checks everything up to the last of `entries`, the segment's batches in the order of the file, and says what is
/// damaged: also what recovery has found before. Blocks, for as long as reading takes.
///
/// # Errors
/// [`StorageError::File`].
pub fn verify(segment: &Segment, entries: &[Entry]) -> Result<Vec<Damage>, StorageError> {
    let file_len = segment.handle.len()?;
    let mut window = Window::new(&segment.handle, file_len);
    let mut found = Vec::new();
    let mut at = 0;
    for line in segment.lines(entries) {
        let expected = *line.message();
        let mut damage = |start, end, why, lines| {
            let file = segment.name().to_owned();
            found.push(Damage { file, range: start..end, why, was_durable: true, lines });
        };
        if expected.start > at {
            damage(at, expected.start, "nobody knows what is there".to_owned(), Vec::new());
        }
        at = expected.end();
        match message::check(&mut window, expected.start)? {
            Ok((message, facts)) if (message, facts.clone().for_index()) == (expected, line.facts()) => {}
            Ok(_) => damage(expected.start, at, "another message is there".to_owned(), vec![line]),
            Err(fault) => damage(expected.start, at, fault.why, vec![line]),
        }
    }
    Ok(found)
}
