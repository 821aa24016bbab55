//! `bowstring config show`: the settings that count, with where each was given, and no secret.

use serde_json::{Value, json};

use super::{Finished, arg, bowstring, finish};

const CANARY: &str = "canary-of-a-secret";

/// `bowstring config show` with these flags, in an environment with more.
fn show(flags: &[&str], environment: &[(&str, &str)]) -> Finished {
    let mut command = bowstring(&[&["config", "show"], flags].concat());
    command.envs(environment.iter().copied());
    finish(command, None)
}

/// Value and source of a setting.
fn setting<'a>(shown: &'a Value, table: &str, name: &str) -> (&'a Value, &'a str) {
    let rows = shown[table].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {shown}"));
    (&row["value"], row["source"].as_str().unwrap())
}

#[test]
fn a_setting_comes_from_flag_environment_file_or_default_in_this_order() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bowstring.toml");
    let text = "max_buffered_batches = 1\nmax_buffered_bytes = \"3GiB\"\nresume_percent = 40\n[audit]\nfile = \"audit\"\n\
        [client]\nurl = \"grpc://h:1\"\nretry_for = \"9s\"\n[log]\nfilter = \"debug\"";
    std::fs::write(&file, text).unwrap();
    let environment = [("BOWSTRING_MAX_BUFFERED_BATCHES", "2"), ("BOWSTRING_RESUME_PERCENT", "50"), ("BOWSTRING_URL", "grpc://env:2")];
    let flags = ["--config", arg(&file), "--max-buffered-batches", "3", "--tls-cert", "c", "--tls-key", "k", "--shutdown-grace", "7s"];
    let shown = show(&[&flags[..], &["--json", "--log-format", "json"]].concat(), &environment).json();
    assert_eq!(shown["file"], arg(&file));
    let server = |name| setting(&shown, "server", name);
    assert_eq!(server("max_buffered_batches"), (&json!(3), "flag"));
    assert_eq!(server("resume_percent"), (&json!(50), "environment"));
    assert_eq!(server("max_buffered_bytes"), (&json!(3_u64 << 30), "file"));
    assert_eq!(server("connections_max"), (&json!(10_000), "default"));
    assert_eq!(server("shutdown_grace"), (&json!("7s"), "flag"));
    assert_eq!(server("tls_cert"), (&json!("c"), "flag"));
    assert_eq!(server("audit_file"), (&json!("audit"), "file"), "what stands in a table");
    let client = |name| setting(&shown, "client", name);
    assert_eq!(client("url"), (&json!("grpc://env:2"), "environment"));
    assert_eq!(client("retry_for"), (&json!("9s"), "file"));
    assert_eq!(client("connect_timeout"), (&json!("5s"), "default"));
    assert_eq!(setting(&shown, "log", "filter"), (&json!("debug"), "file"));
    assert_eq!(setting(&shown, "log", "format"), (&json!("json"), "flag"));

    let text = show(&flags, &environment).done();
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    let words = |name: &str| line(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words("max_buffered_bytes"), ["max_buffered_bytes", "3GiB", "file"]);
    assert_eq!(words("greeting_timeout"), ["greeting_timeout", "10s", "default"]);
    assert_eq!(words("client.url"), ["client.url", "grpc://env:2", "environment"]);
}

#[test]
fn no_secret_is_shown() {
    let store = format!("s3://key:{CANARY}@bucket/prefix?token={CANARY}");
    let broken = format!("s3://key:{CANARY}/{CANARY}@bucket");
    let url = format!("grpc://somebody:{CANARY}@host:1");
    for object_store in [&store, &broken] {
        let environment = [("BOWSTRING_TOKEN", CANARY), ("BOWSTRING_OBJECT_STORE", object_store), ("BOWSTRING_URL", &url)];
        for flags in [&["--json"][..], &[]] {
            let shown = show(flags, &environment);
            assert!(!shown.stdout().contains(CANARY) && !shown.stderr.contains(CANARY), "{shown:?}");
            assert!(shown.done().contains("(set, not shown)"));
        }
    }
}

#[test]
fn what_serve_would_refuse_is_shown_and_refused() {
    let refused = show(&["--max-buffered-batches", "0"], &[]);
    assert!(refused.stdout().contains("max_buffered_batches"));
    refused.refused(2, &["max_buffered_batches is 0"]);
    show(&["--tls-cert", "c"], &[]).refused(2, &["tls.key"]);
    show(&["--nosuch"], &[]).refused(2, &["--nosuch"]);
}
