//! The page's files, as they are in `page/`: part of the program, so that nothing has to be installed or built beside it.

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::wire::keys::fnv1a;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const ICON: &str = "image/svg+xml";

macro_rules! files {
    ($($name:literal $kind:ident;)*) => {
        /// Each file's name, kind and text.
        const FILES: &[(&str, &str, &str)] = &[$(($name, $kind, include_str!(concat!("page/", $name))),)*];
    };
}

files! {
    "index.html" HTML;
    "base.css" CSS;
    "parts.css" CSS;
    "icon.svg" ICON;
    "app.js" SCRIPT;
    "api.js" SCRIPT;
    "charts.js" SCRIPT;
    "dom.js" SCRIPT;
    "flow.js" SCRIPT;
    "format.js" SCRIPT;
    "overview.js" SCRIPT;
    "rows.js" SCRIPT;
    "settings.js" SCRIPT;
    "stream.js" SCRIPT;
    "streams.js" SCRIPT;
}

pub(super) async fn index(headers: HeaderMap) -> Response {
    serve("index.html", &headers)
}

pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    serve(&name, &headers)
}

/// Browsers ask each time whether theirs is the newest: a coordinator that was replaced has another page.
fn serve(name: &str, headers: &HeaderMap) -> Response {
    let Some((_, kind, text)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return (StatusCode::NOT_FOUND, "the console has no such file").into_response();
    };
    let tag = format!("\"{:016x}\"", fnv1a(text.as_bytes()));
    let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut answer = if is_known { StatusCode::NOT_MODIFIED.into_response() } else { (*text).into_response() };
    let values = [(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "no-cache"), (header::ETAG, tag.as_str())];
    for (name, value) in values {
        // All of it is ASCII.
        if let Ok(value) = HeaderValue::from_str(value) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}
