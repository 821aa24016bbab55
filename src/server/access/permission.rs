//! A permission: a verb, and the streams on which it is allowed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most permissions of one principal: each call looks through them.
pub(super) const PERMISSIONS_MAX: usize = 256;
/// Longest pattern, in bytes: as long as a stream's name may be.
const PATTERN_BYTES_MAX: usize = 256;

/// What one may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Create the stream, append to it, commit and abort epochs, end it.
    Append,
    /// Read it by subscriptions: make, move and remove them, ack, lease. Includes [`Peek`](Self::Peek).
    Read,
    /// Look at what is there, without a subscription.
    Peek,
    /// Everything on the stream, and deleting it.
    Admin,
    /// See `/metrics`, which name all streams.
    Metrics,
}

impl Verb {
    /// As permissions write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Read => "read",
            Self::Peek => "peek",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }

    fn includes(self, other: Self) -> bool {
        match self {
            Self::Admin => true,
            Self::Read => matches!(other, Self::Read | Self::Peek),
            Self::Append | Self::Peek | Self::Metrics => self == other,
        }
    }
}

/// A verb and a pattern of streams' names, in which `*` stands for any text: `append:orders.*`. `metrics` has no pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Permission {
    verb: Verb,
    pattern: Box<str>,
}

/// A text that is no permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no permission: {reason}; write append:STREAM, read:STREAM, peek:STREAM or admin:STREAM, where * in STREAM stands for any text, or metrics"
)]
pub struct PermissionError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl FromStr for Permission {
    type Err = PermissionError;

    fn from_str(text: &str) -> Result<Self, PermissionError> {
        let wrong = |reason| PermissionError { text: text.to_owned(), reason };
        let (verb, pattern) = text.split_once(':').unwrap_or((text, ""));
        let verb = match verb {
            "append" => Verb::Append,
            "read" => Verb::Read,
            "peek" => Verb::Peek,
            "admin" => Verb::Admin,
            "metrics" if pattern.is_empty() => return Ok(Self { verb: Verb::Metrics, pattern: "*".into() }),
            "metrics" => return Err(wrong("metrics are of all streams")),
            _ => return Err(wrong("there is no such verb")),
        };
        if pattern.is_empty() {
            return Err(wrong("it names no stream"));
        }
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(wrong("its pattern is longer than 256 bytes"));
        }
        Ok(Self { verb, pattern: pattern.into() })
    }
}

impl TryFrom<String> for Permission {
    type Error = PermissionError;

    fn try_from(text: String) -> Result<Self, PermissionError> {
        text.parse()
    }
}

impl From<Permission> for String {
    fn from(permission: Permission) -> Self {
        permission.to_string()
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verb {
            Verb::Metrics => f.write_str("metrics"),
            verb => write!(f, "{}:{}", verb.as_str(), self.pattern),
        }
    }
}

/// All that one may do: nothing unless it says so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Permissions(Vec<Permission>);

impl Permissions {
    /// Everything.
    pub(super) fn all() -> Self {
        Self(vec![Permission { verb: Verb::Admin, pattern: "*".into() }])
    }

    /// Those that texts name.
    ///
    /// # Errors
    /// [`PermissionError`] names the first that is none, or says that there are too many.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, PermissionError> {
        let all: Vec<Permission> = texts.into_iter().map(str::parse).collect::<Result<_, _>>()?;
        Self::of(all)
    }

    fn of(all: Vec<Permission>) -> Result<Self, PermissionError> {
        match all.get(PERMISSIONS_MAX) {
            Some(one) => Err(PermissionError { text: one.to_string(), reason: "there are more than 256 with it" }),
            None => Ok(Self(all)),
        }
    }

    /// These and those.
    pub(super) fn and(mut self, others: &Self) -> Result<Self, PermissionError> {
        self.0.extend(others.0.iter().filter(|one| !self.0.contains(one)).cloned().collect::<Vec<_>>());
        Self::of(self.0)
    }

    /// Whether the verb is allowed on the stream.
    #[must_use]
    pub fn allow(&self, verb: Verb, stream: &str) -> bool {
        self.0.iter().any(|one| one.verb.includes(verb) && matches(&one.pattern, stream))
    }

    /// Whether the verb is allowed on all streams, whatever their names.
    #[must_use]
    pub fn allow_everywhere(&self, verb: Verb) -> bool {
        self.0.iter().any(|one| one.verb.includes(verb) && &*one.pattern == "*")
    }

    /// Whether one may know that the stream exists: anything on it is allowed.
    #[must_use]
    pub fn see(&self, stream: &str) -> bool {
        self.0.iter().any(|one| one.verb != Verb::Metrics && matches(&one.pattern, stream))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        // An error's text, which goes in a header.
        const SHOWN: usize = 10;
        for (index, one) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{one}", if index == 0 { "" } else { ", " })?;
        }
        if self.0.len() > SHOWN { write!(f, " and {} more", self.0.len() - SHOWN) } else { Ok(()) }
    }
}

/// Whether a text is what a pattern says, in time that grows with the product of their lengths at most.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut from) = (0, 0);
    // Where the last star was, and up to where it has taken the text.
    let mut star = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(byte) if *byte == text[from] => (at, from) = (at + 1, from + 1),
            _ => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    (at, from) = (star_at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_and_all_else_for_itself() {
        for (pattern, yes, no) in [
            ("orders", &["orders"][..], &["order", "orders2", "Orders", ""][..]),
            ("orders.*", &["orders.", "orders.eu", "orders.eu.x"], &["orders", "xorders.eu"]),
            ("*", &["", "anything"], &[]),
            ("*.raw", &[".raw", "a.raw", "a.raw.raw"], &["raw", "a.raw2"]),
            ("a*b*c", &["abc", "axbxbxc"], &["acb", "ab", "abcd"]),
            ("**", &["", "x"], &[]),
            ("a.b", &["a.b"], &["axb"]),
        ] {
            yes.iter().for_each(|text| assert!(matches(pattern, text), "{pattern} and {text}"));
            no.iter().for_each(|text| assert!(!matches(pattern, text), "{pattern} and {text}"));
        }
        // Not exponential.
        assert!(!matches(&"a*".repeat(100), &"a".repeat(99)));
    }

    #[test]
    fn nothing_is_allowed_that_no_permission_says() {
        let check = |texts: &[&str], verb, stream, allowed| {
            let permissions = Permissions::parse(texts.iter().copied()).expect("permissions");
            assert_eq!(permissions.allow(verb, stream), allowed, "{texts:?} {verb:?} {stream}");
        };
        for verb in [Verb::Append, Verb::Read, Verb::Peek, Verb::Admin, Verb::Metrics] {
            check(&[], verb, "s", false);
            check(&["admin:*"], verb, "s", true);
            check(&["admin:other"], verb, "s", false);
            check(&["append:s"], verb, "s", verb == Verb::Append);
            check(&["read:s"], verb, "s", matches!(verb, Verb::Read | Verb::Peek));
            check(&["peek:s"], verb, "s", verb == Verb::Peek);
            check(&["metrics"], verb, "s", verb == Verb::Metrics);
        }
        let of = |text| Permissions::parse([text]).expect("a permission");
        assert!(of("peek:s").see("s") && !of("peek:s").see("t") && !of("metrics").see("s"));
        assert!(of("admin:*").allow_everywhere(Verb::Metrics) && !of("admin:a*").allow_everywhere(Verb::Metrics));
    }

    #[test]
    fn a_permission_is_written_as_it_is_read_and_others_say_what_is_wrong() {
        for text in ["append:orders.*", "read:*", "peek:a:b", "admin:x", "metrics"] {
            assert_eq!(text.parse::<Permission>().expect(text).to_string(), text);
        }
        for (text, word) in
            [("write:s", "no such verb"), ("read", "no stream"), ("read:", "no stream"), ("metrics:s", "all streams"), ("", "verb")]
        {
            let error = text.parse::<Permission>().expect_err(text).to_string();
            assert!(error.contains(word) && error.contains("append:STREAM"), "{error}");
        }
        assert!(Permissions::parse(std::iter::repeat_n("read:s", PERMISSIONS_MAX)).is_ok());
        assert!(Permissions::parse(std::iter::repeat_n("read:s", PERMISSIONS_MAX + 1)).is_err());
        let long = |bytes| format!("read:{}", "x".repeat(bytes)).parse::<Permission>().is_ok();
        assert!(long(PATTERN_BYTES_MAX) && !long(PATTERN_BYTES_MAX + 1));
    }
}
