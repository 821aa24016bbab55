//! Indexes that are missing, torn, behind, damaged or another segment's: what is recovered is the same.

use arrow_ipc::writer::DictionaryHandling;

use super::testing::*;
use super::*;

/// Recovers with this index, twice: the second time with what the first has made of it.
fn check(segment: &[u8], index: Option<&[u8]>, good: &Recovered, case: &str) {
    let disk = MemoryDisk::with(segment, index);
    assert_same_recovered(&disk.recover(), good, case);
    assert_eq!(disk.segment(), segment, "{case}");
    let repaired = disk.index();
    disk.take_bytes_read();
    let again = disk.recover();
    assert_same_recovered(&again, good, case);
    assert_eq!(again.durable, good.durable, "{case}");
    assert_eq!(disk.index(), repaired, "{case}: nothing was left to repair");
}

#[test]
fn without_its_index_a_segment_is_read() {
    for seal in [false, true] {
        let (disk, entries, batches) = words(seal);
        let good = disk.recover();
        assert_eq!(good.entries, entries);
        check(&disk.segment(), None, &good, "missing");
        check(&disk.segment(), Some(&[]), &good, "empty");
        let segment = MemoryDisk::with(&disk.segment(), None).recover().segment;
        entries.iter().zip(&batches).for_each(|(entry, batch)| assert_same(&segment.read(entry).expect("is there"), batch));
    }
}

#[test]
fn an_index_may_be_torn_at_any_byte() {
    for seal in [false, true] {
        let (disk, ..) = words(seal);
        let (segment, index, good) = (disk.segment(), disk.index(), disk.recover());
        for len in 0..index.len() {
            check(&segment, Some(&index[..len]), &good, &format!("torn at {len}"));
            // As the power leaves it: the length is there, the bytes are not.
            let zeros = vec![0; index.len() - len];
            check(&segment, Some(&[&index[..len], &zeros].concat()), &good, &format!("zeros from {len}"));
        }
    }
}

#[test]
fn any_bit_of_an_index_may_be_flipped() {
    let (disk, ..) = words(true);
    let (segment, good) = (disk.segment(), disk.recover());
    for at in 0..disk.index().len() {
        let mut index = disk.index();
        index[at] ^= 1 << (at % 8);
        check(&segment, Some(&index), &good, &format!("flipped in byte {at}"));
    }
}

#[test]
fn an_index_may_be_behind() {
    let (schema, batches) = encode(&word_batches(), DictionaryHandling::Delta);
    let disk = MemoryDisk::default();
    let (mut writer, mut entries) = written(&disk, &schema, &batches[..2]);
    writer.sync().expect("is durable");
    entries.push(writer.append(&batches[2], facts(2)).expect("is appended"));
    entries.push(writer.append(&batches[3], facts(3)).expect("is appended"));
    let recovered = disk.recover();
    assert_eq!((&recovered.entries, recovered.durable), (&entries, writer.end()), "what was found was made durable");
}

#[test]
fn an_index_ahead_of_its_segment_is_not_believed() {
    let (schema, batches) = encode(&[ints(&[1]), ints(&[2]), ints(&[3])], DictionaryHandling::Delta);
    let disk = MemoryDisk::default();
    let (mut writer, entries) = written(&disk, &schema, &batches);
    // The index reaches the disk, the segment does not.
    disk.fail_syncs(true);
    writer.sync().expect_err("an unhappy disk");
    disk.fail_syncs(false);
    writer.index.flush().expect("has room");
    let len = usize::try_from(entries[1].message.start).expect("fits") + 10;
    let disk = MemoryDisk::with(&disk.segment()[..len], Some(&disk.index()));
    let mut recovered = disk.recover();
    assert_eq!((&recovered.entries[..], recovered.damage.len(), recovered.cut_bytes), (&entries[..1], 0, 10));
    let mut writer = SegmentWriter::resume(&mut recovered).expect("is open");
    let other = writer.append(&batches[2], facts(9)).expect("is appended");
    writer.sync().expect("is durable");
    assert_eq!(disk.recover().entries, [entries[0].clone(), other]);
}

#[test]
fn an_index_of_another_segment_is_not_believed() {
    let (disk, ..) = words(false);
    let (schema, batches) = encode(&[ints(&[1])], DictionaryHandling::Delta);
    let other = MemoryDisk::default();
    let (mut writer, _) = written(&other, &schema, &vec![batches[0].clone(); 50]);
    writer.sync().expect("is durable");
    check(&disk.segment(), Some(&other.index()), &disk.recover(), "another's");
}

#[test]
fn an_index_that_was_left_behind_is_not_believed() {
    let (disk, ..) = words(false);
    disk.remove(&segment_path(FOLDER, 0)).expect("is there");
    let (schema, batches) = encode(&[ints(&[1])], DictionaryHandling::Delta);
    let (mut writer, entries) = written(&disk, &schema, &batches);
    writer.sync().expect("is durable");
    assert_eq!(disk.recover().entries, entries);
}

#[test]
fn an_index_without_room_is_written_later() {
    let (disk, entries, _) = words(false);
    let room_for_a_file = MemoryDisk::with(&disk.segment(), None);
    room_for_a_file.set_room(0);
    let mut recovered = room_for_a_file.recover();
    assert_eq!((&recovered.entries, room_for_a_file.index().len()), (&entries, 0));
    room_for_a_file.set_room(u64::MAX);
    SegmentWriter::resume(&mut recovered).expect("is open").seal().expect("has room");
    assert_eq!(room_for_a_file.recover().entries, entries);
    assert!(room_for_a_file.index().len() > 200);
}
