//! The whole stack, deterministic: the real coordinator and the real client on a simulated network and disk, from a seed.
//!
//! `SIM_SEED=7 cargo test --test sim` runs one seed and prints its trace; `SIM_SEEDS=2000`, or `SIM_SEEDS=1000..3000`, runs so
//! many. Without either it is 50. `SIM_GO_ON=1` goes on after a failure and lists all of them; `SIM_LOG=bowstring=debug` shows
//! the logs, too.

mod actors;
mod batches;
mod disk;
mod net;
mod oracle;
mod plan;
mod trace;
mod world;
#[cfg(feature = "zoo")]
mod zoo;

use std::ops::Range;
use std::panic::AssertUnwindSafe;

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 50;

/// Runs a seed; what failed, with all that helps.
fn failure_of(seed: u64, prints: bool) -> Option<String> {
    let run = std::panic::catch_unwind(AssertUnwindSafe(|| world::run(seed, prints)));
    let (what, tail) = match run {
        Ok(outcome) if outcome.failures.is_empty() => return None,
        Ok(outcome) => (outcome.failures.join("\n"), outcome.tail),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            (format!("panicked: {}", text.unwrap_or("?")), String::new())
        }
    };
    Some(format!(
        "seed {seed} failed:\n{what}\n\nthe end of its trace:\n{tail}\nrepeat it with: SIM_SEED={seed} cargo test --test sim seeds -- --nocapture\n"
    ))
}

fn seeds() -> Range<u64> {
    let Ok(seeds) = std::env::var("SIM_SEEDS") else { return 0..SEEDS };
    match seeds.split_once("..") {
        Some((from, until)) => from.parse().expect("a number")..until.parse().expect("a number"),
        None => 0..seeds.parse().expect("a number"),
    }
}

#[test]
fn all_seeds_keep_every_promise() {
    if let Ok(filter) = std::env::var("SIM_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).without_time().init();
    }
    if let Ok(seed) = std::env::var("SIM_SEED") {
        let failure = failure_of(seed.parse().expect("a number"), true);
        assert!(failure.is_none(), "{}", failure.unwrap_or_default());
        return;
    }
    let goes_on = std::env::var("SIM_GO_ON").is_ok();
    let mut failed = Vec::new();
    for seed in seeds() {
        if let Some(failure) = failure_of(seed, false) {
            assert!(goes_on, "{failure}");
            eprintln!("seed {seed}: {}", failure.lines().nth(1).unwrap_or_default());
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "{} seeds failed: {failed:?}", failed.len());
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    for seed in 0..10 {
        let (first, second) = (world::run(seed, false), world::run(seed, false));
        assert_eq!((first.digest, first.elapsed), (second.digest, second.elapsed), "seed {seed}:\n{}\n{}", first.tail, second.tail);
    }
}
