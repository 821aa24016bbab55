//! What each verb lets one do, and nothing else.

use arrow_flight::{Criteria, FlightDescriptor};
use bowstring::server::{AuthConfig, ServerConfig};
use bowstring::wire::proto;
use futures::TryStreamExt;
use tonic::Status;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use super::super::http::get;
use super::super::server_support::{channel, code, flight, start, stop};
use super::{Tokens, act_as, call_as, put_as, read_as, with};

/// The code of a call: `ok`, or that of its refusal.
fn outcome<T>(result: Result<T, Status>) -> String {
    result.map_or_else(|status| code(&status), |_| "ok".to_owned())
}

#[tokio::test]
async fn each_call_takes_its_verb_and_every_other_verb_is_refused() {
    let (tokens, operator) = Tokens::new();
    let verbs = ["append:s", "read:s", "peek:s", "admin:s", "metrics", "append:t*"];
    let of_verbs: Vec<_> = verbs.iter().map(|verb| (*verb, tokens.issue(verb, &[*verb]))).collect();
    let server = tokens.server().await;
    let channel = channel(server.listen_addr()).await;
    put_as(&channel, Some(operator.reveal()), "s").await.unwrap();
    let s = || "s".to_owned();
    let subscription = || "a".to_owned();
    let subscribe = proto::SubscribeRequest { stream: s(), subscription: subscription(), ..Default::default() };
    call_as::<_, proto::SubscriptionDescription>(&channel, Some(operator.reveal()), "Subscribe", subscribe).await.unwrap();
    for (verb, token) in &of_verbs {
        let token = Some(token.reveal());
        let may = |verbs: &[&str]| verbs.iter().any(|one| format!("{one}:s") == *verb || *verb == "admin:s");
        macro_rules! check {
            ($method:literal, $request:ident -> $answer:ident, $may:expr) => {
                let mut request = proto::$request::default();
                request.stream = s();
                let got = outcome(call_as::<_, proto::$answer>(&channel, token, $method, request).await);
                assert_eq!(got != "permission_denied", $may, "{verb} and {}: {got}", $method);
                assert_ne!(got, "unauthenticated");
            };
        }
        check!("CreateStream", CreateStreamRequest -> StreamDescription, may(&["append"]));
        check!("DescribeStream", DescribeStreamRequest -> StreamDescription, may(&["append", "read", "peek"]));
        check!("OpenEpoch", OpenEpochRequest -> EpochResponse, may(&["append"]));
        check!("CommitEpoch", CommitEpochRequest -> EpochResponse, may(&["append"]));
        check!("AbortEpoch", AbortEpochRequest -> EpochResponse, may(&["append"]));
        check!("KeepProducer", KeepProducerRequest -> KeepProducerResponse, may(&["append"]));
        check!("Subscribe", SubscribeRequest -> SubscriptionDescription, may(&["read"]));
        check!("Unsubscribe", UnsubscribeRequest -> UnsubscribeResponse, may(&["read"]));
        check!("Ack", AckRequest -> AckResponse, may(&["read"]));
        check!("Plan", PlanRequest -> PlanResponse, may(&["read"]));
        check!("Seek", SeekRequest -> SeekResponse, may(&["read"]));
        check!("KeepConsumer", KeepConsumerRequest -> KeepConsumerResponse, may(&["read"]));
        check!("GiveBack", GiveBackRequest -> GiveBackResponse, may(&["read"]));
        check!("UpdateLeases", UpdateLeasesRequest -> UpdateLeasesResponse, may(&["read"]));
        check!("Locate", LocateRequest -> LocateResponse, may(&["read", "peek"]));
        check!("GetStats", GetStatsRequest -> GetStatsResponse, may(&["append", "read", "peek"]));
        let checks = [
            ("DoPut", outcome(put_as(&channel, token, "s").await), may(&["append"])),
            ("DoGet", outcome(read_as(&channel, token, r#"{"stream": "s"}"#).await), may(&["read", "peek"])),
            (
                "DoGet with a subscription",
                outcome(read_as(&channel, token, r#"{"stream": "s", "subscription": "a"}"#).await),
                may(&["read"]),
            ),
            ("GetFlightInfo", outcome(flight(&channel).get_flight_info(with(token, path("s"))).await), may(&["append", "read", "peek"])),
            ("GetSchema", outcome(flight(&channel).get_schema(with(token, path("s"))).await), may(&["append", "read", "peek"])),
            ("describe", outcome(act_as(&channel, token, "describe", "s").await), may(&["append", "read", "peek"])),
            (
                "seek",
                outcome(act_as(&channel, token, "seek", r#" {"stream": "s", "subscription": "a", "start": "earliest"}"#).await),
                may(&["read"]),
            ),
        ];
        for (call, got, may) in checks {
            assert_eq!(got == "ok", may, "{verb} and {call}: {got}");
            assert!(got == "ok" || got == "permission_denied", "{verb} and {call}: {got}");
        }
    }
    // The last ones end the stream.
    let of = |wanted: &str| of_verbs.iter().find(|(verb, _)| *verb == wanted).map(|(_, token)| token.reveal()).unwrap();
    for (action, body, may) in
        [("fail", r#"{"stream": "s", "reason": "r"}"#, "append:s"), ("complete", "s", "append:s"), ("delete_stream", "s", "admin:s")]
    {
        for (verb, token) in of_verbs.iter().filter(|(verb, _)| *verb != may && *verb != "admin:s") {
            assert_eq!(outcome(act_as(&channel, Some(token.reveal()), action, body).await), "permission_denied", "{verb} and {action}");
        }
    }
    assert_eq!(outcome(act_as(&channel, Some(of("append:s")), "complete", "s").await), "ok");
    assert_eq!(outcome(act_as(&channel, Some(of("admin:s")), "delete_stream", "s").await), "ok");
    stop(server).await;
}

fn path(stream: &str) -> FlightDescriptor {
    super::super::server_support::path(stream)
}

#[tokio::test]
async fn nobody_is_told_whether_a_stream_exists_that_they_may_not_see() {
    let (tokens, operator) = Tokens::new();
    let alice = tokens.issue("alice", &["read:a*", "metrics"]);
    let server = tokens.server().await;
    let channel = channel(server.listen_addr()).await;
    for stream in ["a1", "a2", "secret"] {
        put_as(&channel, Some(operator.reveal()), stream).await.unwrap();
    }
    let alice = Some(alice.reveal());
    let listed: proto::ListStreamsResponse = call_as(&channel, alice, "ListStreams", proto::ListStreamsRequest {}).await.unwrap();
    assert_eq!(listed.streams.iter().map(|stream| stream.stream.as_str()).collect::<Vec<_>>(), ["a1", "a2"]);
    let stats: proto::GetStatsResponse = call_as(&channel, alice, "GetStats", proto::GetStatsRequest::default()).await.unwrap();
    assert_eq!(stats.streams.len(), 2);
    assert_eq!(act_as(&channel, alice, "stats", "").await.unwrap().as_array().unwrap().len(), 2);
    let infos: Vec<_> =
        flight(&channel).list_flights(with(alice, Criteria::default())).await.unwrap().into_inner().try_collect().await.unwrap();
    assert_eq!(infos.len(), 2);
    // Word for word the same, but for the name.
    let refusal = async |stream: &str| {
        let request = proto::DescribeStreamRequest { stream: stream.to_owned() };
        let status = call_as::<_, proto::StreamDescription>(&channel, alice, "DescribeStream", request).await.unwrap_err();
        let read = read_as(&channel, alice, &format!("{{\"stream\": \"{stream}\"}}")).await.unwrap_err();
        let put = put_as(&channel, alice, stream).await.unwrap_err();
        [status, read, put].map(|status| format!("{:?} {}", status.code(), status.message().replace(stream, "X")))
    };
    assert_eq!(refusal("secret").await, refusal("nothing").await);
    let text = refusal("secret").await[2].clone();
    for word in ["alice", "append", "read:a*", "append:X", "permission_denied"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    stop(server).await;
}

#[tokio::test]
async fn dead_letters_go_where_their_subscriber_may_append() {
    let (tokens, operator) = Tokens::new();
    let (reader, both) = (tokens.issue("reader", &["read:s"]), tokens.issue("both", &["read:s", "append:letters"]));
    let server = tokens.server().await;
    let channel = channel(server.listen_addr()).await;
    put_as(&channel, Some(operator.reveal()), "s").await.unwrap();
    let subscribe = async |token: &str, name: &str, dead_letters: &str| {
        let sharing = Some(proto::Sharing { dead_letters: dead_letters.to_owned(), ..Default::default() });
        let mode = proto::SubscriptionMode::Shared.into();
        let request =
            proto::SubscribeRequest { stream: "s".to_owned(), subscription: name.to_owned(), mode, sharing, ..Default::default() };
        outcome(call_as::<_, proto::SubscriptionDescription>(&channel, Some(token), "Subscribe", request).await)
    };
    assert_eq!(subscribe(reader.reveal(), "a", "letters").await, "permission_denied");
    assert_eq!(subscribe(reader.reveal(), "a", "").await, "ok");
    assert_eq!(subscribe(reader.reveal(), "b", "s.dead-letters").await, "ok");
    assert_eq!(subscribe(both.reveal(), "c", "letters").await, "ok");
    stop(server).await;
}

#[tokio::test]
async fn who_shows_no_token_that_counts_gets_health_and_nothing_else() {
    let (tokens, operator) = Tokens::new();
    let server = tokens.server().await;
    let channel = channel(server.listen_addr()).await;
    let health = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await;
    assert!(health.is_ok(), "{health:?}");
    let unknown = format!("bst_{}", "0".repeat(64));
    let nearly = &operator.reveal()[..operator.reveal().len() - 1];
    for token in [None, Some(unknown.as_str()), Some(nearly), Some(""), Some("a.b.c"), Some("x")] {
        assert_eq!(outcome(put_as(&channel, token, "s").await), "unauthenticated", "{token:?}");
        assert_eq!(outcome(read_as(&channel, token, r#"{"stream": "s"}"#).await), "unauthenticated");
        let list = call_as::<_, proto::ListStreamsResponse>(&channel, token, "ListStreams", proto::ListStreamsRequest {}).await;
        let status = list.unwrap_err();
        assert_eq!((status.code(), code(&status).as_str()), (tonic::Code::Unauthenticated, "unauthenticated"));
        assert!(!token.is_some_and(|token| !token.is_empty() && token.len() > 5 && status.message().contains(token)), "{status}");
        let reflect = |token| with(token, futures::stream::iter([ServerReflectionRequest::default()]));
        let reflected = ServerReflectionClient::new(channel.clone()).server_reflection_info(reflect(token)).await;
        assert_eq!(reflected.unwrap_err().code(), tonic::Code::Unauthenticated);
    }
    let reflect = with(Some(operator.reveal()), futures::stream::iter([ServerReflectionRequest::default()]));
    assert!(ServerReflectionClient::new(channel.clone()).server_reflection_info(reflect).await.is_ok());
    let newer =
        call_as::<_, proto::ListStreamsResponse>(&channel, Some(operator.reveal()), "OfANewerVersion", proto::ListStreamsRequest {}).await;
    assert_eq!(outcome(newer), "unimplemented");
    stop(server).await;
}

#[tokio::test]
async fn the_http_port_shows_metrics_to_who_may_see_them_and_health_to_all() {
    let (tokens, operator) = Tokens::new();
    let (scraper, reader) = (tokens.issue("prometheus", &["metrics"]), tokens.issue("reader", &["read:*"]));
    let server = tokens.server().await;
    let http = server.http_addr().unwrap();
    let metrics = async |token: &str| get(http, &format!("/metrics HTTP/1.1\r\nAuthorization: Bearer {token}\r\nX:")).await;
    let (status, text) = get(http, "/metrics").await;
    assert_eq!(status, 401);
    assert!(text.contains("[unauthenticated]") && !text.contains("bowstring_uptime"), "{text}");
    let (status, text) = metrics(reader.reveal()).await;
    assert_eq!(status, 403);
    assert!(text.contains("reader") && text.contains("metrics"), "{text}");
    for token in [&scraper, &operator] {
        assert_eq!(metrics(token.reveal()).await.0, 200);
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(http, path).await.0, 200);
    }
    stop(server).await;
    let open = AuthConfig { open_metrics: true, ..tokens.config().auth };
    let server = start(ServerConfig { auth: open, ..ServerConfig::default() }).await;
    assert_eq!(get(server.http_addr().unwrap(), "/metrics").await.0, 200);
    stop(server).await;
}
