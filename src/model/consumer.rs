//! Consumer: who uses a Service, as its credentials tell.

use std::fmt;
use std::time::Duration;

use uuid::Uuid;

/// A Consumer with its credentials and groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Identity; derived from the username when the source gives none.
    pub id: Uuid,
    /// Name as operators know it; this or `custom_id` is there.
    pub username: Option<String>,
    /// Name as another system knows it.
    pub custom_id: Option<String>,
    /// ACL groups (Kong's `acls`), in the order of the source.
    pub acl_groups: Vec<String>,
    /// Consumer groups by name, in the order of the source.
    pub consumer_groups: Vec<String>,
    /// Keys for the plugin `key-auth`.
    pub keys: Vec<KeyCredential>,
    /// Names and passwords for the plugin `basic-auth`.
    pub passwords: Vec<BasicCredential>,
    /// Keys of issuers for the plugin `jwt`.
    pub tokens: Vec<JwtCredential>,
}

impl Consumer {
    /// Returns the username, or the custom id where there is none: what logs call the Consumer.
    pub fn label(&self) -> &str {
        let label = self.username.as_deref().or(self.custom_id.as_deref());
        label.unwrap_or_default()
    }
}

/// Text that is never printed: a key, or the secret of an issuer.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Masked(String);

impl Masked {
    /// Takes a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for comparing and hashing only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A key (Kong's `keyauth_credentials`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCredential {
    /// Identity.
    pub id: Uuid,
    /// The key; unique.
    pub key: Masked,
    /// Time since 1970 from which on the key is unknown (`created_at` plus `ttl`); `None`: never.
    pub expires_at: Option<Duration>,
}

/// A name and a password (Kong's `basicauth_credentials`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicCredential {
    /// Identity.
    pub id: Uuid,
    /// The name; unique.
    pub username: String,
    /// The password.
    pub password: PasswordHash,
}

/// SHA-1 of password and Consumer's id, which is what Kong stores.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PasswordHash(pub [u8; 20]);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The key of an issuer of tokens (Kong's `jwt_secrets`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtCredential {
    /// Identity.
    pub id: Uuid,
    /// What the token's key claim (`iss`) must say; unique.
    pub key: String,
    /// Algorithm by which the token must be signed.
    pub algorithm: JwtAlgorithm,
    /// Secret of an `HS` algorithm.
    pub secret: Masked,
    /// PEM of the public key for every other algorithm.
    pub public_key: Option<String>,
}

/// An algorithm of RFC 7518 §3.1 or RFC 8037.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the RFCs'")]
pub enum JwtAlgorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Ps256,
    Ps384,
    Ps512,
    EdDsa,
}
