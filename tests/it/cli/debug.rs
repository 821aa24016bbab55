//! `bowstring debug bundle`: what a report needs is in it, and no row and no token.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use super::coordinator::Coordinator;
use super::{arg, bowstring, finish};

const TOKEN: &str = "canary-of-a-token";
const ROW: &str = "canary-of-a-row";

/// The files of a bundle, without their folder.
fn opened(path: &Path) -> BTreeMap<String, String> {
    let file = std::fs::File::open(path).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().into_owned();
        assert!(name.starts_with(name.iter().next().unwrap()) && name.iter().count() == 2, "{name:?} is in one folder");
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (arg(name.file_name().map(Path::new).unwrap()).to_owned(), text)
    });
    entries.collect()
}

#[test]
fn a_bundle_has_what_a_report_needs_and_neither_rows_nor_tokens() {
    let coordinator = Coordinator::start();
    coordinator.run_with(&["put", "clicks", "-", "--format", "csv"], Some(format!("n\n{ROW}\n").as_bytes())).done();
    assert!(coordinator.run(&["get", "clicks", "--format", "csv"]).done().contains(ROW), "the row is there to be found");
    let folder = tempfile::tempdir().unwrap();
    let (out, token) = (folder.path().join("report.tar.gz"), folder.path().join("token"));
    std::fs::write(&token, TOKEN).unwrap();
    let bundle = |out: &Path| {
        let http = coordinator.http.as_deref().unwrap();
        let mut command = coordinator.command(&["debug", "bundle", "--out", arg(out), "--http", http]);
        command.env("BOWSTRING_TOKEN", TOKEN).env("BOWSTRING_TOKEN_FILE", &token);
        command.env("BOWSTRING_OBJECT_STORE", format!("s3://key:{TOKEN}@bucket/prefix"));
        finish(command, None)
    };
    let said = bundle(&out).done();
    assert_eq!(said, format!("wrote {}\n", out.display()), "nothing is missing");
    let files = opened(&out);
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    let expected = ["README.txt", "configuration.json", "health.json", "healthz.json", "host.json", "metrics.txt", "readyz.json"];
    assert_eq!(names, [&expected[..], &["server.json", "stats.json", "version.json", "why.json"]].concat());
    for (name, text) in &files {
        assert!(!text.contains(TOKEN) && !text.contains(ROW), "{name}: {text}");
    }
    let json = |name: &str| serde_json::from_str::<Value>(&files[name]).unwrap();
    assert_eq!(json("version.json")["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(json("stats.json")["streams"][0]["stream"], "clicks", "names stay");
    assert!(json("why.json")["clicks"].is_array());
    assert!(!json("server.json")["server_id"].as_str().unwrap().is_empty());
    assert!(json("host.json")["cores"].as_u64().unwrap() > 0);
    assert_eq!(json("readyz.json")["status"], "ready");
    assert!(files["metrics.txt"].contains("bowstring_ready 1\n"));
    assert!(json("configuration.json")["server"].as_array().unwrap().iter().any(|row| row["value"] == "s3://bucket/prefix"));
    assert!(files["README.txt"].contains("Nothing is missing.") && files["README.txt"].contains("what people have named: streams"));
    bundle(&out).refused(1, &["report.tar.gz", "exists"]);
}

#[test]
fn without_a_coordinator_the_rest_is_collected_and_what_is_missing_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report.tar.gz");
    // Nobody listens on port 1.
    let args = ["debug", "bundle", "--out", arg(&out), "--url", "grpc://127.0.0.1:1", "--http", "127.0.0.1:1"];
    let said = finish(bowstring(&[&args[..], &["--connect-timeout", "100ms"]].concat()), None).done();
    let files = opened(&out);
    for file in ["server.json", "stats.json", "why.json", "metrics.txt", "healthz.json", "readyz.json", "health.json"] {
        assert!(said.contains(&format!("missing: {file}: ")), "{said}");
        assert!(files["README.txt"].contains(&format!("missing: {file}: ")) && !files.contains_key(file));
    }
    assert!(["version.json", "host.json", "configuration.json"].iter().all(|file| files.contains_key(*file)));
    let tls = folder.path().join("tls.tar.gz");
    let args = ["debug", "bundle", "--out", arg(&tls), "--url", "grpc+tls://127.0.0.1:1", "--connect-timeout", "100ms"];
    assert!(finish(bowstring(&args), None).done().contains("missing: metrics.txt: the coordinator speaks TLS"));
}
