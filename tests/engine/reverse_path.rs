//! The reverse path: Spark acks a micro-batch only when it plans the next, and plans the next only when there
//! is new data. A full buffer of what it has planned must not hold back the source, or both wait for ever.

use bowstring::engine::{AppenderId, Command, Error, Outcome, Place};

use crate::story::{Story, anonymous, reject, reserved};

/// A stream that Spark reads, a source that appends to it, and how far Spark has come.
struct Reverse {
    story: Story,
    source: AppenderId,
    appended: u64,
    planned: u64,
    read: Vec<u64>,
}

impl Reverse {
    /// A buffer of 4 batches of up to 10 bytes together.
    fn new(max_spool_bytes: u64) -> Self {
        Self::of(Story::new(4, 10, max_spool_bytes))
    }

    fn of(mut story: Story) -> Self {
        story.subscribe("spark");
        let source = story.open(anonymous("source"));
        Self { story, source, appended: 0, planned: 0, read: Vec::new() }
    }

    fn append(&mut self) -> Place {
        self.appended += 1;
        self.story.put(self.source, self.appended - 1, 1)
    }

    /// One micro-batch, if there is new data: plans up to the end, acks the one before, reads.
    fn micro_batch(&mut self) -> bool {
        let (_, end) = self.story.world.range(0);
        if end.0 == self.planned {
            return false;
        }
        assert_eq!(self.story.plan("spark", end.0).outcome, Ok(Outcome::Done));
        assert_eq!(self.story.ack("spark", self.planned).outcome, Ok(Outcome::Done));
        self.read.extend(self.story.visible());
        self.planned = end.0;
        true
    }
}

#[test]
fn with_everything_planned_the_source_goes_on_into_the_spool() {
    let mut reverse = Reverse::new(100);
    (0..4).for_each(|_| assert_eq!(reverse.append(), Place::Memory));
    assert!(reverse.micro_batch());
    assert_eq!(reverse.append(), Place::Spool, "the buffer is full of what Spark acks only when it is given more");
    assert!(reverse.micro_batch());
    assert_eq!(reverse.append(), Place::Memory, "the micro-batch before is acked now");
}

#[test]
fn what_spark_has_not_planned_holds_back_the_source() {
    let mut reverse = Reverse::new(100);
    (0..4).for_each(|_| assert_eq!(reverse.append(), Place::Memory));
    assert_eq!(reverse.story.reserve(reverse.source, 1), Ok(Outcome::Waiting));
    let planned = reverse.story.plan("spark", 4);
    assert_eq!(planned.granted, [(reverse.source, Place::Spool)]);
}

#[test]
fn a_plan_of_part_of_the_buffer_still_holds_back_the_source() {
    let mut reverse = Reverse::new(100);
    (0..4).for_each(|_| assert_eq!(reverse.append(), Place::Memory));
    assert_eq!(reverse.story.reserve(reverse.source, 1), Ok(Outcome::Waiting));
    assert_eq!(reverse.story.plan("spark", 3).granted, []);
    assert_eq!(reverse.story.ack("spark", 1).granted, [(reverse.source, Place::Memory)]);
}

#[test]
fn another_subscription_that_has_planned_nothing_holds_back_the_source() {
    let mut reverse = Reverse::new(100);
    reverse.story.subscribe("another");
    (0..4).for_each(|_| assert_eq!(reverse.append(), Place::Memory));
    reverse.micro_batch();
    assert_eq!(reverse.story.reserve(reverse.source, 1), Ok(Outcome::Waiting));
    assert_eq!(reverse.story.ack("another", 4).granted, [(reverse.source, Place::Spool)]);
}

#[test]
fn a_source_that_stops_for_a_while_and_goes_on_loses_nothing_and_never_stalls() {
    let mut reverse = Reverse::new(1000);
    for round in 0..50 {
        // The source outruns the buffer, then stops until Spark has nothing left to plan.
        for _ in 0..(round % 7) {
            if reverse.story.world.model.must_wait(1) {
                assert!(reverse.micro_batch(), "a source waits only for what Spark can still plan");
            }
            reverse.append();
        }
        while reverse.micro_batch() {}
    }
    reverse.append();
    reverse.micro_batch();
    assert_eq!(reverse.read, (0..reverse.appended).collect::<Vec<_>>(), "each batch in one micro-batch, in order");
}

#[test]
fn a_full_spool_is_refused_at_once_naming_the_limit() {
    let mut reverse = Reverse::new(2);
    (0..4).for_each(|_| assert_eq!(reverse.append(), Place::Memory));
    reverse.micro_batch();
    assert_eq!(reverse.append(), Place::Spool);
    reverse.story.plan("spark", 5);
    assert_eq!(reverse.append(), Place::Spool);
    reverse.story.plan("spark", 6);
    let refused = reverse.story.reserve(reverse.source, 1);
    assert_eq!(refused, Err(Error::SpoolFull { bytes: 1, spooled_bytes: 2, limit: 2 }));
}

#[test]
fn a_stream_that_rejects_spools_what_follows_a_plan_too() {
    let mut reverse = Reverse::of(Story::with(reject(4, 10, 100)));
    (0..4).for_each(|_| assert_eq!(reverse.append(), Place::Memory));
    assert!(matches!(reverse.story.reserve(reverse.source, 1), Err(Error::BufferFull { .. })));
    reverse.micro_batch();
    assert_eq!(reverse.story.reserve(reverse.source, 1), reserved(Place::Spool));
}

#[test]
fn what_spark_has_planned_and_not_acked_can_be_read_again() {
    let mut reverse = Reverse::new(100);
    (0..4).for_each(|_| assert_eq!(reverse.append(), Place::Memory));
    reverse.micro_batch();
    assert_eq!(reverse.append(), Place::Spool);
    assert_eq!(reverse.story.visible(), [0, 1, 2, 3, 4], "a restarted query reads the same batches");
    let closed = reverse.story.ask(Command::CloseAppender { appender: reverse.source });
    assert_eq!(closed, Ok(Outcome::Done));
}
