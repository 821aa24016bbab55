//! What a request says its body is. None of these types may a web page send to another site without asking first.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};

use super::answer::Refused;
use super::config::IngestFormat;
use crate::engine::Code;

/// How rows lie in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// A JSON object, or an array of them.
    Document,
    /// A row in each line.
    Lines,
    /// The body is one row.
    One,
    /// Rows, each after its length as a varint.
    Delimited,
}

const JSON: &[&str] = &["application/json"];
const LINES: &[&str] = &["application/x-ndjson", "application/ndjson", "application/jsonl"];
const AVRO: &[&str] = &["application/avro", "avro/binary"];
const PROTOBUF: &[&str] = &["application/x-protobuf", "application/protobuf", "application/vnd.google.protobuf"];

/// How the rows of a request lie in its body.
///
/// # Errors
/// 415 if the body is in another format than the stream's, or compressed.
pub(super) fn layout(headers: &HeaderMap, format: IngestFormat) -> Result<Layout, Refused> {
    let unsupported = |message: String| Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, message);
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && encoding != HeaderValue::from_static("identity")
    {
        return Err(unsupported("bodies are taken as they are, not compressed; send it without Content-Encoding".to_owned()));
    }
    let given = headers.get(header::CONTENT_TYPE).and_then(|given| given.to_str().ok()).unwrap_or_default();
    let mut parts = given.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let parameter = |(name, value): (&str, &str)| (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_ascii_lowercase());
    let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).map(parameter).collect();
    let of = |name: &str| parameters.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    let is_among = |types: &[&str]| types.contains(&essence.as_str());
    if of("charset").is_some_and(|charset| charset != "utf-8" && charset != "utf8") {
        return Err(unsupported("text is taken in UTF-8 only; send it so".to_owned()));
    }
    let binary = match of("encoding") {
        None => Some(Layout::One),
        Some("delimited") => Some(Layout::Delimited),
        Some(_) => None,
    };
    let found = match format {
        IngestFormat::Json if is_among(JSON) => Some(Layout::Document),
        IngestFormat::Json if is_among(LINES) => Some(Layout::Lines),
        IngestFormat::Avro if is_among(AVRO) => binary,
        IngestFormat::Protobuf if is_among(PROTOBUF) => binary,
        IngestFormat::Json | IngestFormat::Avro | IngestFormat::Protobuf => None,
    };
    let expected = match format {
        IngestFormat::Json => "application/x-ndjson for a row in each line, or application/json for an object or an array of them",
        IngestFormat::Avro => "application/avro for one row, or application/avro; encoding=delimited for rows after their lengths",
        IngestFormat::Protobuf => {
            "application/x-protobuf for one row, or application/x-protobuf; encoding=delimited for rows after their lengths"
        }
    };
    let shown: String = given.chars().take(100).collect();
    found
        .ok_or_else(|| unsupported(format!("the stream takes rows in {}, and Content-Type is {shown:?}; send {expected}", format.as_str())))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    fn found(format: IngestFormat, given: &str) -> Option<Layout> {
        layout(&[(header::CONTENT_TYPE, HeaderValue::from_str(given).unwrap())].into_iter().collect(), format).ok()
    }

    #[test]
    fn a_type_says_how_rows_lie_in_the_body() {
        use IngestFormat::{Avro, Json, Protobuf};
        for (format, given, layout) in [
            (Json, "application/json", Layout::Document),
            (Json, "Application/JSON; charset=\"UTF-8\"", Layout::Document),
            (Json, "application/x-ndjson;charset=utf-8", Layout::Lines),
            (Avro, "application/avro", Layout::One),
            (Avro, "avro/binary; Encoding=Delimited", Layout::Delimited),
            (Protobuf, "application/x-protobuf", Layout::One),
            (Protobuf, "application/vnd.google.protobuf; messageType=shop.Click; encoding=delimited", Layout::Delimited),
        ] {
            assert_eq!(found(format, given), Some(layout), "{given}");
        }
    }

    #[test]
    fn what_a_page_may_send_without_asking_is_of_no_format() {
        use IngestFormat::{Avro, Json, Protobuf};
        for given in
            ["", "text/plain", "text/plain; application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
        {
            for format in [Json, Avro, Protobuf] {
                assert_eq!(found(format, given), None, "{given}");
            }
        }
        for (format, given) in [
            (Json, "application/avro"),
            (Avro, "application/json"),
            (Json, "application/json; charset=latin1"),
            (Avro, "application/avro; encoding=gzip"),
        ] {
            assert_eq!(found(format, given), None, "{given}");
        }
    }

    #[test]
    fn a_compressed_body_is_refused() {
        let of = |encoding: &'static str| {
            let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let headers = [json, (header::CONTENT_ENCODING, HeaderValue::from_static(encoding))];
            layout(&headers.into_iter().collect(), IngestFormat::Json).is_ok()
        };
        assert!(of("identity") && !of("gzip") && !of(""));
    }
}
