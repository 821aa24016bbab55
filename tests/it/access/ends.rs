//! Open streams end with their token, and say why.

use std::time::Duration;

use arrow_flight::{FlightData, Ticket};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::super::client_support::PATIENCE;
use super::super::server_support::{channel, code, flight, messages, numbers, path, stop};
use super::{Tokens, put_as, with};

async fn within_patience<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it ends by itself")
}

#[tokio::test]
async fn streams_of_a_token_that_is_revoked_or_expires_end_with_a_clear_error() {
    let (tokens, operator) = Tokens::new();
    let revoked = tokens.issue("revoked", &["append:s", "read:s"]);
    let expiring = tokens.issue_for("expiring", &["append:s", "read:s"], Some(Duration::from_secs(4)));
    let server = tokens.server().await;
    let channel = channel(server.listen_addr()).await;
    put_as(&channel, Some(operator.reveal()), "s").await.unwrap();
    let mut open = Vec::new();
    for (token, word) in [(&revoked, "revoked"), (&expiring, "expired")] {
        let token = Some(token.reveal());
        let ticket = Ticket { ticket: r#"{"stream": "s", "follow": true}"#.into() };
        let mut read = flight(&channel).do_get(with(token, ticket)).await.unwrap().into_inner();
        // What was there before has come.
        assert!(read.next().await.unwrap().is_ok());
        let (to, from) = mpsc::channel::<FlightData>(8);
        for message in messages(path("s"), vec![numbers(0..3)]) {
            to.send(message).await.unwrap();
        }
        let written = flight(&channel).do_put(with(token, ReceiverStream::new(from))).await.unwrap().into_inner();
        open.push((read, written, to, word));
    }
    tokens.revoke("revoked");
    for (read, written, to, word) in open {
        let read: Result<Vec<_>, Status> = within_patience(read.try_collect()).await;
        let written: Result<Vec<_>, Status> = within_patience(written.try_collect()).await;
        for status in [read.unwrap_err(), written.unwrap_err()] {
            assert_eq!((code(&status).as_str(), status.code()), ("unauthenticated", tonic::Code::Unauthenticated));
            assert!(status.message().contains(word), "{status}");
        }
        drop(to);
    }
    stop(server).await;
}

#[tokio::test]
async fn a_producer_that_never_pauses_is_ended_too() {
    let (tokens, operator) = Tokens::new();
    let token = tokens.issue("busy", &["append:s"]);
    let server = tokens.server().await;
    let channel = channel(server.listen_addr()).await;
    // Full buffers drop the oldest, so that nothing but its token ends it.
    let options = bowstring::wire::proto::StreamOptions {
        full_policy: bowstring::wire::proto::FullPolicy::DropOldest.into(),
        max_buffered_batches: Some(8),
        ..Default::default()
    };
    let create = bowstring::wire::proto::CreateStreamRequest { stream: "s".to_owned(), options: Some(options), ..Default::default() };
    super::call_as::<_, bowstring::wire::proto::StreamDescription>(&channel, Some(operator.reveal()), "CreateStream", create)
        .await
        .unwrap();
    let first = messages(path("s"), vec![numbers(0..3)]);
    let again = FlightData { flight_descriptor: None, ..first[1].clone() };
    let endless = futures::stream::iter(first).chain(futures::stream::repeat(again));
    let written = flight(&channel).do_put(with(Some(token.reveal()), endless)).await.unwrap().into_inner();
    tokens.revoke("busy");
    let written: Result<Vec<_>, Status> = within_patience(written.try_collect()).await;
    assert_eq!(code(&written.unwrap_err()), "unauthenticated");
    stop(server).await;
}
