//! Request ids: 32 hexadecimal digits, unlike any other in this process and, but for a chance of
//! 2^-64, in any other.

use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;

/// The id of one request, as header fields hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

/// Makes the ids of one worker without asking the kernel for each.
#[derive(Debug)]
pub struct RequestIds {
    seed: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Starts from random numbers, so that workers and processes do not meet.
    pub fn new() -> Self {
        let (seed, next) = uuid::Uuid::new_v4().as_u64_pair();
        Self {
            seed,
            next: AtomicU64::new(next),
        }
    }

    /// Returns an id. Each half is a bijection of a counter, so no two are the same.
    pub fn next(&self) -> RequestId {
        // Relaxed: the numbers must be distinct, not ordered.
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let (high, low) = (mix(count ^ self.seed), mix(count));
        RequestId::new(u128::from(high) << 64 | u128::from(low))
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection that looks random.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl RequestId {
    fn new(number: u128) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 32];
        for (at, byte) in number.to_be_bytes().into_iter().enumerate() {
            digits[2 * at] = HEX[usize::from(byte >> 4)];
            digits[2 * at + 1] = HEX[usize::from(byte & 15)];
        }
        Self(HeaderValue::from_bytes(&digits).expect("hexadecimal digits are visible ASCII"))
    }

    /// Returns the digits as a header's value, which shares their memory.
    pub fn header_value(&self) -> HeaderValue {
        self.0.clone()
    }

    fn digits(&self) -> &str {
        self.0.to_str().expect("hexadecimal digits are visible ASCII")
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.digits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_digits_and_distinct() {
        let ids = RequestIds::new();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let id = ids.next();
            let digits = id.to_string();
            assert_eq!(
                (digits.len(), id.header_value()),
                (32, HeaderValue::from_str(&digits).unwrap())
            );
            assert!(
                digits
                    .bytes()
                    .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            );
            assert!(seen.insert(digits));
        }
    }

    #[test]
    fn digits_are_those_of_the_number() {
        assert_eq!(RequestId::new(0xa0).to_string(), format!("{:032x}", 0xa0));
        assert_eq!(
            RequestId::new(u128::MAX - 1).to_string(),
            "fffffffffffffffffffffffffffffffe"
        );
    }
}
