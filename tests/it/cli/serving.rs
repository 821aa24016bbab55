//! `bowstring serve`: where it listens, what it is told by whom, and how it ends.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::coordinator::{Coordinator, wait};
use super::{arg, bowstring, finish};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn sigterm_and_sigint_end_it_in_good_order() {
    for signal in ["TERM", "INT"] {
        let coordinator = Coordinator::start();
        coordinator.run(&["stream", "create", "s"]).done();
        coordinator.signal(signal);
        let ended = coordinator.wait(SOON);
        assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{ended:?}");
        assert!(ended.stderr.contains("shutting down"), "{ended:?}");
    }
}

#[test]
fn sigterm_tells_a_follower_and_does_not_wait_for_it() {
    let coordinator = Coordinator::start();
    coordinator.run_with(&["put", "s", "-", "--format", "csv"], Some(b"n\n1\n")).done();
    let mut follower = coordinator.command(&["get", "s", "--follow", "--retry-for", "300ms", "--format", "csv"]).spawn().unwrap();
    let mut first = [0; 4];
    follower.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"n\n1\n");
    coordinator.signal("TERM");
    assert_eq!(coordinator.wait(SOON).code, 0);
    assert_eq!(wait(&mut follower, SOON), 5, "a coordinator that went away is no end of stream");
}

#[test]
fn http_answers_where_it_says_and_not_at_all_when_off() {
    let coordinator = Coordinator::start();
    let mut connection = TcpStream::connect(coordinator.http.as_deref().unwrap()).unwrap();
    connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: bowstring\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let silent = Coordinator::start_with(&["--listen", "127.0.0.1:0", "--http", "off"], &[]);
    assert_eq!(silent.http, None);
}

#[test]
fn the_unix_socket_is_on_unless_told_otherwise_and_clients_use_it_unless_told_otherwise() {
    let serve = ["--listen", "127.0.0.1:0", "--http", "off"];
    let coordinator = Coordinator::start_with(&serve, &[]);
    assert!(std::path::Path::new(coordinator.unix.as_deref().unwrap()).exists());
    coordinator.run_with(&["put", "s", "-", "--format", "csv"], Some(b"n\n1\n")).done();
    for (flags, by_unix) in [(&[][..], 1), (&["--local-socket", "false"], 0)] {
        let mut follower = coordinator.command(&[&["get", "s", "--follow", "--format", "csv"], flags].concat()).spawn().unwrap();
        follower.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).unwrap();
        assert_eq!(coordinator.run(&["stats", "--json"]).json()["open_unix_connections"], by_unix, "{flags:?}");
        follower.kill().unwrap();
        follower.wait().unwrap();
        super::coordinator::eventually(|| coordinator.run(&["stats", "--json"]).json()["open_unix_connections"] == 0);
    }
    for (flags, environment) in [(&["--unix", "off"][..], None), (&[], Some(("BOWSTRING_UNIX", "off")))] {
        assert_eq!(Coordinator::start_with(&[&serve, flags].concat(), environment.as_slice()).unix, None);
    }
}

#[test]
fn flags_go_before_environment_before_file_before_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bowstring.toml");
    let text =
        "listen = \"127.0.0.1:0\"\nhttp = \"off\"\nmax_buffered_batches = 11\nmax_buffered_bytes = \"11MiB\"\ndefault_partitions = 11\n";
    std::fs::write(&file, text).unwrap();
    let environment = [("BOWSTRING_MAX_BUFFERED_BATCHES", "22"), ("BOWSTRING_MAX_BUFFERED_BYTES", "22MiB")];
    let coordinator = Coordinator::start_with(&["--config", arg(&file), "--max-buffered-batches", "33"], &environment);
    assert_eq!(coordinator.http, None);
    coordinator.run(&["stream", "create", "s"]).done();
    let options = coordinator.run(&["stream", "describe", "s", "--json"]).json()["options"].clone();
    assert_eq!(options["max_buffered_batches"], 33, "the flag");
    assert_eq!(options["max_buffered_bytes"], 22 << 20, "the environment");
    assert_eq!(options["partitions"], 11, "the file");
    assert_eq!(options["max_spool_bytes"], 16_u64 << 30, "the default");
}

#[test]
fn streams_wait_and_resume_as_the_coordinator_says_unless_they_say_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bowstring.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:0\"\nhttp = \"off\"\nmax_wait = \"1500ms\"\nresume_percent = 40\n").unwrap();
    let coordinator = Coordinator::start_with(&["--config", arg(&file)], &[("BOWSTRING_RESUME_PERCENT", "50")]);
    let options = |name: &str, flags: &[&str]| {
        coordinator.run(&[&["stream", "create", name], flags].concat()).done();
        let options = coordinator.run(&["stream", "describe", name, "--json"]).json()["options"].clone();
        (options["max_wait_ms"].as_u64(), options["resume_percent"].as_u64())
    };
    assert_eq!(options("s", &[]), (Some(1_500), Some(50)));
    assert_eq!(options("t", &["--max-wait", "0s", "--resume-percent", "100"]), (Some(0), Some(100)));
}

#[test]
fn clients_read_the_file_too() {
    let coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bowstring.toml");
    std::fs::write(&file, format!("[client]\nurl = \"{}\"\n", coordinator.url())).unwrap();
    finish(bowstring(&["stream", "list", "--config", arg(&file)]), None).done();
    let mut command = bowstring(&["stream", "list", "--connect-timeout", "100ms", "--url", "grpc://127.0.0.1:1"]);
    command.env("BOWSTRING_CONFIG", arg(&file));
    finish(command, None).refused(5, &["unavailable", "127.0.0.1:1"]);
}

#[test]
fn a_file_with_an_unknown_key_is_refused_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str, words: &[&str]| {
        let file = folder.path().join("bowstring.toml");
        std::fs::write(&file, text).unwrap();
        for command in ["serve", "stats"] {
            finish(bowstring(&[command, "--config", arg(&file)]), None).refused(2, &[&["error [invalid_config]"], words].concat());
        }
    };
    check("lisden = \"127.0.0.1:0\"\n", &["lisden", "listen", "bowstring.toml"]);
    check("[client]\nuri = \"x\"\n", &["uri", "url"]);
    check("max_buffered_bytes = \"lots\"\n", &["max_buffered_bytes", "lots", "2GiB"]);
    check("listen = \n", &["bowstring.toml"]);
}

#[test]
fn addresses_and_numbers_that_cannot_be_used_are_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let serve = |args: &[&str]| finish(bowstring(&[&["serve", "--http", "off"], args].concat()), None);
    serve(&["--listen", &address]).refused(1, &["error [start_failed]", &address, "port 0"]);
    serve(&["--listen", "nowhere"]).refused(2, &["listen is \"nowhere\"", "0.0.0.0:8815"]);
    serve(&["--listen", "127.0.0.1:0", "--default-partitions", "0"]).refused(2, &["default_partitions", "1 to 4096"]);
    serve(&["--listen", "127.0.0.1:0", "--resume-percent", "101"]).refused(2, &["resume_percent", "101", "0 to 100"]);
    serve(&["--log", "a=b=c"]).refused(2, &["--log", "info"]);
}

#[test]
fn the_log_is_json_where_asked() {
    let coordinator = Coordinator::start_with(&["--listen", "127.0.0.1:0", "--http", "off", "--log-format", "json"], &[]);
    coordinator.signal("TERM");
    let ended = coordinator.wait(SOON);
    let lines: Vec<serde_json::Value> = ended.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["level"] == "INFO"), "{ended:?}");
}

#[test]
fn metrics_show_the_limit_of_connections_and_the_room_on_both_disks() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--connections-max", "7", "--data-dir", arg(folder.path())];
    let coordinator = Coordinator::start_with(&flags, &[]);
    assert_eq!(coordinator.metric("bowstring_open_connections_limit "), Some(7.0));
    let room = |dir: &str| coordinator.metric(&format!("bowstring_disk_free_bytes{{dir=\"{dir}\"}}"));
    assert!(room("data_dir").is_some_and(|bytes| bytes > 0.0) && room("spool_dir").is_some_and(|bytes| bytes > 0.0));
    assert_eq!(coordinator.metric("bowstring_ready "), Some(1.0));
}
