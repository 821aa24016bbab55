//! No web page sends rows, wherever it is from.

use serde_json::json;

use super::super::server_support::stop;
use super::{all, ask, taking};

const PATH: &str = "/streams/clicks/rows";
const ROW: &[u8] = br#"{"user": 1}"#;

#[tokio::test]
async fn a_page_of_another_site_cannot_send_rows() {
    let (server, channel) = taking(json!({})).await;
    let host = format!("localhost:{}", server.http_addr().expect("is on").port());
    let json = ("Content-Type", "application/json");
    for from in [
        &[("Origin", "https://evil.example")][..],
        &[("Origin", "http://localhost:1")],
        &[("Origin", "null")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site"), ("Origin", "http://localhost:3000")],
    ] {
        let headers = [&[json, ("Host", &host)][..], from].concat();
        assert_eq!(ask(&server, "POST", PATH, &headers, ROW).await.refusal(), (403, "permission_denied"), "{from:?}");
    }
    // What it may send without asking first is not taken from anybody.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        assert_eq!(ask(&server, "POST", PATH, &[("Content-Type", kind)], ROW).await.refusal(), (415, "invalid_argument"), "{kind}");
    }
    assert_eq!(ask(&server, "POST", PATH, &[], ROW).await.refusal(), (415, "invalid_argument"));
    // And whoever asks is not given leave.
    let asking = [("Origin", "https://evil.example"), ("Access-Control-Request-Method", "POST")];
    let preflight = ask(&server, "OPTIONS", PATH, &asking, b"").await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (405, ""));
    assert!(all(&channel, "clicks").await.is_empty());
    stop(server).await;
}

#[tokio::test]
async fn a_name_that_somebody_has_pointed_at_the_loopback_is_refused() {
    let (server, channel) = taking(json!({})).await;
    let json = ("Content-Type", "application/json");
    let refused = ask(&server, "POST", PATH, &[json, ("Host", "evil.example")], ROW).await;
    assert_eq!(refused.refusal(), (421, "invalid_argument"));
    assert!(refused.says("localhost"), "{}", refused.json);
    assert!(all(&channel, "clicks").await.is_empty());
    // Its own pages, and programs, which say nothing of where they are from.
    let host = format!("127.0.0.1:{}", server.http_addr().expect("is on").port());
    let own = format!("http://{host}");
    assert_eq!(
        ask(&server, "POST", PATH, &[json, ("Host", &host), ("Origin", &own), ("Sec-Fetch-Site", "same-origin")], ROW).await.status,
        200
    );
    assert_eq!(ask(&server, "POST", PATH, &[json], ROW).await.status, 200);
    stop(server).await;
}
