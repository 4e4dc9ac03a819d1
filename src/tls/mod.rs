//! Certificates that clients are shown, and the handshake in which they are.

mod pair;
mod server;

pub use pair::{KeyKind, KeyPair, PairError};
pub use server::{HandshakeError, Server};

#[cfg(test)]
pub(crate) use pair::tests;
