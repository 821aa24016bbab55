//! Those who take part: each does its share of work, whatever goes wrong, and tells the oracle.

mod consumer;
mod laggard;
mod member;
mod producer;
mod query;
mod reverse;
mod sharer;
mod verifier;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bowstring::client::{Client, Error, SubscribeOptions};
use bowstring::engine::{Start, SubscriptionMode};
use bowstring::wire::proto::{CreateStreamRequest, StreamDescription, StreamOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub(crate) use self::verifier::verify;

use super::net::connect;
use super::oracle::Oracle;
use super::plan::StreamPlan;

/// What every actor has.
pub(crate) struct Actor {
    oracle: Arc<Oracle>,
    stream: StreamPlan,
    /// For the trace.
    who: String,
    random: StdRng,
}

/// Starts all actors of a host; returns when all are done.
pub(crate) async fn run(oracle: Arc<Oracle>, host: &'static str) {
    let mut tasks = Vec::new();
    for stream in oracle.plan.streams.clone() {
        let spawn = |kind: &str, number: usize| {
            let who = format!("{}-{kind}{number}", stream.name);
            oracle.begin_work();
            let mut hash = oracle.plan.seed;
            who.bytes().for_each(|byte| hash = hash.wrapping_mul(31).wrapping_add(byte.into()));
            Actor { oracle: oracle.clone(), stream: stream.clone(), who, random: StdRng::seed_from_u64(hash) }
        };
        // The first of them here, the others on another host: they are cut off one by one.
        for sharing in &stream.sharings {
            let here = match host {
                "apps" => 0..1,
                "readers" => 1..sharing.consumers,
                _ => 0..0,
            };
            for number in here {
                let of = sharing.clone();
                let share = |actor, client, number| sharer::run(actor, client, of, number);
                tasks.push(tokio::task::spawn_local(spawn(&sharing.subscription, number).work(share, number as u64)));
            }
        }
        match host {
            "apps" => {
                for (number, batches) in stream.producers.iter().enumerate() {
                    tasks.push(tokio::task::spawn_local(spawn("producer", number).work(producer::run, *batches)));
                }
                tasks.push(tokio::task::spawn_local(spawn("consumer", 0).work(consumer::run, 0)));
                // One here, the others on another host: they are cut off one by one.
                if stream.members > 0 {
                    tasks.push(tokio::task::spawn_local(spawn("member", 0).work(member::run, 0)));
                }
            }
            "spark" => {
                for (number, epochs) in stream.queries.iter().enumerate() {
                    tasks.push(tokio::task::spawn_local(spawn("query", number).work(query::run, *epochs)));
                }
            }
            _ => {
                for number in 1..stream.consumers {
                    tasks.push(tokio::task::spawn_local(spawn("consumer", number).work(consumer::run, number as u64)));
                }
                for number in 1..stream.members {
                    tasks.push(tokio::task::spawn_local(spawn("member", number).work(member::run, number as u64)));
                }
                for number in 0..stream.laggards {
                    tasks.push(tokio::task::spawn_local(spawn("laggard", number).work(laggard::run, number as u64)));
                }
                for number in 0..stream.reverse_readers {
                    tasks.push(tokio::task::spawn_local(spawn("reverse", number).work(reverse::run, number as u64)));
                }
            }
        }
    }
    for task in tasks {
        task.await.expect("an actor does not panic");
    }
}

impl Actor {
    async fn work<F: Future<Output = ()>>(self, work: impl FnOnce(Actor, Client, u64) -> F, share: u64) {
        let (oracle, who) = (self.oracle.clone(), self.who.clone());
        let client = self.client().await;
        self.create(&client).await;
        work(self, client, share).await;
        oracle.end_work(&who);
    }

    async fn client(&self) -> Client {
        connect(self.oracle.plan.retry_deadline).await
    }

    /// Makes the stream, unless somebody else has, with all subscriptions that hold something back.
    async fn create(&self, client: &Client) {
        let options = StreamOptions {
            partitions: Some(self.stream.partitions),
            max_buffered_batches: Some(self.stream.max_buffered_batches),
            max_disk_bytes: Some(self.stream.max_disk_bytes),
            ..StreamOptions::default()
        };
        let create = || async {
            let request = CreateStreamRequest {
                stream: self.stream.name.clone(),
                options: Some(options),
                if_not_exists: true,
                ..CreateStreamRequest::default()
            };
            client.create_stream(request).await?;
            if self.stream.keeps_all {
                client.subscribe(&self.stream.name, "keeper", &Start::Earliest).await?;
            }
            for number in 0..self.stream.consumers {
                client.subscribe(&self.stream.name, &subscription("consumer", number as u64), &Start::Earliest).await?;
            }
            if self.stream.members > 0 {
                let mode = Some(SubscriptionMode::Partitioned);
                let options = SubscribeOptions { mode, ..SubscribeOptions::default() };
                client.subscribe_with(&self.stream.name, member::TEAM, &Start::Earliest, options).await?;
            }
            for sharing in &self.stream.sharings {
                let options = sharer::subscribe_options(&self.stream.name, sharing);
                client.subscribe_with(&self.stream.name, &sharing.subscription, &Start::Earliest, options).await?;
            }
            for (number, on_overflow) in (0..self.stream.laggards as u64).zip(laggard::KINDS) {
                let name = subscription("laggard", number);
                let options = SubscribeOptions { on_overflow, ..SubscribeOptions::default() };
                client.subscribe_with(&self.stream.name, &name, &Start::Earliest, options).await?;
            }
            for number in 0..self.stream.reverse_readers {
                client.subscribe(&self.stream.name, &subscription("reverse", number as u64), &Start::Earliest).await?;
            }
            Ok(())
        };
        self.until_done("create", create).await;
    }

    /// A stream's last writer ends it, if it is to end.
    async fn end_writing(&self, client: &Client) {
        if self.oracle.writer_done(&self.stream.name) && self.stream.completes {
            self.until_done("complete", || client.complete_stream(&self.stream.name)).await;
            self.note("completed");
        }
    }

    async fn describe(&self, client: &Client) -> StreamDescription {
        let asked_at = self.oracle.clock.elapsed();
        let description = self.until_done("describe", || client.describe_stream(&self.stream.name)).await;
        self.oracle.described(&description, asked_at);
        description
    }

    /// Tries something until it is done.
    async fn until_done<T, F: Future<Output = Result<T, Error>>>(&self, what: &str, mut work: impl FnMut() -> F) -> T {
        loop {
            match work().await {
                Ok(done) => return done,
                Err(error) => self.oracle.met(&self.who, what, &error),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn pause(&mut self, millis_max: u64) {
        let pause = self.random.random_range(0..=millis_max);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn note(&self, what: impl AsRef<str>) {
        self.oracle.note(format!("{}: {}", self.who, what.as_ref()));
    }
}

fn subscription(kind: &str, number: u64) -> String {
    format!("{kind}-{number}")
}
