//! The simulated disk keeps what it promises, and no more.

use super::*;

const SEEDS: std::ops::Range<u64> = 0..200;

fn written(disk: &dyn Disk, path: &str, byte: u8, len: usize) -> Arc<dyn DiskFile> {
    let file = disk.create(path).expect("is new");
    file.write_at(&[&vec![byte; len]], 0).expect("room");
    file
}

fn content(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    let file = disk.mount().open(path).ok()?;
    let mut bytes = vec![0; usize::try_from(file.len().expect("known")).expect("small")];
    file.read_at(&mut bytes, 0).expect("is read");
    Some(bytes)
}

#[test]
fn what_was_synced_survives_a_power_loss_and_the_rest_may_be_torn() {
    let (mut whole, mut none, mut torn, mut shorter) = (0, 0, 0, 0);
    for seed in SEEDS {
        let disk = SimDisk::new(seed);
        let mounted = disk.mount();
        let file = written(&*mounted, "a", 1, 5_000);
        file.sync().expect("is durable");
        mounted.sync_dir("").expect("is durable");
        file.write_at(&[&[2; 3_000], &[2; 4_000]], 1_024).expect("room");
        disk.crash(Crash::Power);
        let found = content(&disk, "a").expect("its name is durable");
        assert!(found[..1_024].iter().all(|byte| *byte == 1), "seed {seed}");
        let new = found[1_024..].iter().filter(|byte| **byte == 2).count();
        whole += usize::from(new == 7_000);
        none += usize::from(found.len() == 5_000 && new == 0);
        torn += usize::from(new > 0 && new < 7_000);
        shorter += usize::from(found.len() == 5_000);
        assert!(found.len() == 5_000 || found.len() == 8_024);
    }
    assert!(whole > 5 && none > 5 && torn > 20 && shorter > 20, "{whole} {none} {torn} {shorter}");
}

#[test]
fn a_killed_process_leaves_all_that_it_wrote_and_a_power_loss_after_it_does_not() {
    let mut lost = 0;
    for seed in SEEDS {
        let disk = SimDisk::new(seed);
        let file = written(&*disk.mount(), "a", 1, 600);
        disk.crash(Crash::Process);
        assert_eq!(content(&disk, "a"), Some(vec![1; 600]));
        assert!(file.len().is_err() && file.sync().is_err() && file.write_at(&[b"x"], 0).is_err(), "the handle is dead");
        disk.crash(Crash::Power);
        lost += usize::from(content(&disk, "a").is_none());
    }
    assert!(lost > 20, "{lost}");
}

#[test]
fn names_are_old_or_new_until_their_folder_is_synced() {
    let mut found = BTreeMap::<Vec<String>, usize>::new();
    for seed in SEEDS {
        let disk = SimDisk::new(seed);
        let mounted = disk.mount();
        mounted.make_dir("d").expect("is made");
        written(&*mounted, "d/a", 1, 1).sync().expect("is durable");
        written(&*mounted, "d/b", 2, 1).sync().expect("is durable");
        mounted.sync_dir("").expect("is durable");
        mounted.sync_dir("d").expect("is durable");
        mounted.rename("d/a", "d/c").expect("is there");
        mounted.remove("d/b").expect("is there");
        disk.crash(Crash::Power);
        *found.entry(disk.mount().list("d").expect("is there")).or_default() += 1;
    }
    let names: Vec<Vec<&str>> = found.keys().map(|names| names.iter().map(String::as_str).collect()).collect();
    assert_eq!(names, [vec!["a"], vec!["a", "b"], vec!["b", "c"], vec!["c"]], "a rename is whole");
    let disk = SimDisk::new(0);
    let mounted = disk.mount();
    mounted.make_dir("d/e").expect("is made");
    written(&*mounted, "d/e/a", 1, 1).sync().expect("is durable");
    ["", "d", "d/e"].iter().for_each(|folder| mounted.sync_dir(folder).expect("is durable"));
    disk.crash(Crash::Power);
    assert_eq!(content(&disk, "d/e/a"), Some(vec![1]));
    disk.mount().remove_dir("d").expect("is there");
    assert!(disk.mount().list("d").is_err());
}

#[test]
fn a_full_disk_takes_a_part_and_what_is_freed_is_room_again() {
    let disk = SimDisk::new(1);
    let mounted = disk.mount();
    let file = written(&*mounted, "a", 1, 1_000);
    disk.set_capacity(Some(1_500));
    assert_eq!(mounted.available().expect("known"), 500);
    assert_eq!(file.write_at(&[&[2; 501]], 1_000).expect_err("full").kind(), io::ErrorKind::StorageFull);
    assert!(file.len().expect("known") <= 1_500);
    assert_eq!(file.set_len(1_501).expect_err("full").kind(), io::ErrorKind::StorageFull);
    file.set_len(0).expect("shorter");
    file.write_at(&[&[3; 1_500]], 0).expect("room");
    disk.set_capacity(None);
    file.write_at(&[&[3; 9_000]], 0).expect("room");
    assert_eq!(disk.used(), 9_000);
}

#[test]
fn errors_come_when_they_are_due_and_a_failed_sync_drops_what_it_should_have_kept() {
    let mut dropped = 0;
    for seed in SEEDS {
        let disk = SimDisk::new(seed);
        let file = written(&*disk.mount(), "a", 1, 512);
        file.sync().expect("is durable");
        file.write_at(&[&[2; 512]], 0).expect("room");
        disk.fail_sync(1);
        assert_eq!(file.sync().expect_err("fails").raw_os_error(), Some(5));
        file.sync().expect("says it once");
        let mut byte = [0];
        file.read_at(&mut byte, 0).expect("is there");
        dropped += usize::from(byte == [1]);
        disk.fail_read(2);
        file.read_at(&mut byte, 0).expect("is there");
        file.read_at(&mut byte, 0).expect_err("fails");
        disk.fail_write(1);
        file.write_at(&[b"x"], 0).expect_err("fails");
        disk.flip("a", 511, 3).expect("is there");
        file.read_at(&mut byte, 511).expect("is there");
        assert!(byte == [1 ^ 8] || byte == [2 ^ 8]);
    }
    assert!(dropped > 20, "{dropped}");
}

#[test]
fn a_crash_can_come_between_any_two_calls() {
    let disk = SimDisk::new(3);
    let mounted = disk.mount();
    let file = written(&*mounted, "a", 1, 10);
    disk.crash_at(Crash::Process, 2);
    file.write_at(&[&[2; 10]], 0).expect("before it");
    assert_eq!(disk.crashed(), None);
    file.write_at(&[&[3; 10]], 0).expect_err("it has crashed");
    assert_eq!(disk.crashed(), Some(Crash::Process));
    assert_eq!(content(&disk, "a"), Some(vec![2; 10]));
    assert_eq!(disk.crashed(), None, "the next run has begun");
}
