//! The services of a server, as a function of requests.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use arrow_flight::flight_service_server::FlightServiceServer;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use parking_lot::Mutex;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::util::{MapRequestLayer, MapResponseLayer};
use tower::{Service, ServiceExt};

use super::access::{GuardedControl, GuardedFlight, admit};
use super::connection::Peer;
use super::control::ControlService;
use super::coordinator::Coordinator;
use super::flight::FlightPlane;
use super::generated;
use super::generated::control_server::ControlServer;
use super::plane::Plane;
use super::status::name_refusal;

/// The services that gRPC health knows; the empty name stands for all.
const HEALTHY: [&str; 3] =
    ["", <ControlServer<ControlService> as NamedService>::NAME, <FlightServiceServer<FlightPlane> as NamedService>::NAME];

/// What a server serves, for clients in its own process: a call goes by no socket. Once the server has ended calls fail, those
/// under way too, and nothing of it is held.
#[derive(Debug, Clone)]
pub struct LocalService(Arc<Mutex<State>>);

/// Answers are swept when they have doubled, from this number on: not all of them at each call.
const SWEEP_AT_MIN: usize = 64;

#[derive(Debug)]
struct State {
    /// None: the server has ended.
    routes: Option<Routes>,
    answers: Vec<Weak<Mutex<Answer>>>,
    /// So many answers are worth a look at which of them are over.
    sweep_at: usize,
}

/// The body of an answer, which a caller that stands still would hold for ever, with all that it is made from.
#[derive(Debug)]
struct Answer {
    /// None: the server has ended.
    body: Option<Body>,
    waker: Option<Waker>,
}

impl LocalService {
    pub(super) fn new(routes: Routes) -> Self {
        Self(Arc::new(Mutex::new(State { routes: Some(routes), answers: Vec::new(), sweep_at: SWEEP_AT_MIN })))
    }

    /// Whether it is the same server's.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn end(&self) {
        let mut state = self.0.lock();
        let (routes, answers) = (state.routes.take(), std::mem::take(&mut state.answers));
        drop(state);
        drop(routes);
        for answer in answers.iter().filter_map(Weak::upgrade) {
            let mut answer = answer.lock();
            let (body, waker) = (answer.body.take(), answer.waker.take());
            drop(answer);
            drop(body);
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// Makes the answer one that ends with the server.
    fn bind(&self, body: Body) -> Result<Body, Ended> {
        let answer = Arc::new(Mutex::new(Answer { body: Some(body), waker: None }));
        let mut state = self.0.lock();
        if state.routes.is_none() {
            return Err(Ended);
        }
        if state.answers.len() >= state.sweep_at {
            state.answers.retain(|answer| answer.strong_count() > 0);
            state.sweep_at = SWEEP_AT_MIN.max(2 * state.answers.len());
        }
        state.answers.push(Arc::downgrade(&answer));
        drop(state);
        Ok(Body::new(BoundBody(answer)))
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
        let (service, routes) = (self.clone(), self.0.lock().routes.clone());
        Box::pin(async move {
            let answered = routes.ok_or(Ended)?.oneshot(request).await;
            let (parts, body) = answered.map_err(|never| match never {})?.into_parts();
            Ok(Response::from_parts(parts, service.bind(body)?))
        })
    }
}

/// See [`Answer`].
#[derive(Debug)]
struct BoundBody(Arc<Mutex<Answer>>);

impl HttpBody for BoundBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut answer = self.0.lock();
        let Some(body) = &mut answer.body else {
            return Poll::Ready(Some(Err(Status::unavailable(Ended.to_string()))));
        };
        let frame = Pin::new(body).poll_frame(context);
        if frame.is_pending() {
            answer.waker = Some(context.waker().clone());
        }
        frame
    }
}

/// The server in this process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator in this process has ended")]
pub struct Ended;

/// Flight, control, health and reflection.
pub(super) async fn services(coordinator: &Arc<Coordinator>, control: ControlService) -> (Routes, HealthReporter) {
    let flight = FlightServiceServer::new(GuardedFlight(FlightPlane::new(coordinator.clone(), control.clone())));
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
        .add_service(ControlServer::new(GuardedControl(Arc::new(control))))
        .add_service(health_service)
        .add_service(reflection);
    let refusals = coordinator.clone();
    let name_refusals = MapResponseLayer::new(move |mut response: axum::response::Response| {
        if let Some(code) = name_refusal(response.headers_mut()) {
            refusals.count_error(code);
        }
        response
    });
    let mut router = routes.into_axum_router();
    if coordinator.access().is_some() {
        router = router.layer(axum::middleware::from_fn_with_state(coordinator.clone(), admit));
    }
    let callers = MapRequestLayer::new(|request: axum::extract::Request| {
        if let Some(peer) = request.extensions().get::<Peer>() {
            peer.calls();
        }
        request
    });
    (Routes::from(router.layer(name_refusals).layer(callers)), health)
}

/// Tells those who watch, and ends their calls: a shutdown waits for every call that is open.
pub(super) async fn end_health(mut health: HealthReporter) {
    for service in HEALTHY {
        health.set_service_status(service, ServingStatus::NotServing).await;
        health.clear_service_status(service).await;
    }
}
