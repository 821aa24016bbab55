//! The audit log, and that secrets are in nothing that is written.

use std::path::Path;

use bowstring::client::{Client, TokenSource};
use bowstring::server::{AuditConfig, ServerConfig};
use bowstring::wire::secret::Secret;
use serde_json::Value;

use super::super::cli::{arg, bowstring, finish};
use super::super::http::get;
use super::super::server_support::{channel, start, stop};
use super::{Tokens, act_as, connect_as, options, put_as, read_as};

fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn each_decision_is_a_line_that_says_who_what_and_whether() {
    let (tokens, operator) = Tokens::new();
    let weak = tokens.issue("weak", &["peek:s"]);
    let log = tokens.folder.path().join("audit.log");
    let server = start(ServerConfig { audit: AuditConfig { file: Some(log.clone()) }, ..tokens.config() }).await;
    let channel = channel(server.listen_addr()).await;
    put_as(&channel, Some(operator.reveal()), "s").await.unwrap();
    put_as(&channel, Some(weak.reveal()), "s").await.unwrap_err();
    read_as(&channel, Some("bst_canary"), r#"{"stream": "s"}"#).await.unwrap_err();
    act_as(&channel, Some(operator.reveal()), "describe", "s").await.unwrap();
    get(server.http_addr().unwrap(), "/metrics").await;
    stop(server).await;
    let lines = lines(&log);
    let line =
        |rpc: &str, principal: Value| lines.iter().find(|line| line["rpc"] == rpc && line["principal"] == principal).unwrap().clone();
    let put = line("DoPut", "operator".into());
    assert_eq!((&put["verb"], &put["stream"], &put["allowed"], &put["code"]), (&"append".into(), &"s".into(), &true.into(), &"ok".into()));
    assert!(
        put["peer"].as_str().unwrap().starts_with("127.0.0.1:") && put["time"].as_str().unwrap().ends_with('Z') && put["by"] == "token"
    );
    let refused = line("DoPut", "weak".into());
    assert_eq!((&refused["allowed"], &refused["code"]), (&false.into(), &"permission_denied".into()));
    assert_eq!(line("DoGet", Value::Null)["code"], "unauthenticated");
    assert_eq!(line("http", Value::Null)["verb"], "metrics");
    assert_eq!(line("DescribeStream", "operator".into())["stream"], "s");
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains(operator.reveal()) && !text.contains("canary"), "{text}");
}

/// Runs everything that could show a token, and looks for it everywhere.
#[tokio::test]
async fn a_token_is_in_no_log_error_metric_or_listing() {
    let (tokens, operator) = Tokens::new();
    let log = tokens.folder.path().join("audit.log");
    let config = ServerConfig { audit: AuditConfig { file: Some(log.clone()) }, ..tokens.config() };
    let mut shown = vec![format!("{config:?}"), serde_json::to_string(&config).unwrap()];
    let server = start(config).await;
    let canary = Secret::new(&format!("bst_{}", "c0ffee".repeat(10)));
    let client = connect_as(&server, &operator).await;
    shown.push(format!("{client:?} {:?} {server:?} {:?}", client.options(), server.coordinator()));
    let refused = Client::connect(&server.url(), options(TokenSource::Fixed(canary.clone()))).await.unwrap();
    let error = refused.list_streams().await.unwrap_err();
    shown.push(format!("{error} {error:?} {refused:?}"));
    let elsewhere = Client::connect("grpc://192.0.2.1:1", options(TokenSource::Fixed(canary.clone()))).await.unwrap_err();
    shown.push(format!("{elsewhere} {elsewhere:?}"));
    let metrics = format!("/metrics HTTP/1.1\r\nAuthorization: Bearer {}\r\nX:", operator.reveal());
    shown.push(get(server.http_addr().unwrap(), &metrics).await.1);
    let path = tokens.path();
    for args in [&["token", "list", "--tokens", arg(&path)][..], &["token", "list", "--json", "--tokens", arg(&path)]] {
        let listed = finish(bowstring(args), None);
        shown.push(format!("{listed:?}"));
        let listed = listed.done();
        assert!(listed.contains("operator") && !listed.contains("sha256"), "{listed}");
    }
    let url = server.url();
    for token in [&canary, &operator] {
        let mut command = bowstring(&["stream", "list", "--url", &url, "--log", "trace"]);
        command.env("BOWSTRING_TOKEN", token.reveal());
        let finished = finish_elsewhere(command).await;
        assert_eq!(finished.code == 0, token == &operator, "{finished:?}");
        shown.push(format!("{finished:?}"));
    }
    stop(server).await;
    shown.push(std::fs::read_to_string(&log).unwrap());
    shown.push(std::fs::read_to_string(&path).unwrap());
    for text in shown {
        assert!(!text.contains(canary.reveal()) && !text.contains(operator.reveal()), "{text}");
    }
}

async fn finish_elsewhere(command: std::process::Command) -> super::super::cli::Finished {
    tokio::task::spawn_blocking(move || finish(command, None)).await.unwrap()
}

#[test]
fn the_command_issues_a_token_once_and_revokes_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.json");
    let run = |args: &[&str]| {
        let mut command = bowstring(args);
        command.env("BOWSTRING_AUTH_TOKENS", &path);
        finish(command, None)
    };
    let issued = run(&["token", "issue", "spark", "--allow", "append:flights", "--allow", "read:*", "--expires", "90d"]).done();
    let token = issued.trim();
    assert!(token.starts_with("bst_") && token.len() == 68 && issued.lines().count() == 1, "{}", issued.len());
    assert!(!std::fs::read_to_string(&path).unwrap().contains(token));
    let list: Value = serde_json::from_str(&run(&["token", "list", "--json"]).done()).unwrap();
    assert_eq!((&list[0]["name"], &list[0]["state"]), (&"spark".into(), &"valid".into()));
    assert_eq!(list[0]["permissions"], serde_json::json!(["append:flights", "read:*"]));
    assert!(run(&["token", "revoke", "spark"]).done().contains("is revoked"));
    run(&["token", "revoke", "spark"]).refused(1, &["token_file", "spark", "bowstring token list"]);
    run(&["token", "issue", "x", "--allow", "write:s"]).refused(2, &["write:s", "append:STREAM"]);
    run(&["token", "issue", "x"]).refused(2, &["--allow"]);
    finish(bowstring(&["token", "list"]), None).refused(2, &["--tokens", "BOWSTRING_AUTH_TOKENS"]);
}
