//! The control service of `proto/`: one short function per call.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::SpanContext;
use tonic::{Request, Response, Status};

use super::access::Caller;
use super::cell::StreamCell;
use super::convert;
use super::coordinator::Coordinator;
use super::error::Error;
use super::generated::control_server::Control;
use super::queries;
use super::sharing;
use super::trace::{self, Ending};
use crate::engine::{Command, Epoch, Generation, ProducerId, RunId, Start, StreamId, StreamName, SubscriptionName};
use crate::wire::schema::StreamSchema;
use crate::wire::{self, proto};

/// Longest lease of a producer: a sign of life once an hour is hardly one.
pub(super) const LEASE_MAX: Duration = Duration::from_secs(3600);

/// Serves `bowstring.v1.Control`, and the same verbs as Flight actions.
#[derive(Debug, Clone)]
pub(super) struct ControlService {
    coordinator: Arc<Coordinator>,
    /// What `DescribeServer` answers: it stays as it is while the server runs.
    server: proto::ServerDescription,
}

impl ControlService {
    pub(super) fn new(coordinator: Arc<Coordinator>, server: proto::ServerDescription) -> Self {
        Self { coordinator, server }
    }

    pub(super) fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    pub(super) fn cell(&self, stream: &str) -> Result<Arc<StreamCell>, Error> {
        self.coordinator.get(&StreamName::new(stream)?)
    }

    /// Waits until what was done to a stream is durable: an answer, also a refusal, tells of it.
    pub(super) async fn durable(&self, stream: &str) -> Result<(), Error> {
        match self.cell(stream) {
            Ok(cell) => cell.durable().await,
            // It was deleted meanwhile.
            Err(_) => Ok(()),
        }
    }

    /// The same for what tells of subscriptions alone.
    async fn answer_of_subscriptions<T>(&self, stream: &str, result: Result<T, Error>) -> Result<Response<T>, Status> {
        let durable = self.durable_subscriptions(stream).await;
        self.answer(result.and_then(|answer| durable.map(|()| answer)))
    }

    /// Waits until what was done to a stream's subscriptions is durable.
    pub(super) async fn durable_subscriptions(&self, stream: &str) -> Result<(), Error> {
        match self.cell(stream) {
            Ok(cell) => cell.durable_subscriptions().await,
            Err(_) => Ok(()),
        }
    }

    async fn answer_durably<T>(&self, stream: &str, result: Result<T, Error>) -> Result<Response<T>, Status> {
        let durable = self.durable(stream).await;
        self.answer(result.and_then(|answer| durable.map(|()| answer)))
    }

    /// What a call's caller works at, if epochs are traced.
    fn traced_caller<T>(&self, request: &Request<T>) -> Option<SpanContext> {
        self.coordinator.tracer().and_then(|_| trace::of_caller(request.metadata()))
    }

    /// What is acked may be the last of what was delivered.
    pub(super) fn acked(&self, cell: &StreamCell, subscription: &SubscriptionName) {
        self.coordinator.tracer().into_iter().for_each(|tracer| tracer.acked(cell, subscription));
    }

    /// Counts the error of a call that failed, and makes its status.
    fn answer<T>(&self, result: Result<T, Error>) -> Result<Response<T>, Status> {
        result.map(Response::new).map_err(|error| {
            self.coordinator.count_error(error.code());
            error.into()
        })
    }

    pub(super) fn create(&self, request: &proto::CreateStreamRequest, caller: &Caller) -> Result<proto::StreamDescription, Error> {
        let name = StreamName::new(&request.stream)?;
        let options = convert::stream_options(request.options.as_ref(), &self.coordinator.options().stream_defaults);
        let schema = if request.schema.is_empty() { None } else { Some(StreamSchema::parse(request.schema.clone())?) };
        let cell = self.coordinator.create_for(caller.usage(), &name, options, schema.as_ref(), request.if_not_exists)?;
        Ok(convert::description(&cell))
    }

    /// Without the schemas of queries' answers.
    pub(super) fn describe(&self, stream: &str) -> Result<proto::StreamDescription, Error> {
        Ok(convert::description(&*self.cell(stream)?))
    }

    /// Adds the schemas of queries' answers.
    async fn describe_queries(&self, stream: &mut proto::StreamDescription) {
        // If it was not deleted meanwhile.
        if let Ok(cell) = self.cell(&stream.stream) {
            queries::describe(&self.coordinator, &cell, &mut stream.subscriptions).await;
        }
    }

    /// Gives what has to be durable before anybody is told.
    pub(super) fn delete(&self, stream: &str) -> Result<Arc<StreamCell>, Error> {
        self.coordinator.delete(&StreamName::new(stream)?)
    }

    pub(super) fn complete(&self, stream: &str) -> Result<(), Error> {
        self.cell(stream)?.apply(Command::Complete)?;
        tracing::info!(stream, "a stream was completed");
        Ok(())
    }

    pub(super) fn fail(&self, stream: &str, reason: &str) -> Result<(), Error> {
        self.cell(stream)?.apply(Command::Fail { reason: reason.into() })?;
        tracing::info!(stream, reason, "a stream was failed");
        Ok(())
    }

    pub(super) fn open(&self, request: &proto::OpenEpochRequest) -> Result<proto::EpochResponse, Error> {
        self.coordinator.check_running()?;
        let cell = self.cell(&request.stream)?;
        let (producer, run) = producer(&request.producer, &request.run)?;
        let outcome = cell.apply(Command::OpenEpoch { producer, run, epoch: Epoch(request.epoch) })?;
        convert::epoch_response(&cell, &outcome)
    }

    pub(super) fn commit(&self, request: &proto::CommitEpochRequest, caller: Option<SpanContext>) -> Result<proto::EpochResponse, Error> {
        let cell = self.cell(&request.stream)?;
        let (producer, run) = producer(&request.producer, &request.run)?;
        let receipts = convert::receipts(&cell, request.epoch, &request.receipts)?;
        let epoch = Epoch(request.epoch);
        let ending = Ending::begin(self.coordinator.tracer(), "commit", &cell, ((&producer, &run, epoch), &receipts), caller);
        let outcome = cell.commit_epoch(producer, run, epoch, &receipts);
        ending.into_iter().for_each(|ending| ending.end(&outcome));
        let response = convert::epoch_response(&cell, &outcome?)?;
        tracing::debug!(stream = request.stream, producer = request.producer, %epoch, state = response.state().as_str_name(), "a commit");
        Ok(response)
    }

    pub(super) fn abort(&self, request: &proto::AbortEpochRequest, caller: Option<SpanContext>) -> Result<proto::EpochResponse, Error> {
        let cell = self.cell(&request.stream)?;
        let (producer, run) = producer(&request.producer, &request.run)?;
        let epoch = Epoch(request.epoch);
        let ending = Ending::begin(self.coordinator.tracer(), "abort", &cell, ((&producer, &run, epoch), &[]), caller);
        let outcome = cell.apply(Command::AbortEpoch { producer, run, epoch });
        ending.into_iter().for_each(|ending| ending.end(&outcome));
        let response = convert::epoch_response(&cell, &outcome?)?;
        if response.state() == proto::EpochState::Aborted {
            tracing::info!(stream = request.stream, producer = request.producer, %epoch, "an epoch was aborted");
        }
        Ok(response)
    }

    fn keep(&self, request: &proto::KeepProducerRequest) -> Result<(), Error> {
        let cell = self.cell(&request.stream)?;
        let (producer, run) = producer(&request.producer, &request.run)?;
        let lease = Duration::from_millis(request.lease_millis);
        if lease > LEASE_MAX {
            let reason = format!("{} ms is longer than an hour; use a shorter lease and renew it", request.lease_millis);
            return Err(Error::InvalidArgument { field: "lease_millis", reason });
        }
        cell.apply(Command::KeepProducer { producer, run, lease }).map(drop)
    }

    pub(super) async fn subscribe_to(&self, request: &proto::SubscribeRequest) -> Result<proto::SubscriptionDescription, Error> {
        let cell = self.cell(&request.stream)?;
        let subscription = SubscriptionName::new(&request.subscription)?;
        let start = match &request.start_at {
            Some(start) => wire::start::start(start)?,
            None => wire::start::named_start(request.start()),
        };
        let mode = convert::mode(request.mode)?;
        let sharing = sharing::sharing(&cell, request.sharing.as_ref(), mode)?;
        let on_overflow = wire::overflow::on_overflow(request.on_overflow());
        let query = queries::asked(&self.coordinator, &cell, &subscription, &request.query, sharing.as_ref()).await?;
        cell.apply(Command::Subscribe { subscription: subscription.clone(), start, mode, on_overflow, sharing, query })?;
        tracing::debug!(stream = request.stream, %subscription, "a subscription is there");
        let view = cell.describe().subscriptions.into_iter().find(|view| view.name == subscription);
        let gone = || crate::engine::Error::SubscriptionNotFound { subscription };
        let mut described = convert::subscription(&cell, &view.ok_or_else(gone)?, &cell.consumers());
        queries::describe(&self.coordinator, &cell, std::slice::from_mut(&mut described)).await;
        Ok(described)
    }

    pub(super) fn unsubscribe_from(&self, stream: &str, subscription: &str) -> Result<(), Error> {
        let subscription = SubscriptionName::new(subscription)?;
        self.cell(stream)?.apply(Command::Unsubscribe { subscription: subscription.clone() })?;
        tracing::info!(stream, %subscription, "a subscription was deleted");
        Ok(())
    }

    /// Acks and plans: a command over some offsets of a subscription.
    pub(super) fn move_cursors(&self, request: &proto::AckRequest, command: CursorCommand) -> Result<(), Error> {
        let cell = self.cell(&request.stream)?;
        cell.check_id((request.stream_id != 0).then_some(StreamId(request.stream_id)))?;
        let subscription = SubscriptionName::new(&request.subscription)?;
        let offsets = convert::offsets(&request.offsets);
        let generation = (request.generation != 0).then_some(Generation(request.generation));
        match command {
            CursorCommand::Ack => {
                cell.apply(Command::Ack { subscription: subscription.clone(), generation, offsets })?;
                self.acked(&cell, &subscription);
                Ok(())
            }
            CursorCommand::Plan => cell.apply(Command::Plan { subscription, offsets }).map(drop),
        }
    }

    pub(super) fn seek_to(&self, request: &proto::SeekRequest) -> Result<proto::SeekResponse, Error> {
        let cell = self.cell(&request.stream)?;
        cell.check_id((request.stream_id != 0).then_some(StreamId(request.stream_id)))?;
        let to = match &request.start_at {
            Some(start) => wire::start::start(start)?,
            None => Start::Offsets(convert::offsets(&request.offsets).into_iter().collect()),
        };
        let moves = cell.seek(SubscriptionName::new(&request.subscription)?, to, request.dry_run)?;
        if !request.dry_run {
            tracing::info!(stream = request.stream, subscription = request.subscription, "a subscription was moved");
        }
        Ok(proto::SeekResponse { moves: wire::start::move_messages(&moves) })
    }

    pub(super) fn locate_start(&self, request: &proto::LocateRequest) -> Result<proto::LocateResponse, Error> {
        let cell = self.cell(&request.stream)?;
        cell.check_id((request.stream_id != 0).then_some(StreamId(request.stream_id)))?;
        let start = wire::start::start(&request.start_at.clone().unwrap_or_default())?;
        let offsets = (0..).zip(cell.locate(&start)?).map(|(partition, offset)| proto::PartitionOffset { partition, offset: offset.0 });
        Ok(proto::LocateResponse { stream_id: cell.id().0, offsets: offsets.collect() })
    }

    pub(super) fn stats(&self, stream: &str) -> Result<proto::GetStatsResponse, Error> {
        let cells = if stream.is_empty() { self.coordinator.list() } else { vec![self.cell(stream)?] };
        Ok(proto::GetStatsResponse {
            streams: cells.iter().map(|cell| convert::stats(cell)).collect(),
            uptime_micros: u64::try_from(self.coordinator.uptime().as_micros()).unwrap_or(u64::MAX),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            open_connections: self.coordinator.connections().open(),
            open_unix_connections: self.coordinator.connections().open_unix(),
        })
    }
}

/// What [`ControlService::move_cursors`] does.
#[derive(Debug, Clone, Copy)]
pub(super) enum CursorCommand {
    Ack,
    Plan,
}

fn producer(producer: &str, run: &str) -> Result<(ProducerId, RunId), Error> {
    Ok((ProducerId::new(producer)?, RunId::new(run)?))
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Control for ControlService {
    async fn create_stream(&self, request: Request<proto::CreateStreamRequest>) -> Answer<proto::StreamDescription> {
        let caller = Caller::of(request.extensions(), self.coordinator.access()).map_err(Error::from)?;
        let request = request.get_ref();
        let mut created = self.create(request, &caller);
        if let Ok(stream) = &mut created {
            self.describe_queries(stream).await;
        }
        self.answer_durably(&request.stream, created).await
    }

    async fn describe_stream(&self, request: Request<proto::DescribeStreamRequest>) -> Answer<proto::StreamDescription> {
        let mut description = self.describe(&request.get_ref().stream);
        if let Ok(stream) = &mut description {
            self.describe_queries(stream).await;
        }
        self.answer(description)
    }

    async fn list_streams(&self, _request: Request<proto::ListStreamsRequest>) -> Answer<proto::ListStreamsResponse> {
        let mut streams: Vec<_> = self.coordinator.list().iter().map(|cell| convert::description(cell)).collect();
        for stream in &mut streams {
            self.describe_queries(stream).await;
        }
        Ok(Response::new(proto::ListStreamsResponse { streams }))
    }

    async fn delete_stream(&self, request: Request<proto::DeleteStreamRequest>) -> Answer<proto::DeleteStreamResponse> {
        let deleted = match self.delete(&request.get_ref().stream) {
            Ok(cell) => cell.durable().await,
            Err(error) => Err(error),
        };
        self.answer(deleted.map(|()| proto::DeleteStreamResponse {}))
    }

    async fn complete_stream(&self, request: Request<proto::CompleteStreamRequest>) -> Answer<proto::CompleteStreamResponse> {
        let stream = &request.get_ref().stream;
        self.answer_durably(stream, self.complete(stream).map(|()| proto::CompleteStreamResponse {})).await
    }

    async fn fail_stream(&self, request: Request<proto::FailStreamRequest>) -> Answer<proto::FailStreamResponse> {
        let request = request.get_ref();
        self.answer_durably(&request.stream, self.fail(&request.stream, &request.reason).map(|()| proto::FailStreamResponse {})).await
    }

    async fn open_epoch(&self, request: Request<proto::OpenEpochRequest>) -> Answer<proto::EpochResponse> {
        let request = request.get_ref();
        self.answer_durably(&request.stream, self.open(request)).await
    }

    async fn commit_epoch(&self, request: Request<proto::CommitEpochRequest>) -> Answer<proto::EpochResponse> {
        let caller = self.traced_caller(&request);
        let request = request.get_ref();
        self.answer_durably(&request.stream, self.commit(request, caller)).await
    }

    async fn abort_epoch(&self, request: Request<proto::AbortEpochRequest>) -> Answer<proto::EpochResponse> {
        let caller = self.traced_caller(&request);
        let request = request.get_ref();
        self.answer_durably(&request.stream, self.abort(request, caller)).await
    }

    async fn keep_producer(&self, request: Request<proto::KeepProducerRequest>) -> Answer<proto::KeepProducerResponse> {
        let request = request.get_ref();
        self.answer_durably(&request.stream, self.keep(request).map(|()| proto::KeepProducerResponse {})).await
    }

    async fn subscribe(&self, request: Request<proto::SubscribeRequest>) -> Answer<proto::SubscriptionDescription> {
        let request = request.get_ref();
        self.answer_of_subscriptions(&request.stream, self.subscribe_to(request).await).await
    }

    async fn unsubscribe(&self, request: Request<proto::UnsubscribeRequest>) -> Answer<proto::UnsubscribeResponse> {
        let request = request.get_ref();
        let gone = self.unsubscribe_from(&request.stream, &request.subscription);
        self.answer_of_subscriptions(&request.stream, gone.map(|()| proto::UnsubscribeResponse {})).await
    }

    async fn ack(&self, request: Request<proto::AckRequest>) -> Answer<proto::AckResponse> {
        if !request.get_ref().leased.is_empty() {
            return self.answer(self.ack_leased(request.get_ref()));
        }
        self.answer(self.move_cursors(request.get_ref(), CursorCommand::Ack).map(|()| proto::AckResponse::default()))
    }

    async fn plan(&self, request: Request<proto::PlanRequest>) -> Answer<proto::PlanResponse> {
        let proto::PlanRequest { stream, subscription, offsets, stream_id } = request.into_inner();
        let request = proto::AckRequest { stream, subscription, offsets, stream_id, ..proto::AckRequest::default() };
        let planned = self.move_cursors(&request, CursorCommand::Plan);
        self.answer_of_subscriptions(&request.stream, planned.map(|()| proto::PlanResponse {})).await
    }

    async fn seek(&self, request: Request<proto::SeekRequest>) -> Answer<proto::SeekResponse> {
        let request = request.get_ref();
        if request.dry_run {
            return self.answer(self.seek_to(request));
        }
        self.answer_of_subscriptions(&request.stream, self.seek_to(request)).await
    }

    async fn update_leases(&self, request: Request<proto::UpdateLeasesRequest>) -> Answer<proto::UpdateLeasesResponse> {
        self.answer(ControlService::update_leases(self, request.get_ref()))
    }

    async fn keep_consumer(&self, request: Request<proto::KeepConsumerRequest>) -> Answer<proto::KeepConsumerResponse> {
        let kept = ControlService::keep_consumer(self, request.get_ref()).await;
        self.answer(kept)
    }

    async fn give_back(&self, request: Request<proto::GiveBackRequest>) -> Answer<proto::GiveBackResponse> {
        self.answer(ControlService::give_back(self, request.get_ref()))
    }

    async fn locate(&self, request: Request<proto::LocateRequest>) -> Answer<proto::LocateResponse> {
        self.answer(self.locate_start(request.get_ref()))
    }

    async fn get_stats(&self, request: Request<proto::GetStatsRequest>) -> Answer<proto::GetStatsResponse> {
        let mut stats = self.stats(&request.get_ref().stream);
        for stream in stats.iter_mut().flat_map(|stats| &mut stats.streams) {
            if let Some(stream) = &mut stream.description {
                self.describe_queries(stream).await;
            }
        }
        self.answer(stats)
    }

    async fn describe_server(&self, _request: Request<proto::DescribeServerRequest>) -> Answer<proto::ServerDescription> {
        Ok(Response::new(self.server.clone()))
    }
}
