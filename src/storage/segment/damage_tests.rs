//! Segments that are torn or damaged: nothing that was durable goes without a word, and nothing else is held up by it.

use std::ops::Range;

use arrow_ipc::writer::DictionaryHandling;
use bytes::Bytes;
use proptest::prelude::*;

use super::lines::Line;
use super::testing::*;
use super::*;
use crate::storage::StorageError;
use crate::wire::batch::EncodedBatch;

fn at(place: u64) -> usize {
    usize::try_from(place).expect("fits")
}

fn flipped(bytes: &[u8], at: usize, bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << (bit % 8);
    bytes
}

/// Where a message is, with all that it has.
fn span(line: &Line) -> Range<u64> {
    line.message().start..line.message().end()
}

#[test]
fn a_torn_end_is_cut_wherever_it_is_torn() {
    let (schema, batches) = encode(&word_batches(), DictionaryHandling::Delta);
    let disk = MemoryDisk::default();
    let (mut writer, mut entries) = written(&disk, &schema, &batches[..2]);
    writer.sync().expect("is durable");
    let end = writer.end();
    let last = writer.append(&batches[3], facts(2)).expect("is appended");
    let (segment, index) = (disk.segment(), disk.index());
    let dictionary_end = last.message.start;
    for len in at(end)..segment.len() {
        for (index, more) in [(Some(&index[..]), 0), (None, 0), (Some(&index[..]), 100)] {
            let disk = MemoryDisk::with(&[&segment[..len], &vec![1; more]].concat(), index);
            let mut recovered = disk.recover();
            let expected_end = if len as u64 >= dictionary_end { dictionary_end } else { end };
            assert_eq!((&recovered.entries, recovered.damage.len(), recovered.end), (&entries, 0, expected_end), "{len}");
            assert_eq!((disk.segment().len() as u64, recovered.cut_bytes), (expected_end, (len + more) as u64 - expected_end), "{len}");
            let mut writer = SegmentWriter::resume(&mut recovered).expect("is open");
            let again = writer.append(&batches[3], facts(2)).expect("is appended");
            assert_same(&disk.recover().segment.read(&again).expect("is there"), &batches[3]);
            assert_eq!(arrow_reads(&disk.segment()).len(), 3, "{len}");
        }
    }
    entries.push(last);
    assert_eq!(disk.recover().entries, entries);
}

/// Without the index nothing says that the last batch was durable.
#[test]
fn what_was_read_wrong_once_is_neither_cut_nor_damaged() {
    let (schema, batches) = encode(&word_batches(), DictionaryHandling::Delta);
    let disk = MemoryDisk::default();
    let (mut writer, entries) = written(&disk, &schema, &batches);
    writer.sync().expect("is durable");
    let segment = disk.segment();
    for index in [Some(disk.index()), None] {
        let reads = (1..).take_while(|reads| {
            let disk = MemoryDisk::with(&segment, index.as_deref());
            disk.read_wrong(*reads);
            // The schema is read once more at the end, and refused if it is wrong: the next start finds it.
            let recovered = recover(&disk, FOLDER, 0, 0);
            let was_read = disk.read_wrong(0) == 0;
            if let Ok(recovered) = recovered {
                let recovered = recovered.expect("has a head");
                assert_eq!((&recovered.entries, recovered.damage.len(), recovered.cut_bytes), (&entries, 0, 0), "read {reads}");
            }
            assert!(disk.segment() == segment, "read {reads}");
            was_read
        });
        assert!(reads.count() >= 2);
    }
}

#[test]
fn a_torn_first_message_is_no_segment() {
    let (schema, _) = encode(&word_batches(), DictionaryHandling::Delta);
    let disk = MemoryDisk::default();
    written(&disk, &schema, &[]);
    let segment = disk.segment();
    for len in 0..segment.len() {
        let disk = MemoryDisk::with(&segment[..len], None);
        assert!(recover(&disk, FOLDER, 0, 0).expect("can be read").is_none(), "{len}");
        let error = recover(&disk, FOLDER, 0, segment.len() as u64).expect_err("it was durable").to_string();
        assert!(error.contains("cannot be read, and the index does not have it"), "{error}");
        let recovered = MemoryDisk::with(&segment[..len], Some(&MemoryDisk::index(&written_disk()))).recover();
        assert!(recovered.damage.len() == 1 && recovered.segment.head() == &head() && recovered.segment.schema().is_none());
    }
    assert!(MemoryDisk::with(&segment, None).recover().entries.is_empty());
}

fn written_disk() -> MemoryDisk {
    let disk = MemoryDisk::default();
    written(&disk, &encode(&word_batches(), DictionaryHandling::Delta).0, &[]);
    disk
}

#[test]
fn a_flipped_bit_anywhere_is_damage_of_that_message() {
    for seal in [false, true] {
        let (disk, entries, _) = words(seal);
        let (segment, index) = (disk.segment(), disk.index());
        let lines = disk.recover().segment.lines(&entries);
        for place in 0..segment.len() {
            let bytes = flipped(&segment, place, place);
            let hit = lines.iter().find(|line| span(line).contains(&(place as u64)));
            let others: Vec<_> = entries.iter().filter(|entry| hit != Some(&Line::Batch((*entry).clone()))).cloned().collect();

            // With the index alone it shows when all is read.
            let disk = MemoryDisk::with(&bytes, Some(&index));
            let recovered = disk.recover();
            let damage = match hit {
                Some(Line::Schema { .. }) | None => recovered.damage.clone(),
                Some(_) => verify(&recovered.segment, &recovered.entries).expect("can be read"),
            };
            assert_damage(&damage, hit, place);
            if hit.is_some() {
                assert_eq!(damage[0].lines, hit.cloned().into_iter().collect::<Vec<_>>(), "{place}");
            }
            assert_eq!(disk.segment(), bytes, "nothing was cut");

            // Without, by who knows what was durable.
            let disk = MemoryDisk::with(&bytes, None);
            match (recover(&disk, FOLDER, 0, segment.len() as u64), hit) {
                (Err(error), Some(Line::Schema { .. })) => assert!(error.to_string().contains("the schema"), "{error}"),
                (found, _) => {
                    let found = found.expect("can be read").expect("has a head");
                    assert_damage(&found.damage, hit, place);
                    assert_eq!((&found.entries, found.end), (&others, segment.len() as u64), "{place}");
                }
            }
            assert_eq!(disk.segment(), bytes, "nothing was cut");
        }
    }
}

fn assert_damage(damage: &[Damage], hit: Option<&Line>, place: usize) {
    assert_eq!(damage.len(), 1, "byte {place} of {hit:?}: {damage:?}");
    assert!(damage[0].was_durable && damage[0].range.contains(&(place as u64)), "byte {place}: {}", damage[0]);
    if let Some(hit) = hit {
        assert_eq!(damage[0].range, span(hit), "byte {place}");
    }
}

#[test]
fn damage_says_what_where_and_why() {
    let (disk, entries, _) = words(false);
    let place = at(entries[1].message.end()) - 1;
    let disk = MemoryDisk::with(&flipped(&disk.segment(), place, 0), Some(&disk.index()));
    let recovered = disk.recover();
    let name = "the batch of ordinal 1 of producer spark (no offset yet, epoch 0, task 4, attempt 0)";
    let error = recovered.segment.read(&entries[1]).expect_err("is damaged").to_string();
    let begin =
        format!("{name} in memory/p0/00000000000000000000.arrows at byte {} is damaged: its checksum is ", entries[1].message.start);
    assert!(error.starts_with(&begin) && error.ends_with("restore the file from a copy if there is one"), "{error}");
    let damage = &verify(&recovered.segment, &entries).expect("can be read")[0];
    assert!(damage.to_string().ends_with(&format!("{name} was there")), "{damage}");
    assert_eq!(damage.entries().collect::<Vec<_>>(), [&entries[1]]);
    // Without an index the damaged message's own words are all there is.
    let disk = MemoryDisk::with(&disk.segment(), None);
    let damage = disk.recover().damage.remove(0).to_string();
    assert!(damage.contains(&format!("says of itself that it is {name}; the index does not know")), "{damage}");
    assert!(damage.ends_with("was not known to be durable"), "{damage}");
}

#[test]
fn damage_is_remembered() {
    let (disk, entries, _) = words(false);
    let place = at(entries[1].message.start) + 70;
    // The index loses its last mark, so that all is read, but knows the batch.
    let index = disk.index();
    let disk = MemoryDisk::with(&flipped(&disk.segment(), place, 0), Some(&index[..index.len() - 9]));
    let first = disk.recover();
    assert_eq!(first.damage[0].entries().collect::<Vec<_>>(), [&entries[1]]);
    assert_same_recovered(&disk.recover(), &first, "what is there is no less damaged the second time");
}

#[test]
fn a_segment_that_lost_its_end_says_so() {
    for seal in [false, true] {
        let (disk, entries, _) = words(seal);
        for len in [at(entries[2].message.start), at(entries[2].message.start) + 1, at(entries[4].message.end()) - 1] {
            let disk = MemoryDisk::with(&disk.segment()[..len], Some(&disk.index()));
            let mut recovered = disk.recover();
            let kept: Vec<_> = entries.iter().filter(|entry| entry.message.end() <= len as u64).cloned().collect();
            assert_eq!((&recovered.entries, recovered.damage.len()), (&kept, 1));
            assert_eq!(recovered.damage[0].entries().cloned().collect::<Vec<_>>(), entries[kept.len()..]);
            assert!(SegmentWriter::resume(&mut recovered).is_err() && disk.segment().len() == len);
        }
    }
}

#[test]
fn a_lost_dictionary_makes_no_wrong_words() {
    let (disk, entries, batches) = words(true);
    let dictionaries = disk.recover().segment.dictionaries.all();
    assert_eq!(dictionaries.iter().map(|dictionary| dictionary.delta).collect::<Vec<_>>(), [false, true, false, false]);
    for (lost, readable) in [(0, vec![3, 4]), (1, vec![0, 3, 4]), (2, vec![0, 1, 2, 4])] {
        let bytes = flipped(&disk.segment(), at(dictionaries[lost].message.end()) - 1, 3);
        for index in [Some(disk.index()), None] {
            let disk = MemoryDisk::with(&bytes, index.as_deref());
            let recovered = recover(&disk, FOLDER, 0, bytes.len() as u64).expect("can be read").expect("has a head");
            assert_eq!(recovered.entries, entries);
            for (number, entry) in entries.iter().enumerate() {
                match recovered.segment.read(entry) {
                    Ok(read) => assert_same(&read, &batches[number]),
                    Err(error) => assert!(error.to_string().contains("dictionary"), "{error}"),
                }
                assert_eq!(recovered.segment.read(entry).is_ok(), readable.contains(&number), "{number} without {lost}");
            }
        }
    }
}

#[test]
fn a_hole_that_was_never_durable_can_be_cut() {
    let (schema, batches) = encode(&word_batches(), DictionaryHandling::Delta);
    let disk = MemoryDisk::default();
    let (mut writer, _) = written(&disk, &schema, &batches[..1]);
    writer.sync().expect("is durable");
    let entries: Vec<_> = (1..5).map(|ordinal| writer.append(&batches[at(ordinal)], facts(ordinal)).expect("is appended")).collect();
    let mut segment = disk.segment();
    // The power failed when the second of them was not on the disk yet, and what follows was.
    segment[at(entries[1].message.start)..at(entries[1].message.end())].fill(0);
    let disk = MemoryDisk::with(&segment, Some(&disk.index()));
    for _ in 0..2 {
        let recovered = disk.recover();
        assert_eq!((recovered.damage.len(), recovered.damage[0].was_durable), (1, false));
        assert_eq!(recovered.entries[1..], [entries[0].clone(), entries[2].clone(), entries[3].clone()]);
    }
    let mut recovered = disk.recover();
    assert!(recovered.cut_not_durable().expect("is cut") && !recovered.cut_not_durable().expect("nothing is left"));
    let mut writer = SegmentWriter::resume(&mut recovered).expect("is open");
    let again = writer.append(&batches[4], facts(9)).expect("is appended");
    assert_same(&recovered.segment.read(&again).expect("is there"), &batches[4]);
    writer.seal().expect("is sealed");
    for disk in [disk.clone(), MemoryDisk::with(&disk.segment(), None)] {
        let recovered = disk.recover();
        assert_eq!((&recovered.entries[1..], recovered.damage.len()), (&[entries[0].clone(), again.clone()][..], 0));
        assert_same(&recovered.segment.read(&again).expect("is there"), &batches[4]);
    }
    assert_eq!(arrow_reads(&disk.segment()).len(), 3);
}

/// Users keep Arrow files in binary columns, and why not segments.
#[test]
fn what_looks_like_a_message_within_a_batch_is_none() {
    let (inner, ..) = words(true);
    let (schema, batches) = encode(&[ints(&[1]), ints(&[2])], DictionaryHandling::Delta);
    let carrier = EncodedBatch { user: Bytes::from(inner.segment()), ..batches[0].clone() };
    let disk = MemoryDisk::default();
    let (mut writer, entries) = written(&disk, &schema, &[carrier, batches[1].clone()]);
    writer.sync().expect("is durable");
    // Neither its length nor its facts can be read.
    let mut segment = disk.segment();
    let start = at(entries[0].message.start);
    segment[start + 4..start + 8].fill(0);
    let recovered = MemoryDisk::with(&segment, None).recover();
    assert_eq!((&recovered.entries[..], recovered.damage.len()), (&entries[1..], 1));
}

#[test]
fn another_message_in_its_place_is_damage() {
    let (disk, entries, _) = words(false);
    let recovered = disk.recover();
    let mut wrong = entries[0].clone();
    wrong.facts.ordinal = 77;
    let damage = verify(&recovered.segment, &[wrong]).expect("can be read");
    assert!(damage[0].to_string().contains("another message is there"), "{}", damage[0]);
    let mut beyond = entries[0].clone();
    beyond.message.body_bytes = u64::MAX;
    assert!(matches!(recovered.segment.read(&beyond), Err(StorageError::DamagedSegment { .. })));
    let renamed = MemoryDisk::default();
    renamed.create(&segment_path(FOLDER, 1)).expect("is new").write_at(&[&disk.segment()], 0).expect("has room");
    let error = recover(&renamed, FOLDER, 1, 0).expect_err("is another's").to_string();
    assert!(error.contains("it is of segment 0, not 1"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever happens to what was not durable, and to the index: what was durable is there, and what is found was appended.
    #[test]
    fn a_crash_loses_nothing_that_was_durable(
        order in proptest::collection::vec((0_usize..5, 0_usize..70, any::<bool>()), 1..12),
        keep in 0.0..1.0_f64,
        keep_index in 0.0..1.0_f64,
        zeros in 0_usize..300,
        flip in proptest::option::of(any::<prop::sample::Index>()),
        hole in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let (schema, batches) = encode(&word_batches(), DictionaryHandling::Delta);
        let disk = MemoryDisk::default();
        let (mut writer, _) = written(&disk, &schema, &[]);
        let mut entries = Vec::new();
        for (index, more, sync) in order {
            let batch = with_longer_body(&batches[index], more);
            entries.push(writer.append(&batch, facts(entries.len() as u64)).expect("is appended"));
            if sync {
                writer.sync().expect("is durable");
            }
        }
        let durable = at(writer.durable());
        let durable_batches = entries.iter().filter(|entry| entry.message.end() <= writer.durable()).count();
        let mut segment = disk.segment();
        let kept = |len: usize, share: f64| (0..=len).rev().find(|kept| *kept as f64 <= share * len as f64).unwrap_or(0);
        segment.truncate(durable + kept(segment.len() - durable, keep));
        if let Some(hole) = hole.filter(|_| segment.len() > durable) {
            let start = durable + hole.index(segment.len() - durable);
            let end = segment.len().min(start + 64);
            segment[start..end].fill(0);
        }
        segment.extend(std::iter::repeat_n(0, zeros));
        let mut index = disk.index();
        index.truncate(kept(index.len(), keep_index));
        if let Some(flip) = flip.filter(|_| !index.is_empty()) {
            let place = flip.index(index.len());
            index[place] ^= 1;
        }

        let disk = MemoryDisk::with(&segment, Some(&index));
        let recovered = recover(&disk, FOLDER, 0, durable as u64).expect("can be read").expect("has a head");
        prop_assert_eq!(&recovered.entries[..durable_batches], &entries[..durable_batches]);
        prop_assert!(recovered.entries.iter().all(|entry| entries.contains(entry)));
        prop_assert!(recovered.damage.iter().all(|damage| !damage.was_durable));
        prop_assert!(hole.is_some() || recovered.damage.is_empty());
        prop_assert!(recovered.entries.iter().take(durable_batches).all(|entry| recovered.segment.read(entry).is_ok()));
        let again = disk.recover();
        assert_same_recovered(&again, &recovered, "the second time");
    }
}
