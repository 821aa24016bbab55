//! Bugs put in on purpose, each found: `cargo test --features zoo --test fuzz zoo`.

#[cfg(feature = "zoo")]
#[test]
fn every_bug_of_the_parsers_is_found_and_its_case_fails_again() {
    use bowstring::zoo::{Bug, let_out};

    use crate::engine::{search, target};

    /// By then each is found.
    const CASES_MAX: u64 = 100_000;
    for bug in Bug::OF_PARSERS {
        let name = match bug {
            Bug::ClaimBelieved | Bug::ValuesNotLookedAt => "ipc",
            Bug::FieldBeyondMessage => "frames",
            other => panic!("{other:?} is no parser's"),
        };
        let_out(Some(*bug));
        let found = search(target(name), 0, 0..CASES_MAX, &mut |_| {});
        let failure = found.err().unwrap_or_else(|| panic!("{bug:?} is not found in {CASES_MAX} cases of {name}"));
        eprintln!("{bug:?} is found by {name}, case {}: {}", failure.case, failure.why.lines().next().unwrap_or_default());
        if let Ok(case) = failure.case.parse::<u64>() {
            let again = search(target(name), 0, case..case + 1, &mut |_| {}).expect_err("the same case fails again");
            assert_eq!(again.why, failure.why);
            let_out(None);
            search(target(name), 0, case..case + 1, &mut |_| {}).expect("it is the bug that fails");
        }
        let_out(None);
    }
}
