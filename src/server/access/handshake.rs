//! Flight's handshake: what stock clients send as a password is the token, and they get it back as their bearer.

use std::sync::Arc;

use arrow_flight::{BasicAuth, HandshakeRequest, HandshakeResponse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderValue, header};
use prost::Message as _;
use tonic::{Request, Response, Status, Streaming};

use super::principal::Refusal;
use super::{Access, Origin};
use crate::server::error::Error;

type Answers = BoxStream<'static, Result<HandshakeResponse, Status>>;

/// The token of a handshake comes in the header authorization (`Basic`, as `authenticate_basic_token` sends it, or `Bearer`), or in
/// the first payload: as `BasicAuth`, or as it is. The name is for people: who calls is told by the token alone.
pub(super) async fn handshake(access: &Arc<Access>, request: Request<Streaming<HandshakeRequest>>) -> Result<Response<Answers>, Error> {
    let origin = Origin::of(request.extensions());
    let from_header = request.metadata().get("authorization").map(|value| of_header(value.as_bytes()));
    let token = match from_header {
        Some(token) => token,
        None => {
            let first =
                request.into_inner().next().await.transpose().map_err(|status| Error::Disconnected { reason: status.to_string() })?;
            first.and_then(|first| of_payload(&first.payload))
        }
    };
    let bearer = token.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
    let shown = match &bearer {
        Some(bearer) => access.principal(&HeaderMap::from_iter([(header::AUTHORIZATION, bearer.clone())]), &origin),
        None => Err(Refusal::Unauthenticated { why: "its handshake has no token" }),
    };
    access.note(shown.as_ref().ok(), &origin.peer, "Handshake", None, "", shown.as_ref().err());
    shown?;
    let Some(mut bearer) = bearer else { return Err(Refusal::Unauthenticated { why: "its handshake has no token" }.into()) };
    let payload = Bytes::copy_from_slice(bearer.as_bytes().strip_prefix(b"Bearer ").unwrap_or_default());
    let answer = HandshakeResponse { protocol_version: 0, payload };
    let mut response = Response::new(futures::stream::iter([Ok(answer)]).boxed());
    bearer.set_sensitive(true);
    // Clients take their bearer from this header.
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, bearer);
    *response.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
    Ok(response)
}

fn of_header(value: &[u8]) -> Option<String> {
    let (scheme, rest) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(_, token)| token.to_owned())
}

fn of_payload(payload: &Bytes) -> Option<String> {
    match BasicAuth::decode(payload.clone()) {
        Ok(auth) if !auth.password.is_empty() => Some(auth.password),
        _ => String::from_utf8(payload.to_vec()).ok().filter(|token| !token.is_empty()),
    }
}
