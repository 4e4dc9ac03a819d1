//! Certificates: those that clients are shown, and the handshake in which they are; those that origins are
//! verified by.

mod authority;
mod pair;
mod server;
mod system;

pub use authority::{Authority, AuthorityError};
pub use pair::{KeyKind, KeyPair, PairError};
pub use server::{HandshakeError, Server};
pub use system::{SystemAuthoritiesError, check_system_authorities};

#[cfg(test)]
pub(crate) use pair::tests;
