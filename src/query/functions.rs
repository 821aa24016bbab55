//! The functions of a query: those that give the same for the same row each time, and whose results are bounded by what they are given.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion_expr::{ScalarUDF, Volatility};

/// How large a function's results are, beside what it is given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Size {
    /// At most so many times as large as its largest argument.
    OfLargest(f64),
    /// As all its arguments together.
    OfAll,
    /// As all its arguments together, with the first between each.
    Separated,
    /// Each byte of the first may become one of the last, and that is a constant: a replacement.
    Replaced,
    /// As the first, once per group of the second, which is a constant: a pattern.
    Groups,
    /// The first as another type.
    Converted,
    /// So many bytes.
    Fixed(f64),
}

/// Those whose results have no fixed width. A function that is not here and whose results may be of any length cannot be used: `repeat`
/// and `lpad` make a gigabyte of a row.
const SIZES: &[(&str, Size)] = &[
    ("arrow_cast", Size::Converted),
    ("arrow_try_cast", Size::Converted),
    ("arrow_typeof", Size::Fixed(1024.0)),
    ("btrim", Size::OfLargest(1.0)),
    ("chr", Size::Fixed(4.0)),
    ("coalesce", Size::OfLargest(1.0)),
    ("concat", Size::OfAll),
    ("concat_ws", Size::Separated),
    ("decode", Size::OfLargest(1.0)),
    ("encode", Size::OfLargest(2.0)),
    ("get_field", Size::OfLargest(1.0)),
    ("greatest", Size::OfLargest(1.0)),
    ("initcap", Size::OfLargest(3.0)),
    ("least", Size::OfLargest(1.0)),
    ("left", Size::OfLargest(1.0)),
    ("lower", Size::OfLargest(3.0)),
    ("ltrim", Size::OfLargest(1.0)),
    ("named_struct", Size::OfAll),
    ("nullif", Size::OfLargest(1.0)),
    ("nvl", Size::OfLargest(1.0)),
    ("nvl2", Size::OfLargest(1.0)),
    ("overlay", Size::OfAll),
    ("regexp_match", Size::Groups),
    ("regexp_replace", Size::Replaced),
    ("replace", Size::Replaced),
    ("reverse", Size::OfLargest(1.0)),
    ("right", Size::OfLargest(1.0)),
    ("rtrim", Size::OfLargest(1.0)),
    ("split_part", Size::OfLargest(1.0)),
    ("struct", Size::OfAll),
    ("substr", Size::OfLargest(1.0)),
    ("substr_index", Size::OfLargest(1.0)),
    ("substring", Size::OfLargest(1.0)),
    ("to_hex", Size::Fixed(16.0)),
    ("translate", Size::OfLargest(4.0)),
    ("upper", Size::OfLargest(3.0)),
];

/// How large the results of a function are, if that is bounded.
pub(super) fn size(name: &str) -> Option<Size> {
    SIZES.iter().find(|(known, _)| *known == name).map(|(_, size)| *size)
}

/// Whether a function takes longer than in proportion to what it is given: `levenshtein` of two long texts is minutes.
pub(super) fn is_slow(name: &str) -> bool {
    name == "levenshtein"
}

/// All functions by all their names, but for those that give something else each time, or at another place.
pub(super) fn all() -> BTreeMap<String, Arc<ScalarUDF>> {
    let functions = datafusion_functions::all_default_functions().into_iter();
    functions
        .filter(|function| function.signature().volatility == Volatility::Immutable)
        .flat_map(|function| {
            let aliases = function.aliases().to_vec();
            let names = std::iter::once(function.name().to_owned()).chain(aliases);
            names.map(|name| (name, function.clone())).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_call_to_call_is_no_function_of_a_query() {
        let all = all();
        for name in ["now", "random", "uuid", "current_date", "current_timestamp", "input_file_name"] {
            assert!(!all.contains_key(name), "{name}");
        }
        for name in ["lower", "date_trunc", "abs", "regexp_like", "coalesce", "length"] {
            assert!(all.contains_key(name), "{name}");
        }
    }

    #[test]
    fn sizes_are_said_of_functions_that_there_are_and_in_order() {
        let all = all();
        assert!(SIZES.is_sorted_by_key(|(name, _)| *name));
        for (name, _) in SIZES {
            assert!(all.contains_key(*name), "{name}");
        }
    }
}
