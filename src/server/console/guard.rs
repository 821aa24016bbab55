//! What every request of the console passes: who is meant by it, and what browsers may do with the answer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::{Console, answer};

/// Nothing but what this server itself serves, no script or style within the page, nobody's frame, and no way to make markup of text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Refuses requests that mean another host, and adds the headers to what is answered.
pub(super) async fn guard(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    let mut answer = match is_meant(request.headers(), console.address) {
        true => next.run(request).await,
        false => answer::refusal(
            StatusCode::MISDIRECTED_REQUEST,
            "invalid_argument",
            "the console listens on this machine alone and answers to localhost and its addresses; open it by one of them, or have it listen on another address (--http)",
        ),
    };
    for (name, value) in HEADERS {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// A server on the loopback is reached by browsers of this machine alone. A page from elsewhere whose name somebody has pointed here
/// (DNS rebinding) says that name in `Host`.
pub(in crate::server) fn is_meant(headers: &HeaderMap, address: SocketAddr) -> bool {
    if !address.ip().is_loopback() {
        return true;
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn on_the_loopback_only_names_of_the_loopback_are_meant() {
        let meant = |address: &str, host: Option<&str>| {
            let host = host.map(|host| (header::HOST, HeaderValue::from_str(host).unwrap()));
            is_meant(&host.into_iter().collect(), address.parse().unwrap())
        };
        for host in ["localhost", "LOCALHOST:8816", "127.0.0.1:8816", "127.9.9.9", "[::1]:8816", "[::1]", "localhost:1"] {
            assert!(meant("127.0.0.1:8816", Some(host)), "{host}");
        }
        for host in
            ["bowstring.example", "evil.example:8816", "localhost.evil.example", "10.0.0.1:8816", "", "127.0.0.1.evil.example", "[::2]"]
        {
            assert!(!meant("127.0.0.1:8816", Some(host)), "{host}");
        }
        assert!(!meant("[::1]:8816", None));
        assert!(meant("0.0.0.0:8816", Some("bowstring.example")) && meant("10.0.0.1:8816", None));
    }
}
