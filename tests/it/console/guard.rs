//! What browsers may do with the console's answers, who is answered, and that nothing can be changed.

use std::path::Path;

use super::super::server_support::{started, stop};
use super::{address, ask, get};

const APIS: [&str; 7] = ["overview", "streams", "stream", "rows", "history", "configuration", "health"];

#[tokio::test]
async fn every_answer_says_what_browsers_may_do_with_it() {
    let (server, _channel) = started().await;
    let apis = APIS.map(|api| format!("/api/v1/{api}"));
    for path in ["/", "/console/app.js", "/console/nosuch.js", "/api/nosuch"].into_iter().chain(apis.iter().map(String::as_str)) {
        let answer = get(&server, path).await;
        let policy = answer.header("content-security-policy");
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "trusted-types 'none'",
        ] {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
    }
    stop(server).await;
}

#[tokio::test]
async fn the_page_has_all_its_files_and_no_script_or_style_within() {
    let (server, _channel) = started().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/console/page");
    for entry in std::fs::read_dir(folder).expect("is there") {
        let name = entry.expect("a file").file_name().into_string().expect("a name");
        let answer = get(&server, &format!("/console/{name}")).await;
        assert_eq!(answer.status, 200, "{name} is not listed in page.rs");
        let kind = match name.rsplit_once('.').expect("an ending").1 {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(answer.header("content-type"), kind);
        for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"] {
            let is_name_of_svg =
                word == "http://" && answer.body.matches(word).count() == answer.body.matches("http://www.w3.org/2000/svg").count();
            assert!(!answer.body.contains(word) || is_name_of_svg, "{name} has {word}");
        }
    }
    let page = get(&server, "/").await.body;
    assert!(page.contains("<script type=\"module\" src=") && !page.contains("<style") && !page.contains(" style="));
    let tag = get(&server, "/console/app.js").await.header("etag").to_owned();
    assert!(tag.len() > 10 && get(&server, "/console/..%2Fapp.js").await.status == 404);
    stop(server).await;
}

#[tokio::test]
async fn no_request_changes_anything() {
    let (server, _channel) = started().await;
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for api in APIS {
            assert_eq!(ask(address(&server), method, &format!("/api/v1/{api}?name=s"), "localhost").await.status, 405, "{method} {api}");
        }
        assert_eq!(ask(address(&server), method, "/", "localhost").await.status, 405);
    }
    // A preflight is not answered with leave.
    let preflight = ask(address(&server), "OPTIONS", "/api/v1/overview", "localhost").await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (405, ""));
    assert_eq!(server.coordinator().list().len(), 0);
    stop(server).await;
}

#[tokio::test]
async fn a_name_that_somebody_has_pointed_at_the_loopback_is_refused() {
    let (server, _channel) = started().await;
    for path in ["/", "/console/app.js", "/api/v1/overview"] {
        let refused = ask(address(&server), "GET", path, "evil.example").await;
        assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (421, Some("invalid_argument")), "{path}");
        assert!(refused.body.contains("localhost"), "it says what to do: {}", refused.body);
    }
    // What watches the coordinator by another name goes on.
    assert_eq!(ask(address(&server), "GET", "/metrics", "bowstring.example").await.status, 200);
    stop(server).await;
}
