//! The Flight service behind its door, but for `DoPut` and `DoGet`, which `plane` lets in.

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, PollInfo,
    PutResult, SchemaResult, Ticket,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::Extensions;
use tonic::{Request, Response, Status, Streaming};

use super::caller::Caller;
use super::handshake::handshake;
use super::rpc::{Rpc, of_action};
use crate::server::actions;
use crate::server::error::Error;
use crate::server::flight::FlightPlane;

/// The Flight service, for those who may use it.
#[derive(Debug, Clone)]
pub(in crate::server) struct GuardedFlight(pub(in crate::server) FlightPlane);

type Items<T> = BoxStream<'static, Result<T, Status>>;

impl GuardedFlight {
    fn count<T>(&self, result: Result<T, Error>) -> Result<T, Status> {
        result.map_err(|error| {
            self.0.coordinator().count_error(error.code());
            error.into()
        })
    }

    fn allow(&self, extensions: &Extensions, rpc: Rpc, stream: &str) -> Result<Caller, Error> {
        let caller = Caller::of(extensions, self.0.coordinator().access())?;
        caller.allow(rpc, stream)?;
        Ok(caller)
    }

    fn allow_descriptor(&self, request: &Request<FlightDescriptor>, rpc: Rpc) -> Result<(), Status> {
        let asked = FlightPlane::asked(request.get_ref());
        self.count(asked.and_then(|target| self.allow(request.extensions(), rpc, target.stream.as_str())).map(drop))
    }

    /// The streams of `stats` without one are left to the caller's eyes.
    fn allow_action(&self, request: &Request<Action>) -> Result<Caller, Error> {
        let action = request.get_ref();
        // Actions that are not in the table are refused as those that do not exist.
        let Some(rpc) = of_action(&action.r#type) else { return self.allow(request.extensions(), Rpc::DoAction, "") };
        let stream = actions::whose(&action.body);
        let stream = match stream {
            Some(stream) if !stream.is_empty() => stream,
            _ if rpc == Rpc::GetStats => String::new(),
            _ => {
                return Err(Error::InvalidArgument {
                    field: "body",
                    reason: "it names no stream; ListActions says what each action takes".to_owned(),
                });
            }
        };
        self.allow(request.extensions(), rpc, &stream)
    }
}

#[tonic::async_trait]
impl FlightService for GuardedFlight {
    type HandshakeStream = Items<HandshakeResponse>;
    type ListFlightsStream = Items<FlightInfo>;
    type DoGetStream = Items<FlightData>;
    type DoPutStream = Items<PutResult>;
    type DoExchangeStream = Items<FlightData>;
    type DoActionStream = Items<arrow_flight::Result>;
    type ListActionsStream = Items<ActionType>;

    async fn handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Result<Response<Self::HandshakeStream>, Status> {
        match self.0.coordinator().access() {
            Some(access) => {
                let answer = handshake(access, request).await;
                self.count(answer)
            }
            None => self.0.handshake(request).await,
        }
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        let caller = self.count(self.allow(request.extensions(), Rpc::ListFlights, ""))?;
        let infos = self.0.list_flights(request).await?.into_inner();
        let seen = move |info: &Result<FlightInfo, Status>| {
            let path = info.as_ref().ok().and_then(|info| info.flight_descriptor.as_ref()?.path.first());
            std::future::ready(path.is_some_and(|stream| caller.sees(stream)))
        };
        Ok(Response::new(infos.filter(seen).boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.allow_descriptor(&request, Rpc::GetFlightInfo)?;
        self.0.get_flight_info(request).await
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        self.count(self.allow(request.extensions(), Rpc::PollFlightInfo, ""))?;
        self.0.poll_flight_info(request).await
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        self.allow_descriptor(&request, Rpc::GetSchema)?;
        self.0.get_schema(request).await
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        self.0.do_get(request).await
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        self.0.do_put(request).await
    }

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        self.count(self.allow(request.extensions(), Rpc::DoExchange, ""))?;
        self.0.do_exchange(request).await
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let caller = self.count(self.allow_action(&request))?;
        self.0.act(request.get_ref(), &caller).await
    }

    async fn list_actions(&self, request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        self.count(self.allow(request.extensions(), Rpc::ListActions, ""))?;
        self.0.list_actions(request).await
    }
}
