//! What people and their programs write: commands, tickets and descriptors in JSON, settings in TOML, names.

use arrow_flight::FlightDescriptor;
use bowstring::cli::fuzzing::settings;
use bowstring::engine::{ProducerId, RunId, StreamName, SubscriptionName};
use bowstring::wire::command::{GetCommand, GetTarget, PutTarget, path_target};
use prost::Message as _;
use rand::rngs::StdRng;

use crate::corpus::Input;
use crate::engine::{Verdict, within};

pub(crate) fn command_seeds() -> Vec<Input> {
    let get = [
        r#"{"stream": "s"}"#,
        r#"{"stream": "s", "follow": true, "partitions": [0, 1], "start": {"0": 3, "1": 4}, "end": {"0": 9}, "batches_max": 7}"#,
        r#"{"stream": "s", "subscription": "a", "generation": "12", "consumer": "c", "by_epoch": true, "schema_changes": true}"#,
        r#"{"stream": "s", "follow": true, "subscription": "a", "consumer_id": "7", "got": []}"#,
    ];
    let put = [
        r#"{"stream": "s", "partition": 3, "producer": "p", "run": "r", "epoch": 9, "task": 1, "attempt": 0}"#,
        r#"{"stream": "s", "append_timeout_ms": 500, "stream_id": "0123456789abcdef", "link": "17"}"#,
    ];
    let path = FlightDescriptor::new_path(vec!["s".to_owned(), "7".to_owned()]).encode_to_vec();
    let commands = put.map(|text| FlightDescriptor::new_cmd(text.to_owned()).encode_to_vec());
    get.iter()
        .chain(&put)
        .map(|text| vec![text.as_bytes().to_vec()])
        .chain(commands.map(|command| vec![command]))
        .chain([vec![path]])
        .collect()
}

pub(crate) fn run_command(input: &Input, _: &mut StdRng) -> Verdict {
    let bytes = input.concat();
    within((64 << 10) + 64 * bytes.len() as u64, "reading a command", || {
        let put = PutTarget::from_descriptor(&bytes);
        if let Ok(target) = &put {
            // Whatever was read of it is a name that can be used.
            assert!(StreamName::new(target.stream().as_str()).is_ok());
        }
        let get = GetTarget::from_json(&bytes);
        if let Ok(target) = &get {
            let command: GetCommand = serde_json::from_slice(&bytes).unwrap();
            let again = GetTarget::from_json(&command.to_ticket());
            assert_eq!(again.as_ref(), Ok(target), "it is read as it is written");
        }
        if put.is_ok() { Verdict::Accepted } else { Verdict::of(&get) }
    })
}

pub(crate) fn settings_seeds() -> Vec<Input> {
    [
        "listen = \"127.0.0.1:8815\"\nhttp = \"off\"\nmax_buffered_bytes = \"4GiB\"\nappend_timeout = \"1m 30s\"\n",
        "validation = \"full\"\nvalidation_bytes_max = \"1GiB\"\nmax_buffered_batches = 7\n[log]\nformat = \"json\"\n",
        "[client]\nurl = \"grpc://host:1\"\nconnect_timeout = \"500ms\"\nlocal_socket = false\n",
    ]
    .map(|text| vec![text.as_bytes().to_vec()])
    .to_vec()
}

pub(crate) fn run_settings(input: &Input, _: &mut StdRng) -> Verdict {
    let bytes = input.concat();
    let Ok(text) = str::from_utf8(&bytes) else { return Verdict::Refused };
    within((1 << 20) + 4096 * bytes.len() as u64, "reading settings", || Verdict::of(&settings(text)))
}

pub(crate) fn name_seeds() -> Vec<Input> {
    ["clicks", "a/b c.d-e_f", "ü ☃ 🏹", "s\n", "\u{202e}txt", &"x".repeat(256)].map(|name| vec![name.as_bytes().to_vec()]).to_vec()
}

pub(crate) fn run_name(input: &Input, _: &mut StdRng) -> Verdict {
    let bytes = input.concat();
    let Ok(name) = str::from_utf8(&bytes) else { return Verdict::Refused };
    within((4 << 10) + 16 * bytes.len() as u64, "a name", || {
        let stream = StreamName::new(name);
        if let Ok(stream) = &stream {
            assert!(stream.as_str() == name && !name.is_empty() && name.len() <= 256 && !name.chars().any(char::is_control), "{name:?}");
        }
        let others = [ProducerId::new(name).is_ok(), RunId::new(name).is_ok(), SubscriptionName::new(name).is_ok()];
        assert!(others.iter().all(|is_ok| *is_ok == stream.is_ok()), "{name:?}: {others:?}");
        let path = path_target(&[name.to_owned(), name.to_owned()]);
        assert!(path.is_err() || name.parse::<u32>().is_ok(), "{path:?}");
        Verdict::of(&stream)
    })
}
