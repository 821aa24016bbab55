//! What a request asks for: its headers, where it comes from, and the parameters of its query.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use url::form_urlencoded;

use super::super::error::Error;
use super::Console;
use super::access::Caller;
use crate::engine::StreamName;

/// A request of the API.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) caller: Caller,
    /// The last one of each name counts.
    parameters: BTreeMap<String, String>,
}

impl FromRequestParts<Arc<Console>> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, console: &Arc<Console>) -> Result<Self, Infallible> {
        let query = parts.uri.query().unwrap_or_default();
        let parameters = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Ok(Self { caller: Caller::of(parts, &console.coordinator), parameters })
    }
}

impl Query {
    /// The stream that is named.
    ///
    /// # Errors
    /// `invalid_argument` if none is.
    pub(super) fn stream(&self) -> Result<StreamName, Error> {
        match self.text("name") {
            Some(name) => Ok(StreamName::new(name)?),
            None => Err(Error::InvalidArgument { field: "name", reason: "it is not there; add name=STREAM, percent-encoded".to_owned() }),
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// A number of at most `most`; none if it is not there.
    ///
    /// # Errors
    /// `invalid_argument` if it is anything else.
    pub(super) fn number(&self, name: &'static str, most: u64) -> Result<Option<u64>, Error> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) if number <= most => Ok(Some(number)),
            _ => Err(Error::InvalidArgument { field: name, reason: format!("it is {text:?}; use a number of 0 to {most}") }),
        }
    }
}
