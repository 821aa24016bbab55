//! The generated code is committed, so that users need no protoc; here it is checked to be current.
//! `BOWSTRING_UPDATE=1 cargo test --test it codegen` writes it anew.

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message as _;

const PROTOS: [&str; 2] = ["bowstring/v1/control.proto", "bowstring/v1/flight.proto"];

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = tempfile::tempdir().expect("a temporary folder");
    generate(&root.join("proto"), made.path());
    for (name, committed) in [
        ("messages/bowstring.v1.rs", "src/wire/proto/bowstring.v1.rs"),
        ("server/bowstring.v1.rs", "src/server/generated/bowstring.v1.rs"),
        ("client/bowstring.v1.rs", "src/client/generated/bowstring.v1.rs"),
        ("descriptor.bin", "src/server/generated/descriptor.bin"),
    ] {
        let fresh = fs::read(made.path().join(name)).expect("was generated");
        if std::env::var_os("BOWSTRING_UPDATE").is_some() {
            fs::write(root.join(committed), &fresh).expect("can be written");
        }
        let committed_bytes = fs::read(root.join(committed)).unwrap_or_default();
        assert!(fresh == committed_bytes, "{committed} is not what proto/ makes: run with BOWSTRING_UPDATE=1");
    }
}

fn generate(protos: &Path, out: &Path) {
    let descriptors = protox::compile(PROTOS, [protos]).expect("the protos compile");
    fs::write(out.join("descriptor.bin"), descriptors.encode_to_vec()).expect("can be written");
    let folder = |name: &str| -> PathBuf {
        let folder = out.join(name);
        fs::create_dir(&folder).expect("can be made");
        folder
    };
    let mut messages = prost_build::Config::new();
    messages.bytes(["."]).out_dir(folder("messages"));
    messages.compile_fds(descriptors.clone()).expect("messages are made");
    for (name, server) in [("server", true), ("client", false)] {
        tonic_prost_build::configure()
            .build_server(server)
            .build_client(!server)
            .build_transport(false)
            .extern_path(".bowstring.v1", "crate::wire::proto")
            .out_dir(folder(name))
            .compile_fds(descriptors.clone())
            .expect("services are made");
    }
}
