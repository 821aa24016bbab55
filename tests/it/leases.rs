//! Consumers that share a partitioned subscription: real clients over real sockets that join, leave, die and stall.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bowstring::client::ConsumerOptions;
use bowstring::engine::{Code, InFlight, PartitionId, Start, SubscriptionMode};
use bowstring::server::ServerConfig;
use bowstring::wire::proto::{AckRequest, AckResponse, ConsumerDescription, PartitionOffset, StreamOptions, SubscriptionDescription};
use serde_json::json;

use super::client_support::{Proxy, connect, create, next, number, rest, server, server_with, soon};
use super::leases_support::{LONG, TEAM, ack, append, consumers, described, held, member, of_mode, options, sign, stream, until, work};
use super::server_support::{call, channel, read, refused};
use super::transport::Transport;

#[tokio::test(flavor = "multi_thread")]
async fn three_consumers_share_four_partitions_and_each_batch_comes_once() {
    for on in [Transport::Tcp, Transport::Unix, Transport::Shared, Transport::Process] {
        let server = on.server(ServerConfig::default()).await;
        let client = on.client(&server).await;
        create(&client, "s", StreamOptions { partitions: Some(4), max_buffered_batches: Some(1_000), ..StreamOptions::default() }).await;
        let mut members = Vec::new();
        for name in ["a", "b", "c"] {
            members.push(member(&client, name).await);
        }
        let all = consumers(&client).await;
        let counts: Vec<_> = all.iter().map(|consumer| consumer.partitions.len()).collect();
        assert_eq!(counts.iter().sum::<usize>(), 4, "{on:?}: {all:?}");
        assert!(counts.iter().all(|count| [1, 2].contains(count)), "{counts:?}");
        append(&client, 4, 0..200).await;
        client.complete_stream("s").await.expect("is open");
        let working: Vec<_> = members.into_iter().map(|member| tokio::spawn(work(member))).collect();
        let mut numbers = Vec::new();
        for worked in working {
            numbers.extend(soon(worked).await.expect("no panic").expect("reads to the end"));
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..200).collect::<Vec<_>>(), "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_must_move_moves_and_what_is_under_way_is_finished_first() {
    let server = server().await;
    let client = stream(&server, 4).await;
    let mut first = member(&client, "first").await;
    append(&client, 4, 0..8).await;
    let mut have = BTreeMap::new();
    for _ in 0..4 {
        let delivered = next(&mut first).await;
        have.entry(delivered.partition).or_insert(Vec::new()).push(delivered);
    }
    let second = member(&client, "second").await;
    until(&client, |found| found.consumers.len() == 2).await;
    // Two partitions are wanted. Nothing goes over while what the caller has of it is not acked.
    let busy: BTreeSet<_> = have.keys().map(|partition| partition.0).collect();
    for delivered in have.values().flatten() {
        assert!(held(&consumers(&client).await[0]).contains(&delivered.partition.0));
        ack(&mut first, delivered);
        soon(first.flush_acks()).await.expect("by a lease that is held");
    }
    until(&client, |found| found.consumers.iter().all(|consumer| consumer.partitions.len() == 2)).await;
    assert!(!busy.is_empty());
    client.complete_stream("s").await.expect("is open");
    let working = tokio::spawn(work(second));
    let mut numbers: Vec<_> = have.values().flatten().map(number).collect();
    numbers.extend(soon(work(first)).await.expect("reads to the end"));
    numbers.extend(soon(working).await.expect("no panic").expect("reads to the end"));
    numbers.sort_unstable();
    assert_eq!(numbers, (0..8).collect::<Vec<_>>(), "nothing is lost, and nothing comes twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_consumer_had_goes_to_the_others() {
    let server = server().await;
    let client = stream(&server, 2).await;
    let channel = channel(server.listen_addr()).await;
    let mut alive = member(&client, "alive").await;
    // It holds a partition, reads, and is never heard of again.
    let held = sign(&channel, 7, Duration::from_secs(2)).await.holdings;
    assert_eq!(held.len(), 1);
    append(&client, 2, 0..20).await;
    let own = consumers(&client).await;
    assert_eq!(own.len(), 2);
    let mut numbers = BTreeSet::new();
    while numbers.len() < 20 {
        let delivered = next(&mut alive).await;
        assert!(numbers.insert(number(&delivered)));
        ack(&mut alive, &delivered);
    }
    assert_eq!(consumers(&client).await.len(), 1);
    soon(alive.close()).await.expect("all is acked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_leaves_in_good_order_is_not_waited_for() {
    let server = server().await;
    let client = stream(&server, 2).await;
    let (leaves, mut stays) = (member(&client, "leaves").await, member(&client, "stays").await);
    until(&client, |found| found.consumers.len() == 2).await;
    drop(leaves);
    // Its lease would last an hour.
    until(&client, |found| found.consumers.len() == 1 && found.consumers[0].partitions.len() == 2).await;
    append(&client, 2, 0..2).await;
    for _ in 0..2 {
        next(&mut stays).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_by_a_lost_lease_is_refused_and_changes_nothing() {
    let server = server().await;
    let client = stream(&server, 1).await;
    let mut consumer = member(&client, "a").await;
    append(&client, 1, 0..4).await;
    let first = next(&mut consumer).await;
    client.seek("s", TEAM, &Start::Earliest, None, false).await.expect("goes on at the first");
    client.seek("s", TEAM, &Start::Latest, None, false).await.expect("goes on at the last");
    ack(&mut consumer, &first);
    let error = soon(consumer.flush_acks()).await.expect_err("its lease is lost");
    assert_eq!(error.code(), Code::LeaseLost, "{error}");
    assert!(error.to_string().contains("partitions 0 "), "{error}");
    assert_eq!(described(&client).await.partitions[0].acked, 4);
    soon(consumer.flush_acks()).await.expect("it is said once");
    append(&client, 1, 4..5).await;
    let after = next(&mut consumer).await;
    assert_eq!(number(&after), 4, "what was read ahead before is not handed out");
    ack(&mut consumer, &after);
    soon(consumer.flush_acks()).await.expect("by the new lease");
    assert_eq!(described(&client).await.partitions[0].acked, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_in_flight_than_a_consumer_says() {
    let server = server().await;
    let client = stream(&server, 3).await;
    let in_flight = InFlight { batches: 2, bytes: u64::MAX };
    let mut consumer = client.consumer("s", ConsumerOptions { in_flight, ..options() }).await.expect("joins");
    append(&client, 3, 0..30).await;
    for _ in 0..15 {
        let (one, other) = (next(&mut consumer).await, next(&mut consumer).await);
        let soon_more = consumer.next(Some((tokio::time::Instant::now() + Duration::from_millis(20)).into())).await;
        assert_eq!(soon_more.expect_err("two are not acked").code(), Code::Timeout);
        assert_eq!(consumers(&client).await[0].in_flight_batches, 2);
        ack(&mut consumer, &one);
        ack(&mut consumer, &other);
    }
    soon(consumer.flush_acks()).await.expect("all is acked");
    assert_eq!(consumers(&client).await[0].in_flight_batches, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_loses_no_lease_and_nothing_comes_twice() {
    let server = server().await;
    let direct = stream(&server, 4).await;
    let proxy = Proxy::to(Transport::Tcp, &server).await;
    let client = connect(&proxy.url).await;
    let consumer = member(&client, "cut off").await;
    let leases = |found: Vec<ConsumerDescription>| found.iter().map(|one| (one.consumer_id, held(one))).collect::<Vec<_>>();
    let before = leases(consumers(&direct).await);
    let working = tokio::spawn(work(consumer));
    for number in 0..60 {
        append(&direct, 4, number..number + 1).await;
        if number % 10 == 0 {
            proxy.cut();
        }
    }
    direct.complete_stream("s").await.expect("is open");
    let numbers = soon(working).await.expect("no panic").expect("reads to the end");
    assert_eq!(numbers.iter().copied().collect::<BTreeSet<_>>().len(), numbers.len(), "{numbers:?}");
    assert_eq!(numbers.len(), 60);
    assert_eq!(before.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_that_hold_what_they_have_to_the_end_are_told_of_the_end() {
    let server = server().await;
    let client = stream(&server, 2).await;
    let (mut one, mut other) = (member(&client, "one").await, member(&client, "other").await);
    until(&client, |found| found.consumers.len() == 2).await;
    append(&client, 2, 0..6).await;
    client.complete_stream("s").await.expect("is open");
    let (first, second) = (soon(rest(&mut one)).await.expect("the end"), soon(rest(&mut other)).await.expect("the end"));
    assert_eq!((first.len(), second.len()), (3, 3));
    for (consumer, all) in [(&mut one, first), (&mut other, second)] {
        ack(consumer, all.last().expect("three"));
        soon(consumer.flush_acks()).await.expect("is held");
    }
    assert_eq!(described(&client).await.partitions.iter().map(|partition| partition.lag_batches).sum::<u64>(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_acked_all_takes_over_from_who_dies_after_the_end() {
    let server = server().await;
    let client = stream(&server, 2).await;
    append(&client, 2, 0..6).await;
    client.complete_stream("s").await.expect("is open");
    let url = server.url();
    let crash = move || {
        let runtime = tokio::runtime::Runtime::new().expect("some threads");
        let lasts = ConsumerOptions { lease: Duration::from_secs(2), ..options() };
        let got = async {
            let mut consumer = connect(&url).await.consumer("s", lasts).await.expect("joins");
            (next(&mut consumer).await, consumer)
        };
        let (first, consumer) = runtime.block_on(got);
        // All of its tasks end where they are, and nobody says goodbye.
        runtime.shutdown_background();
        drop(consumer);
        number(&first)
    };
    let crashed = tokio::task::spawn_blocking(crash);
    until(&client, |found| found.consumers.first().is_some_and(|one| one.in_flight_batches == 6)).await;
    let stays = tokio::spawn(work(member(&client, "stays").await));
    let lost = soon(crashed).await.expect("no panic");
    let numbers = soon(stays).await.expect("no panic").expect("reads to the end");
    assert_eq!(numbers.iter().copied().collect::<BTreeSet<_>>(), (0..6).collect(), "{lost} comes again");
    assert_eq!(numbers.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_do_not_mix() {
    let server = server().await;
    let client = stream(&server, 1).await;
    let channel = channel(server.listen_addr()).await;
    client.subscribe("s", "alone", &Start::Earliest).await.expect("a new one");
    client.subscribe_with("s", TEAM, &Start::Earliest, of_mode(SubscriptionMode::Partitioned)).await.expect("a new one");
    client.subscribe("s", TEAM, &Start::Earliest).await.expect("as it is");
    let other = client.subscribe_with("s", TEAM, &Start::Earliest, of_mode(SubscriptionMode::Static)).await;
    assert_eq!(other.expect_err("is partitioned").code(), Code::InvalidArgument);
    let alone = ConsumerOptions { subscription: Some("alone".to_owned()), ..options() };
    assert_eq!(client.consumer("s", alone).await.expect_err("is static").code(), Code::InvalidArgument);
    for refused in [
        ConsumerOptions { partitions: Some(vec![PartitionId(0)]), ..options() },
        ConsumerOptions { follow: false, mode: None, ..options() },
        ConsumerOptions { subscription: None, ..options() },
        ConsumerOptions { lease: Duration::ZERO, ..options() },
        ConsumerOptions { by_epoch: true, mode: None, ..options() },
    ] {
        assert_eq!(client.consumer("s", refused).await.expect_err("says what the leases say").code(), Code::InvalidArgument);
    }
    assert_eq!(refused(read(&channel, json!({"stream": "s", "subscription": TEAM})).await), "invalid_argument");
    let offsets = vec![PartitionOffset { partition: 0, offset: 0 }];
    let plain = AckRequest { stream: "s".into(), subscription: TEAM.into(), offsets, ..AckRequest::default() };
    assert_eq!(refused(call::<_, AckResponse>(&channel, "Ack", plain).await), "invalid_argument");
    // Who names no mode shares by leases all the same.
    let joins = client.consumer("s", ConsumerOptions { mode: None, ..options() }).await.expect("joins");
    assert_eq!(consumers(&client).await.len(), 1);
    drop(joins);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_subscription_is_partitioned_after_a_restart_and_its_consumers_join_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = || ServerConfig { data_dir: Some(dir.path().to_path_buf()), ..ServerConfig::default() };
    let server = server_with(config()).await;
    let client = stream(&server, 3).await;
    let proxy = Proxy::to(Transport::Tcp, &server).await;
    let through = connect(&proxy.url).await;
    let mut consumer = member(&through, "a").await;
    append(&client, 3, 0..9).await;
    let mut numbers = BTreeSet::new();
    for _ in 0..6 {
        let delivered = next(&mut consumer).await;
        numbers.insert(number(&delivered));
        ack(&mut consumer, &delivered);
    }
    soon(consumer.flush_acks()).await.expect("all is acked");
    proxy.block();
    server.shutdown(Duration::from_secs(5)).await;
    drop(server);
    let server = server_with(config()).await;
    proxy.restore(&server);
    let client = connect(&server.url()).await;
    append(&client, 3, 9..12).await;
    client.complete_stream("s").await.expect("is open");
    // What it has read ahead may be handed out before it knows that its leases are lost; acks of that change nothing.
    let mut rest = BTreeSet::new();
    while let Some(delivered) = soon(consumer.next(None)).await.expect("reads on") {
        rest.insert(number(&delivered));
        ack(&mut consumer, &delivered);
    }
    assert!(rest.is_disjoint(&numbers), "{rest:?} after {numbers:?}: what was acked comes no more");
    numbers.extend(rest);
    assert_eq!(numbers, (0..12).collect());
    assert_eq!(report_mode(&described(&client).await), "partitioned");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_by_leases_is_put_together_and_acked_one_by_one() {
    let server = server().await;
    let client = stream(&server, 2).await;
    append(&client, 2, 0..12).await;
    client.complete_stream("s").await.expect("is open");
    let mut consumer = client.consumer("s", ConsumerOptions { target_rows: Some(4), linger: LONG, ..options() }).await.expect("joins");
    let mut all = Vec::new();
    while let Some(delivered) = soon(consumer.next(None)).await.expect("is there") {
        all.push(delivered);
    }
    assert_eq!(all.iter().map(|one| one.batch.num_rows()).sum::<usize>(), 12, "with nothing acked");
    assert_eq!(all.len(), 4, "four batches and two of each partition");
    all.iter().rev().for_each(|one| consumer.acker().ack_one(&one.unacked()).expect("not refused"));
    assert!(soon(consumer.next(None)).await.expect("all is acked").is_none());
    soon(consumer.close()).await.expect("all is acked");
    assert!(described(&client).await.partitions.iter().all(|partition| partition.acked == 6));
}

fn report_mode(found: &SubscriptionDescription) -> &'static str {
    match found.mode() {
        bowstring::wire::proto::SubscriptionMode::Partitioned => "partitioned",
        _ => "another",
    }
}
