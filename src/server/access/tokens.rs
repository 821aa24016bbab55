//! The tokens that are known: a file of their hashes, never of themselves.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::permission::Permissions;
use crate::wire::secret::Secret;

/// What a token begins with: secret scanners find it, and a JWT has no such beginning.
pub(super) const PREFIX: &str = "bst_";
/// A token's randomness.
const TOKEN_BYTES: usize = 32;
/// Largest file that is read: thousands of tokens.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A token's hash. Not secret by itself, and shown nowhere all the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(super) fn of(token: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(hash)
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Where it is looked up: what this tells by its timing is a part of a hash, from which no token follows.
    fn bucket(&self) -> [u8; 8] {
        let mut bucket = [0; 8];
        bucket.copy_from_slice(&self.0[..8]);
        bucket
    }

    fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
        }
        Some(Self(hash))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(...)")
    }
}

/// One token of the file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// What it is called by: revoking takes it, and lists show it.
    pub id: String,
    /// The principal whose token it is. Several tokens may have one.
    pub name: String,
    /// SHA-256 of the token, in hexadecimal digits.
    sha256: String,
    /// When it was made.
    #[serde(with = "rfc3339")]
    pub created: SystemTime,
    /// When it ends; none: never.
    #[serde(default, with = "rfc3339::optional")]
    pub expires: Option<SystemTime>,
    /// When it was revoked.
    #[serde(default, with = "rfc3339::optional")]
    pub revoked: Option<SystemTime>,
    /// What its principal may do.
    pub permissions: Permissions,
}

impl fmt::Debug for TokenEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEntry").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// A file of tokens that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read or written.
    #[error("the file of tokens {path} cannot be {doing}: {source}; `bowstring token issue` makes one")]
    Io {
        /// Its path.
        path: String,
        /// `read` or `written`.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// It is no file of tokens.
    #[error("the file of tokens {path} cannot be understood: {reason}; mend it, or make a new one with `bowstring token issue`")]
    Malformed {
        /// Its path.
        path: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// There is no token of that name or id.
    #[error("the file of tokens {path} has no token {token:?} that could be revoked; `bowstring token list` shows what it has")]
    Unknown {
        /// Its path.
        path: String,
        /// What was asked for.
        token: String,
    },
    /// The machine has no randomness.
    #[error("the system gives no random numbers; nothing was written")]
    Random,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokensText {
    version: u32,
    tokens: Vec<TokenEntry>,
}

/// The tokens of a file.
#[derive(Debug, Default)]
pub(super) struct Tokens(HashMap<[u8; 8], (TokenHash, Arc<TokenEntry>)>);

impl Tokens {
    /// Reads the file.
    pub(super) fn read(path: &Path) -> Result<Self, TokensError> {
        let mut all = HashMap::new();
        for entry in read(path)?.tokens {
            // `read` has parsed it already.
            let Some(hash) = TokenHash::parse(&entry.sha256) else { continue };
            all.insert(hash.bucket(), (hash, Arc::new(entry)));
        }
        Ok(Self(all))
    }

    /// The token of that hash, whatever has become of it.
    pub(super) fn get(&self, hash: &TokenHash) -> Option<&Arc<TokenEntry>> {
        let (known, entry) = self.0.get(&hash.bucket())?;
        bool::from(known.0.ct_eq(&hash.0)).then_some(entry)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn read(path: &Path) -> Result<TokensText, TokensError> {
    let failed = |source| TokensError::Io { path: path.display().to_string(), doing: "read", source };
    let malformed = |reason: String| TokensError::Malformed { path: path.display().to_string(), reason };
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(malformed(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    let text: TokensText = serde_json::from_slice(&fs::read(path).map_err(failed)?).map_err(|error| malformed(error.to_string()))?;
    if text.version != 1 {
        return Err(malformed(format!("its version is {}, and this bowstring knows version 1", text.version)));
    }
    for entry in &text.tokens {
        if TokenHash::parse(&entry.sha256).is_none() {
            return Err(malformed(format!("the sha256 of token {:?} is not 64 hexadecimal digits", entry.id)));
        }
        if entry.name.is_empty() || entry.name.chars().any(char::is_control) {
            return Err(malformed(format!("token {:?} has no name that can be shown", entry.id)));
        }
    }
    Ok(text)
}

/// All tokens of a file, as they were issued.
///
/// # Errors
/// [`TokensError`].
pub fn list_tokens(path: &Path) -> Result<Vec<TokenEntry>, TokensError> {
    Ok(read(path)?.tokens)
}

/// Makes a token for the principal `name` and puts its hash in the file, which is made if it does not exist. Nobody can make it
/// again from there.
///
/// # Errors
/// [`TokensError`]; the file is as it was then.
pub fn issue_token(
    path: &Path,
    name: &str,
    permissions: Permissions,
    lasts: Option<Duration>,
    now: SystemTime,
) -> Result<(Secret, TokenEntry), TokensError> {
    let mut random = [0; TOKEN_BYTES + 4];
    SystemRandom::new().fill(&mut random).map_err(|_| TokensError::Random)?;
    let (secret, id) = random.split_at(TOKEN_BYTES);
    let token = format!("{PREFIX}{}", hex(secret));
    let entry = TokenEntry {
        id: hex(id),
        name: name.to_owned(),
        sha256: hex(&TokenHash::of(&token).0),
        created: now,
        expires: lasts.and_then(|lasts| now.checked_add(lasts)),
        revoked: None,
        permissions,
    };
    change(path, |tokens| {
        tokens.push(entry.clone());
        Ok(())
    })?;
    Ok((Secret::new(&token), entry))
}

/// Revokes the token of that id, or all of that principal; those that it has revoked.
///
/// # Errors
/// [`TokensError`]; the file is as it was then.
pub fn revoke_token(path: &Path, token: &str, now: SystemTime) -> Result<Vec<TokenEntry>, TokensError> {
    let mut revoked = Vec::new();
    change(path, |tokens| {
        for entry in tokens.iter_mut().filter(|entry| entry.revoked.is_none() && (entry.id == token || entry.name == token)) {
            entry.revoked = Some(now);
            revoked.push(entry.clone());
        }
        if revoked.is_empty() {
            return Err(TokensError::Unknown { path: path.display().to_string(), token: token.to_owned() });
        }
        Ok(())
    })?;
    Ok(revoked)
}

/// Writes a changed file beside the old one, and puts it in its place. Two changes wait for each other.
fn change(path: &Path, change: impl FnOnce(&mut Vec<TokenEntry>) -> Result<(), TokensError>) -> Result<(), TokensError> {
    let failed = |source: io::Error| TokensError::Io { path: path.display().to_string(), doing: "written", source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let locked = File::open(folder).map_err(failed)?;
    rustix::fs::flock(&locked, rustix::fs::FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    let mut text = match read(path) {
        Ok(text) => text,
        Err(TokensError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => TokensText { version: 1, tokens: Vec::new() },
        Err(error) => return Err(error),
    };
    change(&mut text.tokens)?;
    // Made with mode 0600.
    let mut file = tempfile::Builder::new().prefix(".tokens-").tempfile_in(folder).map_err(failed)?;
    serde_json::to_writer_pretty(&mut file, &text).map_err(|error| failed(error.into()))?;
    file.write_all(b"\n").map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    locked.sync_all().map_err(failed)
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Times as people read them.
mod rfc3339 {
    use std::time::SystemTime;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_rfc3339_seconds(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        humantime::parse_rfc3339(&String::deserialize(from)?).map_err(D::Error::custom)
    }

    pub(super) mod optional {
        use std::time::SystemTime;

        use serde::de::Error as _;
        use serde::{Deserialize, Deserializer, Serializer};

        pub(in super::super) fn serialize<S: Serializer>(time: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, to),
                None => to.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
            let text = Option::<String>::deserialize(from)?;
            text.map(|text| humantime::parse_rfc3339(&text)).transpose().map_err(D::Error::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn permissions(text: &str) -> Permissions {
        Permissions::parse([text]).expect("a permission")
    }

    #[test]
    fn a_token_is_found_by_itself_alone_and_is_not_in_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens.json");
        let (first, _) = issue_token(&path, "alice", permissions("read:a"), None, NOW).expect("issued");
        let (second, entry) = issue_token(&path, "bob", permissions("append:b"), Some(Duration::from_secs(60)), NOW).expect("issued");
        assert_eq!(first.reveal().len(), PREFIX.len() + 2 * TOKEN_BYTES);
        let tokens = Tokens::read(&path).expect("is there");
        assert_eq!(tokens.len(), 2);
        assert_eq!(tokens.get(&TokenHash::of(first.reveal())).map(|entry| entry.name.as_str()), Some("alice"));
        assert_eq!(tokens.get(&TokenHash::of(second.reveal())).expect("bob's").expires, Some(NOW + Duration::from_secs(60)));
        assert!(tokens.get(&TokenHash::of("bst_")).is_none());
        let text = fs::read_to_string(&path).expect("is there");
        assert!(!text.contains(first.reveal()) && !text.contains(&first.reveal()[PREFIX.len()..]) && text.contains(&entry.id));
        assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("is there").count(), 1, "nothing is left beside it");
        let shown = format!("{:?} {tokens:?} {:?}", list_tokens(&path).expect("two"), first);
        assert!(!shown.contains(&entry.sha256) && !shown.contains(first.reveal()), "{shown}");
    }

    /// Two hashes that begin alike are not one.
    #[test]
    fn a_hash_counts_to_its_last_byte() {
        let (mut one, mut other) = ([7; 32], [7; 32]);
        (one[31], other[31]) = (1, 2);
        let folder = tempfile::tempdir().expect("a folder");
        let (_, entry) = issue_token(&folder.path().join("t"), "x", permissions("read:a"), None, NOW).expect("issued");
        let tokens = Tokens(HashMap::from([(TokenHash(one).bucket(), (TokenHash(one), Arc::new(entry)))]));
        assert!(tokens.get(&TokenHash(one)).is_some() && tokens.get(&TokenHash(other)).is_none());
    }

    #[test]
    fn revoking_names_a_token_or_all_of_a_principal() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens.json");
        let issue = |name| issue_token(&path, name, permissions("read:a"), None, NOW).expect("issued").1.id;
        let (first, _, _) = (issue("alice"), issue("alice"), issue("bob"));
        assert_eq!(revoke_token(&path, &first, NOW).expect("is there").len(), 1);
        assert_eq!(revoke_token(&path, "alice", NOW).expect("one is left").len(), 1);
        assert!(matches!(revoke_token(&path, "alice", NOW), Err(TokensError::Unknown { .. })));
        assert_eq!(list_tokens(&path).expect("three").iter().filter(|entry| entry.revoked.is_none()).count(), 1);
    }

    #[test]
    fn a_file_that_is_none_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens.json");
        assert!(matches!(Tokens::read(&path), Err(TokensError::Io { .. })));
        for (text, word) in [
            ("", "EOF"),
            ("{\"version\": 2, \"tokens\": []}", "version"),
            ("{\"version\": 1, \"tokens\": [], \"more\": 1}", "more"),
            (
                "{\"version\": 1, \"tokens\": [{\"id\": \"a\", \"name\": \"n\", \"sha256\": \"00\", \"created\": \"2026-01-01T00:00:00Z\", \"permissions\": []}]}",
                "sha256",
            ),
            (
                "{\"version\": 1, \"tokens\": [{\"id\": \"a\", \"name\": \"n\", \"sha256\": \"00\", \"created\": \"2026-01-01T00:00:00Z\", \"permissions\": [\"all\"]}]}",
                "all",
            ),
        ] {
            fs::write(&path, text).expect("writes");
            let error = Tokens::read(&path).expect_err(text).to_string();
            assert!(error.contains(word) && error.contains("tokens.json"), "{error}");
            assert!(issue_token(&path, "x", permissions("read:a"), None, NOW).is_err());
            assert_eq!(fs::read_to_string(&path).expect("is there"), text);
        }
    }
}
