//! What errors say of names.

use super::super::ProducerId;

/// How many names an error lists.
const NAMES_MAX: usize = 10;

/// Which producers there are to choose from.
pub(super) fn name_one_of(known: &[ProducerId]) -> String {
    if known.is_empty() {
        return "no producer has committed epochs: start at earliest or latest".to_owned();
    }
    let names: Vec<_> = known.iter().take(NAMES_MAX).map(ProducerId::as_str).collect();
    let more = known.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("name one that commits epochs: {}{more}", names.join(", "))
}
