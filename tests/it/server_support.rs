//! What the server's tests share: a server, callers that hide nothing of what it answers, and batches.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, FlightData, FlightDescriptor, Ticket};
use bowstring::server::{Server, ServerConfig};
use bowstring::wire::metadata::AppendResult;
use bowstring::wire::proto::{CreateStreamRequest, GetStatsRequest, GetStatsResponse, StreamDescription, StreamOptions};
use bytes::Bytes;
use futures::TryStreamExt;
use http_body_util::BodyExt;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tower::ServiceExt;

pub(crate) const DO_PUT: &str = "/arrow.flight.protocol.FlightService/DoPut";
pub(crate) const DO_GET: &str = "/arrow.flight.protocol.FlightService/DoGet";

/// A server on free ports, with HTTP.
pub(crate) async fn start(config: ServerConfig) -> Server {
    let free = ([127, 0, 0, 1], 0).into();
    Server::start(ServerConfig { listen: free, http: Some(free), ..config }).await.expect("starts on free ports")
}

pub(crate) async fn channel(address: impl std::fmt::Display) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).expect("a url").connect().await.expect("the server is there")
}

/// A server with its defaults, and a connection to it.
pub(crate) async fn started() -> (Server, Channel) {
    let server = start(ServerConfig::default()).await;
    let channel = channel(server.listen_addr()).await;
    (server, channel)
}

pub(crate) async fn stop(server: Server) {
    server.shutdown(Duration::from_secs(2)).await;
}

/// Calls a method of the control service.
pub(crate) async fn call<Q, A>(channel: &Channel, method: &str, request: Q) -> Result<A, Status>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.expect("the channel is open");
    let path = format!("/bowstring.v1.Control/{method}").parse().expect("a path");
    Ok(grpc.unary(Request::new(request), path, tonic_prost::ProstCodec::default()).await?.into_inner())
}

pub(crate) async fn create(channel: &Channel, stream: &str, options: StreamOptions) -> StreamDescription {
    let request = CreateStreamRequest { stream: stream.to_owned(), options: Some(options), ..Default::default() };
    call(channel, "CreateStream", request).await.expect("a new stream")
}

pub(crate) async fn stats(channel: &Channel) -> GetStatsResponse {
    call(channel, "GetStats", GetStatsRequest::default()).await.expect("stats")
}

pub(crate) fn flight(channel: &Channel) -> FlightServiceClient<Channel> {
    FlightServiceClient::new(channel.clone()).max_decoding_message_size(usize::MAX)
}

/// Runs an action; its answer as JSON.
pub(crate) async fn act(channel: &Channel, action: &str, body: impl Into<Bytes>) -> Result<serde_json::Value, Status> {
    let action = Action { r#type: action.to_owned(), body: body.into() };
    let answers: Vec<_> = flight(channel).do_action(action).await?.into_inner().try_collect().await?;
    Ok(serde_json::from_slice(&answers[0].body).expect("JSON"))
}

pub(crate) fn numbers(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column = Arc::new(Int64Array::from_iter_values(values)) as ArrayRef;
    RecordBatch::try_from_iter([("n", column)]).expect("one column")
}

/// The Flight messages of a `DoPut`: the schema, then the batches.
pub(crate) fn messages(descriptor: FlightDescriptor, batches: Vec<RecordBatch>) -> Vec<FlightData> {
    let encoder = FlightDataEncoderBuilder::new()
        .with_schema(batches[0].schema())
        .with_flight_descriptor(Some(descriptor))
        .with_dictionary_handling(DictionaryHandling::Resend)
        .with_max_flight_data_size(usize::MAX)
        .build(futures::stream::iter(batches.into_iter().map(Ok)));
    futures::executor::block_on(encoder.try_collect()).expect("encodes")
}

pub(crate) fn path(stream: &str) -> FlightDescriptor {
    FlightDescriptor::new_path(vec![stream.to_owned()])
}

pub(crate) fn command(json: impl std::fmt::Display) -> FlightDescriptor {
    FlightDescriptor::new_cmd(json.to_string())
}

/// Sends messages to their end; everything that the server answers.
pub(crate) async fn send(channel: &Channel, messages: Vec<FlightData>) -> Result<Vec<AppendResult>, Status> {
    let results = flight(channel).do_put(futures::stream::iter(messages)).await?.into_inner();
    let results: Vec<_> = results.try_collect().await?;
    Ok(results.iter().map(|result| AppendResult::from_bytes(&result.app_metadata).expect("a result")).collect())
}

pub(crate) async fn put(channel: &Channel, descriptor: FlightDescriptor, batches: Vec<RecordBatch>) -> Result<Vec<AppendResult>, Status> {
    send(channel, messages(descriptor, batches)).await
}

/// Everything that a ticket gives, to its end.
pub(crate) async fn read(channel: &Channel, ticket: impl std::fmt::Display) -> Result<Vec<RecordBatch>, Status> {
    let data = flight(channel).do_get(Ticket { ticket: ticket.to_string().into() }).await?.into_inner();
    let batches = FlightRecordBatchStream::new_from_flight_data(data.map_err(FlightError::from)).try_collect().await;
    batches.map_err(|error| match error {
        FlightError::Tonic(status) => *status,
        other => panic!("the server's bytes cannot be read: {other}"),
    })
}

/// The code that a refusal carries; its text, if it carries none.
pub(crate) fn code(status: &Status) -> String {
    let code = status.metadata().get("bowstring-code").map(|code| code.to_str().expect("ascii").to_owned());
    code.unwrap_or_else(|| format!("no code: {status}"))
}

/// The code that a call is refused with.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Status>) -> String {
    code(&result.expect_err("it is to be refused"))
}

/// Sends bytes as a call's request, whatever they are; the code that ends the answer, `ok` without one.
pub(crate) async fn raw(channel: &Channel, path: &str, request: impl IntoIterator<Item = Bytes>) -> String {
    let chunks: Vec<_> = request.into_iter().map(|chunk| Ok::<_, Status>(http_body::Frame::data(chunk))).collect();
    let body = tonic::body::Body::new(http_body_util::StreamBody::new(futures::stream::iter(chunks)));
    let request = http::Request::post(path).header("content-type", "application/grpc").header("te", "trailers").body(body);
    let (head, body) = channel.clone().oneshot(request.expect("a request")).await.expect("an answer").into_parts();
    let mut ends = head.headers;
    ends.extend(body.collect().await.expect("an end").trailers().cloned().unwrap_or_default());
    let text = |name: &str| ends.get(name).map(|value| value.to_str().expect("ascii").to_owned());
    match text("grpc-status").as_deref() {
        Some("0") => "ok".to_owned(),
        _ => text("bowstring-code").unwrap_or_else(|| format!("no code: {ends:?}")),
    }
}

/// Asks until it is so; a test that asks in vain fails instead of hanging.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !tokio::time::timeout_at(deadline, is_so()).await.expect("does not hang") {
        assert!(tokio::time::Instant::now() < deadline, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for what must end, rather than to hang.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("does not hang")
}
