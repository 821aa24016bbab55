//! The engine: cases by number, each from the seed alone; failures with all that it takes to see them again.

use std::cell::Cell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Once;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::corpus::{self, Input};
use crate::{TARGETS, mutate};

/// A parser, and what is to hold whatever it is given.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) cases: u64,
    /// Inputs in order, made here; those of the kept corpus come to them.
    pub(crate) seeds: fn() -> Vec<Input>,
    /// Panics where something does not hold.
    pub(crate) run: fn(&Input, &mut StdRng) -> Verdict,
}

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    Refused,
}

impl Verdict {
    pub(crate) fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::Accepted } else { Self::Refused }
    }
}

/// What did not hold, and for which case.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) case: String,
    pub(crate) why: String,
    input: Input,
}

pub(crate) fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("a target of this name")
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, and has to be a number")))
}

/// Runs a target as the environment says, and fails with what has to be known to run the failing case again.
pub(crate) fn fuzz(name: &str) {
    let target = target(name);
    let seed = number("FUZZ_SEED").unwrap_or(0);
    let cases = match number("FUZZ_CASE") {
        Some(case) => case..case + 1,
        None => 0..number("FUZZ_CASES").unwrap_or(target.cases),
    };
    let under_way = UnderWay::begin(name);
    let found = search(target, seed, cases.clone(), &mut |case| under_way.is_at(case));
    match found {
        Ok((accepted, refused)) => {
            println!("{name}: seed {seed}, {} cases and the corpus: {accepted} accepted, {refused} refused", cases.end - cases.start);
            under_way.end();
            // One case may be either.
            assert!(
                cases.end - cases.start == 1 || accepted > 0 && refused > 0,
                "{name}: a target that always says the same finds nothing"
            );
        }
        Err(failure) => {
            let file = folder().join(format!("{name}-{seed}-{}.parts", failure.case));
            fs::write(&file, corpus::to_file(&failure.input)).unwrap();
            under_way.end();
            panic!(
                "{name}, case {case}: {why}\nagain: FUZZ_SEED={seed} FUZZ_CASE={case} cargo test --test fuzz -- --nocapture (the input is in {file}; into tests/corpus/{name} with it, once it is mended)",
                case = failure.case,
                why = failure.why,
                file = file.display()
            );
        }
    }
}

/// The first of the cases that does not hold, the corpus as it is before all; how many inputs were accepted and refused.
pub(crate) fn search(
    target: &Target,
    seed: u64,
    cases: std::ops::Range<u64>,
    at: &mut dyn FnMut(&str),
) -> Result<(u64, u64), Box<Failure>> {
    quiet_where_it_is_asked();
    let mut inputs = (target.seeds)();
    let in_order = inputs.len();
    inputs.extend(corpus::kept(target.name));
    let mut counts = (0, 0);
    let mut one = |input: Input, case: String, random: &mut StdRng| {
        at(&case);
        match catch_unwind(AssertUnwindSafe(|| (target.run)(&input, random))) {
            Ok(Verdict::Accepted) => counts.0 += 1,
            Ok(Verdict::Refused) => counts.1 += 1,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                return Err(Box::new(Failure { case, why: text.unwrap_or_default(), input }));
            }
        }
        Ok(())
    };
    if cases.start == 0 {
        for (index, input) in inputs.iter().enumerate() {
            one(input.clone(), format!("corpus-{index}"), &mut StdRng::seed_from_u64(seed))?;
        }
    }
    for case in cases {
        // Another seed shares no case with this one.
        let mut random = StdRng::seed_from_u64(seed.rotate_left(32) ^ case);
        // Most of what is kept is refused as it is.
        let from = if random.random_ratio(3, 4) { in_order } else { inputs.len() };
        let mut input = inputs[random.random_range(0..from)].clone();
        mutate::input(&mut input, &inputs, &mut random);
        one(input, case.to_string(), &mut random)?;
    }
    Ok(counts)
}

/// Runs what may panic in others' code, which is caught there; its words would only bury ours.
pub(crate) fn quietly<T>(run: impl FnOnce() -> T) -> T {
    let before = QUIET.replace(true);
    let result = run();
    QUIET.set(before);
    result
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

fn quiet_where_it_is_asked() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                former(info);
            }
        }));
    });
}

/// Runs with at most so many bytes allocated at any time.
pub(crate) fn within<T>(bytes: u64, what: &str, run: impl FnOnce() -> T) -> T {
    let mut result = None;
    let took = allocation_counter::measure(|| result = Some(run())).bytes_max;
    assert!(took <= bytes, "{what} took {took} bytes of memory, and {bytes} are its bound");
    result.unwrap()
}

/// Where failures go.
fn folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Says in a file which case runs: an abort takes everything else with it.
struct UnderWay {
    path: PathBuf,
    file: fs::File,
}

impl UnderWay {
    fn begin(name: &str) -> Self {
        let path = folder().join(format!("{name}.under-way"));
        if let Ok(case) = fs::read_to_string(&path) {
            println!("{name}: an earlier run did not come to its end; it was at case {}", case.trim());
        }
        let file = fs::File::create(&path).unwrap();
        Self { path, file }
    }

    fn is_at(&self, case: &str) {
        use std::os::unix::fs::FileExt as _;
        self.file.write_all_at(format!("{case:<24}").as_bytes(), 0).unwrap();
    }

    fn end(self) {
        fs::remove_file(self.path).unwrap();
    }
}
