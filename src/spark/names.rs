//! Names in errors, as Python writes them: the same error reads the same, whoever raises it.

/// In quotes.
pub(super) fn quoted(name: &str) -> String {
    let quote = if name.contains('\'') && !name.contains('"') { '"' } else { '\'' };
    let mut text = String::from(quote);
    for c in name.chars() {
        match c {
            c if c == quote || c == '\\' => text.extend(['\\', c]),
            c if c.is_control() => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    text.push(quote);
    text
}

/// In quotes and brackets.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    format!("[{}]", names.into_iter().map(quoted).collect::<Vec<_>>().join(", "))
}

/// Those that are there more than once, in order.
pub(super) fn twice<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut all: Vec<_> = names.into_iter().collect();
    all.sort_unstable();
    let mut twice: Vec<_> = all.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    twice.dedup();
    twice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_python_does_it() {
        assert_eq!(list(["a", "it's", "\"'\\\n"]), r#"['a', "it's", '"\'\\\n']"#);
        assert_eq!(twice(["b", "a", "c", "a", "b", "a"]), ["a", "b"]);
    }
}
