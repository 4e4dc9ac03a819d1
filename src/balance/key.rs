//! What a ring hashes.
//!
//! Pingora's ring places a key by its CRC-32. That is an unkeyed, linear code: whoever may choose the
//! key can compute values that all land on one target. A ring here therefore takes no bytes but a
//! [`RingKey`], the output of SipHash-2-4 with 128 bits (Aumasson and Bernstein, 2012) under a
//! [`HashKey`]: one derived from `server.secret` for what clients choose, the published one for what
//! they cannot. The same key on each node of a fleet gives the same target on each.

use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip128::{Hasher128, SipHasher24};

/// Key for inputs that clients cannot choose, fixed for ever: its bytes say what it is for.
const PUBLISHED: [u8; 16] = *b"serin ring ip v1";

/// Key under which `server.secret` becomes the ring's own key, so that other uses of the secret get
/// unrelated ones.
const DERIVATION: [u8; 16] = *b"serin ring kd v1";

/// A key that turns inputs of the hash into [`RingKey`]s.
#[derive(Clone, PartialEq, Eq)]
pub struct HashKey([u8; 16]);

/// An input of the hash: what it is and its value. The same bytes as header and as cookie are two
/// different inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// The client's address. An IPv4 address mapped into IPv6 counts as IPv4.
    Ip(IpAddr),
    /// All values of a header, joined with `, `.
    Header(&'a [u8]),
    /// The value of a cookie.
    Cookie(&'a [u8]),
    /// The request's path, normalised, without the query.
    Path(&'a [u8]),
    /// A query argument; several values are sorted and joined with `,`.
    QueryArg(&'a [u8]),
    /// What a group of the Route's regular expression captured.
    UriCapture(&'a [u8]),
    /// A Consumer's id, as 36 characters in lower case.
    Consumer(&'a [u8]),
}

/// Where a request stands on a ring: 128 bits that clients cannot aim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RingKey([u8; 16]);

impl HashKey {
    /// Derives the ring's key from `server.secret`: SipHash-2-4-128 of the secret under a fixed key.
    ///
    /// 16 bytes of at least 32 do not give the secret away, even if the ring's key were to leak.
    pub fn from_secret(secret: &[u8]) -> Self {
        Self(siphash(&DERIVATION, &[secret]))
    }

    /// The published key, for inputs that clients cannot choose: their address, and who they are.
    pub const fn published() -> Self {
        Self(PUBLISHED)
    }

    /// Hashes an input: SipHash-2-4-128 of one byte for the kind and the value. About 50 ns
    /// for a value of 32 bytes.
    pub fn ring_key(&self, input: Input<'_>) -> RingKey {
        // The numbers of the kinds are part of the mapping: changing one moves all its keys.
        let (kind, value) = match input {
            Input::Ip(address) => {
                return match address.to_canonical() {
                    IpAddr::V4(address) => self.tagged(1, &address.octets()),
                    IpAddr::V6(address) => self.tagged(1, &address.octets()),
                };
            }
            Input::Header(value) => (2, value),
            Input::Cookie(value) => (3, value),
            Input::Path(value) => (4, value),
            Input::QueryArg(value) => (5, value),
            Input::UriCapture(value) => (6, value),
            Input::Consumer(id) => (7, id),
        };
        self.tagged(kind, value)
    }

    fn tagged(&self, kind: u8, value: &[u8]) -> RingKey {
        RingKey(siphash(&self.0, &[&[kind], value]))
    }
}

/// Tells no bytes: whoever knows them can aim at a target.
impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashKey").finish_non_exhaustive()
    }
}

impl RingKey {
    /// Returns the bytes that the ring places, in SipHash's own order.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// SipHash-2-4-128 of the parts, one after the other.
pub(super) fn siphash(key: &[u8; 16], parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = SipHasher24::new_with_key(key);
    for part in parts {
        hasher.write(part);
    }
    hasher.finish128().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"an example of a secret: 32 bytes";

    /// Compares with a vector computed by another implementation of SipHash.
    fn check(key: &HashKey, input: Input<'_>, expected: &str) {
        let hex: String = key
            .ring_key(input)
            .as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, expected, "{input:?}");
    }

    /// The first two of the reference implementation's vectors (`vectors_sip128`).
    #[test]
    fn the_hash_is_siphash_2_4_128() {
        let key = std::array::from_fn(|byte| byte as u8);
        let hex = |bytes: [u8; 16]| bytes.map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(hex(siphash(&key, &[])), "a3817f04ba25a8e66df67214c7550293");
        assert_eq!(hex(siphash(&key, &[&[0]])), "da87c1d86b99af44347659119b22fc45");
    }

    #[test]
    fn golden_vectors() {
        let published = HashKey::published();
        check(
            &published,
            Input::Ip([192, 0, 2, 1].into()),
            "b17d90430b42a5792317017e01ef68e0",
        );
        check(
            &published,
            Input::Ip("2001:db8::1".parse().unwrap()),
            "0a4ab07c38b63810c5f72880553faa69",
        );
        check(
            &published,
            Input::Consumer(b"5f1e1c3a-6c55-5b0e-9d7e-0a4b6f0c2d11"),
            "56007f45e87af872ec142440f956db41",
        );
        let secret = HashKey::from_secret(SECRET);
        check(
            &secret,
            Input::Header(b"alice"),
            "d36c86eacaddbf165d39e2964ae54873",
        );
        check(
            &secret,
            Input::Cookie(b"alice"),
            "18e3188311d7bb199324b65e03beb098",
        );
        check(
            &secret,
            Input::Path(b"/cart/7"),
            "0d6d037c2c7de1f814d1f2ca82802e8b",
        );
        check(
            &secret,
            Input::QueryArg(b"a,b"),
            "6ea243a08d5a2faa6c37d7604501b3a6",
        );
        check(
            &secret,
            Input::UriCapture(b""),
            "c93a6f4603cabe1cfb10ce475e3d0397",
        );
    }

    #[test]
    fn a_mapped_address_is_the_address_it_maps() {
        let published = HashKey::published();
        let key = |text: &str| published.ring_key(Input::Ip(text.parse().unwrap()));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("::192.0.2.1"), key("192.0.2.1"));
    }

    #[test]
    fn another_secret_gives_another_key() {
        let other = HashKey::from_secret(b"an example of a secret: 32 byteS");
        assert_ne!(other, HashKey::from_secret(SECRET));
        let header = Input::Header(b"alice");
        assert_ne!(
            other.ring_key(header),
            HashKey::from_secret(SECRET).ring_key(header)
        );
    }

    #[test]
    fn a_key_does_not_print_its_bytes() {
        assert_eq!(format!("{:?}", HashKey::published()), "HashKey { .. }");
    }
}
