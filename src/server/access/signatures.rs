//! Signatures of JWTs, checked by ring: `jsonwebtoken` looks at the claims and leaves the cryptography to whom one names.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::{hmac, signature as of};
use signature::Verifier;

/// What `jsonwebtoken` is given. It signs nothing.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: |algorithm, key| Ok(Box::new(Ring { algorithm: *algorithm, key: key.clone() })),
    key_utils: KeyUtils::new_unimplemented(),
};

/// From now on JWTs are checked by ring, or by whom this process has named before.
pub(super) fn install() {
    // Somebody was before us: the first one stays.
    let _ = PROVIDER.install_default();
}

struct Ring {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for Ring {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for Ring {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match self.key.kind() {
            DecodingKeyKind::SecretOrDer(bytes) => self.verify_by(bytes, message, signature),
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                let key = of::RsaPublicKeyComponents { n, e };
                rsa(self.algorithm).and_then(|rsa| key.verify(rsa, message, signature).ok())
            }
        };
        verified.ok_or_else(signature::Error::new)
    }
}

impl Ring {
    fn verify_by(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Option<()> {
        let public =
            |algorithm: &'static dyn of::VerificationAlgorithm| of::UnparsedPublicKey::new(algorithm, key).verify(message, signature).ok();
        let secret = |algorithm| hmac::verify(&hmac::Key::new(algorithm, key), message, signature).ok();
        match self.algorithm {
            Algorithm::HS256 => secret(hmac::HMAC_SHA256),
            Algorithm::HS384 => secret(hmac::HMAC_SHA384),
            Algorithm::HS512 => secret(hmac::HMAC_SHA512),
            Algorithm::ES256 => public(&of::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => public(&of::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => public(&of::ED25519),
            rsa_algorithm => rsa(rsa_algorithm).and_then(|rsa| public(rsa)),
        }
    }
}

/// Keys of 2048 bits at least.
fn rsa(algorithm: Algorithm) -> Option<&'static of::RsaParameters> {
    Some(match algorithm {
        Algorithm::RS256 => &of::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &of::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &of::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &of::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &of::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &of::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}
