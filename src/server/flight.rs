//! The Flight service but for its two data calls, which `plane` frames by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::access::Caller;
use super::actions;
use super::cell::StreamCell;
use super::control::ControlService;
use super::coordinator::Coordinator;
use super::error::Error;
use crate::engine::{Offset, PartitionId, PartitionView, StreamState};
use crate::wire::command::{GetCommand, GetTarget, path_target};
use crate::wire::error::WireError;

/// Serves Arrow Flight.
#[derive(Debug, Clone)]
pub(super) struct FlightPlane {
    coordinator: Arc<Coordinator>,
    control: ControlService,
}

type Items<T> = BoxStream<'static, Result<T, Status>>;

impl FlightPlane {
    pub(super) fn new(coordinator: Arc<Coordinator>, control: ControlService) -> Self {
        Self { coordinator, control }
    }

    pub(super) fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    /// Does an action for its caller, who may do it.
    pub(super) async fn act(&self, action: &Action, caller: &Caller) -> Result<Response<Items<arrow_flight::Result>>, Status> {
        let done = actions::run(&self.control, &action.r#type, &action.body, caller).await;
        let body = self.answer(done)?.into_inner();
        Ok(Response::new(futures::stream::iter([Ok(arrow_flight::Result { body })]).boxed()))
    }

    fn answer<T>(&self, result: Result<T, Error>) -> Result<Response<T>, Status> {
        result.map(Response::new).map_err(|error| {
            self.coordinator.count_error(error.code());
            error.into()
        })
    }

    fn not_offered<T>(&self, call: &str, instead: &'static str) -> Result<T, Status> {
        self.coordinator.count_error(crate::engine::Code::Unimplemented);
        Err(Error::Unimplemented { call: call.to_owned(), instead }.into())
    }

    /// What a descriptor asks to read: a path is a snapshot of what is visible now.
    pub(super) fn asked(descriptor: &FlightDescriptor) -> Result<GetTarget, Error> {
        if descriptor.r#type == DescriptorType::Cmd as i32 {
            return Ok(GetTarget::from_json(&descriptor.cmd)?);
        }
        let (stream, partition) = path_target(&descriptor.path)?;
        let command =
            GetCommand { stream: stream.to_string(), partitions: partition.map(|partition| vec![partition.0]), ..GetCommand::default() };
        Ok(GetTarget::from_json(&command.to_ticket())?)
    }

    fn info(&self, descriptor: FlightDescriptor) -> Result<FlightInfo, Error> {
        let target = Self::asked(&descriptor)?;
        let cell = self.coordinator.get(&target.stream)?;
        cell.check_id(target.stream_id)?;
        let endpoints = endpoints(&cell, &target)?;
        Ok(FlightInfo {
            schema: cell.schema().map(|schema| schema.encapsulated()).unwrap_or_default(),
            flight_descriptor: Some(descriptor),
            endpoint: endpoints,
            total_records: rows(&cell, &target).and_then(|rows| i64::try_from(rows).ok()).unwrap_or(-1),
            total_bytes: -1,
            ordered: false,
            ..FlightInfo::default()
        })
    }

    fn schema(&self, descriptor: &FlightDescriptor) -> Result<SchemaResult, Error> {
        let target = Self::asked(descriptor)?;
        let cell = self.coordinator.get(&target.stream)?;
        cell.check_id(target.stream_id)?;
        let missing =
            || Error::InvalidArgument { field: "stream", reason: format!("{} has no schema yet; append a batch first", target.stream) };
        Ok(SchemaResult { schema: cell.schema().ok_or_else(missing)?.encapsulated() })
    }
}

/// How many rows a read gives; unknown while the stream goes on, for a part of a partition, and where some are gone.
fn rows(cell: &StreamCell, target: &GetTarget) -> Option<u64> {
    let view = cell.describe();
    let whole = target.subscription.is_none() && target.start.is_none() && target.end.is_none() && target.batches_max.is_none();
    if view.state == StreamState::Open || !whole {
        return None;
    }
    let asked = |partition: &&PartitionView| target.partitions.as_ref().is_none_or(|asked| asked.contains(&partition.partition));
    let kept = |partition: &PartitionView| (partition.start.0 == 0).then_some(partition.rows_total);
    view.partitions.iter().filter(asked).map(kept).sum()
}

/// One endpoint per partition, each with a ticket of its own; read them from the server that was asked.
fn endpoints(cell: &StreamCell, target: &GetTarget) -> Result<Vec<FlightEndpoint>, Error> {
    if target.leased.is_some() {
        let reason = "leases move while they are read; read by the ticket itself, with DoGet".to_owned();
        return Err(Error::InvalidArgument { field: "consumer_id", reason });
    }
    let all = || (0..cell.options().partitions).map(PartitionId).collect();
    let partitions: Vec<PartitionId> = target.partitions.clone().unwrap_or_else(all);
    let endpoints = partitions.iter().map(|partition| endpoints_of(cell, target, *partition));
    Ok(endpoints.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// One, or where a bounded read comes to batches of several versions of the schema, one for each run of a version: a stock client
/// takes one schema from each.
fn endpoints_of(cell: &StreamCell, target: &GetTarget, partition: PartitionId) -> Result<Vec<FlightEndpoint>, Error> {
    let whole = endpoint(cell, target, partition)?;
    let is_bounded = !target.follow && target.batches_max.is_none() && !target.schema_changes;
    if cell.schema_versions() < 2 || !is_bounded {
        return Ok(vec![whole]);
    }
    let (earliest, visible_end) = cell.range(partition)?;
    let given = |offsets: &Option<BTreeMap<PartitionId, Offset>>| offsets.as_ref().and_then(|offsets| offsets.get(&partition)).copied();
    let start = match (given(&target.start), &target.subscription) {
        (Some(start), _) => start,
        (None, Some(subscription)) => cell.cursor(subscription, partition)?,
        (None, None) => earliest,
    };
    let runs = cell.runs_of_schemas(partition, start, given(&target.end).unwrap_or(visible_end));
    if runs.len() < 2 {
        return Ok(vec![whole]);
    }
    let one = |(start, end): &(Offset, Offset)| {
        let bounds = |offset: Offset| Some(BTreeMap::from([(partition, offset)]));
        endpoint(cell, &GetTarget { start: bounds(*start), end: bounds(*end), ..target.clone() }, partition)
    };
    runs.iter().map(one).collect()
}

fn endpoint(cell: &StreamCell, target: &GetTarget, partition: PartitionId) -> Result<FlightEndpoint, Error> {
    let (earliest, visible_end) = cell.range(partition)?;
    if let Some(subscription) = &target.subscription {
        cell.cursor(subscription, partition)?;
    }
    let one = |offset: u64| Some(BTreeMap::from([(partition.0, offset)]));
    let given = |offsets: &Option<BTreeMap<PartitionId, Offset>>| {
        offsets.as_ref().and_then(|offsets| offsets.get(&partition)).map(|offset| offset.0)
    };
    let start = given(&target.start).or_else(|| target.subscription.is_none().then_some(earliest.0));
    let end = given(&target.end).or_else(|| (!target.follow).then_some(visible_end.0));
    let ticket = GetCommand {
        consumer_id: None,
        got: Vec::new(),
        stream: target.stream.to_string(),
        follow: target.follow,
        partitions: Some(vec![partition.0]),
        subscription: target.subscription.as_ref().map(ToString::to_string),
        generation: target.generation.map(|generation| generation.0),
        start: start.and_then(one),
        end: end.and_then(one),
        stream_id: Some(cell.id().0),
        batches_max: target.batches_max,
        by_epoch: target.by_epoch,
        consumer: target.consumer.as_ref().map(ToString::to_string),
        // The link is of who asks; who reads may be another.
        link: None,
        schema_changes: target.schema_changes,
    };
    Ok(FlightEndpoint { ticket: Some(Ticket { ticket: ticket.to_ticket() }), ..FlightEndpoint::default() })
}

#[tonic::async_trait]
impl FlightService for FlightPlane {
    type HandshakeStream = Items<HandshakeResponse>;
    type ListFlightsStream = Items<FlightInfo>;
    type DoGetStream = Items<FlightData>;
    type DoPutStream = Items<PutResult>;
    type DoExchangeStream = Items<FlightData>;
    type DoActionStream = Items<arrow_flight::Result>;
    type ListActionsStream = Items<ActionType>;

    async fn handshake(&self, _request: Request<Streaming<HandshakeRequest>>) -> Result<Response<Self::HandshakeStream>, Status> {
        self.not_offered("Handshake", "no authentication is needed, call without it")
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        let prefix = request.into_inner().expression;
        let cells = self.coordinator.list().into_iter().filter(|cell| cell.name().as_str().as_bytes().starts_with(&prefix));
        let infos: Vec<_> =
            cells.map(|cell| self.info(FlightDescriptor::new_path(vec![cell.name().to_string()])).map_err(Status::from)).collect();
        Ok(Response::new(futures::stream::iter(infos).boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.answer(self.info(request.into_inner()))
    }

    async fn poll_flight_info(&self, _request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        self.not_offered("PollFlightInfo", "GetFlightInfo answers at once, use it instead")
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        self.answer(self.schema(request.get_ref()))
    }

    async fn do_get(&self, _request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        self.not_offered("DoGet on this path", "it is served by the data plane")
    }

    async fn do_put(&self, _request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        self.not_offered("DoPut on this path", "it is served by the data plane")
    }

    async fn do_exchange(&self, _request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        self.not_offered("DoExchange", "read with DoGet and ack with the action ack")
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let caller = self.answer(Caller::of(request.extensions(), self.coordinator.access()).map_err(Error::from))?.into_inner();
        self.act(request.get_ref(), &caller).await
    }

    async fn list_actions(&self, _request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        let actions = actions::ALL
            .iter()
            .map(|(name, description)| Ok(ActionType { r#type: (*name).to_owned(), description: (*description).to_owned() }));
        Ok(Response::new(futures::stream::iter(actions.collect::<Vec<_>>()).boxed()))
    }
}

impl From<WireError> for Status {
    fn from(error: WireError) -> Self {
        Error::from(error).into()
    }
}
