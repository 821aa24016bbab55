//! The window: what is admitted, sent, acked and sent again.

use std::sync::Arc;

use super::*;
use crate::client::retry::now;
use crate::engine::{SchemaVersion, StoredState};
use crate::wire::dictionary::DictionarySet;
use crate::wire::ipc::Message;

const STREAM: &str = "s";

fn window(batches_max: usize, bytes_max: u64) -> Window {
    Window::new(batches_max, bytes_max, false)
}

fn entry(bytes: u64) -> Entry {
    let message = Message { header: bytes::Bytes::new(), body: crate::wire::body::Body::new() };
    Entry {
        batch: EncodedBatch { message, dictionaries: DictionarySet::empty(), schema: SchemaVersion(0), user: bytes::Bytes::new(), rows: 0 },
        partition: None,
        bytes,
    }
}

fn push(window: &mut Window, bytes: u64) -> bool {
    match window.admit(&mut Some(entry(bytes))) {
        Some(result) => result.is_ok(),
        None => false,
    }
}

fn ordinals(window: &mut Window, lane: u64) -> Vec<u64> {
    match window.next_unsent(lane, u64::MAX, Waker::noop()) {
        Next::Batches(batches) => batches.into_iter().map(|(ordinal, _)| ordinal).collect(),
        Next::Wait | Next::Close | Next::Superseded => Vec::new(),
    }
}

fn lost() -> Error {
    Error::ConnectionLost { url: "grpc://h:1".into(), reason: "reset".into() }
}

fn refused(code: Code) -> Error {
    Error::Refused { code, retry: code.retry(), stored: code.stored(), text: Arc::from("no") }
}

#[test]
fn a_window_holds_its_limits_but_lets_one_large_batch_in_alone() {
    let mut window = window(2, 10);
    assert!(push(&mut window, 11), "the first comes in however large");
    assert!(!push(&mut window, 0));
    window.open_lane();
    window.resume(1, STREAM).expect("all acked");
    assert!(push(&mut window, 5));
    assert!(push(&mut window, 5));
    assert!(!push(&mut window, 0), "two batches are the limit");
}

#[test]
fn nothing_is_sent_before_the_coordinator_says_where_to_resume() {
    let mut window = window(10, 100);
    push(&mut window, 1);
    let lane = window.open_lane();
    assert!(ordinals(&mut window, lane).is_empty());
    window.resume(0, STREAM).expect("a fresh start");
    assert_eq!(ordinals(&mut window, lane), [0]);
}

#[test]
fn a_new_connection_sends_again_what_is_not_acked_and_nothing_else() {
    let mut window = window(10, 100);
    let lane = window.open_lane();
    window.resume(0, STREAM).expect("a fresh start");
    for _ in 0..4 {
        push(&mut window, 1);
    }
    assert_eq!(ordinals(&mut window, lane), [0, 1, 2, 3]);
    assert!(window.acked(1, 0, now()).expect("one was sent"));
    let newer = window.open_lane();
    assert!(matches!(window.next_unsent(lane, 1, Waker::noop()), Next::Superseded));
    window.resume(3, STREAM).expect("two more had arrived");
    assert_eq!(ordinals(&mut window, newer), [3]);
    assert_eq!(window.stored, 3);
}

#[test]
fn a_coordinator_that_has_forgotten_acked_batches_holds_another_stream() {
    let mut window = window(10, 100);
    window.open_lane();
    push(&mut window, 1);
    window.resume(1, STREAM).expect("stored");
    window.open_lane();
    assert_eq!(window.resume(0, STREAM).expect_err("acked data is gone").code(), Code::StreamReplaced);
}

#[test]
fn what_was_refused_is_given_up_and_the_next_takes_the_ordinal_that_the_coordinator_names() {
    let mut window = window(10, 100);
    window.open_lane();
    window.resume(0, STREAM).expect("a fresh start");
    push(&mut window, 1);
    push(&mut window, 1);
    window.fail(refused(Code::BufferFull));
    assert_eq!(window.settled().expect("known").expect_err("refused").code(), Code::BufferFull);
    assert!(window.settled().expect("reported once").is_ok());
    push(&mut window, 1);
    let lane = window.open_lane();
    window.resume(1, STREAM).expect("the first one was stored after all");
    assert_eq!(ordinals(&mut window, lane), [1]);
}

#[test]
fn a_writer_that_was_refused_never_gets_a_receipt_for_the_rest() {
    let mut window = Window::new(10, 100, true);
    push(&mut window, 1);
    window.fail(refused(Code::Timeout));
    window.close();
    for _ in 0..2 {
        assert_eq!(window.finished().expect("known").expect_err("refused").code(), Code::Timeout);
        assert!(!window.start(), "it is over");
    }
}

#[test]
fn what_could_not_be_sent_stays_and_a_later_call_goes_on_with_it() {
    let mut window = window(10, 100);
    push(&mut window, 1);
    window.fail(lost());
    assert_eq!(window.settled().expect("known").expect_err("not reached").code(), Code::Unavailable);
    assert!(window.settled().is_none(), "it is still to be stored");
}

#[test]
fn a_batch_is_in_doubt_only_between_its_sending_and_its_ack() {
    let unreachable = || Error::Unreachable { url: "grpc://h:1".into(), reason: "refused".into() };
    let stored = |window: &mut Window| {
        window.fail(unreachable());
        window.take_failure().expect("just failed").stored()
    };
    let mut window = window(10, 100);
    push(&mut window, 1);
    assert_eq!(stored(&mut window), StoredState::No, "never sent");
    let lane = window.open_lane();
    window.resume(0, STREAM).expect("a fresh start");
    assert_eq!(ordinals(&mut window, lane), [0]);
    assert_eq!(stored(&mut window), StoredState::Unknown);
    window.open_lane();
    window.resume(1, STREAM).expect("it had arrived");
    assert_eq!(stored(&mut window), StoredState::No);
}

#[test]
fn an_error_that_nothing_mends_is_reported_every_time() {
    let mut window = window(10, 100);
    window.fail(refused(Code::Fenced));
    for _ in 0..2 {
        assert_eq!(window.settled().expect("known").expect_err("fenced").code(), Code::Fenced);
    }
    assert!(!push(&mut window, 1));
}

#[test]
fn a_writer_of_a_committed_epoch_has_nothing_to_send() {
    let mut window = window(10, 100);
    push(&mut window, 1);
    window.fail(refused(Code::EpochCommitted));
    assert!(push(&mut window, 1), "more is taken, and dropped");
    assert!(window.is_empty());
    assert_eq!(window.finished().expect("known").expect("no error"), None);
}

#[test]
fn small_batches_wait_for_company_while_others_are_in_flight_and_no_longer() {
    let mut window = window(100, 1 << 30);
    let lane = window.open_lane();
    window.resume(0, STREAM).expect("a fresh start");
    push(&mut window, 1);
    assert_eq!(ordinals(&mut window, lane), [0], "nothing is in flight");
    push(&mut window, 1);
    push(&mut window, 1);
    assert!(ordinals(&mut window, lane).is_empty());
    window.acked(1, 0, now()).expect("one was sent");
    assert_eq!(ordinals(&mut window, lane), [1, 2]);
    push(&mut window, LINGER_BYTES - 1);
    assert!(ordinals(&mut window, lane).is_empty());
    push(&mut window, 1);
    assert_eq!(ordinals(&mut window, lane), [3, 4], "enough to go alone");
    push(&mut window, 1);
    window.acked(4, 0, now()).expect("four were sent");
    assert!(ordinals(&mut window, lane).is_empty(), "one is still in flight");
    window.close();
    assert_eq!(ordinals(&mut window, lane), [5], "no company will come");
}

#[test]
fn whoever_waits_for_company_is_woken_when_there_is_reason_to_go() {
    let waits = || {
        let mut window = window(100, 1 << 30);
        let lane = window.open_lane();
        window.resume(0, STREAM).expect("a fresh start");
        push(&mut window, 1);
        assert_eq!(ordinals(&mut window, lane), [0]);
        assert!(ordinals(&mut window, lane).is_empty());
        assert!(window.lane.waker.is_some());
        push(&mut window, 1);
        assert!(window.lane.waker.is_some(), "not for one small batch");
        window
    };
    let reasons: [fn(&mut Window); 4] = [
        |window| assert!(push(window, LINGER_BYTES)),
        |window| drop(window.acked(1, 0, now())),
        |window| drop(window.close()),
        |window| drop(window.resume(1, STREAM)),
    ];
    for reason in reasons {
        let mut window = waits();
        reason(&mut window);
        assert!(window.lane.waker.is_none());
    }
}

#[test]
fn half_close_comes_after_the_last_batch() {
    let mut window = window(10, 100);
    let lane = window.open_lane();
    window.resume(0, STREAM).expect("a fresh start");
    push(&mut window, 1);
    window.close();
    assert_eq!(ordinals(&mut window, lane), [0]);
    assert!(matches!(window.next_unsent(lane, 1, Waker::noop()), Next::Close));
    assert!(!push(&mut window, 1), "closed");
}
