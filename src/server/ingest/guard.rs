//! Web pages: none but this server's own may send rows, whoever's credentials the browser would add.

use std::net::SocketAddr;

use axum::http::{HeaderMap, StatusCode, header};

use super::answer::Refused;
use crate::engine::Code;
use crate::server::console::is_meant;

/// Refuses what a page from elsewhere sends, also one whose name somebody has pointed at the loopback. Browsers say where a request
/// comes from, and pages cannot change that; other clients say nothing.
///
/// # Errors
/// 421 for another host, 403 for another page.
pub(super) fn check(headers: &HeaderMap, address: SocketAddr) -> Result<(), Refused> {
    if !is_meant(headers, address) {
        let text = "this coordinator listens on this machine alone and takes rows that are sent to localhost and its addresses; send them \
                    there, or have it listen on another address (--http)";
        return Err(Refused::new(StatusCode::MISDIRECTED_REQUEST, Code::InvalidArgument, text));
    }
    if is_from_elsewhere(headers) {
        let text = "a web page of another site may not send rows; send them from a program, or through a server of the page's own";
        return Err(Refused::new(StatusCode::FORBIDDEN, Code::PermissionDenied, text));
    }
    Ok(())
}

/// Whether a browser sends it for a page that is not of this server. Another port of this host is another site's, too.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return true;
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let own = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    host.is_empty() || !own.is_some_and(|own| own.eq_ignore_ascii_case(host))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn is_let_in(address: &str, given: &[(&'static str, &str)]) -> bool {
        let headers = given.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        check(&headers.collect(), address.parse().unwrap()).is_ok()
    }

    #[test]
    fn programs_and_this_servers_own_pages_may_send_rows_and_other_pages_may_not() {
        let loopback = "127.0.0.1:8816";
        let host = ("host", "localhost:8816");
        assert!(is_let_in(loopback, &[host]));
        assert!(is_let_in(loopback, &[host, ("origin", "http://localhost:8816"), ("sec-fetch-site", "same-origin")]));
        assert!(is_let_in(loopback, &[host, ("origin", "http://LOCALHOST:8816")]));
        assert!(is_let_in("10.0.0.1:8816", &[("host", "bowstring.example"), ("origin", "https://bowstring.example")]));
        for site in ["cross-site", "same-site", ""] {
            assert!(!is_let_in(loopback, &[host, ("sec-fetch-site", site)]), "{site}");
        }
        for origin in ["null", "", "http://localhost:3000", "https://evil.example", "http://localhost:8816.evil.example"] {
            assert!(!is_let_in(loopback, &[host, ("origin", origin)]), "{origin}");
        }
        assert!(!is_let_in(loopback, &[("host", "evil.example:8816")]));
        assert!(!is_let_in("10.0.0.1:8816", &[("origin", "http://")]));
    }
}
