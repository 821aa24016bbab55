//! Segments: the files of a partition's log, each an Arrow IPC stream that any Arrow reader opens.
//!
//! A partition's folder has a file `00000000000000000000.arrows` per segment, named by the segment's number, and beside
//! it an index, `00000000000000000000.index`. A segment is a schema message, then dictionary messages as the batches need
//! them, then record batch messages, header and body byte for byte as they came in. All of its batches have one version of the
//! stream's schema: one of another begins another segment. Once it is sealed it ends with the end-of-stream
//! marker, `ff ff ff ff 00 00 00 00`.
//!
//! Every message says what bowstring knows of it. Numbers are little-endian.
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | `ff ff ff ff`: Arrow's continuation marker |
//! | 4 | length of the metadata: all that follows, up to the body |
//! | | Arrow's flatbuffer |
//! | | the facts, a protobuf: `facts.rs` |
//! | | zeros, so that the body starts a multiple of 64 bytes after the message does |
//! | 4 + 4 + 4 | the tail: lengths of flatbuffer and facts, CRC-32 of flatbuffer, facts and body |
//! | 4 | `BWS1`, the end of the tail and of the metadata |
//! | | the body |
//!
//! Arrow's readers look at the flatbuffer alone and skip what follows it: the metadata may be padded.
//!
//! The index has a line per message, in the order of the file, and a line per sync that says how much of the segment is
//! durable. It saves reading the segment at the start, and knows what a damaged part of it was. It is never needed: what it
//! lacks is read from the segment.

mod damage;
mod dictionaries;
mod facts;
mod handle;
mod index;
mod lines;
mod message;
mod reading;
mod recover;
mod verify;
mod walk;
mod window;
mod writer;

#[cfg(all(test, feature = "client"))]
mod damage_tests;
#[cfg(all(test, feature = "client"))]
mod index_tests;
#[cfg(all(test, feature = "client"))]
pub(crate) mod testing;
#[cfg(all(test, feature = "client"))]
mod tests;

use std::io;

pub use damage::Damage;
pub use facts::{EntryFacts, SegmentHead};
pub use lines::Entry;
pub use message::MessageAt;
pub use reading::Segment;
pub use recover::{Recovered, recover};
pub use verify::verify;
pub use writer::SegmentWriter;

use super::disk::Disk;
use crate::wire::frame::HEAD_BYTES_MAX;

/// The format's version. It grows when an older bowstring would misread what a newer one writes. Segments of a schema's first version
/// are of format version 1 still.
pub const FORMAT_VERSION: u32 = 2;

/// Most bytes of a message's metadata: a header and a user's metadata, each as large as the wire lets them be, and what
/// bowstring adds. More is no message of ours.
const METADATA_BYTES_MAX: u64 = 2 * HEAD_BYTES_MAX + (64 << 10);

/// The end of a sealed segment.
const END_OF_STREAM: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// The numbers of a partition's segments, ascending. A folder that is not there has none.
///
/// # Errors
/// The system's.
pub fn list(disk: &dyn Disk, folder: &str) -> io::Result<Vec<u64>> {
    let names = match disk.list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.strip_suffix(".arrows")?.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes a segment and its index. Who has it open can go on reading.
///
/// # Errors
/// The system's; the index may be gone then, which only costs time.
pub fn remove(disk: &dyn Disk, folder: &str, number: u64) -> io::Result<()> {
    // First, or it might be taken for that of a later segment of this number.
    match disk.remove(&index_path(folder, number)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    disk.remove(&segment_path(folder, number))
}

/// A segment's path on its disk.
#[must_use]
pub fn segment_path(folder: &str, number: u64) -> String {
    format!("{folder}/{number:020}.arrows")
}

/// The path of a segment's index on its disk.
#[must_use]
pub fn index_path(folder: &str, number: u64) -> String {
    format!("{folder}/{number:020}.index")
}
