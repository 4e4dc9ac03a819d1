//! What must hold for every input, one function for each place where bytes of strangers are read.
//!
//! A body panics when its property does not hold. Three callers run the very same one: `cargo fuzz` with what it
//! finds by itself (`tests/fuzz/`), the test below with the inputs that are kept from it, and proptest with bytes
//! and with what is put together out of fragments that make trouble. So nothing here knows who calls, and an input
//! that once broke something stays in the ordinary tests. Only tests and fuzzers compile this module.
//!
//! Where there can be one, the property is that a second reader, written the slow and plain way from the RFC,
//! says the same.

mod authority;
mod chunks;
mod client;
mod config;
mod form;
mod head;
mod path;
mod target;

pub use authority::authority;
pub use chunks::chunks;
pub use client::client;
pub use config::config;
pub use form::form;
pub use head::head;
pub use path::path;
pub use target::target;

/// Says whether a byte may stand in a token (RFC 9110 §5.6.2).
fn is_token_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

#[cfg(test)]
mod tests;
