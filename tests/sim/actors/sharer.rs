//! One of several consumers of a shared subscription: is given rows that are leased by themselves, and acks, refuses, releases or
//! renews them, hangs over them, leaves, crashes, and joins again, until all is acked or a dead letter.

use std::time::Duration;

use bowstring::client::{Client, Consumer, ConsumerOptions, Error, Sharing, SubscribeOptions, Unacked};
use bowstring::engine::{Code, LeaseId, Start, SubscriptionMode};
use rand::Rng;

use super::Actor;
use crate::oracle::{Given, Said, Word};
use crate::plan::SharingPlan;

/// How long it waits for rows before it looks whether there is more to come.
const PATIENCE: Duration = Duration::from_millis(600);
/// Some are lost over what goes wrong, and all of who has crashed.
const LEASE: Duration = Duration::from_millis(1_500);
/// How often it begins again, so that it comes to an end.
const LIVES_MAX: u32 = 6;
/// Who would have to hang for longer than that does not.
const HANG_MAX: Duration = Duration::from_secs(5);

/// How the subscription is to be.
pub(super) fn subscribe_options(stream: &str, plan: &SharingPlan) -> SubscribeOptions {
    let sharing = Sharing {
        max_deliveries: Some(plan.max_deliveries),
        bisect: plan.bisect,
        dead_letters: Some(plan.letters(stream)),
        keys: if plan.is_keyed { vec!["key".to_owned()] } else { Vec::new() },
    };
    SubscribeOptions { mode: Some(SubscriptionMode::Shared), sharing: Some(sharing), ..SubscribeOptions::default() }
}

pub(super) async fn run(mut actor: Actor, client: Client, plan: SharingPlan, number: u64) {
    let mut seeks_left = if number == 0 { plan.seeks } else { 0 };
    for lives in 1.. {
        actor.describe(&client).await;
        let options = ConsumerOptions {
            subscription: Some(plan.subscription.clone()),
            consumer: Some(actor.who.clone()),
            mode: Some(SubscriptionMode::Shared),
            lease: LEASE,
            ack_within: plan.ack_within,
            max_rows: [None, Some(10), Some(100)][actor.random.random_range(0..3)],
            prefetch_batches: [1, 3, 8][actor.random.random_range(0..3)],
            ..ConsumerOptions::default()
        };
        let mut sharer = Sharer {
            who: format!("{}/{lives}", actor.who),
            is_mortal: lives < LIVES_MAX,
            actor: &mut actor,
            client: &client,
            plan: &plan,
            held: Vec::new(),
            said: Vec::new(),
        };
        let lived = sharer.live(options, &mut seeks_left).await;
        let who = sharer.who;
        // What it was given and has not let go is not its own any more.
        actor.oracle.leaves_sharing(&actor.stream.name, &plan.subscription, &who);
        match lived {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => actor.oracle.met(&actor.who, "share", &error),
        }
        actor.pause(500).await;
    }
}

/// From joining to a crash, or to leaving.
struct Sharer<'a> {
    who: String,
    /// May hang, leave or crash.
    is_mortal: bool,
    actor: &'a mut Actor,
    client: &'a Client,
    plan: &'a SharingPlan,
    /// What it has and has said nothing of.
    held: Vec<(Given, Unacked)>,
    /// What it has said since its last flush.
    said: Vec<Said>,
}

impl Sharer<'_> {
    /// True: all is done.
    async fn live(&mut self, options: ConsumerOptions, seeks_left: &mut u32) -> Result<bool, Error> {
        let mut consumer = self.client.consumer(&self.actor.stream.name, options).await?;
        loop {
            let deadline = (tokio::time::Instant::now() + PATIENCE).into_std();
            match consumer.next(Some(deadline)).await {
                Ok(Some(delivered)) => {
                    let given = self.actor.oracle.shared(&self.actor.stream.name, self.plan, &self.who, &delivered);
                    // The oracle has failed the run.
                    let Some(given) = given else { return Ok(true) };
                    if given.is_bad && self.is_mortal && self.actor.chance(15) {
                        return Ok(self.crash(consumer));
                    }
                    self.held.push((given, delivered.unacked()));
                    if !self.is_mortal {
                        self.settle_all(&mut consumer)?;
                    } else if self.actor.chance(80) {
                        self.settle_one(&mut consumer)?;
                    }
                }
                // It is done with what it has: more may wait for that.
                Ok(None) => {
                    self.settle_all(&mut consumer)?;
                    self.flush(&mut consumer).await?;
                    if consumer.has_ended() {
                        return Ok(self.is_all_done().await);
                    }
                }
                Err(error) if error.code() == Code::Timeout => {
                    self.settle_all(&mut consumer)?;
                    self.flush(&mut consumer).await?;
                    if !self.actor.oracle.has_writers(&self.actor.stream.name) && self.is_all_done().await {
                        return Ok(true);
                    }
                }
                Err(error) => return Err(error),
            }
            if self.actor.chance(10) {
                self.flush(&mut consumer).await?;
            }
            if *seeks_left > 0 && self.actor.chance(4) {
                *seeks_left -= 1;
                self.seek().await;
            }
            if !self.is_mortal {
                continue;
            }
            if self.actor.chance(4) && self.plan.ack_within < HANG_MAX {
                self.actor.note("hangs");
                tokio::time::sleep(self.plan.ack_within * 3 / 2).await;
            }
            if self.actor.chance(3) {
                return Ok(self.crash(consumer));
            }
            if self.actor.chance(2) {
                self.actor.note("leaves");
                self.actor.oracle.leaves_sharing(&self.actor.stream.name, &self.plan.subscription, &self.who);
                return match consumer.close().await {
                    Err(error) if error.code() == Code::LeaseLost => Ok(false),
                    closed => closed.map(|()| false),
                };
            }
        }
    }

    fn crash(&mut self, consumer: Consumer) -> bool {
        self.actor.note("crashes");
        consumer.crash();
        false
    }

    /// Says something of one that it has.
    fn settle_one(&mut self, consumer: &mut Consumer) -> Result<(), Error> {
        let index = self.actor.random.random_range(0..self.held.len());
        let is_bad = self.held[index].0.is_bad;
        let drawn = self.actor.random.random_range(0..100);
        let acker = consumer.acker();
        if self.is_mortal && drawn < 8 {
            let (given, unacked) = &self.held[index];
            self.actor.note(format!("renews {:?}", given.lease));
            return acker.renew(unacked, self.plan.ack_within);
        }
        let (given, unacked) = self.held.swap_remove(index);
        if self.is_mortal && drawn < 15 {
            self.says(given.lease, Word::Release);
            return acker.release(&unacked);
        }
        if is_bad || self.is_mortal && drawn < 15 + self.plan.refused {
            self.says(given.lease, Word::Nack);
            let delay = if self.actor.chance(50) { 0 } else { self.actor.random.random_range(0..800) };
            return acker.nack(&unacked, Duration::from_millis(delay), if is_bad { "a bad row" } else { "not now" });
        }
        self.says(given.lease, Word::Ack);
        acker.ack_one(&unacked)
    }

    fn settle_all(&mut self, consumer: &mut Consumer) -> Result<(), Error> {
        while !self.held.is_empty() {
            self.settle_one(consumer)?;
        }
        Ok(())
    }

    fn says(&mut self, lease: LeaseId, word: Word) {
        let oracle = &self.actor.oracle;
        self.actor.note(format!("{word:?} {lease:?}"));
        oracle.says(&self.actor.stream.name, &self.plan.subscription, lease, word);
        self.said.push(Said { lease, word, at: oracle.clock.elapsed() });
    }

    /// What was said by leases that were lost counts for nothing, and that is told.
    async fn flush(&mut self, consumer: &mut Consumer) -> Result<(), Error> {
        let mut said = std::mem::take(&mut self.said);
        match consumer.flush_acks().await {
            Ok(()) => {}
            Err(Error::LeaseLost { lost }) => {
                self.actor.note(format!("has lost {:?}", lost.iter().map(|lost| lost.lease).collect::<Vec<_>>()));
                said.retain(|said| lost.iter().all(|lost| lost.lease != said.lease));
            }
            Err(error) => return Err(error),
        }
        self.actor.oracle.said(&self.actor.stream.name, &self.plan.subscription, &self.who, &said);
        Ok(())
    }

    /// Puts the subscription back to the earliest batch, while others share it.
    async fn seek(&self) {
        let (stream, subscription) = (&self.actor.stream.name, &self.plan.subscription);
        self.actor.oracle.seeks_sharing(stream, subscription);
        let moves = self.actor.until_done("seek", || self.client.seek(stream, subscription, &Start::Earliest, None, false)).await;
        self.actor.note("seeks");
        self.actor.oracle.sought_sharing(stream, subscription, &moves);
    }

    /// Whether all of them together have acked what there is by now, or it has died.
    async fn is_all_done(&self) -> bool {
        let description = self.actor.describe(self.client).await;
        self.actor.oracle.has_done_all(&self.plan.subscription, &description)
    }
}
