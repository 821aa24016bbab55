//! What the tests of segments need: a disk in memory that fails when it is told to, and batches.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch};
use arrow::datatypes::Int32Type;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{DictionaryHandling, IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use parking_lot::Mutex;

use super::*;
use crate::engine::{Attempt, Epoch, Offset, PartitionId, ProducerId, RunId, SchemaVersion, StreamId, StreamName, Task, Timestamp};
use crate::storage::disk::DiskFile;
use crate::wire::batch::EncodedBatch;
use crate::wire::dictionary::DictionarySet;
use crate::wire::ipc::{self, Body, Kind, Message};

pub(super) const FOLDER: &str = "p0";

/// A disk in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub(in crate::storage) struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<String, Arc<MemoryFile>>>>,
    faults: Arc<Faults>,
}

#[derive(Debug)]
struct Faults {
    /// Bytes that can still be written.
    room: AtomicU64,
    fails_to_sync: AtomicBool,
    bytes_read: AtomicU64,
    /// The so many-th read from now on has one bit wrong; 0: none.
    wrong_read_in: AtomicU64,
}

impl Default for Faults {
    fn default() -> Self {
        let [bytes_read, wrong_read_in] = [(); 2].map(|()| AtomicU64::new(0));
        Self { room: AtomicU64::new(u64::MAX), fails_to_sync: AtomicBool::new(false), bytes_read, wrong_read_in }
    }
}

#[derive(Debug, Default)]
struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
    faults: Arc<Faults>,
}

impl MemoryDisk {
    /// A disk with one segment, and its index if there is one.
    pub(super) fn with(segment: &[u8], index: Option<&[u8]>) -> Self {
        let disk = Self::default();
        let index = index.map(|bytes| (index_path(FOLDER, 0), bytes));
        for (path, bytes) in [(segment_path(FOLDER, 0), segment)].into_iter().chain(index) {
            disk.create(&path).expect("is new").write_at(&[bytes], 0).expect("has room");
        }
        disk
    }

    pub(super) fn bytes(&self, path: &str) -> Vec<u8> {
        self.files.lock()[path].bytes.lock().clone()
    }

    pub(super) fn segment(&self) -> Vec<u8> {
        self.bytes(&segment_path(FOLDER, 0))
    }

    pub(super) fn index(&self) -> Vec<u8> {
        self.bytes(&index_path(FOLDER, 0))
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.files.lock().keys().cloned().collect()
    }

    pub(in crate::storage) fn set_room(&self, bytes: u64) {
        self.faults.room.store(bytes, Ordering::Relaxed);
    }

    pub(in crate::storage) fn fail_syncs(&self, fail: bool) {
        self.faults.fails_to_sync.store(fail, Ordering::Relaxed);
    }

    /// The so many-th read from now on has one bit wrong; 0: none. Gives how many were left of the last time.
    pub(super) fn read_wrong(&self, reads: u64) -> u64 {
        self.faults.wrong_read_in.swap(reads, Ordering::Relaxed)
    }

    /// Bytes read since the last time.
    pub(super) fn take_bytes_read(&self) -> u64 {
        self.faults.bytes_read.swap(0, Ordering::Relaxed)
    }

    pub(super) fn recover(&self) -> Recovered {
        recover(self, FOLDER, 0, 0).expect("can be recovered").expect("has a head")
    }
}

impl Disk for MemoryDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.files.lock();
        if files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(MemoryFile { bytes: Mutex::default(), faults: self.faults.clone() });
        files.insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.files.lock().get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(file)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        Ok(self.files.lock().keys().filter_map(|name| name.strip_prefix(&format!("{path}/")).map(str::to_owned)).collect())
    }

    fn make_dir(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.lock();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.files.lock().remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.files.lock().retain(|name, _| !name.starts_with(path));
        Ok(())
    }

    fn sync_dir(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn available(&self) -> io::Result<u64> {
        Ok(self.faults.room.load(Ordering::Relaxed))
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }
}

impl DiskFile for MemoryFile {
    fn write_at(&self, pieces: &[&[u8]], at: u64) -> io::Result<()> {
        let mut bytes = self.bytes.lock();
        for (at, byte) in (usize::try_from(at).expect("fits")..).zip(pieces.iter().copied().flatten()) {
            if self.faults.room.load(Ordering::Relaxed) == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.faults.room.fetch_sub(1, Ordering::Relaxed);
            if bytes.len() <= at {
                bytes.resize(at + 1, 0);
            }
            bytes[at] = *byte;
        }
        Ok(())
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let bytes = self.bytes.lock();
        let at = usize::try_from(at).expect("fits");
        into.copy_from_slice(bytes.get(at..at + into.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        self.faults.bytes_read.fetch_add(into.len() as u64, Ordering::Relaxed);
        let left = self.faults.wrong_read_in.load(Ordering::Relaxed);
        self.faults.wrong_read_in.store(left.saturating_sub(1), Ordering::Relaxed);
        if let (1, false) = (left, into.is_empty()) {
            let middle = into.len() / 2;
            into[middle] ^= 4;
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.lock().resize(usize::try_from(len).expect("fits"), 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.faults.fails_to_sync.load(Ordering::Relaxed) { Err(io::Error::other("an unhappy disk")) } else { Ok(()) }
    }
}

pub(super) fn head() -> SegmentHead {
    SegmentHead {
        stream: StreamName::new("clicks").expect("valid"),
        stream_id: StreamId(7),
        partition: PartitionId(3),
        number: 0,
        schema: SchemaVersion(0),
    }
}

/// Facts of every kind, present and absent.
pub(super) fn facts(ordinal: u64) -> EntryFacts {
    let staged = ordinal % 2 == 1;
    EntryFacts {
        producer: ProducerId::new(if staged { "spark" } else { "ray" }).expect("valid"),
        run: staged.then(|| RunId::new("run 1").expect("valid")),
        epoch: staged.then_some(Epoch(ordinal / 2)),
        task: staged.then_some(Task(4)),
        attempt: staged.then_some(Attempt(0)),
        ordinal,
        offset: (!staged).then_some(Offset(ordinal)),
        appended_at: Timestamp(1_000_000 + ordinal),
        direct: !staged,
        bytes: 0,
    }
}

/// An int column and a dictionary column.
pub(super) fn rows(numbers: &[i64], words: &[&str]) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from(numbers.to_vec()));
    let words: ArrayRef = Arc::new(words.iter().copied().collect::<DictionaryArray<Int32Type>>());
    RecordBatch::try_from_iter([("number", numbers), ("word", words)]).expect("fits")
}

/// Only ints: no dictionaries.
pub(crate) fn ints(numbers: &[i64]) -> RecordBatch {
    RecordBatch::try_from_iter([("number", Arc::new(Int64Array::from(numbers.to_vec())) as ArrayRef)]).expect("fits")
}

/// Batches whose dictionaries grow, stay, then are replaced.
pub(super) fn word_batches() -> Vec<RecordBatch> {
    vec![
        rows(&[1, 2], &["a", "b"]),
        rows(&[3, 4, 5], &["a", "b", "c"]),
        rows(&[6, 7, 8], &["a", "b", "c"]),
        rows(&[9], &["x"]),
        rows(&[], &[]),
    ]
}

/// The schema message and the batches as one producer sends them.
pub(crate) fn encode(batches: &[RecordBatch], handling: DictionaryHandling) -> (Bytes, Vec<EncodedBatch>) {
    let options = IpcWriteOptions::try_new(8, false, arrow_ipc::MetadataVersion::V5).expect("valid").with_dictionary_handling(handling);
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batches[0].schema(), options).expect("valid");
    batches.iter().for_each(|batch| writer.write(batch).expect("fits"));
    messages(&writer.into_inner().expect("ends").into())
}

fn messages(stream: &Bytes) -> (Bytes, Vec<EncodedBatch>) {
    let (mut schema, mut dictionaries, mut batches) = (Bytes::new(), DictionarySet::empty(), Vec::new());
    let mut at = 0;
    while let Some(prefix) = stream.get(at..at + 8).filter(|prefix| prefix[4..] != [0; 4]) {
        let len = u32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]) as usize;
        let header = stream.slice(at + 8..at + 8 + len);
        let body_len = usize::try_from(ipc::parse(&header).expect("valid").bodyLength()).expect("fits");
        let body = stream.slice(at + 8 + len..at + 8 + len + body_len);
        at += 8 + len + body_len;
        let kind = ipc::inspect(&header, body_len as u64).expect("valid");
        let message = Message { header: header.clone(), body: Body::from(body) };
        match kind {
            Kind::Schema => schema = header,
            Kind::Dictionary { id, delta } => dictionaries = dictionaries.with(id, delta, message).expect("valid"),
            Kind::Batch { rows, .. } => {
                let user = Bytes::from(vec![b'u'; batches.len()]);
                batches.push(EncodedBatch { message, dictionaries: dictionaries.clone(), schema: SchemaVersion(0), user, rows });
            }
            Kind::Empty => panic!("arrow writes no empty messages"),
        }
    }
    (schema, batches)
}

/// A batch with a body of so many bytes more, which no column uses. An empty one stays empty: its header has no length.
pub(super) fn with_longer_body(batch: &EncodedBatch, more: usize) -> EncodedBatch {
    let old = batch.message.body.len();
    if old == 0 {
        return batch.clone();
    }
    let mut body = batch.message.body.clone();
    body.push(Bytes::from(vec![0xff; more]));
    let patched =
        (0..=batch.message.header.len() - 8).filter(|at| batch.message.header[*at..*at + 8] == old.to_le_bytes()).find_map(|at| {
            let mut header = batch.message.header.to_vec();
            header[at..at + 8].copy_from_slice(&body.len().to_le_bytes());
            ipc::inspect(&header, body.len()).is_ok().then(|| Bytes::from(header))
        });
    EncodedBatch { message: Message { header: patched.expect("the length is in the header"), body }, ..batch.clone() }
}

/// A new segment with these batches, none of them durable.
pub(super) fn written(disk: &MemoryDisk, schema: &Bytes, batches: &[EncodedBatch]) -> (SegmentWriter, Vec<Entry>) {
    let mut writer = SegmentWriter::create(disk, FOLDER, head(), schema).expect("is made");
    let entries = (0..).zip(batches).map(|(ordinal, batch)| writer.append(batch, facts(ordinal)).expect("is appended")).collect();
    (writer, entries)
}

/// A durable segment with batches of words, all of whose lines are in the index.
pub(super) fn words(seal: bool) -> (MemoryDisk, Vec<Entry>, Vec<EncodedBatch>) {
    let disk = MemoryDisk::default();
    let (schema, batches) = encode(&word_batches(), DictionaryHandling::Delta);
    let (mut writer, entries) = written(&disk, &schema, &batches);
    writer.sync().expect("is durable");
    if seal {
        writer.seal().expect("is sealed");
    }
    (disk, entries, batches)
}

/// The file as arrow-rs reads it.
pub(super) fn arrow_reads(segment: &[u8]) -> Vec<RecordBatch> {
    let reader = StreamReader::try_new(segment, None).expect("begins with a schema");
    reader.map(|batch| batch.expect("is a batch")).collect()
}

/// Whether a batch is as it was appended, its dictionaries too.
pub(super) fn assert_same(read: &EncodedBatch, appended: &EncodedBatch) {
    assert_eq!(read.message.header, appended.message.header);
    assert_eq!(read.message.body.contiguous(), appended.message.body.contiguous());
    assert_eq!((&read.user, read.rows), (&appended.user, appended.rows));
    let dictionaries = |batch: &EncodedBatch| {
        let messages = batch.dictionaries.missing_from(&DictionarySet::default());
        messages.iter().map(|message| (message.header.clone(), message.body.contiguous())).collect::<Vec<_>>()
    };
    assert_eq!(dictionaries(read), dictionaries(appended));
}

/// Whether two recoveries have found the same.
pub(super) fn assert_same_recovered(one: &Recovered, other: &Recovered, case: &str) {
    let facts =
        |recovered: &Recovered| (recovered.end, recovered.is_sealed, recovered.segment.head().clone(), recovered.segment.schema().cloned());
    assert_eq!(facts(one), facts(other), "{case}");
    assert_eq!(one.entries, other.entries, "{case}");
    assert_eq!(one.damage, other.damage, "{case}");
}
