//! A Flight server as one writes it with arrow-flight: decode on the way in, a bounded buffer, encode on the way out.

use std::error::Error;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, PollInfo,
    PutResult, SchemaResult, Ticket,
};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::MADE_BYTES_MAX;
use crate::stock::{COLUMNS, MESSAGE_BYTES_MAX, batch};

/// As many as bowstring holds by default.
const BUFFERED_BATCHES_MAX: usize = 64;

/// One stream from one producer to one consumer.
struct Relay {
    appended: Mutex<Option<mpsc::Sender<RecordBatch>>>,
    buffered: Mutex<Option<mpsc::Receiver<RecordBatch>>>,
    /// What is there when reading alone is measured.
    made: Mutex<Arc<Vec<RecordBatch>>>,
}

#[tokio::main]
pub(crate) async fn serve() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    let (appended, buffered) = mpsc::channel(BUFFERED_BATCHES_MAX);
    let relay = Relay { appended: Mutex::new(Some(appended)), buffered: Mutex::new(Some(buffered)), made: Mutex::default() };
    let service = FlightServiceServer::new(relay);
    let service = service.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX);
    let connections = TcpListenerStream::new(listener).inspect_ok(|connection| drop(connection.set_nodelay(true)));
    Ok(Server::builder().add_service(service).serve_with_incoming(connections).await?)
}

fn once_only(what: &str) -> Status {
    Status::failed_precondition(format!("there is one {what}, and it has been here"))
}

fn nothing<T>() -> Result<T, Status> {
    Err(Status::unimplemented("this server appends and reads"))
}

/// Distinct batches of so many rows, at most so many: nothing comes from a cache that a real buffer would not be in.
fn make(asked: &str) -> Result<Vec<RecordBatch>, Status> {
    let mut numbers = asked.split(' ').map(str::parse::<usize>);
    let (Some(Ok(rows)), Some(Ok(batches))) = (numbers.next(), numbers.next()) else {
        return Err(Status::invalid_argument("say rows and batches"));
    };
    let bytes = COLUMNS * 8 * rows.max(1);
    let rows = i64::try_from(rows).map_err(|_| Status::invalid_argument("too many rows"))?;
    let made = (0..batches.clamp(1, (MADE_BYTES_MAX / bytes).max(1))).map(|_| batch(rows));
    made.collect::<Result<_, _>>().map_err(|error| Status::internal(error.to_string()))
}

#[tonic::async_trait]
impl FlightService for Relay {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let mut data = request.into_inner().map_err(FlightError::from).peekable();
        let first = std::pin::Pin::new(&mut data).peek().await;
        let descriptor = first.and_then(|first| first.as_ref().ok()?.flight_descriptor.clone());
        let relayed = descriptor.is_some_and(|descriptor| descriptor.path == ["relay"]);
        let appended = if relayed { Some(self.appended.lock().await.take().ok_or_else(|| once_only("producer"))?) } else { None };
        let mut batches = FlightRecordBatchStream::new_from_flight_data(data);
        while let Some(batch) = batches.try_next().await? {
            if let Some(appended) = &appended {
                appended.send(batch).await.map_err(|_| Status::cancelled("the consumer has gone"))?;
            }
        }
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let ticket = String::from_utf8_lossy(&request.get_ref().ticket).into_owned();
        let batches = if ticket == "relay" {
            let buffered = self.buffered.lock().await.take().ok_or_else(|| once_only("consumer"))?;
            ReceiverStream::new(buffered).boxed()
        } else {
            let count = ticket.parse().map_err(|_| Status::invalid_argument("a ticket is relay, or how many batches"))?;
            let made = self.made.lock().await.clone();
            stream::iter((0..count).map_while(move |number: usize| made.get(number.checked_rem(made.len())?).cloned())).boxed()
        };
        let batches = batches.map(Ok::<_, FlightError>);
        Ok(Response::new(FlightDataEncoderBuilder::new().build(batches).map_err(Status::from).boxed()))
    }

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Result<Response<Self::HandshakeStream>, Status> {
        nothing()
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        nothing()
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        nothing()
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        nothing()
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        nothing()
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        nothing()
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        *self.made.lock().await = Arc::new(make(&String::from_utf8_lossy(&request.get_ref().body))?);
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        nothing()
    }
}
