//! The services of a server, as a function of requests.

use std::convert::Infallible;
use std::sync::Arc;

use arrow_flight::flight_service_server::FlightServiceServer;
use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::util::BoxCloneSyncService;

use super::control::ControlService;
use super::coordinator::Coordinator;
use super::flight::FlightPlane;
use super::generated;
use super::generated::control_server::ControlServer;
use super::plane::Plane;

/// The services that gRPC health knows; the empty name stands for all.
const HEALTHY: [&str; 3] =
    ["", <ControlServer<ControlService> as NamedService>::NAME, <FlightServiceServer<FlightPlane> as NamedService>::NAME];

/// What a server serves, for clients in its own process: a call goes by no socket.
pub type LocalService = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

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
