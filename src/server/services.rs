//! The services of a server, as a function of requests.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_flight::flight_service_server::FlightServiceServer;
use http::{Request, Response};
use parking_lot::RwLock;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::{Service, ServiceExt};

use super::control::ControlService;
use super::coordinator::Coordinator;
use super::flight::FlightPlane;
use super::generated;
use super::generated::control_server::ControlServer;
use super::plane::Plane;

/// The services that gRPC health knows; the empty name stands for all.
const HEALTHY: [&str; 3] =
    ["", <ControlServer<ControlService> as NamedService>::NAME, <FlightServiceServer<FlightPlane> as NamedService>::NAME];

/// What a server serves, for clients in its own process: a call goes by no socket. Once the server has ended calls fail, and
/// nothing of it is held.
#[derive(Debug, Clone)]
pub struct LocalService(Arc<RwLock<Option<Routes>>>);

impl LocalService {
    pub(super) fn new(routes: Routes) -> Self {
        Self(Arc::new(RwLock::new(Some(routes))))
    }

    pub(super) fn end(&self) {
        let routes = self.0.write().take();
        drop(routes);
    }
}

impl Service<Request<Body>> for LocalService {
    type Response = Response<Body>;
    type Error = Ended;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Ended>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let routes = self.0.read().clone();
        Box::pin(async move {
            let answered = routes.ok_or(Ended)?.oneshot(request).await;
            answered.map_err(|never| match never {})
        })
    }
}

/// The server in this process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator in this process has ended")]
pub struct Ended;

/// Flight, control, health and reflection.
pub(super) async fn services(coordinator: &Arc<Coordinator>, control: ControlService) -> (Routes, HealthReporter) {
    let flight = FlightServiceServer::new(FlightPlane::new(coordinator.clone(), control.clone()));
    let (health, health_service) = tonic_health::server::health_reporter();
    for service in HEALTHY {
        health.set_service_status(service, ServingStatus::Serving).await;
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(generated::DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors are generated together with the code");
    let routes = Routes::new(Plane::new(coordinator.clone(), flight))
        .add_service(ControlServer::new(control))
        .add_service(health_service)
        .add_service(reflection);
    (routes, health)
}

/// Tells those who watch, and ends their calls: a shutdown waits for every call that is open.
pub(super) async fn end_health(mut health: HealthReporter) {
    for service in HEALTHY {
        health.set_service_status(service, ServingStatus::NotServing).await;
        health.clear_service_status(service).await;
    }
}
