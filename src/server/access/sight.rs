//! What the console shows, and to whom.

use super::{Access, Origin, Principal, Refusal, Verb};

/// What somebody wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Sight<'a> {
    /// How the coordinator does, and those streams that one may see: whoever may anything may.
    Coordinator,
    /// That a stream is there, how it does, and who uses it: whoever may do anything with it may.
    Stream(&'a str),
    /// A stream's rows.
    Rows(&'a str),
    /// What is of all streams together, and the configuration: as `/metrics`.
    Everything,
}

impl Sight<'_> {
    /// Whether it is for the principal's eyes.
    pub(in crate::server) fn is_shown_to(self, principal: &Principal) -> bool {
        let permissions = principal.permissions();
        match self {
            Self::Coordinator => !permissions.is_empty(),
            Self::Stream(stream) => permissions.see(stream),
            Self::Rows(stream) => permissions.allow(Verb::Peek, stream),
            Self::Everything => permissions.allow_everywhere(Verb::Metrics),
        }
    }

    /// The verb that would let it, and the stream of that.
    fn needs(&self) -> (Verb, &str) {
        match self {
            Self::Coordinator => (Verb::Peek, "*"),
            Self::Stream(stream) | Self::Rows(stream) => (Verb::Peek, stream),
            Self::Everything => (Verb::Metrics, "*"),
        }
    }
}

impl Access {
    /// Whether somebody may see this, in the console; it is written down.
    ///
    /// # Errors
    /// `unauthenticated`, as `principal` says; `permission_denied`.
    pub(in crate::server) fn show(&self, principal: Result<&Principal, &Refusal>, origin: &Origin, what: Sight<'_>) -> Result<(), Refusal> {
        let (verb, stream) = what.needs();
        let decided = principal
            .map_err(Clone::clone)
            .and_then(|principal| if what.is_shown_to(principal) { Ok(()) } else { Err(Refusal::denied(principal, verb, stream)) });
        self.note(principal.ok(), &origin.peer, "console", Some(verb), stream, decided.as_ref().err());
        decided
    }
}
