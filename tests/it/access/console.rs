//! The console's API shows each caller what their permissions let them see.

use bowstring::server::{AuditConfig, ServerConfig};
use bowstring::wire::proto::{CreateStreamRequest, StreamDescription};
use bowstring::wire::secret::Secret;

use super::super::console::get_as;
use super::super::server_support::{channel, start, stop};
use super::{Tokens, call_as};

#[tokio::test]
async fn the_console_shows_each_caller_what_they_may_see_and_writes_each_decision_down_once() {
    let (tokens, operator) = Tokens::new();
    let (reader, scraper) = (tokens.issue("reader", &["append:a"]), tokens.issue("scraper", &["metrics", "peek:b"]));
    let file = tokens.path().with_file_name("audit");
    let server = start(ServerConfig { audit: AuditConfig { file: Some(file.clone()) }, ..tokens.config() }).await;
    let channel = channel(server.listen_addr()).await;
    for stream in ["a", "b"] {
        let request = CreateStreamRequest { stream: stream.to_owned(), ..Default::default() };
        let _: StreamDescription = call_as(&channel, Some(operator.reveal()), "CreateStream", request).await.unwrap();
    }
    let ask = async |token: Option<&str>, path: &str| get_as(&server, path, token).await;
    assert_eq!(ask(None, "/api/v1/overview").await.refusal(), (401, "unauthenticated".to_owned()));
    assert_eq!(ask(None, "/").await.status(), 200, "the page itself has nothing of anybody");
    for (token, sees) in [(&operator, vec!["a", "b"]), (&reader, vec!["a"]), (&scraper, vec!["b"])] {
        let listed = ask(Some(token.reveal()), "/api/v1/streams").await.json();
        let names: Vec<_> = listed["streams"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(names, sees);
        assert_eq!(ask(Some(token.reveal()), "/api/v1/overview").await.json()["streams"], sees.len());
    }
    let may = async |token: &Secret, path: &str| ask(Some(token.reveal()), path).await.status();
    assert_eq!(may(&reader, "/api/v1/stream?name=a").await, 200);
    assert_eq!(may(&reader, "/api/v1/rows?name=a&partition=0").await, 403, "append lets nobody look at rows");
    assert_eq!(may(&reader, "/api/v1/stream?name=b").await, may(&reader, "/api/v1/stream?name=nope").await);
    assert_eq!(may(&scraper, "/api/v1/rows?name=b&partition=0").await, 200);
    for (path, everything) in [("/api/v1/configuration", true), ("/api/v1/history", true), ("/api/v1/health", false)] {
        assert_eq!(may(&scraper, path).await, 200);
        assert_eq!(may(&reader, path).await, if everything { 403 } else { 200 }, "{path}");
    }
    stop(server).await;
    let lines = std::fs::read_to_string(file).unwrap();
    let lists = lines.lines().filter(|line| line.contains("\"console\"") && line.contains("\"principal\":\"operator\"")).count();
    assert_eq!(lists, 2, "one for the list and one for the overview, not one for each stream: {lines}");
}
