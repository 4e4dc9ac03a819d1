//! What the two processes of an upgrade say to each other.
//!
//! ```text
//! successor                          predecessor
//!   Hello          →
//!                  ←                 Refused, or:
//!                                    (writes held, store lent)
//!                  ←                 Sockets … until the last
//!   (store opened, workers started)
//!   Ready | Failed →
//!                  ←                 Yours | Cancelled
//! ```
//!
//! Messages are JSON, so that a field that a later version adds is ignored by this one. What cannot be
//! ignored gets another [`PROTOCOL`].

use serde::{Deserialize, Serialize};

/// Number of the protocol: both sides refuse another one.
pub(super) const PROTOCOL: u32 = 1;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Message {
    /// The successor asks for the sockets.
    Hello {
        /// Number of its protocol.
        protocol: u32,
        /// Its version, for people.
        version: String,
    },
    /// The predecessor hands nothing over, and goes on as before.
    Refused {
        /// For people.
        why: String,
    },
    /// Some of the sockets, in the order of the descriptors that come with the message.
    Sockets {
        /// What they are.
        labels: Vec<Label>,
        /// Whether these are the last.
        is_last: bool,
    },
    /// The successor serves.
    Ready,
    /// The successor cannot start, and is about to exit.
    Failed {
        /// For people.
        why: String,
    },
    /// The predecessor goes on as if nothing had been; the successor is to exit.
    Cancelled {
        /// For people.
        why: String,
    },
    /// The predecessor drains; everything is the successor's.
    Yours,
}

/// What a socket is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Label {
    /// What it is for.
    pub(super) role: Role,
    /// The address as it was configured: with port 0 where any port was wanted.
    pub(super) address: String,
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Clients.
    Proxy,
    /// The Admin API.
    Admin,
    /// The status address.
    Status,
    /// Requests of the Admin API that the predecessor has read and passes on.
    Forward,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_a_later_version_is_understood_by_what_is_known_of_it() {
        let text = r#"{"kind":"hello","protocol":1,"version":"9.0.0","colour":"red"}"#;
        let hello = Message::Hello {
            protocol: 1,
            version: "9.0.0".to_owned(),
        };
        assert_eq!(serde_json::from_str::<Message>(text).unwrap(), hello);
        assert!(serde_json::from_str::<Message>(r#"{"kind":"sing"}"#).is_err());
    }
}
