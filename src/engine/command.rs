//! What can be asked of a stream, and what has to happen outside because of it.

use std::sync::Arc;
use std::time::Duration;

use super::{
    AppenderId, AppenderKind, Attempt, Connection, ConsumerId, ConsumerName, Epoch, EpochState, Error, Generation, InFlight, LeaseId,
    LeaseUpdate, LeasedOffset, Offset, OnOverflow, PartitionId, PartitionMove, Place, ProducerId, Receipt, RunId, ShareTerms, SharingRules,
    Start, SubscriptionMode, SubscriptionName, Taken, TakenShare, Task, Timestamp,
};

/// One change to a stream.
#[derive(Debug, Clone)]
pub enum Command<D> {
    /// Gives the stream another version of its schema, as opaque bytes: the next number, or nothing if it has just that already. The
    /// caller has compared them.
    AddSchema {
        /// Encoded schema message.
        schema: Arc<[u8]>,
    },
    /// Opens an appender. An open one of the same kind is superseded: a reconnect wins over the old
    /// connection, which is refused from now on, and when it comes late, too. Answer: [`Outcome::Opened`].
    OpenAppender {
        /// What it appends to.
        kind: AppenderKind,
        /// Which of its connections the client opens it on; without it the last one that comes wins.
        connection: Option<Connection>,
    },
    /// Asks for room for the next batch. Answer: [`Outcome::Reserved`] or [`Outcome::Waiting`]; in the
    /// latter case [`Effects::granted`] or [`Effects::refused`] of a later command names the appender.
    Reserve {
        /// Who asks. One reservation at a time.
        appender: AppenderId,
        /// Size of the batch.
        bytes: u64,
    },
    /// Appends a batch into the reserved room. Answer: [`Outcome::Appended`].
    Append {
        /// Who appends.
        appender: AppenderId,
        /// The batch's number among this appender's batches, from 0: makes a resend harmless.
        ordinal: u64,
        /// Where it goes.
        partition: PartitionId,
        /// Number of rows.
        rows: u64,
        /// Size, at most what was reserved.
        bytes: u64,
        /// Handle to the bytes.
        data: D,
    },
    /// A writer is done: all it had to send is staged. Answer: [`Outcome::Receipt`].
    FinishWriter {
        /// Whose.
        appender: AppenderId,
    },
    /// The appender's connection is gone. What it has staged stays until its epoch ends; its wait and its
    /// reservation end now.
    CloseAppender {
        /// Whose.
        appender: AppenderId,
    },
    /// Opens an epoch, also one that was aborted, or says that it is committed already. A writer opens its epoch
    /// as well, but not after an abort. Answer: [`Outcome::Epoch`].
    OpenEpoch {
        /// The producer.
        producer: ProducerId,
        /// Its run; a new one fences the former.
        run: RunId,
        /// The epoch.
        epoch: Epoch,
    },
    /// Makes the named receipts' batches visible, all at once, and drops what else was staged for this
    /// producer up to this epoch. Answer: [`Outcome::Epoch`].
    CommitEpoch {
        /// The producer.
        producer: ProducerId,
        /// Its run.
        run: RunId,
        /// The epoch.
        epoch: Epoch,
        /// The winning attempt of each task that wrote anything.
        receipts: Vec<(Task, Attempt)>,
    },
    /// Drops what was staged for the epoch, and refuses this run's writers until it opens the epoch again: a task
    /// of a failed job may come late.
    AbortEpoch {
        /// The producer.
        producer: ProducerId,
        /// Its run.
        run: RunId,
        /// The epoch.
        epoch: Epoch,
    },
    /// A sign of life: unless the next comes within `lease`, the producer counts as lost.
    KeepProducer {
        /// The producer.
        producer: ProducerId,
        /// Its run; a new one fences the former.
        run: RunId,
        /// How long this sign lasts; zero says goodbye.
        lease: Duration,
    },
    /// Creates a subscription; one that exists stays as it is. A first one that starts behind the earliest batch
    /// drops what came before, since nobody holds it any more.
    Subscribe {
        /// Its name.
        subscription: SubscriptionName,
        /// Where a new one starts.
        start: Start,
        /// How its consumers divide its batches; refused if one exists that does otherwise. None: by themselves if it is new.
        mode: Option<SubscriptionMode>,
        /// What a new one does that holds room which is needed.
        on_overflow: OnOverflow,
        /// How a new one is shared, if it is; none: as [`SharingRules::new`] says.
        sharing: Option<SharingRules>,
        /// What a new one asks of each batch, or an existing one has to ask. None: as an existing one does, or nothing.
        query: Option<Arc<str>>,
    },
    /// Removes a subscription; what only it held back is dropped.
    Unsubscribe {
        /// Its name.
        subscription: SubscriptionName,
    },
    /// The subscription is done with all batches before these offsets. Never moves back.
    Ack {
        /// Its name.
        subscription: SubscriptionName,
        /// Refused unless it is the subscription's: who acks was moved elsewhere meanwhile.
        generation: Option<Generation>,
        /// Per partition, one past the last batch it is done with.
        offsets: Vec<(PartitionId, Offset)>,
    },
    /// The subscription has planned to read all batches before these offsets and will ack them only when it
    /// is given more (Spark's reverse path): they no longer hold back producers.
    Plan {
        /// Its name.
        subscription: SubscriptionName,
        /// Per partition, one past the last planned batch.
        offsets: Vec<(PartitionId, Offset)>,
    },
    /// A sign of life of a consumer of a partitioned or shared subscription; the first one makes it one, and partitions are spread
    /// anew. Unless the next comes within `lease`, others get what it holds.
    KeepConsumer {
        /// The subscription.
        subscription: SubscriptionName,
        /// The consumer.
        consumer: ConsumerId,
        /// What it calls itself.
        name: ConsumerName,
        /// How long this sign lasts; zero says goodbye.
        lease: Duration,
        /// What it may be sent and not have acked.
        in_flight: InFlight,
        /// On which terms it shares.
        terms: ShareTerms,
    },
    /// A consumer begins to read, and what it read by before gets nothing any more. Answer: [`Outcome::Reads`].
    ReadLeased {
        /// The subscription.
        subscription: SubscriptionName,
        /// The consumer.
        consumer: ConsumerId,
        /// One past what it has got of its partitions: what it does not name comes from the cursor on. Of a shared subscription the
        /// leases alone count: what came by others goes to anybody.
        got: Vec<LeasedOffset>,
    },
    /// Asks for what a consumer is to be sent next. Answer: [`Outcome::Taken`], or of a shared subscription [`Outcome::TakenShares`].
    TakeLeased {
        /// The subscription.
        subscription: SubscriptionName,
        /// The consumer.
        consumer: ConsumerId,
        /// What [`Outcome::Reads`] has said.
        reading: u64,
        /// At a time; one batch always.
        most: InFlight,
    },
    /// Consumers are done with all batches before these offsets. What is acked by a lost lease changes nothing; the rest counts.
    /// Answer: [`Outcome::Acked`].
    AckLeased {
        /// The subscription.
        subscription: SubscriptionName,
        /// Per partition, one past the last batch that is done.
        acks: Vec<LeasedOffset>,
    },
    /// A consumer does not want what it was sent from these offsets on, since others want the partitions. It gets nothing more by
    /// these leases.
    GiveBack {
        /// The subscription.
        subscription: SubscriptionName,
        /// Per partition, one past the last batch that its caller has.
        from: Vec<LeasedOffset>,
    },
    /// Consumers of a shared subscription say what becomes of their leases. What is said of lost ones changes nothing; the rest counts.
    /// Answer: [`Outcome::Updated`].
    UpdateLeases {
        /// The subscription.
        subscription: SubscriptionName,
        /// One by one.
        updates: Vec<LeaseUpdate>,
        /// A consumer that had let a lease run out, and goes on.
        resumes: Option<ConsumerId>,
        /// A consumer whose caller has not asked for more for as long as a lease lasts: it is given nothing until it goes on.
        pauses: Option<ConsumerId>,
    },
    /// What is known of a shared subscription is to be durable now: before a dead letter is written, whose number says that it was.
    SaveShares {
        /// The subscription.
        subscription: SubscriptionName,
    },
    /// A dead letter is where it is to be: the rows are done with. One that is not there any more changes nothing.
    Bury {
        /// The subscription.
        subscription: SubscriptionName,
        /// When that was made: another one of its name has other numbers.
        created_at: Timestamp,
        /// The dead letter's number.
        number: u64,
    },
    /// Puts the subscription's cursors where it says, forwards or backwards. Answer: [`Outcome::Moved`].
    Seek {
        /// Its name.
        subscription: SubscriptionName,
        /// At the next batch to be delivered. Partitions that [`Start::Offsets`] does not name stay where they are.
        to: Start,
        /// Only says what it would do.
        dry_run: bool,
    },
    /// Ends the stream in good order: readers get what is there, then the end.
    Complete,
    /// Ends the stream with an error: readers get what is there, then the error.
    Fail {
        /// What went wrong.
        reason: Arc<str>,
    },
    /// Time has passed: producers' leases may have run out, and waits have lasted for too long.
    Tick,
    /// Of a durable stream: its log has written so many batches, and what is durable becomes visible.
    Settle {
        /// Batches written since the last time.
        batches: u64,
        /// Their bytes, as they were appended.
        bytes: u64,
        /// Per partition, the offset before which all is durable.
        durable: Vec<(PartitionId, Offset)>,
    },
}

/// A command's own answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to say.
    Done,
    /// The appender is open.
    Opened {
        /// Its id.
        appender: AppenderId,
        /// The ordinal that is expected next: 0, or where an interrupted appender stopped.
        next_ordinal: u64,
    },
    /// There is room.
    Reserved {
        /// Where the bytes go.
        place: Place,
    },
    /// There is no room yet; the appender waits, first come first served.
    Waiting,
    /// The batch is stored (and, for a writer, staged).
    Appended {
        /// Its offset if it has one now; none if it is staged, or was a resend of a stored one.
        offset: Option<Offset>,
        /// Whether it was a resend of a stored one, so that nothing has changed.
        again: bool,
    },
    /// The writer's receipt.
    Receipt(Receipt),
    /// The epoch's state after the command.
    Epoch(EpochState),
    /// A consumer reads, by this number.
    Reads(u64),
    /// What the consumer is to be sent, as far as it is there.
    Taken(Vec<Taken>),
    /// What was acked; these were not, since their leases are lost.
    Acked {
        /// As they came.
        lost: Vec<LeasedOffset>,
    },
    /// What a consumer of a shared subscription is to be sent.
    TakenShares(Vec<TakenShare>),
    /// What was said of leases counts; these were lost before.
    Updated {
        /// In the order in which they came.
        lost: Vec<LeaseId>,
    },
    /// How a seek has moved the subscription, or would: each partition.
    Moved(Vec<PartitionMove>),
}

/// A part of a durable stream that a restart has to find as it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Its options, schemas or state.
    Stream,
    /// What a partition has, or where it begins.
    Partition(PartitionId),
    /// A subscription's cursors, or whether there is one.
    Subscription(SubscriptionName),
    /// A producer's run, epoch, ordinal or lease, or whether it is remembered.
    Producer(ProducerId),
}

/// What a command brings about. The caller wakes whoever is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effects {
    /// The command's own answer, or why it was refused.
    pub outcome: Result<Outcome, Error>,
    /// Appenders whose wait is over: room is reserved for them, there.
    pub granted: Vec<(AppenderId, Place)>,
    /// Appenders whose wait has failed.
    pub refused: Vec<(AppenderId, Error)>,
    /// Partitions that have new visible batches, each once.
    pub visible: Vec<PartitionId>,
    /// Whether all readers should look again: the schema has another version, the stream has ended, a producer is lost or back.
    pub changed: bool,
    /// Consumers that may be sent more: they have acked what kept them from it.
    pub consumers: Vec<ConsumerId>,
    /// Subscriptions that were evicted.
    pub evicted: Vec<SubscriptionName>,
    /// Handles that the stream no longer holds were dropped: how many batches.
    pub dropped_batches: u64,
    /// What has changed of a durable stream; a part may come twice. Nothing of what is only in memory.
    pub touched: Vec<Part>,
}

impl Default for Effects {
    /// Nothing has happened.
    fn default() -> Self {
        Self {
            outcome: Ok(Outcome::Done),
            granted: Vec::new(),
            refused: Vec::new(),
            visible: Vec::new(),
            changed: false,
            consumers: Vec::new(),
            evicted: Vec::new(),
            dropped_batches: 0,
            touched: Vec::new(),
        }
    }
}

impl Effects {
    /// Empties it, for another command: its memory stays.
    pub(super) fn clear(&mut self) {
        self.outcome = Ok(Outcome::Done);
        self.granted.clear();
        self.refused.clear();
        self.visible.clear();
        self.changed = false;
        self.consumers.clear();
        self.evicted.clear();
        self.dropped_batches = 0;
        self.touched.clear();
    }
}
