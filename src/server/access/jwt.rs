//! JWTs: tokens that an identity provider has signed.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::config::JwtConfig;
use super::permission::Permissions;
use super::signatures;

/// Clocks of machines that are looked after differ by less.
const LEEWAY_SECONDS: u64 = 30;
const LEEWAY_SECONDS_MAX: u64 = 300;
/// A secret that is shorter than what it makes can be guessed.
const SECRET_BYTES_MIN: usize = 32;
/// Longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// A configuration of JWTs that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// A setting is missing or wrong.
    #[error("auth.jwt.{field} {reason}")]
    Setting {
        /// Which.
        field: &'static str,
        /// What is wrong, and what to write.
        reason: String,
    },
    /// A file cannot be read.
    #[error("auth.jwt: {path} cannot be read: {source}; check the path and its permissions")]
    Io {
        /// Its path.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A file has no key that can be used.
    #[error("auth.jwt: {path} has no key for {algorithms}: {reason}")]
    Key {
        /// Its path.
        path: String,
        /// What the key is for.
        algorithms: String,
        /// What is wrong.
        reason: String,
    },
}

/// Whom a JWT shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) name: String,
    pub(super) permissions: Permissions,
    /// Until when it counts, leeway included.
    pub(super) until: SystemTime,
}

/// What checks JWTs.
pub(super) struct Jwt {
    config: JwtConfig,
    validation: Validation,
    leeway: Duration,
    keys: Keys,
}

enum Keys {
    One(DecodingKey),
    ById(HashMap<String, DecodingKey>),
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt").field("algorithms", &self.config.algorithms).finish_non_exhaustive()
    }
}

impl Jwt {
    /// Reads the keys.
    pub(super) fn open(config: &JwtConfig) -> Result<Self, JwtError> {
        signatures::install();
        let algorithms = algorithms(config)?;
        let setting = |field, reason: &str| Err(JwtError::Setting { field, reason: reason.to_owned() });
        if config.audience.is_empty() {
            return setting("audience", "is missing: name the audience that tokens for this coordinator have");
        }
        if config.issuer.is_empty() {
            return setting("issuer", "is missing: name who issues the tokens, as their claim iss says it");
        }
        let leeway = config.leeway_seconds.unwrap_or(LEEWAY_SECONDS);
        if leeway > LEEWAY_SECONDS_MAX {
            return setting("leeway_seconds", "is more than 300: mend the clocks");
        }
        let mut validation = Validation::new(algorithms[0]);
        validation.algorithms.clone_from(&algorithms);
        validation.leeway = leeway;
        validation.validate_nbf = true;
        validation.set_audience(&[&config.audience]);
        validation.set_issuer(&[&config.issuer]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        let keys = keys(config, &algorithms)?;
        Ok(Self { config: config.clone(), validation, leeway: Duration::from_secs(leeway), keys })
    }

    /// The files whose change means other keys.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.config.key_file, &self.config.jwks_file, &self.config.secret_file].into_iter().flatten()
    }

    /// Whom a token shows.
    ///
    /// # Errors
    /// Why it does not count; nothing of it is in the text.
    pub(super) fn check(&self, token: &str) -> Result<Shown, &'static str> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err("the JWT is longer than 16 KiB");
        }
        let key = match &self.keys {
            Keys::One(key) => key,
            Keys::ById(keys) => {
                let id = decode_header(token).map_err(|error| refusal(error.kind()))?.kid;
                let id = id.ok_or("the JWT does not name its key, of which there are several")?;
                keys.get(&id).ok_or("the JWT names a key that is not known here")?
            }
        };
        let claims = decode::<Map<String, Value>>(token, key, &self.validation).map_err(|error| refusal(error.kind()))?.claims;
        let name = claims.get("sub").and_then(Value::as_str).filter(|name| !name.is_empty() && !name.chars().any(char::is_control));
        let name = name.ok_or("the JWT's subject (sub) is no text")?.to_owned();
        let expires = claims.get("exp").and_then(Value::as_f64).filter(|exp| exp.is_finite() && *exp >= 0.0);
        let expires = expires.and_then(|exp| Duration::try_from_secs_f64(exp).ok()).and_then(|exp| SystemTime::UNIX_EPOCH.checked_add(exp));
        let until = expires.and_then(|expires| expires.checked_add(self.leeway)).ok_or("the JWT's expiry (exp) is no time")?;
        let permissions = self.permissions(&claims, &name)?;
        Ok(Shown { name, permissions, until })
    }

    fn permissions(&self, claims: &Map<String, Value>, name: &str) -> Result<Permissions, &'static str> {
        let claim = self.config.permissions_claim.as_deref().unwrap_or("bowstring");
        let claimed = texts(claims.get(claim)).ok_or("the JWT's claim of permissions is neither a text nor a list of texts")?;
        let mut all = Permissions::parse(claimed).map_err(|_| "the JWT's claim of permissions has one that is none")?;
        let roles = self.config.roles_claim.as_deref().unwrap_or("roles");
        let roles = texts(claims.get(roles)).ok_or("the JWT's claim of roles is neither a text nor a list of texts")?;
        let of_roles = roles.into_iter().filter_map(|role| self.config.roles.get(role));
        for more in of_roles.chain(self.config.subjects.get(name)) {
            all = all.and(more).map_err(|_| "the JWT's subject has more than 256 permissions")?;
        }
        Ok(all)
    }
}

/// A claim's texts: none if there is no such claim.
fn texts(claim: Option<&Value>) -> Option<Vec<&str>> {
    match claim {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::String(text)) => Some(text.split_ascii_whitespace().collect()),
        Some(Value::Array(all)) => all.iter().map(Value::as_str).collect(),
        Some(_) => None,
    }
}

fn refusal(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "the JWT has expired",
        ErrorKind::ImmatureSignature => "the JWT is not valid yet",
        ErrorKind::InvalidAudience => "the JWT is for another audience",
        ErrorKind::InvalidIssuer => "the JWT is of another issuer",
        ErrorKind::InvalidSignature => "the JWT's signature is not of a key that counts here",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => "the JWT is signed by an algorithm that does not count here",
        ErrorKind::MissingRequiredClaim(claim) if claim == "exp" => "the JWT has no expiry (exp)",
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => "the JWT has no audience (aud)",
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => "the JWT has no issuer (iss)",
        ErrorKind::MissingRequiredClaim(_) => "the JWT has no subject (sub)",
        _ => "what looks like a JWT cannot be read",
    }
}

fn algorithms(config: &JwtConfig) -> Result<Vec<Algorithm>, JwtError> {
    let wrong = |reason: String| JwtError::Setting { field: "algorithms", reason };
    let parse = |name: &String| {
        name.parse::<Algorithm>().map_err(|_| wrong(format!("names {name:?}; write RS256, ES256, EdDSA, HS256 or their like")))
    };
    let algorithms = config.algorithms.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = algorithms.first() else { return Err(wrong("is empty: name those that the tokens are signed by".to_owned())) };
    if algorithms.iter().any(|other| kind(*other) != kind(*first)) {
        return Err(wrong("are of several kinds of keys; name those of one".to_owned()));
    }
    Ok(algorithms)
}

/// Which kind of key it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Secret,
    Rsa,
    P256,
    P384,
    Edwards,
}

fn kind(algorithm: Algorithm) -> Kind {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Kind::Secret,
        Algorithm::ES256 => Kind::P256,
        Algorithm::ES384 => Kind::P384,
        Algorithm::EdDSA => Kind::Edwards,
        _ => Kind::Rsa,
    }
}

fn keys(config: &JwtConfig, algorithms: &[Algorithm]) -> Result<Keys, JwtError> {
    let kind = kind(algorithms[0]);
    let names = || config.algorithms.join(", ");
    match (&config.key_file, &config.jwks_file, &config.secret_file) {
        (Some(path), None, None) if kind != Kind::Secret => {
            let pem = read(path)?;
            let key = match kind {
                Kind::Rsa => DecodingKey::from_rsa_pem(&pem),
                Kind::P256 | Kind::P384 => DecodingKey::from_ec_pem(&pem),
                Kind::Edwards => DecodingKey::from_ed_pem(&pem),
                Kind::Secret => return Err(JwtError::Setting { field: "key_file", reason: "goes with no HS algorithm".to_owned() }),
            };
            let failed =
                |error: jsonwebtoken::errors::Error| JwtError::Key { path: show(path), algorithms: names(), reason: error.to_string() };
            Ok(Keys::One(key.map_err(failed)?))
        }
        (None, Some(path), None) if kind != Kind::Secret => {
            let failed = |reason: String| JwtError::Key { path: show(path), algorithms: names(), reason };
            let set: JwkSet = serde_json::from_slice(&read(path)?).map_err(|error| failed(error.to_string()))?;
            let family = algorithms[0];
            let fits = |key: &DecodingKey| algorithm_family(family) == Some(key.family());
            let keyed = set.keys.iter().filter_map(|jwk| Some((jwk.common.key_id.clone()?, DecodingKey::from_jwk(jwk).ok()?)));
            let keys: HashMap<_, _> = keyed.filter(|(_, key)| fits(key)).collect();
            if keys.is_empty() { Err(failed("none of its keys with an id (kid) is of that kind".to_owned())) } else { Ok(Keys::ById(keys)) }
        }
        (None, None, Some(path)) if kind == Kind::Secret => {
            let secret = read(path)?;
            let secret = secret.trim_ascii();
            if secret.len() < SECRET_BYTES_MIN {
                let reason = format!("it has {} bytes, and a secret has {SECRET_BYTES_MIN} at least", secret.len());
                return Err(JwtError::Key { path: show(path), algorithms: names(), reason });
            }
            Ok(Keys::One(DecodingKey::from_secret(secret)))
        }
        _ => {
            let reason =
                "must have one of key_file, jwks_file (of public keys) and secret_file (of the HS algorithms) that fits them".to_owned();
            Err(JwtError::Setting { field: "algorithms", reason })
        }
    }
}

fn algorithm_family(algorithm: Algorithm) -> Option<jsonwebtoken::AlgorithmFamily> {
    use jsonwebtoken::AlgorithmFamily as Family;
    match kind(algorithm) {
        Kind::Secret => None,
        Kind::Rsa => Some(Family::Rsa),
        Kind::P256 | Kind::P384 => Some(Family::Ec),
        Kind::Edwards => Some(Family::Ed),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, JwtError> {
    fs::read(path).map_err(|source| JwtError::Io { path: show(path), source })
}

fn show(path: &Path) -> String {
    path.display().to_string()
}
