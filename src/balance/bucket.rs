//! Who is on the canary at a given share: key → bucket, and turns for those without a key.
//!
//! A bucket is one of 10 000 equal slices of the key space. A release of share *s* basis points owns
//! the buckets 0 to *s* − 1, so a share that grows only ever takes in more keys, and one that shrinks
//! gives back exactly those it took last. The salt makes the buckets of two releases independent:
//! whoever was a guinea pig once is no likelier to be one the next time.
//!
//! The hash is SipHash-2-4 with 64 bits (Aumasson and Bernstein, 2012) under a published key: the same
//! on each node, after each restart and in each program that wants to foretell a bucket. It is not the
//! ring's hash, so the keys of a canary spread over its Targets like any others.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use crate::model::Share;

/// The published key, fixed for ever: its bytes say what it is for.
const PUBLISHED: [u8; 16] = *b"serin bucket v1\0";
/// Between salt and key.
const SEPARATOR: u8 = 0x1f;

/// A slice of the key space: 0 to 9 999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u16);

/// What a bucket is computed from: what it is and its value. The same bytes as header and as cookie
/// are two different keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketKey<'a> {
    /// A Consumer's id, as 36 characters in lower case.
    Consumer(&'a [u8]),
    /// The client's address. An IPv4 address mapped into IPv6 counts as IPv4.
    Ip(IpAddr),
    /// All values of a header, joined with `, `.
    Header(&'a [u8]),
    /// The id in a signed cookie.
    Cookie(&'a [u8]),
}

/// The buckets of one release: the hash with the salt taken in already.
#[derive(Clone, Copy)]
pub struct Buckets(SipHasher24);

impl Buckets {
    /// Takes the salt in.
    pub fn new(salt: &[u8]) -> Self {
        let mut hasher = SipHasher24::new_with_key(&PUBLISHED);
        hasher.write(salt);
        hasher.write(&[SEPARATOR]);
        Self(hasher)
    }

    /// Returns the bucket of a key: the upper 64 bits of the product of hash and 10 000. The hash is
    /// that of salt, byte 0x1f, one byte for the kind of key, and its value. About 30 ns.
    pub fn bucket(&self, key: BucketKey<'_>) -> Bucket {
        // The numbers of the kinds are part of the mapping: changing one moves all its keys.
        match key {
            BucketKey::Consumer(id) => self.place(1, id),
            BucketKey::Ip(address) => match address.to_canonical() {
                IpAddr::V4(address) => self.place(2, &address.octets()),
                IpAddr::V6(address) => self.place(2, &address.octets()),
            },
            BucketKey::Header(value) => self.place(3, value),
            BucketKey::Cookie(id) => self.place(4, id),
        }
    }

    fn place(&self, kind: u8, value: &[u8]) -> Bucket {
        let mut hasher = self.0;
        hasher.write(&[kind]);
        hasher.write(value);
        let scaled = (u128::from(hasher.finish()) * u128::from(Share::WHOLE)) >> 64;
        Bucket(u16::try_from(scaled).expect("a 64-bit hash scaled to 10 000 is below it"))
    }
}

impl std::fmt::Debug for Buckets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Buckets")
    }
}

impl Bucket {
    /// Returns the number, 0 to 9 999.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Says whether a release of this share owns the bucket.
    pub const fn is_in(self, share: Share) -> bool {
        self.0 < share.basis_points()
    }
}

/// Says whether the request at `position` of a count that all workers share is the canary's turn.
///
/// Of each 10 000 in a row it is the turn of exactly the share's basis points, as evenly spread as
/// whole requests can be: at 1 % that of every hundredth.
pub const fn is_turn(position: u64, share: Share) -> bool {
    const WHOLE: u64 = Share::WHOLE as u64;
    let share = share.basis_points() as u64;
    // Half a request ahead, so that the first turn comes in the middle of its stretch.
    let at = (position % WHOLE) * share + WHOLE / 2;
    (at + share) / WHOLE > at / WHOLE
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn share(basis_points: u16) -> Share {
        Share::new(basis_points).unwrap()
    }

    /// The first vectors of the reference implementation (`vectors_sip64`).
    #[test]
    fn the_hash_is_siphash_2_4() {
        let key = std::array::from_fn(|byte| byte as u8);
        let hash = |bytes: &[u8]| {
            let mut hasher = SipHasher24::new_with_key(&key);
            hasher.write(bytes);
            hasher.finish()
        };
        assert_eq!(
            hash(&[]),
            u64::from_le_bytes([0x31, 0x0e, 0x0e, 0xdd, 0x47, 0xdb, 0x6f, 0x72])
        );
        assert_eq!(
            hash(&[0]),
            u64::from_le_bytes([0xfd, 0x67, 0xdc, 0x93, 0xc5, 0x39, 0xf8, 0x74])
        );
    }

    /// Computed by another implementation of SipHash (in Python).
    #[test]
    fn golden_vectors() {
        let salts = [
            "shop-2026-11",
            "0b6f2b9e-6f0e-5c55-9c57-8f4c4a1f5f11\x1fshop-v2\x1f\x1f",
        ];
        let keys = [
            BucketKey::Consumer(b"5f1e1c3a-6c55-5b0e-9d7e-0a4b6f0c2d11"),
            BucketKey::Ip([192, 0, 2, 1].into()),
            BucketKey::Ip("2001:db8::1".parse().unwrap()),
            BucketKey::Header(b"alice"),
            BucketKey::Cookie(b"0123456789abcdef0123456789abcdef"),
            BucketKey::Header(b""),
        ];
        let expected = [
            [5256, 2476, 403, 6192, 5410, 821],
            [3044, 6005, 8014, 8261, 7557, 9223],
        ];
        for (salt, expected) in salts.into_iter().zip(expected) {
            let buckets = Buckets::new(salt.as_bytes());
            assert_eq!(keys.map(|key| buckets.bucket(key).number()), expected, "{salt}");
        }
    }

    /// Two releases of 5 % share 0.25 % of the keys, as independent choices do: of 1 000 000 keys 2 500
    /// with a standard deviation of 50.
    #[test]
    fn releases_with_other_salts_have_other_guinea_pigs() {
        let (a, b) = (Buckets::new(b"a"), Buckets::new(b"b"));
        let both = (0..1_000_000u32)
            .filter(|number| {
                let key = number.to_be_bytes();
                let key = BucketKey::Header(&key);
                a.bucket(key).is_in(share(500)) && b.bucket(key).is_in(share(500))
            })
            .count();
        assert!((2350..=2650).contains(&both), "{both}");
    }

    /// Within three standard deviations of the binomial distribution; the keys are fixed, so the
    /// counts are too.
    #[test]
    fn shares_are_met() {
        let buckets = Buckets::new(b"5a4d1f0a-6d0e-5b5b-a4d5-2d5f5b1c9e10");
        for count in [1_000u32, 100_000] {
            for basis_points in [0, 1, 100, 1000, 5000, 9999, 10_000] {
                let on_canary = (0..count)
                    .filter(|number| {
                        let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &number.to_be_bytes());
                        buckets
                            .bucket(BucketKey::Consumer(id.to_string().as_bytes()))
                            .is_in(share(basis_points))
                    })
                    .count() as f64;
                let p = f64::from(basis_points) / 10_000.0;
                let (mean, deviation) = (f64::from(count) * p, (f64::from(count) * p * (1.0 - p)).sqrt());
                assert!(
                    (on_canary - mean).abs() <= 3.0 * deviation,
                    "{on_canary} of {count} at {p}"
                );
            }
        }
    }

    #[test]
    fn a_mapped_address_is_the_address_it_maps() {
        let buckets = Buckets::new(b"");
        let bucket = |text: &str| buckets.bucket(BucketKey::Ip(text.parse().unwrap()));
        assert_eq!(bucket("::ffff:192.0.2.1"), bucket("192.0.2.1"));
    }

    #[test]
    fn at_one_percent_every_hundredth_has_its_turn() {
        let turns: Vec<u64> = (0..1000)
            .filter(|position| is_turn(*position, share(100)))
            .collect();
        assert_eq!(turns, (0..10).map(|turn| 49 + 100 * turn).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn turns_are_exact_and_evenly_spread(basis_points in 0..=10_000u16, from in 0..u64::MAX / 2, length in 1..20_000u64) {
            let share = share(basis_points);
            let turns = (from..from + length).filter(|position| is_turn(*position, share)).count() as f64;
            let wanted = length as f64 * f64::from(basis_points) / 10_000.0;
            prop_assert!((turns - wanted).abs() < 1.0, "{} of {}, {} wanted", turns, length, wanted);
        }

        #[test]
        fn a_growing_share_loses_nobody(key in ".{0,40}", a in 0..=10_000u16, b in 0..=10_000u16) {
            let bucket = Buckets::new(b"salt").bucket(BucketKey::Header(key.as_bytes()));
            let (small, large) = (share(a.min(b)), share(a.max(b)));
            prop_assert!(!bucket.is_in(small) || bucket.is_in(large));
            prop_assert!(!bucket.is_in(Share::NONE) && bucket.is_in(Share::ALL));
        }
    }
}
