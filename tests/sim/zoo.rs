//! Bugs put in on purpose: each is found. `cargo test --features zoo --test sim zoo`.

use bowstring::zoo::{Bug, let_out};

use super::failure_of;

/// By then each is found.
const SEEDS_MAX: u64 = 2_000;

#[test]
fn every_bug_of_the_zoo_is_found() {
    let mut missed = Vec::new();
    let wanted = std::env::var("SIM_BUG").ok();
    for bug in Bug::ALL.iter().filter(|bug| wanted.as_ref().is_none_or(|wanted| *wanted == format!("{bug:?}"))) {
        let_out(Some(*bug));
        let found = (0..SEEDS_MAX).find_map(|seed| Some((seed, failure_of(seed, false)?)));
        let_out(None);
        match found {
            Some((seed, failure)) => eprintln!("{bug:?} is found by seed {seed}: {}", failure.lines().nth(1).unwrap_or_default()),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found within {SEEDS_MAX} seeds: {missed:?}");
}
