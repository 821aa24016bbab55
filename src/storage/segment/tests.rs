//! Segments that nothing happens to: what was appended is there, for bowstring and for Arrow's readers.

use std::sync::Arc;

use arrow_ipc::writer::DictionaryHandling;
use bytes::Bytes;
use proptest::prelude::*;

use super::testing::*;
use super::*;
use crate::storage::StorageError;
use crate::storage::disk::Folder;
use crate::wire::batch::EncodedBatch;
use crate::wire::dictionary::DictionarySet;
use crate::wire::ipc::{Body, Message};

fn refused<T: std::fmt::Debug>(result: Result<T, StorageError>) -> String {
    result.expect_err("is refused").to_string()
}

#[test]
fn what_was_appended_is_read_back_live_and_recovered() {
    for handling in [DictionaryHandling::Delta, DictionaryHandling::Resend] {
        let (schema, batches) = encode(&word_batches(), handling);
        let disk = MemoryDisk::default();
        let (mut writer, entries) = written(&disk, &schema, &batches);
        let segment = writer.segment().clone();
        for (entry, batch) in entries.iter().zip(&batches) {
            let read = segment.read(entry).expect("is there");
            assert_same(&read, batch);
            assert!(Arc::ptr_eq(&read.dictionaries, &batch.dictionaries), "the set that came with it");
            let body = read.message.body.contiguous();
            assert!(body.is_empty() || body.as_ptr().align_offset(64) == 0);
            assert_eq!(entry.bytes(), batch.bytes());
        }
        writer.sync().expect("is durable");
        let recovered = disk.recover();
        assert_eq!((&recovered.entries, recovered.end, recovered.durable), (&entries, writer.end(), writer.end()));
        assert_eq!((recovered.segment.head(), recovered.segment.schema()), (&head(), Some(&schema)));
        assert!(recovered.damage.is_empty() && !recovered.is_sealed);
        for (entry, batch) in entries.iter().zip(&batches).rev() {
            assert_same(&recovered.segment.read(entry).expect("is there"), batch);
        }
        assert_eq!(verify(&segment, &entries).expect("can be read"), []);
    }
}

#[test]
fn arrow_reads_live_and_sealed_segments() {
    for handling in [DictionaryHandling::Delta, DictionaryHandling::Resend] {
        let (schema, batches) = encode(&word_batches(), handling);
        let disk = MemoryDisk::default();
        let (mut writer, _) = written(&disk, &schema, &batches);
        assert_eq!(arrow_reads(&disk.segment()), word_batches());
        writer.seal().expect("is sealed");
        assert!(disk.segment().ends_with(&END_OF_STREAM));
        assert_eq!(arrow_reads(&disk.segment()), word_batches());
    }
}

#[test]
fn the_real_disk_does_as_well() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = Folder::open(dir.path()).expect("is there");
    disk.make_dir(FOLDER).expect("is made");
    let (schema, batches) = encode(&word_batches(), DictionaryHandling::Delta);
    for number in [0, 1] {
        let mut writer = SegmentWriter::create(&disk, FOLDER, SegmentHead { number, ..head() }, &schema).expect("is made");
        let entry = writer.append(&batches[1], facts(0)).expect("is appended");
        assert_same(&writer.segment().read(&entry).expect("is there"), &batches[1]);
        writer.seal().expect("is sealed");
        let recovered = recover(&disk, FOLDER, number, 0).expect("can be read").expect("has a head");
        assert!(recovered.is_sealed && recovered.entries == [entry]);
    }
    assert_eq!(list(&disk, FOLDER).expect("is there"), [0, 1]);
    remove(&disk, FOLDER, 0).expect("is removed");
    assert_eq!(list(&disk, FOLDER).expect("is there"), [1]);
    assert_eq!(list(&disk, "nowhere").expect("has none"), [0; 0]);
}

#[test]
fn bodies_may_be_empty_and_of_any_length() {
    let batches: Vec<_> = [&[][..], &[1, 2, 3], &[4]].map(ints).into();
    let (schema, plain) = encode(&batches, DictionaryHandling::Delta);
    let odd: Vec<_> = [0, 3, 61].into_iter().zip(&plain).map(|(more, batch)| with_longer_body(batch, more)).collect();
    assert_eq!(odd.iter().map(|batch| batch.message.body.len() % 64).collect::<Vec<_>>(), [0, 27, 5]);
    let disk = MemoryDisk::default();
    let (_, entries) = written(&disk, &schema, &odd);
    assert_eq!(arrow_reads(&disk.segment()), batches);
    for disk in [disk.clone(), MemoryDisk::with(&disk.segment(), None)] {
        let recovered = disk.recover();
        assert_eq!(recovered.entries, entries);
        entries.iter().zip(&odd).for_each(|(entry, batch)| assert_same(&recovered.segment.read(entry).expect("is there"), batch));
    }
}

#[test]
fn bodies_lie_aligned_behind_their_message() {
    let (_, entries, _) = words(false);
    assert!(entries.iter().all(|entry| (8 + entry.message.metadata_bytes) % 64 == 0));
}

#[test]
fn recovered_batches_of_the_same_dictionaries_share_them() {
    let (disk, entries, _) = words(true);
    let segment = disk.recover().segment;
    let sets: Vec<_> = entries.iter().map(|entry| segment.read(entry).expect("is there").dictionaries).collect();
    assert!(Arc::ptr_eq(&sets[1], &sets[2]));
    // The delta is all that a reader lacks.
    assert_eq!((sets[0].missing_from(&DictionarySet::default()).len(), sets[1].missing_from(&sets[0]).len()), (1, 1));
    assert_eq!(sets[3].missing_from(&sets[1]).len(), 1, "replaced");
    // Nobody has the sets any more: only what is needed is read.
    let segment = disk.recover().segment;
    disk.take_bytes_read();
    let last = segment.read(&entries[4]).expect("is there");
    let needed: u64 = segment.dictionaries.all().last().expect("some").message.len() + entries[4].message.len();
    assert_eq!((disk.take_bytes_read(), last.dictionaries.missing_from(&sets[4]).len()), (needed, 1));
}

#[test]
fn a_segment_is_gone_on_with() {
    let (disk, mut entries, batches) = words(false);
    let mut recovered = disk.recover();
    let mut writer = SegmentWriter::resume(&mut recovered).expect("is open");
    assert!(refused(SegmentWriter::resume(&mut recovered)).contains("it has a writer; begin a new segment"));
    entries.push(writer.append(&batches[0], facts(5)).expect("is appended"));
    entries.push(writer.append(&batches[1], facts(6)).expect("is appended"));
    writer.seal().expect("is sealed");
    writer.seal().expect("is sealed");
    writer.sync().expect("is durable");
    assert!(refused(writer.append(&batches[0], facts(7))).contains("it is sealed"));
    let expected: Vec<_> = word_batches().iter().chain(&word_batches()[..2]).cloned().collect();
    assert_eq!(arrow_reads(&disk.segment()), expected);
    for disk in [disk.clone(), MemoryDisk::with(&disk.segment(), None)] {
        let mut recovered = disk.recover();
        assert!(recovered.is_sealed && recovered.entries == entries);
        assert!(refused(SegmentWriter::resume(&mut recovered)).contains("it is sealed"));
        assert_same(&recovered.segment.read(&entries[6]).expect("is there"), &batches[1]);
    }
}

#[test]
fn recovery_reads_the_index_and_no_batches() {
    let disk = MemoryDisk::default();
    let (schema, batches) = encode(&[ints(&[7; 100_000])], DictionaryHandling::Delta);
    let (mut writer, _) = written(&disk, &schema, &vec![batches[0].clone(); 4]);
    writer.sync().expect("is durable");
    disk.take_bytes_read();
    disk.recover();
    // One window is read at the start, for the schema, and once more.
    let read = disk.take_bytes_read();
    assert!(read < 600 << 10, "{read} of {}", writer.end());
}

/// Numbers and bytes are for a batch of the size, its body in one piece.
#[test]
fn an_append_copies_no_body_and_allocates_little() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = Folder::open(dir.path()).expect("is there");
    disk.make_dir(FOLDER).expect("is made");
    for (number, rows) in [(0, 128), (1, 512 << 10)] {
        let (schema, batches) = encode(&[ints(&vec![7; rows])], DictionaryHandling::Delta);
        let mut writer = SegmentWriter::create(&disk, FOLDER, SegmentHead { number, ..head() }, &schema).expect("is made");
        // The first makes the memory that the others use again.
        writer.append(&batches[0], facts(1)).expect("is appended");
        let facts = facts(3);
        let cost = allocation_counter::measure(|| drop(writer.append(&batches[0], facts).expect("is appended")));
        assert!(cost.count_total < 14 && cost.bytes_total < 3 << 10, "{rows} rows: {cost:?}");
    }
}

#[test]
fn a_full_disk_at_any_byte_changes_nothing() {
    let (schema, batches) = encode(&word_batches(), DictionaryHandling::Delta);
    let whole = |room: u64| -> bool {
        let disk = MemoryDisk::default();
        let (mut writer, mut entries) = written(&disk, &schema, &batches[..1]);
        let end = writer.end();
        disk.set_room(room);
        let first = writer.append(&batches[1], facts(1));
        let is_whole = first.is_ok();
        if let Err(error) = &first {
            assert!(matches!(error, StorageError::NoRoom { .. }), "{error}");
            assert_eq!((writer.end(), disk.segment().len() as u64), (end, end), "what was written is cut");
        }
        disk.set_room(u64::MAX);
        // Another, shorter batch comes first.
        entries.push(first.unwrap_or_else(|_| writer.append(&batches[0], facts(1)).expect("has room")));
        entries.push(writer.append(&batches[1], facts(2)).expect("has room"));
        for disk in [disk.clone(), MemoryDisk::with(&disk.segment(), None)] {
            let recovered = disk.recover();
            assert_eq!((&recovered.entries, recovered.damage.len()), (&entries, 0));
            assert_same(&recovered.segment.read(&entries[2]).expect("is there"), &batches[1]);
        }
        is_whole
    };
    let mut room = 0;
    while !whole(room) {
        room += 1;
    }
    assert!(room > 400, "a dictionary and a batch: {room} bytes");
}

#[test]
fn a_full_disk_leaves_no_half_made_segment() {
    let (schema, _) = encode(&[ints(&[1])], DictionaryHandling::Delta);
    let disk = MemoryDisk::default();
    disk.set_room(50);
    let error = SegmentWriter::create(&disk, FOLDER, head(), &schema).expect_err("no room");
    assert!(matches!(error, StorageError::NoRoom { .. }) && disk.names().is_empty(), "{error}");
    disk.set_room(u64::MAX);
    SegmentWriter::create(&disk, FOLDER, head(), &schema).expect("has room");
    assert!(refused(SegmentWriter::create(&disk, FOLDER, head(), &schema)).contains("cannot create memory/p0/00000000000000000000.arrows"));
    assert_eq!(disk.names().len(), 2, "the one that is there stays");
}

#[test]
fn after_a_failed_sync_nothing_is_believed() {
    let (schema, batches) = encode(&[ints(&[1])], DictionaryHandling::Delta);
    let disk = MemoryDisk::default();
    let (mut writer, _) = written(&disk, &schema, &batches);
    let durable = writer.durable();
    disk.fail_syncs(true);
    assert!(refused(writer.sync()).contains("cannot make durable"));
    disk.fail_syncs(false);
    for refusal in [refused(writer.sync()), refused(writer.append(&batches[0], facts(1))), refused(writer.seal())] {
        assert!(refusal.contains("start the coordinator again"), "{refusal}");
    }
    assert_eq!(writer.durable(), durable);
}

#[test]
fn what_is_no_batch_is_refused() {
    let (schema, batches) = encode(&[ints(&[1])], DictionaryHandling::Delta);
    let disk = MemoryDisk::default();
    let (mut writer, _) = written(&disk, &schema, &[]);
    let wrong_rows = EncodedBatch { rows: 2, ..batches[0].clone() };
    let no_batch = EncodedBatch { message: Message { header: schema, body: Body::new() }, ..batches[0].clone() };
    let no_body = EncodedBatch { message: Message { body: Body::new(), ..batches[0].message.clone() }, ..batches[0].clone() };
    let large_user = EncodedBatch { user: vec![0; 40 << 20].into(), ..batches[0].clone() };
    for unfit in [wrong_rows, no_batch, no_body, large_user] {
        assert!(matches!(writer.append(&unfit, facts(0)), Err(StorageError::Unfit { .. })));
    }
    writer.append(&batches[0], facts(0)).expect("is one");
    let no_schema = SegmentWriter::create(&disk, FOLDER, SegmentHead { number: 1, ..head() }, &batches[0].message.header);
    assert!(matches!(no_schema, Err(StorageError::Unfit { .. })));
}

#[test]
fn a_newer_format_is_refused() {
    let (schema, _) = encode(&[ints(&[1])], DictionaryHandling::Delta);
    let mut facts = facts::Facts::schema(&head());
    let Some(facts::Kind::Schema(newer)) = &mut facts.kind else { panic!("a schema") };
    newer.format_version = FORMAT_VERSION + 1;
    let mut segment = Vec::new();
    message::put_head(&mut segment, &schema, &facts, &Body::new()).expect("fits");
    let refusal = refused(recover(&MemoryDisk::with(&segment, None), FOLDER, 0, 0));
    assert!(refusal.contains("format version 3") && refusal.contains("knows 2 and older"), "{refusal}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Producers with dictionaries of their own, user's metadata, odd lengths, syncs, and a coordinator that is started
    /// again: all that was appended is there.
    #[test]
    fn whatever_is_appended_is_there(
        steps in proptest::collection::vec((0_usize..3, 0_usize..5, 0_usize..70, 0_usize..200, 0_u8..8), 1..30),
        seal in any::<bool>(),
        keep_index in any::<bool>(),
    ) {
        let handlings = [DictionaryHandling::Delta, DictionaryHandling::Resend, DictionaryHandling::Delta];
        let producers = handlings.map(|handling| encode(&word_batches(), handling));
        let mut disk = MemoryDisk::default();
        let (mut writer, _) = written(&disk, &producers[0].0, &[]);
        let (mut entries, mut appended, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for (producer, index, more, user, event) in steps {
            let batch = EncodedBatch { user: Bytes::from(vec![7; user]), ..with_longer_body(&producers[producer].1[index], more) };
            entries.push(writer.append(&batch, facts(entries.len() as u64)).expect("is appended"));
            appended.push(batch);
            rows.push(word_batches()[index].clone());
            match event {
                0 => writer.sync().expect("is durable"),
                1 => {
                    disk = MemoryDisk::with(&disk.segment(), keep_index.then(|| disk.index()).as_deref());
                    let mut recovered = disk.recover();
                    prop_assert_eq!(&recovered.entries, &entries);
                    writer = SegmentWriter::resume(&mut recovered).expect("is open");
                }
                _ => {}
            }
        }
        if seal {
            writer.seal().expect("is sealed");
        }
        prop_assert_eq!(arrow_reads(&disk.segment()), rows);
        let recovered = disk.recover();
        prop_assert_eq!((&recovered.entries, recovered.is_sealed, recovered.end), (&entries, seal, writer.end()));
        for segment in [&recovered.segment, writer.segment()] {
            entries.iter().zip(&appended).for_each(|(entry, batch)| assert_same(&segment.read(entry).expect("is there"), batch));
        }
        prop_assert_eq!(verify(&recovered.segment, &entries).expect("can be read"), []);
    }
}
