//! JWTs: which count, whom they show, and when they end.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bowstring::server::{AuthConfig, JwtConfig, Permissions, Server, ServerConfig};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use super::super::client_support::PATIENCE;
use super::super::server_support::{channel, code, start, stop};
use super::{now, put_as, read_as};

const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

fn seconds(from_now: i64) -> i64 {
    let now = now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + from_now
}

fn claims() -> Value {
    json!({"sub": "alice", "aud": "bowstring", "iss": "https://issuer", "exp": seconds(600), "bowstring": "append:s read:s"})
}

fn jwt(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn hs256(claims: &Value) -> String {
    let sign = |signed: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed).as_ref().to_vec();
    jwt(&json!({"alg": "HS256", "typ": "JWT"}), claims, sign)
}

fn config(jwt: JwtConfig) -> ServerConfig {
    let jwt = JwtConfig { audience: "bowstring".into(), issuer: "https://issuer".into(), leeway_seconds: Some(1), ..jwt };
    ServerConfig { auth: AuthConfig { jwt: Some(jwt), ..AuthConfig::default() }, ..ServerConfig::default() }
}

fn by_secret(folder: &Path) -> JwtConfig {
    let path = folder.join("secret");
    std::fs::write(&path, SECRET).unwrap();
    JwtConfig { algorithms: vec!["HS256".into()], secret_file: Some(path), ..JwtConfig::default() }
}

async fn outcome(server: &Server, token: &str) -> String {
    let channel = channel(server.listen_addr()).await;
    put_as(&channel, Some(token), "s").await.map_or_else(|status| format!("{} {}", code(&status), status.message()), |()| "ok".to_owned())
}

#[tokio::test]
async fn a_jwt_counts_with_the_right_audience_issuer_expiry_and_signature_alone() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(config(by_secret(folder.path()))).await;
    assert_eq!(outcome(&server, &hs256(&claims())).await, "ok");
    assert_eq!(outcome(&server, &hs256(&claims())).await, "ok", "and once more, from what was checked before");
    let changed = |name: &str, value: Value| {
        let mut claims = claims();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value;
        }
        hs256(&claims)
    };
    let none = jwt(&json!({"alg": "none"}), &claims(), |_| Vec::new());
    let other_key = jwt(&json!({"alg": "HS256"}), &claims(), |signed| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"other"), signed).as_ref().to_vec()
    });
    let stronger =
        jwt(&json!({"alg": "HS512"}), &claims(), |signed| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, SECRET), signed).as_ref().to_vec());
    for (token, word) in [
        (changed("aud", json!("other")), "another audience"),
        (changed("aud", Value::Null), "no audience"),
        (changed("iss", json!("other")), "another issuer"),
        (changed("iss", Value::Null), "no issuer"),
        (changed("exp", Value::Null), "no expiry"),
        (changed("exp", json!(seconds(-10))), "expired"),
        (changed("nbf", json!(seconds(60))), "not valid yet"),
        (changed("sub", Value::Null), "no subject"),
        (changed("bowstring", json!("everything")), "claim of permissions"),
        (changed("bowstring", json!(7)), "claim of permissions"),
        (none, "cannot be read"),
        (other_key, "signature"),
        (stronger, "algorithm"),
    ] {
        let got = outcome(&server, &token).await;
        assert!(got.starts_with("unauthenticated") && got.contains(word) && !got.contains(&token), "{word}: {got}");
    }
    let got = outcome(&server, &changed("bowstring", Value::Null)).await;
    assert!(got.starts_with("permission_denied") && got.contains("alice"), "{got}");
    stop(server).await;
}

#[tokio::test]
async fn subjects_and_roles_get_what_the_configuration_gives_them() {
    let folder = tempfile::tempdir().unwrap();
    let given = |name: &str, permission: &str| BTreeMap::from([(name.to_owned(), Permissions::parse([permission]).unwrap())]);
    let jwt = JwtConfig { subjects: given("alice", "append:s"), roles: given("writers", "append:s"), ..by_secret(folder.path()) };
    let server = start(config(jwt)).await;
    for (subject, roles, may) in [("alice", json!([]), true), ("bob", json!(["writers"]), true), ("writers", json!(["alice"]), false)] {
        let mut claims = claims();
        (claims["sub"], claims["roles"], claims["bowstring"]) = (json!(subject), roles, json!([]));
        assert_eq!(outcome(&server, &hs256(&claims)).await == "ok", may, "{subject}");
    }
    stop(server).await;
}

#[tokio::test]
async fn a_read_that_lives_longer_than_its_jwt_ends_at_its_expiry() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(config(by_secret(folder.path()))).await;
    let channel = channel(server.listen_addr()).await;
    let mut claims = claims();
    claims["exp"] = json!(seconds(3));
    let token = hs256(&claims);
    put_as(&channel, Some(&token), "s").await.unwrap();
    let read = read_as(&channel, Some(&token), r#"{"stream": "s", "follow": true}"#);
    let status = tokio::time::timeout(PATIENCE, read).await.expect("it ends").unwrap_err();
    assert!(code(&status) == "unauthenticated" && status.message().contains("expired"), "{status}");
    stop(server).await;
}

#[tokio::test]
async fn public_keys_come_as_pem_or_by_their_ids() {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
    let sign = |signed: &[u8]| pair.sign(&SystemRandom::new(), signed).unwrap().as_ref().to_vec();
    let point = pair.public_key().as_ref();
    // SubjectPublicKeyInfo of a P-256 key, up to its point.
    let head = [0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, 3, 0x42, 0];
    let spki = STANDARD.encode([&head[..], point].concat());
    let folder = tempfile::tempdir().unwrap();
    let (pem, jwks) = (folder.path().join("key.pem"), folder.path().join("jwks.json"));
    std::fs::write(&pem, format!("-----BEGIN PUBLIC KEY-----\n{}\n{}\n-----END PUBLIC KEY-----\n", &spki[..64], &spki[64..])).unwrap();
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
    std::fs::write(&jwks, json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "one", "x": x, "y": y}]}).to_string()).unwrap();
    let algorithms = vec!["ES256".to_owned()];
    let of_pem = start(config(JwtConfig { algorithms: algorithms.clone(), key_file: Some(pem.clone()), ..JwtConfig::default() })).await;
    let of_jwks = start(config(JwtConfig { algorithms, jwks_file: Some(jwks), ..JwtConfig::default() })).await;
    let token = |header: Value| jwt(&header, &claims(), sign);
    assert_eq!(outcome(&of_pem, &token(json!({"alg": "ES256"}))).await, "ok");
    assert_eq!(outcome(&of_jwks, &token(json!({"alg": "ES256", "kid": "one"}))).await, "ok");
    assert!(outcome(&of_jwks, &token(json!({"alg": "ES256", "kid": "two"}))).await.contains("not known"));
    assert!(outcome(&of_jwks, &token(json!({"alg": "ES256"}))).await.contains("name its key"));
    // The public key is no secret of an HMAC, whatever the token says.
    let public = std::fs::read(&pem).unwrap();
    let confused = jwt(&json!({"alg": "HS256", "kid": "one"}), &claims(), |signed| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public), signed).as_ref().to_vec()
    });
    for server in [&of_pem, &of_jwks] {
        assert!(outcome(server, &confused).await.starts_with("unauthenticated"));
    }
    stop(of_pem).await;
    stop(of_jwks).await;
}

#[tokio::test]
async fn a_configuration_that_would_let_too_much_count_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let good = || by_secret(folder.path());
    std::fs::write(folder.path().join("short"), "short").unwrap();
    let short = Some(folder.path().join("short"));
    for (jwt, word) in [
        (JwtConfig { algorithms: Vec::new(), ..good() }, "algorithms"),
        (JwtConfig { algorithms: vec!["none".into()], ..good() }, "none"),
        (JwtConfig { algorithms: vec!["HS256".into(), "RS256".into()], ..good() }, "several kinds"),
        (JwtConfig { algorithms: vec!["RS256".into()], ..good() }, "secret_file"),
        (JwtConfig { key_file: good().secret_file, ..good() }, "one of key_file"),
        (JwtConfig { secret_file: short, ..good() }, "32"),
    ] {
        let free = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), http: None, ..config(jwt) };
        let error = Server::start(free).await.expect_err(word).to_string();
        assert!(error.contains(word) && error.contains("auth.jwt"), "{error}");
    }
    for (audience, issuer, leeway, word) in [("", "i", 1, "audience"), ("a", "", 1, "issuer"), ("a", "i", 301, "leeway_seconds")] {
        let jwt = JwtConfig { audience: audience.into(), issuer: issuer.into(), leeway_seconds: Some(leeway), ..good() };
        let auth = AuthConfig { jwt: Some(jwt), ..AuthConfig::default() };
        let free = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), http: None, auth, ..ServerConfig::default() };
        assert!(Server::start(free).await.expect_err(word).to_string().contains(word));
    }
}
