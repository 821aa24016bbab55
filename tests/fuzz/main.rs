//! Every parser of bytes from outside, on mutated inputs: no panic, no more memory than is declared, nothing accepted that a reader
//! cannot have. Runs on stable Rust, from a seed and a kept corpus (`tests/corpus`), for a bounded number of cases:
//!
//! `FUZZ_CASES=100000 FUZZ_SEED=7 cargo test --release --test fuzz` runs longer; what fails prints how to run that case alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod corpus;
mod engine;
mod frames;
mod ipc;
mod ipc_seeds;
mod memory;
mod mutate;
mod rows;
mod storage;
mod texts;
mod zoo;

use engine::{Target, Verdict, fuzz};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// Every target, with how many cases it is run for unless `FUZZ_CASES` says otherwise: about as long as each other.
const TARGETS: &[Target] = &[
    Target { name: "ipc", cases: 6_000, seeds: ipc_seeds::seeds, run: ipc::run },
    Target { name: "schema", cases: 4_000, seeds: ipc_seeds::schemas, run: ipc::run_schema },
    Target { name: "frames", cases: 10_000, seeds: frames::seeds, run: frames::run },
    Target { name: "metadata", cases: 10_000, seeds: frames::metadata_seeds, run: frames::run_metadata },
    Target { name: "authority", cases: 10_000, seeds: frames::authority_seeds, run: frames::run_authority },
    Target { name: "commands", cases: 10_000, seeds: texts::command_seeds, run: texts::run_command },
    Target { name: "settings", cases: 2_000, seeds: texts::settings_seeds, run: texts::run_settings },
    Target { name: "names", cases: 10_000, seeds: texts::name_seeds, run: texts::run_name },
    Target { name: "json", cases: 4_000, seeds: rows::json_seeds, run: rows::run_json },
    Target { name: "avro", cases: 4_000, seeds: rows::avro_seeds, run: rows::run_avro },
    Target { name: "protobuf", cases: 4_000, seeds: rows::protobuf_seeds, run: rows::run_protobuf },
    Target { name: "writer", cases: 4_000, seeds: rows::writer_seeds, run: rows::run_writer },
    Target { name: "segment", cases: 2_000, seeds: storage::segment_seeds, run: storage::run_segment },
    Target { name: "catalog", cases: 100, seeds: storage::catalog_seeds, run: storage::run_catalog },
];

/// From what is refused as it is, mutations lead nowhere.
#[test]
fn batches_in_order_are_accepted() {
    for (index, seed) in ipc_seeds::seeds().iter().enumerate() {
        assert_eq!(ipc::run(seed, &mut StdRng::seed_from_u64(0)), Verdict::Accepted, "seed {index}");
    }
}

macro_rules! targets {
    ($($test:ident: $name:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            fuzz($name);
        })*

        #[test]
        fn every_target_has_a_test() {
            assert!(TARGETS.iter().map(|target| target.name).eq([$($name),*]));
        }
    };
}

targets! {
    batches_that_are_accepted_are_decoded_within_bounds: "ipc",
    schemas_cost_no_more_than_their_bounds: "schema",
    frames_are_read_or_refused_however_they_are_cut: "frames",
    metadata_is_read_or_refused: "metadata",
    the_authority_mender_changes_nothing_but_percent_signs: "authority",
    commands_and_tickets_are_read_or_refused: "commands",
    settings_are_read_or_refused: "settings",
    names_are_taken_as_they_are_or_refused: "names",
    rows_in_json_are_kept_or_rejected_for_themselves: "json",
    rows_in_avro_are_kept_or_rejected_for_themselves: "avro",
    rows_in_protobuf_are_kept_or_rejected_for_themselves: "protobuf",
    a_writers_schema_is_read_or_refused: "writer",
    a_segment_gives_what_was_written_or_says_that_it_is_damaged: "segment",
    a_catalog_opens_or_says_that_it_is_damaged: "catalog",
}
