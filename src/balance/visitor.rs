//! Cookies that tell a returning visitor from a new one.
//!
//! The cookie holds an id made at random and its tag: SipHash-2-4 with 128 bits of the id, under a key
//! derived from `server.secret`. It names no side of any release, only the visitor, so that a share
//! that shrinks takes the canary back, and the next release has other guinea pigs. Nobody can make one
//! up: whoever could try ids until one lands on the canary could choose for himself.

use std::fmt;

use subtle::ConstantTimeEq;

use super::key::siphash;

/// Key under which `server.secret` becomes the tags' own key.
const DERIVATION: [u8; 16] = *b"serin visitor v1";
/// Hexadecimal digits of an id, and of a tag.
const DIGITS: usize = 32;

/// A key that tags ids.
#[derive(Clone, PartialEq, Eq)]
pub struct VisitorKey([u8; 16]);

/// A cookie's value: id and tag, each of 32 hexadecimal digits in lower case, and a dot between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisitorCookie(String);

impl VisitorKey {
    /// Derives the key from `server.secret`: SipHash-2-4-128 of the secret under a fixed key.
    pub fn from_secret(secret: &[u8]) -> Self {
        Self(siphash(&DERIVATION, &[secret]))
    }

    /// Makes the cookie of a new visitor from 128 random bits.
    pub fn issue(&self, random: u128) -> VisitorCookie {
        let id = format!("{random:032x}");
        let tag = self.tag(id.as_bytes());
        VisitorCookie(format!("{id}.{tag:032x}"))
    }

    /// Returns the id in a cookie's value; none unless it was issued under this key.
    pub fn verify<'a>(&self, value: &'a [u8]) -> Option<&'a [u8]> {
        let (id, tag) = value.split_at_checked(DIGITS)?;
        let tag = tag.strip_prefix(b".")?;
        let expected = format!("{:032x}", self.tag(id));
        bool::from(expected.as_bytes().ct_eq(tag)).then_some(id)
    }

    fn tag(&self, id: &[u8]) -> u128 {
        u128::from_be_bytes(siphash(&self.0, &[id]))
    }
}

/// Tells no bytes: whoever knows them can make cookies.
impl fmt::Debug for VisitorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VisitorKey").finish_non_exhaustive()
    }
}

impl VisitorCookie {
    /// Returns the value.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the id in it.
    pub fn id(&self) -> &[u8] {
        &self.0.as_bytes()[..DIGITS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"an example of a secret: 32 bytes";

    #[test]
    fn what_was_issued_is_known_again() {
        let key = VisitorKey::from_secret(SECRET);
        for random in [0, 1, u128::MAX, 0x1234_5678_9abc_def0] {
            let cookie = key.issue(random);
            assert_eq!(cookie.as_str().len(), 65);
            assert_eq!(key.verify(cookie.as_str().as_bytes()), Some(cookie.id()));
            assert_eq!(cookie.id(), format!("{random:032x}").as_bytes());
        }
    }

    #[test]
    fn what_was_never_issued_is_nobodys() {
        let key = VisitorKey::from_secret(SECRET);
        let issued = key.issue(7);
        let issued = issued.as_str();
        let other = VisitorKey::from_secret(b"an example of a secret: 32 byteS").issue(7);
        let zeros = "0".repeat(32);
        for forged in [
            "",
            ".",
            &issued[..32],
            &issued[..64],
            &issued[1..],
            &format!("{issued}0"),
            &issued.replace('.', ":"),
            &format!("{}8{}", &issued[..31], &issued[32..]),
            &format!("{zeros}.{zeros}"),
            other.as_str(),
        ] {
            assert_eq!(key.verify(forged.as_bytes()), None, "{forged}");
        }
    }

    /// Cookies outlive the process, so what they read like is part of the format; computed by another
    /// implementation of SipHash.
    #[test]
    fn golden_vector() {
        let cookie = VisitorKey::from_secret(SECRET).issue(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(
            cookie.as_str(),
            "0123456789abcdef0123456789abcdef.673638cbf08b3350d1d9feccae63c784"
        );
    }

    #[test]
    fn a_key_does_not_print_its_bytes() {
        assert_eq!(
            format!("{:?}", VisitorKey::from_secret(SECRET)),
            "VisitorKey { .. }"
        );
    }
}
