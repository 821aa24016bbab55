//! Who may see what: every answer of the API asks here first.

use std::sync::Arc;

use axum::http::request::Parts;

use super::super::access::{Access, Origin, Principal, Refusal, Sight};
use super::super::coordinator::Coordinator;
use super::super::error::Error;
use super::super::http::origin_of;
use crate::engine::StreamName;

/// Who asks.
#[derive(Debug)]
pub(super) struct Caller {
    /// None: nobody is asked, and everybody who reaches the HTTP port sees everything, as `/metrics` does.
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    access: Arc<Access>,
    origin: Origin,
    principal: Result<Principal, Refusal>,
}

impl Caller {
    pub(super) fn of(parts: &Parts, coordinator: &Coordinator) -> Self {
        let asked = coordinator.access().map(|access| {
            let origin = origin_of(&parts.extensions);
            Asked { access: access.clone(), principal: access.principal(&parts.headers, &origin), origin }
        });
        Self { asked }
    }

    /// Whether the caller may see this; it is written down.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn allow(&self, what: Sight<'_>) -> Result<(), Error> {
        let Some(Asked { access, origin, principal }) = &self.asked else { return Ok(()) };
        Ok(access.show(principal.as_ref(), origin, what)?)
    }

    /// Whether the caller may know that the stream is there: lists leave out the others.
    pub(super) fn sees(&self, stream: &StreamName) -> bool {
        self.may(Sight::Stream(stream.as_str()))
    }

    /// Whether the caller may see the stream's rows, without asking for them.
    pub(super) fn may_peek(&self, stream: &StreamName) -> bool {
        self.may(Sight::Rows(stream.as_str()))
    }

    fn may(&self, what: Sight<'_>) -> bool {
        self.asked.as_ref().is_none_or(|asked| asked.principal.as_ref().is_ok_and(|principal| what.is_shown_to(principal)))
    }
}
