//! Sticky sessions: a token that names the target a client was sent to.
//!
//! The token is SipHash-2-4 with 128 bits of Upstream and address, under a key derived from
//! `server.secret`: it tells a client nothing about the pool, nobody can make one up, and each node of a
//! fleet and each restart reads it alike. It names an address, so a session ends with its address.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;

use super::Index;
use super::key::siphash;

/// Key under which `server.secret` becomes the tokens' own key.
const DERIVATION: [u8; 16] = *b"serin session v1";

/// A key that turns addresses into [`Token`]s.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey([u8; 16]);

/// What the cookie holds: 32 hexadecimal digits, in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(u128);

/// The tokens of a list of targets.
#[derive(Debug, Default)]
pub struct Sessions {
    tokens: Box<[Token]>,
    /// Found by a hash with a random key, then compared as one number: how long a forged token takes
    /// says nothing of how near it came.
    index_of: HashMap<Token, Index>,
}

impl SessionKey {
    /// Derives the key from `server.secret`: SipHash-2-4-128 of the secret under a fixed key.
    pub fn from_secret(secret: &[u8]) -> Self {
        Self(siphash(&DERIVATION, &[secret]))
    }

    /// Returns the token of an address. The Upstream is part of it: a client cannot take one from
    /// where it was given it to where it was not.
    pub fn token(&self, upstream: &str, address: SocketAddr) -> Token {
        // No name holds a zero, so no two pairs read the same.
        let parts: [&[u8]; 3] = [upstream.as_bytes(), &[0], &address.to_string().into_bytes()];
        Token(u128::from_be_bytes(siphash(&self.0, &parts)))
    }
}

/// Tells no bytes: whoever knows them can make tokens.
impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKey").finish_non_exhaustive()
    }
}

impl Token {
    /// Reads a cookie's value; none unless it is 32 hexadecimal digits in lower case.
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.len() != 32 {
            return None;
        }
        value
            .iter()
            .try_fold(0, |number, byte| {
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    b'a'..=b'f' => byte - b'a' + 10,
                    _ => return None,
                };
                Some(number << 4 | u128::from(digit))
            })
            .map(Self)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Sessions {
    /// Makes the tokens of an Upstream's addresses, in the order of the caller's list.
    pub fn build(key: &SessionKey, upstream: &str, addresses: impl Iterator<Item = SocketAddr>) -> Self {
        let tokens: Box<[Token]> = addresses.map(|address| key.token(upstream, address)).collect();
        let index_of = tokens
            .iter()
            .enumerate()
            .map(|(index, token)| (*token, index))
            .collect();
        Self { tokens, index_of }
    }

    /// Returns the target that a cookie's value names; none for one that was never issued, or whose
    /// address is gone. One hash and one compare.
    pub fn find(&self, value: &[u8]) -> Option<Index> {
        self.index_of.get(&Token::parse(value)?).copied()
    }

    /// Returns the token of a target.
    ///
    /// # Panics
    ///
    /// When the list was shorter.
    pub fn token(&self, index: Index) -> Token {
        self.tokens[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"an example of a secret: 32 bytes";

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn sessions(secret: &[u8], upstream: &str) -> Sessions {
        let addresses = ["10.0.0.1:80", "10.0.0.2:80", "[2001:db8::1]:80"].map(address);
        Sessions::build(&SessionKey::from_secret(secret), upstream, addresses.into_iter())
    }

    #[test]
    fn each_target_is_found_by_its_own_token() {
        let sessions = sessions(SECRET, "shop");
        for index in 0..3 {
            let cookie = sessions.token(index).to_string();
            assert_eq!(cookie.len(), 32);
            assert_eq!(sessions.find(cookie.as_bytes()), Some(index), "{cookie}");
        }
    }

    /// Tokens outlive the process, so what they read like is part of the format; computed by another
    /// implementation of SipHash.
    #[test]
    fn golden_vectors() {
        let key = SessionKey::from_secret(SECRET);
        for (upstream, target, token) in [
            ("shop", "10.0.0.1:80", "8896670364d10e4cdb1b8205ee825388"),
            ("shop", "[2001:db8::1]:8443", "1d5f73b31843d7481df993071990440a"),
        ] {
            assert_eq!(key.token(upstream, address(target)).to_string(), token);
        }
    }

    #[test]
    fn another_upstream_or_secret_has_other_tokens() {
        let shop = sessions(SECRET, "shop");
        for other in [
            sessions(SECRET, "stop"),
            sessions(b"an example of a secret: 32 byteS", "shop"),
        ] {
            for index in 0..3 {
                assert_eq!(shop.find(other.token(index).to_string().as_bytes()), None);
            }
        }
    }

    #[test]
    fn what_was_never_issued_is_not_found() {
        let sessions = sessions(SECRET, "shop");
        let issued = sessions.token(0).to_string();
        for forged in [
            "",
            "0",
            &issued[1..],
            &format!("{issued}0"),
            &issued.to_uppercase(),
            &"0".repeat(32),
            &"f".repeat(32),
            &"+".repeat(32),
            "10.0.0.1:80",
        ] {
            // A token without letters reads the same in capitals.
            assert!(
                forged == issued || sessions.find(forged.as_bytes()).is_none(),
                "{forged}"
            );
        }
    }

    #[test]
    fn a_key_does_not_print_its_bytes() {
        assert_eq!(
            format!("{:?}", SessionKey::from_secret(SECRET)),
            "SessionKey { .. }"
        );
    }
}
