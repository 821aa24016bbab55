//! The token that a client shows, and where its newest comes from.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use parking_lot::Mutex;

use super::Error;
use super::retry::now;
use crate::wire::secret::Secret;

/// The variable with the token itself.
const TOKEN_VARIABLE: &str = "BOWSTRING_TOKEN";
/// The variable with the path of a file that has it.
const FILE_VARIABLE: &str = "BOWSTRING_TOKEN_FILE";
/// The variable that lets tokens go to other hosts in clear.
const PLAINTEXT_VARIABLE: &str = "BOWSTRING_ALLOW_PLAINTEXT_TOKEN";
/// How often a file is looked at while calls are made.
const FILE_LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a function is asked while calls are made.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Gives the newest token, or says why there is none.
pub type TokenFunction = Arc<dyn Fn() -> Result<Secret, String> + Send + Sync>;

/// Where a client's token comes from. It is never shown: `Debug` names the source alone.
#[derive(Clone, Default)]
pub enum TokenSource {
    /// `BOWSTRING_TOKEN`, or else the file that `BOWSTRING_TOKEN_FILE` names, or else none. A coordinator in this process is not
    /// shown it.
    #[default]
    Environment,
    /// None.
    None,
    /// This one.
    Fixed(Secret),
    /// What the file has, read again when it changes and when a token was refused.
    File(PathBuf),
    /// What the function gives: asked when a token was refused, and twice a minute while calls are made. It must not wait long.
    Function(TokenFunction),
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("Environment"),
            Self::None => f.write_str("None"),
            Self::Fixed(secret) => f.debug_tuple("Fixed").field(secret).finish(),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Function(_) => f.write_str("Function(...)"),
        }
    }
}

/// Whether the environment lets tokens go to other hosts in clear.
pub(super) fn allowed_by_environment() -> bool {
    std::env::var(PLAINTEXT_VARIABLE).is_ok_and(|value| matches!(value.as_str(), "1" | "true"))
}

/// The token that calls of one client carry.
#[derive(Debug)]
pub(super) struct Credentials {
    source: TokenSource,
    /// A coordinator in this process is not shown what was not meant for it.
    pub(super) is_of_environment: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    newest: Result<HeaderValue, Arc<str>>,
    asked_at: Instant,
    file: Option<(u64, u64, i64, i64)>,
}

impl Credentials {
    /// None: there is no token to show.
    ///
    /// # Errors
    /// `invalid_argument` if the token cannot be had.
    pub(super) fn new(source: &TokenSource) -> Result<Option<Self>, Error> {
        let (source, is_of_environment) = match source {
            TokenSource::Environment => (of_environment(), true),
            given => (given.clone(), false),
        };
        if matches!(source, TokenSource::None) {
            return Ok(None);
        }
        let state = State { newest: Err("".into()), asked_at: now(), file: None };
        let credentials = Self { source, is_of_environment, state: Mutex::new(state) };
        credentials.refresh();
        credentials.header().map(|_| Some(credentials))
    }

    /// The newest token, as a header; it is asked for again if it was not for a while.
    ///
    /// # Errors
    /// `invalid_argument` if it cannot be had.
    pub(super) fn header(&self) -> Result<HeaderValue, Error> {
        let (asked_at, known) = {
            let state = self.state.lock();
            (state.asked_at, state.file)
        };
        let age = now().saturating_duration_since(asked_at);
        match &self.source {
            TokenSource::File(path) if age >= FILE_LOOK_EVERY => {
                if mark(path) == known && known.is_some() {
                    self.state.lock().asked_at = now();
                } else {
                    self.refresh();
                }
            }
            TokenSource::Function(_) if age >= ASK_EVERY => self.refresh(),
            _ => {}
        }
        self.state.lock().newest.clone().map_err(|reason| Error::invalid(format!("there is no token to show: {reason}")))
    }

    /// Whether another attempt may have another token.
    pub(super) fn can_change(&self) -> bool {
        matches!(self.source, TokenSource::File(_) | TokenSource::Function(_))
    }

    /// Asks for the newest token now. One that cannot be had leaves the one before.
    pub(super) fn refresh(&self) {
        let file = if let TokenSource::File(path) = &self.source { mark(path) } else { None };
        let newest = match &self.source {
            TokenSource::Fixed(secret) => header(secret),
            TokenSource::File(path) => read(path).and_then(|secret| header(&secret)),
            TokenSource::Function(function) => function().and_then(|secret| header(&secret)),
            TokenSource::Environment | TokenSource::None => Err("none is set".to_owned()),
        };
        let mut state = self.state.lock();
        state.asked_at = now();
        match newest {
            Ok(newest) => (state.newest, state.file) = (Ok(newest), file),
            Err(reason) if state.newest.is_err() => state.newest = Err(reason.into()),
            Err(reason) => tracing::warn!(reason, "the newest token cannot be had; the one before is shown"),
        }
    }
}

fn of_environment() -> TokenSource {
    match (std::env::var(TOKEN_VARIABLE), std::env::var_os(FILE_VARIABLE)) {
        (Ok(token), _) if !token.is_empty() => TokenSource::Fixed(Secret::new(&token)),
        (_, Some(path)) if !path.is_empty() => TokenSource::File(path.into()),
        _ => TokenSource::None,
    }
}

fn mark(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.size(), metadata.ctime(), metadata.ctime_nsec()))
}

fn read(path: &Path) -> Result<Secret, String> {
    let failed = |error: std::io::Error| format!("the token file {} cannot be read: {error}", path.display());
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(format!("the token file {} has more than {FILE_BYTES_MAX} bytes, and is none", path.display()));
    }
    fs::read_to_string(path).map_err(failed).map(|text| Secret::new(&text))
}

fn header(secret: &Secret) -> Result<HeaderValue, String> {
    if secret.reveal().is_empty() {
        return Err("it is empty".to_owned());
    }
    // What it looks like is not told: it may be nearly a token.
    let mut header =
        HeaderValue::try_from(format!("Bearer {}", secret.reveal())).map_err(|_| "it has characters that no token has".to_owned())?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_by_nothing_but_its_header() {
        let credentials = Credentials::new(&TokenSource::Fixed(Secret::new("canary"))).expect("a token").expect("one");
        let header = credentials.header().expect("is there");
        assert_eq!(header.as_bytes(), b"Bearer canary");
        for shown in [format!("{credentials:?}"), format!("{header:?}"), format!("{:?}", credentials.source)] {
            assert!(!shown.contains("canary"), "{shown}");
        }
        let error = Credentials::new(&TokenSource::Fixed(Secret::new("can\nary"))).expect_err("no token").to_string();
        assert!(!error.contains("ary\n") && error.contains("characters"), "{error}");
    }

    #[test]
    fn a_files_newest_token_counts_and_a_bad_file_leaves_the_one_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let missing = Credentials::new(&TokenSource::File(path.clone())).expect_err("is not there").to_string();
        assert!(missing.contains("token") && missing.contains("cannot be read"), "{missing}");
        fs::write(&path, "one\n").expect("writes");
        let credentials = Credentials::new(&TokenSource::File(path.clone())).expect("reads").expect("one");
        let shown = || String::from_utf8(credentials.header().expect("is there").as_bytes().to_vec()).expect("text");
        assert_eq!(shown(), "Bearer one");
        for (text, expected) in [("two", "Bearer two"), ("", "Bearer two"), ("three", "Bearer three")] {
            fs::write(&path, text).expect("writes");
            credentials.refresh();
            assert_eq!(shown(), expected);
        }
    }
}
