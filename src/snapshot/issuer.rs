//! An issuer of tokens: whose they are, and the key that their signatures are checked with.
//!
//! Keys are decoded here, once, when a Snapshot is built. The algorithm is the credential's: what a
//! token says of its own algorithm is compared with it and never followed, so that a public key cannot
//! be passed off as the secret of an HMAC, and nothing passes unsigned.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

use super::consumers::ConsumerIndex;
use crate::model::{JwtAlgorithm, JwtCredential};

/// Base64 with either alphabet for the last two characters once `-_` are `+/`; padding as it likes.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Bytes of an Ed25519 key.
const ED25519_BYTES: usize = 32;

/// A compiled credential of the plugin `jwt`.
pub struct Issuer {
    /// Whose tokens they are.
    pub consumer: ConsumerIndex,
    /// What the token's key claim says.
    pub key: Box<str>,
    algorithm: Algorithm,
    /// Key that signatures are checked with; `None` when it is of no use, so that no token is valid.
    verifying: Option<DecodingKey>,
    /// The same where the plugin says that secrets are base64.
    verifying_base64: Option<DecodingKey>,
}

/// Why a token is not the issuer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unverified {
    /// The credential's key cannot be used.
    UnusableKey,
    /// Someone else signed, or something else was signed.
    Signature,
}

impl Issuer {
    /// Compiles a credential of a Consumer.
    pub fn build(consumer: ConsumerIndex, source: &JwtCredential) -> Self {
        let algorithm = algorithm(source.algorithm);
        let (verifying, verifying_base64) = match algorithm.family() {
            AlgorithmFamily::Hmac => {
                let secret = source.secret.expose();
                let decoded = decode_secret(secret);
                (
                    Some(DecodingKey::from_secret(secret.as_bytes())),
                    decoded.map(|secret| DecodingKey::from_secret(&secret)),
                )
            }
            // `secret_is_base64` is about secrets, so that a public key is the same either way.
            family => {
                let pem = source.public_key.as_deref().unwrap_or_default();
                let key = public_key(family, pem.as_bytes());
                (key.clone(), key)
            }
        };
        Self {
            consumer,
            key: source.key.as_str().into(),
            algorithm,
            verifying,
            verifying_base64,
        }
    }

    /// Says whether this is the algorithm's name as tokens write it.
    pub fn signs_with(&self, name: &str) -> bool {
        name.parse::<Algorithm>()
            .is_ok_and(|algorithm| algorithm == self.algorithm)
    }

    /// Checks a signature: `message` is the token up to its second dot, `signature` what follows, in
    /// base64url.
    ///
    /// For the times that this takes see `docs/authentication.md`; HMAC is a few microseconds, RSA a
    /// few hundred.
    pub fn verify(&self, message: &[u8], signature: &str, is_base64: bool) -> Result<(), Unverified> {
        let key = if is_base64 {
            &self.verifying_base64
        } else {
            &self.verifying
        };
        let key = key.as_ref().ok_or(Unverified::UnusableKey)?;
        let signature = signature.trim_end_matches('=');
        match jsonwebtoken::crypto::verify(signature, message, key, self.algorithm) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Unverified::Signature),
        }
    }
}

/// Decodes base64 as Kong does: either alphabet, with or without padding.
pub fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let standard: Vec<u8> = text
        .iter()
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            byte => *byte,
        })
        .collect();
    LENIENT.decode(standard).ok()
}

fn decode_secret(secret: &str) -> Option<Vec<u8>> {
    decode_base64(secret.as_bytes())
}

/// Reads a public key and tries it, so that no request meets one that is of no use.
fn public_key(family: AlgorithmFamily, pem: &[u8]) -> Option<DecodingKey> {
    let key = match family {
        AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem),
        AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem),
        AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem),
        AlgorithmFamily::Hmac => return None,
    };
    // The library takes the first 32 bytes of an Ed25519 key without a look at how many there are.
    key.ok().filter(|key| {
        family != AlgorithmFamily::Ed
            || key
                .try_get_as_bytes()
                .is_ok_and(|bytes| bytes.len() == ED25519_BYTES)
    })
}

fn algorithm(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::Hs256 => Algorithm::HS256,
        JwtAlgorithm::Hs384 => Algorithm::HS384,
        JwtAlgorithm::Hs512 => Algorithm::HS512,
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Rs384 => Algorithm::RS384,
        JwtAlgorithm::Rs512 => Algorithm::RS512,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::Es384 => Algorithm::ES384,
        JwtAlgorithm::Ps256 => Algorithm::PS256,
        JwtAlgorithm::Ps384 => Algorithm::PS384,
        JwtAlgorithm::Ps512 => Algorithm::PS512,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::EncodingKey;
    use uuid::Uuid;

    use super::*;
    use crate::model::{self, Masked};
    use crate::snapshot::Consumers;

    const RSA: &[u8] = include_bytes!("../../tests/data/keys/rsa.pem");
    const RSA_PUBLIC: &str = include_str!("../../tests/data/keys/rsa.pub.pem");
    const ES256: &[u8] = include_bytes!("../../tests/data/keys/es256.pem");
    const ES256_PUBLIC: &str = include_str!("../../tests/data/keys/es256.pub.pem");
    const ES384: &[u8] = include_bytes!("../../tests/data/keys/es384.pem");
    const ES384_PUBLIC: &str = include_str!("../../tests/data/keys/es384.pub.pem");
    const ED25519: &[u8] = include_bytes!("../../tests/data/keys/ed25519.pem");
    const ED25519_PUBLIC: &str = include_str!("../../tests/data/keys/ed25519.pub.pem");
    const MESSAGE: &[u8] = b"header.claims";

    fn credential(algorithm: JwtAlgorithm, secret: &str, public_key: Option<&str>) -> JwtCredential {
        JwtCredential {
            id: Uuid::nil(),
            key: "issuer".to_owned(),
            algorithm,
            secret: Masked::new(secret),
            public_key: public_key.map(str::to_owned),
        }
    }

    fn verify(
        credential: JwtCredential,
        message: &[u8],
        signature: &str,
        is_base64: bool,
    ) -> Result<(), Unverified> {
        let consumers = Consumers::build(&[model::Consumer {
            id: Uuid::nil(),
            username: Some("alice".to_owned()),
            custom_id: None,
            acl_groups: Vec::new(),
            consumer_groups: Vec::new(),
            keys: Vec::new(),
            passwords: Vec::new(),
            tokens: vec![credential],
        }]);
        let issuer = consumers.find_issuer("issuer").unwrap().credential;
        issuer.verify(message, signature, is_base64)
    }

    fn sign(key: &EncodingKey, algorithm: Algorithm) -> String {
        jsonwebtoken::crypto::sign(MESSAGE, key, algorithm).unwrap()
    }

    /// Signs and checks, then changes the message and the signature.
    #[track_caller]
    fn check(credential: JwtCredential, key: &EncodingKey, algorithm: Algorithm) {
        let signature = sign(key, algorithm);
        assert_eq!(verify(credential.clone(), MESSAGE, &signature, false), Ok(()));
        assert_eq!(
            verify(credential.clone(), MESSAGE, &format!("{signature}=="), false),
            Ok(())
        );
        for (message, signature) in [
            (&b"header.claimz"[..], &*signature),
            (MESSAGE, &signature[1..]),
            (MESSAGE, ""),
            (MESSAGE, "not base64!"),
            (MESSAGE, &"A".repeat(signature.len())),
        ] {
            assert_eq!(
                verify(credential.clone(), message, signature, false),
                Err(Unverified::Signature)
            );
        }
    }

    #[test]
    fn every_algorithm_verifies_its_own_signatures() {
        let secret = EncodingKey::from_secret(b"secret");
        for (ours, theirs) in [
            (JwtAlgorithm::Hs256, Algorithm::HS256),
            (JwtAlgorithm::Hs384, Algorithm::HS384),
            (JwtAlgorithm::Hs512, Algorithm::HS512),
        ] {
            check(credential(ours, "secret", None), &secret, theirs);
        }
        let rsa = EncodingKey::from_rsa_pem(RSA).unwrap();
        for (ours, theirs) in [
            (JwtAlgorithm::Rs256, Algorithm::RS256),
            (JwtAlgorithm::Rs384, Algorithm::RS384),
            (JwtAlgorithm::Rs512, Algorithm::RS512),
            (JwtAlgorithm::Ps256, Algorithm::PS256),
            (JwtAlgorithm::Ps384, Algorithm::PS384),
            (JwtAlgorithm::Ps512, Algorithm::PS512),
        ] {
            check(credential(ours, "", Some(RSA_PUBLIC)), &rsa, theirs);
        }
        let es256 = EncodingKey::from_ec_pem(ES256).unwrap();
        let public = Some(ES256_PUBLIC);
        check(
            credential(JwtAlgorithm::Es256, "", public),
            &es256,
            Algorithm::ES256,
        );
        let es384 = EncodingKey::from_ec_pem(ES384).unwrap();
        let public = Some(ES384_PUBLIC);
        check(
            credential(JwtAlgorithm::Es384, "", public),
            &es384,
            Algorithm::ES384,
        );
        let ed25519 = EncodingKey::from_ed_pem(ED25519).unwrap();
        let public = Some(ED25519_PUBLIC);
        check(
            credential(JwtAlgorithm::EdDsa, "", public),
            &ed25519,
            Algorithm::EdDSA,
        );
    }

    /// The classic: whoever knows the public key signs with it as if it were a secret.
    #[test]
    fn a_public_key_is_no_secret() {
        let forged = sign(&EncodingKey::from_secret(RSA_PUBLIC.as_bytes()), Algorithm::HS256);
        let credential = credential(JwtAlgorithm::Rs256, RSA_PUBLIC, Some(RSA_PUBLIC));
        assert_eq!(
            verify(credential, MESSAGE, &forged, false),
            Err(Unverified::Signature)
        );
    }

    #[test]
    fn a_key_of_no_use_verifies_nothing() {
        for (algorithm, public_key) in [
            (JwtAlgorithm::Rs256, None),
            (JwtAlgorithm::Rs256, Some("no PEM")),
            (JwtAlgorithm::Rs256, Some(ES256_PUBLIC)),
            (JwtAlgorithm::Es256, Some(RSA_PUBLIC)),
            (JwtAlgorithm::EdDsa, Some(ES256_PUBLIC)),
        ] {
            assert_eq!(
                verify(credential(algorithm, "", public_key), MESSAGE, "", false),
                Err(Unverified::UnusableKey),
                "{algorithm:?}"
            );
        }
        // Of the wrong curve: found out by the signature.
        assert!(
            verify(
                credential(JwtAlgorithm::Es256, "", Some(ES384_PUBLIC)),
                MESSAGE,
                "",
                false
            )
            .is_err()
        );
    }

    #[test]
    fn a_secret_may_be_base64() {
        let raw = [0xfb, 0xff, 0x00, 0x41];
        let signature = sign(&EncodingKey::from_secret(&raw), Algorithm::HS256);
        for written in ["+/8AQQ==", "-_8AQQ", "-/8AQQ="] {
            let credential = credential(JwtAlgorithm::Hs256, written, None);
            assert_eq!(verify(credential.clone(), MESSAGE, &signature, true), Ok(()));
            assert_eq!(
                verify(credential, MESSAGE, &signature, false),
                Err(Unverified::Signature)
            );
        }
        let broken = credential(JwtAlgorithm::Hs256, "!", None);
        assert_eq!(
            verify(broken, MESSAGE, &signature, true),
            Err(Unverified::UnusableKey)
        );
        // A public key is not a secret, and read the same either way.
        let key = EncodingKey::from_ed_pem(ED25519).unwrap();
        let ed25519 = credential(JwtAlgorithm::EdDsa, "", Some(ED25519_PUBLIC));
        assert_eq!(
            verify(ed25519, MESSAGE, &sign(&key, Algorithm::EdDSA), true),
            Ok(())
        );
    }

    #[test]
    fn algorithms_have_the_names_of_the_rfc() {
        let consumer = Consumers::default().find("nobody");
        assert_eq!(consumer, None);
        for name in [
            "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "PS384",
            "PS512", "EdDSA",
        ] {
            assert!(name.parse::<Algorithm>().is_ok(), "{name}");
        }
        for name in ["none", "None", "hs256", "", "ES512"] {
            assert!(name.parse::<Algorithm>().is_err(), "{name}");
        }
    }
}
