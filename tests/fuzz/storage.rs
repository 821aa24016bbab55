//! What a start finds on its disk: segments with their indexes, and the catalog.

use std::sync::Arc;

use bowstring::engine::{Offset, PartitionId, ProducerId, SchemaVersion, StreamId, StreamName, StreamOptions, StreamState, Timestamp};
use bowstring::storage::catalog::{Catalog, Change, SavedStream};
use bowstring::storage::disk::Disk;
use bowstring::storage::segment::{EntryFacts, SegmentHead, SegmentWriter, index_path, recover, segment_path, verify};
use bowstring::wire::batch::EncodedBatch;
use bowstring::wire::dictionary::DictionarySet;
use bowstring::wire::ipc::{Body, Kind, Message, inspect};
use bytes::Bytes;
use rand::rngs::StdRng;

use crate::corpus::Input;
use crate::engine::{Verdict, quietly, within};
use crate::ipc_seeds;
use crate::memory::MemoryDisk;

const FOLDER: &str = "p0";
const CATALOG: &str = "catalog.redb";

/// The batches of a stream, with their dictionaries.
fn batches(input: &Input) -> (Bytes, Vec<EncodedBatch>) {
    let (mut set, mut batches) = (DictionarySet::empty(), Vec::new());
    for parts in input[2..].chunks(2) {
        let message = Message { header: parts[0].clone().into(), body: Body::from(Bytes::from(parts[1].clone())) };
        match inspect(&message.header, message.body.len()).unwrap() {
            Kind::Dictionary { id, delta } => set = set.with(id, delta, message).unwrap(),
            Kind::Batch { rows, .. } => {
                let user = Bytes::from(vec![b'u'; batches.len()]);
                batches.push(EncodedBatch { message, dictionaries: set.clone(), schema: SchemaVersion(0), user, rows });
            }
            Kind::Schema | Kind::Empty => {}
        }
    }
    (input[0].clone().into(), batches)
}

fn facts(ordinal: u64) -> EntryFacts {
    EntryFacts {
        producer: ProducerId::new("ray").unwrap(),
        run: None,
        epoch: None,
        task: None,
        attempt: None,
        ordinal,
        offset: Some(Offset(ordinal)),
        appended_at: Timestamp(1_000_000 + ordinal),
        direct: true,
        bytes: 0,
    }
}

/// Which of the seeds a segment is made of: one with dictionaries, and one without.
fn written() -> Vec<(Bytes, Vec<EncodedBatch>)> {
    let seeds = ipc_seeds::seeds();
    vec![batches(&seeds[0]), batches(&seeds[3])]
}

/// The segment and its index.
pub(crate) fn segment_seeds() -> Vec<Input> {
    let mut seeds = Vec::new();
    for (schema, batches) in written() {
        for is_sealed in [false, true] {
            let head = SegmentHead {
                stream: StreamName::new("clicks").unwrap(),
                stream_id: StreamId(7),
                partition: PartitionId(3),
                number: 0,
                schema: SchemaVersion(0),
            };
            let disk = MemoryDisk::default();
            let mut writer = SegmentWriter::create(&disk, FOLDER, head, &schema).unwrap();
            (0..).zip(&batches).for_each(|(ordinal, batch)| drop(writer.append(batch, facts(ordinal)).unwrap()));
            writer.sync().unwrap();
            if is_sealed {
                writer.seal().unwrap();
            }
            let files = [segment_path(FOLDER, 0), index_path(FOLDER, 0)].map(|path| disk.bytes(&path));
            seeds.push(files.to_vec());
            seeds.push(vec![files[0].clone(), Vec::new()]);
        }
    }
    seeds
}

/// Every batch that can be read is one that was written: what is not is named as damaged.
pub(crate) fn run_segment(input: &Input, _: &mut StdRng) -> Verdict {
    let empty = Vec::new();
    let [segment, index] = [0, 1].map(|part| input.get(part).unwrap_or(&empty));
    let disk = MemoryDisk::with(&[(segment_path(FOLDER, 0), segment), (index_path(FOLDER, 0), index)]);
    // Windows of a megabyte over either file, more than once, and what was in them.
    let bound = (16 << 20) + 64 * (segment.len() + index.len()) as u64;
    let originals = ORIGINALS.with(Clone::clone);
    let recovered = within(bound, "recovering a segment", || recover(&disk, FOLDER, 0, 0));
    let Ok(Some(recovered)) = recovered else { return Verdict::Refused };
    let mut verdict = Verdict::Refused;
    for entry in &recovered.entries {
        let Ok(batch) = within(bound, "reading a batch", || recovered.segment.read(entry)) else { continue };
        let message = (batch.message.header.clone(), batch.message.body.contiguous(), batch.user.clone());
        assert!(originals.contains(&message), "{entry} is read, and was never written");
        verdict = Verdict::Accepted;
    }
    within(bound, "verifying a segment", || verify(&recovered.segment, &recovered.entries)).unwrap();
    verdict
}

thread_local! {
    /// What of the seeds' batches can be told apart.
    static ORIGINALS: Arc<Vec<(Bytes, Bytes, Bytes)>> = {
        let all = written().into_iter().flat_map(|(_, batches)| batches);
        Arc::new(all.map(|batch| (batch.message.header.clone(), batch.message.body.contiguous(), batch.user)).collect())
    };
}

pub(crate) fn catalog_seeds() -> Vec<Input> {
    let disk = MemoryDisk::default();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let catalog = Catalog::open(&shared).unwrap();
    let saved = SavedStream {
        name: StreamName::new("clicks").unwrap(),
        options: StreamOptions::default(),
        schemas: vec![],
        state: StreamState::Open,
        epochs: bowstring::engine::EpochTotals::default(),
    };
    catalog.commit(vec![Change::Stream(StreamId(7), saved)]).unwrap();
    drop(catalog);
    vec![vec![disk.bytes(CATALOG)]]
}

/// Local and trusted, but disks lie: a start that cannot read its catalog says so.
pub(crate) fn run_catalog(input: &Input, _: &mut StdRng) -> Verdict {
    let bytes = input.concat();
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::with(&[(CATALOG.to_owned(), &bytes)]));
    quietly(|| Verdict::of(&Catalog::open(&disk).and_then(|catalog| catalog.load())))
}
