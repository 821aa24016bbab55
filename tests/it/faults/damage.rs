//! Files of a stopped coordinator that are not what was written any more: what is damaged is told by its offset, all else is there,
//! and no offset has anything that it did not have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bowstring::client::{Client, ConsumerOptions, ProducerOptions, ReadStart};
use bowstring::engine::{Code, Offset, PartitionId};
use bytes::Bytes;
use rand::Rng;
use tempfile::TempDir;

use super::serve;
use crate::cli::coordinator::Coordinator;
use crate::client_support::{connect, number, numbered, soon};
use crate::durable_support::{append, files};

/// So many batches were confirmed: half of them are in a segment that was closed, half in one that was open when the coordinator
/// was killed. Each has its offset for a number.
const BATCHES: u64 = 20;
const CLOSED: usize = 0;
const OPEN: usize = 1;

/// Batches that were confirmed one by one.
async fn append_singly(client: &Client, numbers: std::ops::Range<i64>) {
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    for number in numbers {
        soon(producer.append(&numbered(number, 10), None, Bytes::new())).await.expect("room");
        soon(producer.flush()).await.expect("stored");
    }
}

async fn written() -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let coordinator = serve(dir.path(), None);
    append_singly(&connect(&coordinator.url()).await, 0..10).await;
    coordinator.signal("TERM");
    coordinator.wait(Duration::from_secs(10)).done();
    let coordinator = serve(dir.path(), None);
    append_singly(&connect(&coordinator.url()).await, 10..20).await;
    coordinator.signal("KILL");
    drop(coordinator);
    assert_eq!(segments(dir.path()).len(), 2);
    dir
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    files(dir, "arrows")
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("is there");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("is written");
}

/// Where a batch's body is, which has its number ten times.
fn body_of(bytes: &[u8], number: i64) -> usize {
    let body = number.to_le_bytes().repeat(10);
    bytes.windows(body.len()).position(|window| window == body).expect("it is there")
}

fn flip(path: &Path, number: i64) {
    change(path, |bytes| {
        let at = body_of(bytes, number);
        bytes[at + 3] ^= 1;
    });
}

fn cut(path: &Path, at: u64) {
    OpenOptions::new().write(true).open(path).expect("is there").set_len(at).expect("is cut");
}

/// What can be read, and the offsets that are said to be damaged; they are all that there were.
async fn found(client: &Client) -> (BTreeMap<u64, i64>, BTreeSet<u64>) {
    let end = client.describe_stream("s").await.expect("is there").partitions[0].end;
    let (mut readable, mut damaged) = (BTreeMap::new(), BTreeSet::new());
    let mut next = 0;
    while next < end {
        let start = [(PartitionId(0), Offset(next))].into_iter().collect();
        let options = ConsumerOptions { follow: false, start: ReadStart::Offsets(start), ..ConsumerOptions::default() };
        let mut consumer = client.consumer("s", options).await.expect("is there");
        loop {
            match soon(consumer.next(None)).await {
                Ok(Some(delivered)) => {
                    assert_eq!(delivered.offset.0, next);
                    readable.insert(next, number(&delivered));
                    next += 1;
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(error.code(), Code::Storage, "{error}");
                    assert!(error.to_string().contains(&format!("partition 0, offset {next} cannot be read")), "of offset {next}: {error}");
                    damaged.insert(next);
                    next += 1;
                    break;
                }
            }
        }
    }
    (readable, damaged)
}

/// Starts on what is there: exactly these offsets are damaged, all others are there, and it goes on. Gives the log.
async fn check(dir: &Path, expected: impl IntoIterator<Item = u64>) -> String {
    let expected: BTreeSet<_> = expected.into_iter().collect();
    let mut logs = String::new();
    for (start, more) in [(0, 20), (1, 21)] {
        let coordinator = serve(dir, None);
        let client = connect(&coordinator.url()).await;
        let (readable, damaged) = found(&client).await;
        assert_eq!(damaged, expected, "at start {start}");
        let good: BTreeMap<_, _> =
            (0..BATCHES + start).filter(|offset| !expected.contains(offset)).map(|offset| (offset, offset)).collect();
        assert_eq!(readable, good.into_iter().map(|(offset, number)| (offset, i64::try_from(number).expect("small"))).collect());
        append(&client, "s", more..more + 1).await;
        logs += &ended(coordinator);
    }
    logs
}

/// The log of a coordinator that is ended in good order.
fn ended(coordinator: Coordinator) -> String {
    coordinator.signal("TERM");
    let ended = coordinator.wait(Duration::from_secs(10));
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.stderr
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_takes_one_offset() {
    for (segment, number) in [(CLOSED, 4), (OPEN, 14), (OPEN, 19)] {
        let dir = written().await;
        flip(&segments(dir.path())[segment], number);
        check(dir.path(), [u64::try_from(number).expect("small")]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_off_of_a_segment_is_missed_by_its_offsets_and_logged() {
    for (segment, number) in [(CLOSED, 6), (OPEN, 17), (OPEN, 19)] {
        let dir = written().await;
        let path = &segments(dir.path())[segment];
        let at = body_of(&std::fs::read(path).expect("is there"), number);
        cut(path, at as u64 + 5);
        let first = u64::try_from(number).expect("small");
        let missing = if segment == CLOSED { first..10 } else { first..20 };
        let log = check(dir.path(), missing.clone()).await;
        for offset in missing {
            assert!(log.contains(&format!("offset {offset} cannot be read")), "{offset}: {log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_gone_torn_or_something_else_takes_nothing() {
    for segment in [CLOSED, OPEN] {
        let good = written().await;
        let index = segments(good.path())[segment].with_extension("index");
        let bytes = std::fs::read(&index).expect("is there");
        for torn in [None, Some(bytes[..bytes.len() / 2].to_vec()), Some(vec![0; bytes.len()]), Some(b"no index".repeat(100))] {
            match &torn {
                None => std::fs::remove_file(&index).expect("is there"),
                Some(torn) => std::fs::write(&index, torn).expect("is written"),
            }
            let coordinator = serve(good.path(), None);
            let (readable, damaged) = found(&connect(&coordinator.url()).await).await;
            assert!(damaged.is_empty() && readable.len() as u64 == BATCHES, "{damaged:?} {readable:?}");
            drop(coordinator);
        }
    }
}

/// Without its index nothing but what follows a batch says that it was durable. This is what `docs/guarantees.md` does not promise.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_index_a_segment_loses_no_more_than_its_last_batch_unsaid() {
    for (number, unsaid) in [(14, None), (19, Some(19))] {
        let dir = written().await;
        let path = &segments(dir.path())[OPEN];
        flip(path, number);
        std::fs::remove_file(path.with_extension("index")).expect("is there");
        let coordinator = serve(dir.path(), None);
        let (readable, damaged) = found(&connect(&coordinator.url()).await).await;
        let expected: BTreeSet<_> = [u64::try_from(number).expect("small")].into_iter().filter(|offset| Some(*offset) != unsaid).collect();
        assert_eq!((readable.len(), damaged), (19, expected));
    }
}

/// Bytes anywhere, in a segment or an index: each offset has what it had, or is said to be damaged.
#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_file_is_damaged_no_offset_has_another_batch_and_none_is_silently_gone() {
    let good = written().await;
    let all = segments(good.path());
    let all: Vec<_> = all.iter().flat_map(|segment| [segment.clone(), segment.with_extension("index")]).collect();
    let kept = files(good.path(), "arrows").into_iter().chain(files(good.path(), "index")).chain([good.path().join("catalog.redb")]);
    let kept: Vec<(PathBuf, Vec<u8>)> = kept.map(|path| (path.clone(), std::fs::read(path).expect("is there"))).collect();
    for round in 0..24 {
        let path = &all[rand::rng().random_range(0..all.len())];
        let is_index = path.extension().is_some_and(|extension| extension == "index");
        let len = usize::try_from(path.metadata().expect("is there").len()).expect("small");
        let at = rand::rng().random_range(0..len);
        let bytes = rand::rng().random_range(1..=64.min(len - at));
        let is_cut = rand::rng().random_bool(0.2);
        let what = format!("round {round}: {} {at} to {} {}", path.display(), at + bytes, if is_cut { "cut there" } else { "overwritten" });
        match is_cut {
            true => cut(path, at as u64),
            false => change(path, |content| rand::rng().fill(&mut content[at..at + bytes])),
        }
        let coordinator = serve(good.path(), None);
        let (readable, damaged) = found(&connect(&coordinator.url()).await).await;
        drop(coordinator);
        assert!(readable.iter().all(|(offset, number)| i64::try_from(*offset) == Ok(*number)), "{what}: {readable:?}");
        assert_eq!((readable.len() + damaged.len()) as u64, BATCHES, "{what}: {damaged:?}");
        assert!(!is_index || damaged.is_empty(), "{what}: {damaged:?}");
        for path in files(good.path(), "arrows").into_iter().chain(files(good.path(), "index")) {
            std::fs::remove_file(path).expect("is there");
        }
        kept.iter().for_each(|(path, content)| std::fs::write(path, content).expect("is written"));
    }
}
