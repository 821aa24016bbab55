//! The door: each call of the data and control plane is asked here who it is.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::caller::Caller;
use super::principal::Refusal;
#[cfg(feature = "formats")]
use super::quotas::Seats;
use super::rpc::{Right, Rpc};
use super::{Access, Origin};
use crate::server::connection::Peer;
use crate::server::coordinator::Coordinator;
use crate::server::error::Error;
use crate::server::status::status;

/// Lets a call in with its caller, or answers it at once. Nothing of its body is read before.
pub(in crate::server) async fn admit(State(coordinator): State<Arc<Coordinator>>, mut request: Request, next: Next) -> Response {
    let Some(access) = coordinator.access() else { return next.run(request).await };
    match access.let_in(&request) {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            next.run(request).await
        }
        Err(error) => {
            coordinator.count_error(error.code());
            status(&error).into_http::<Body>()
        }
    }
}

impl Access {
    /// The caller; none where nobody is asked.
    fn let_in(self: &Arc<Self>, request: &Request) -> Result<Option<Caller>, Error> {
        let path = request.uri().path();
        let rpc = Rpc::of_path(path);
        if rpc.is_some_and(|rpc| rpc.right() == Right::Open) {
            return Ok(None);
        }
        let origin = Origin::of(request.extensions());
        let principal = match self.principal(request.headers(), &origin) {
            Ok(principal) => principal,
            Err(refusal) => {
                self.refused(&origin, path, &refusal);
                return Err(refusal.into());
            }
        };
        let usage = self.quotas.usage(&principal);
        if let (Some(usage), Some(peer)) = (&usage, request.extensions().get::<Peer>())
            && let Err(refusal) = peer.seats.take(usage)
        {
            let called = path.rsplit('/').next().unwrap_or_default();
            self.note(Some(&principal), &origin.peer, called, None, "", Some(&refusal));
            return Err(refusal.into());
        }
        match rpc {
            Some(_) => Ok(Some(Caller::new(self.clone(), principal, origin.peer, usage))),
            None => Err(Error::Unimplemented { call: path.to_owned(), instead: "reflection lists what there is" }),
        }
    }

    /// The caller of a request to the HTTP port that does what a call does. `seats` are its connection's.
    ///
    /// # Errors
    /// `unauthenticated`; `too_many` if its connection is one too many.
    #[cfg(feature = "formats")]
    pub(in crate::server) fn caller_http(
        self: &Arc<Self>,
        headers: &http::HeaderMap,
        origin: &Origin,
        seats: Option<&Seats>,
    ) -> Result<Caller, Refusal> {
        let principal = self.principal(headers, origin);
        let seated = principal.as_ref().map_err(Clone::clone).and_then(|principal| {
            let usage = self.quotas.usage(principal);
            if let (Some(usage), Some(seats)) = (&usage, seats) {
                seats.take(usage)?;
            }
            Ok(usage)
        });
        if let Err(refusal) = &seated {
            self.note(principal.as_ref().ok(), &origin.peer, "http", None, "", Some(refusal));
        }
        Ok(Caller::new(self.clone(), principal?, origin.peer.clone(), seated?))
    }

    fn refused(&self, origin: &Origin, path: &str, refusal: &Refusal) {
        let rpc = path.rsplit('/').next().unwrap_or_default();
        self.note(None, &origin.peer, rpc, None, "", Some(refusal));
    }
}
