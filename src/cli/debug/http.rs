//! A request to the coordinator's HTTP port, without TLS.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest answer: the metrics of some ten thousand streams.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// The body of an answer that is no refusal, or why there is none.
pub(super) async fn get(address: &str, path: &str, patience: Duration) -> Result<String, String> {
    match tokio::time::timeout(patience, ask(address, path)).await {
        Ok(Ok(answer)) => body(&answer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", patience.as_secs())),
    }
}

async fn ask(address: &str, path: &str) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(address).await?;
    // With HTTP/1.0 an answer ends with its connection, and comes in one piece.
    connection.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    connection.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// `/readyz` answers 503 with a text that is wanted, too.
fn body(answer: &str) -> Result<String, String> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is not HTTP")?;
    let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    match status {
        "200" | "503" => Ok(body.to_owned()),
        _ => Err(format!("status {status}: {}", body.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_body_and_a_refusal_says_why() {
        assert_eq!(body("HTTP/1.0 200 OK\r\na: b\r\n\r\nx\r\n\r\ny").as_deref(), Ok("x\r\n\r\ny"));
        assert_eq!(body("HTTP/1.0 503 Service Unavailable\r\n\r\nends").as_deref(), Ok("ends"));
        assert_eq!(
            body("HTTP/1.0 401 Unauthorized\r\n\r\n[unauthenticated] no token\n"),
            Err("status 401: [unauthenticated] no token".to_owned())
        );
        assert_eq!(body("220 ESMTP"), Err("the answer is not HTTP".to_owned()));
    }
}
