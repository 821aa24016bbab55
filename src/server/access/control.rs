//! The control service behind its door: each call is allowed before it is made.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::caller::Caller;
use super::permission::Verb;
use super::rpc::Rpc;
use crate::server::control::ControlService;
use crate::server::error::Error;
use crate::server::generated::control_server::Control;
use crate::wire::proto;

/// The control service, for those who may use it.
#[derive(Debug, Clone)]
pub(in crate::server) struct GuardedControl(pub(in crate::server) Arc<ControlService>);

impl GuardedControl {
    /// The caller of a request, who may make it.
    fn allow<Q>(&self, request: &Request<Q>, rpc: Rpc, stream: &str) -> Result<Caller, Status> {
        let coordinator = self.0.coordinator();
        let caller = Caller::of(request.extensions(), coordinator.access());
        let allowed = caller.and_then(|caller| caller.allow(rpc, stream).map(|()| caller));
        allowed.map_err(|refusal| {
            let error = Error::from(refusal);
            coordinator.count_error(error.code());
            error.into()
        })
    }
}

type Answer<T> = Result<Response<T>, Status>;

/// A call of the service that is not here does not compile: the trait asks for all of them.
macro_rules! guard {
    ($($method:ident($request:ident) -> $answer:ident as $rpc:ident;)*) => {
        #[tonic::async_trait]
        impl Control for GuardedControl {
            $(
                async fn $method(&self, request: Request<proto::$request>) -> Answer<proto::$answer> {
                    self.allow(&request, Rpc::$rpc, &request.get_ref().stream)?;
                    Control::$method(&*self.0, request).await
                }
            )*

            async fn list_streams(&self, request: Request<proto::ListStreamsRequest>) -> Answer<proto::ListStreamsResponse> {
                let caller = self.allow(&request, Rpc::ListStreams, "")?;
                let mut answer = Control::list_streams(&*self.0, request).await?;
                answer.get_mut().streams.retain(|stream| caller.sees(&stream.stream));
                Ok(answer)
            }

            async fn get_stats(&self, request: Request<proto::GetStatsRequest>) -> Answer<proto::GetStatsResponse> {
                let caller = self.allow(&request, Rpc::GetStats, &request.get_ref().stream)?;
                let mut answer = Control::get_stats(&*self.0, request).await?;
                let seen = |stats: &proto::StreamStats| stats.description.as_ref().is_some_and(|stream| caller.sees(&stream.stream));
                answer.get_mut().streams.retain(seen);
                Ok(answer)
            }

            async fn subscribe(&self, request: Request<proto::SubscribeRequest>) -> Answer<proto::SubscriptionDescription> {
                let caller = self.allow(&request, Rpc::Subscribe, &request.get_ref().stream)?;
                let letters = request.get_ref().sharing.as_ref().map_or("", |sharing| &sharing.dead_letters);
                // The coordinator appends there for whoever names it. The stream of its own name is the subscription's.
                if !letters.is_empty() && *letters != format!("{}.dead-letters", request.get_ref().stream) {
                    caller.allow_besides(Rpc::Subscribe, Verb::Append, letters).map_err(Error::from)?;
                }
                Control::subscribe(&*self.0, request).await
            }

            async fn describe_server(&self, request: Request<proto::DescribeServerRequest>) -> Answer<proto::ServerDescription> {
                Control::describe_server(&*self.0, request).await
            }
        }
    };
}

guard! {
    create_stream(CreateStreamRequest) -> StreamDescription as CreateStream;
    describe_stream(DescribeStreamRequest) -> StreamDescription as DescribeStream;
    delete_stream(DeleteStreamRequest) -> DeleteStreamResponse as DeleteStream;
    complete_stream(CompleteStreamRequest) -> CompleteStreamResponse as CompleteStream;
    fail_stream(FailStreamRequest) -> FailStreamResponse as FailStream;
    open_epoch(OpenEpochRequest) -> EpochResponse as OpenEpoch;
    commit_epoch(CommitEpochRequest) -> EpochResponse as CommitEpoch;
    abort_epoch(AbortEpochRequest) -> EpochResponse as AbortEpoch;
    keep_producer(KeepProducerRequest) -> KeepProducerResponse as KeepProducer;
    unsubscribe(UnsubscribeRequest) -> UnsubscribeResponse as Unsubscribe;
    ack(AckRequest) -> AckResponse as Ack;
    plan(PlanRequest) -> PlanResponse as Plan;
    seek(SeekRequest) -> SeekResponse as Seek;
    keep_consumer(KeepConsumerRequest) -> KeepConsumerResponse as KeepConsumer;
    give_back(GiveBackRequest) -> GiveBackResponse as GiveBack;
    update_leases(UpdateLeasesRequest) -> UpdateLeasesResponse as UpdateLeases;
    locate(LocateRequest) -> LocateResponse as Locate;
}
