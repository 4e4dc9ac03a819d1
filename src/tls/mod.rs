//! Certificates: those that clients are shown, and the handshake in which they are; those that origins are
//! verified by.

mod authority;
mod pair;
mod server;

pub use authority::{Authority, AuthorityError};
pub use pair::{KeyKind, KeyPair, PairError};
pub use server::{HandshakeError, Server};

#[cfg(test)]
pub(crate) use pair::tests;
