//! A request's body: bounded in size, time and memory.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::answer::Refused;
use super::room::Claim;
use crate::engine::Code;

/// Largest body.
pub(super) const BYTES_MAX: usize = 16 << 20;
/// How long a body may take to come: of the largest, 2 Mbit/s.
const TIME: Duration = Duration::from_secs(60);
/// What of a body that is not taken is read all the same, so that its sender gets to the answer before the connection ends.
const UNREAD_BYTES_MAX: usize = 64 << 20;
/// And how long that is tried.
const UNREAD_TIME: Duration = Duration::from_secs(5);

/// Reads the body to its end. The claim is for what it takes.
///
/// # Errors
/// 413 for a larger one, 408 for one that takes too long, 503 where there is no room for it, 400 if it breaks off.
pub(super) async fn read(headers: &HeaderMap, body: &mut Body, claim: &mut Claim) -> Result<Bytes, Refused> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > BYTES_MAX as u64) {
        return Err(too_large());
    }
    match timeout(TIME, all(body, claim)).await {
        Ok(read) => read,
        Err(_) => {
            let text = format!("the body did not come within {} s; nothing of it was taken, send less at a time", TIME.as_secs());
            Err(Refused::new(StatusCode::REQUEST_TIMEOUT, Code::Timeout, text))
        }
    }
}

async fn all(body: &mut Body, claim: &mut Claim) -> Result<Bytes, Refused> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let broken = |error| Refused::bad(format!("the body broke off: {error}; nothing of it was taken"));
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if whole.len() + data.len() > BYTES_MAX {
            return Err(too_large());
        }
        // It grows by doubling.
        claim.resize((whole.capacity().max(whole.len() + data.len()) * 2) as u64)?;
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

fn too_large() -> Refused {
    Refused::too_large(format!(
        "the body has more than {BYTES_MAX} bytes, which is the most that is taken; send the rows in several requests"
    ))
}

/// Reads what a refused request goes on to send, and forgets it. A client that asked before it sends has sent nothing.
pub(super) async fn skip(headers: &HeaderMap, body: &mut Body) {
    if headers.contains_key(header::EXPECT) {
        return;
    }
    let rest = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > UNREAD_BYTES_MAX {
                return;
            }
        }
    };
    // Whoever takes longer may miss the answer.
    drop(timeout(UNREAD_TIME, rest).await);
}
