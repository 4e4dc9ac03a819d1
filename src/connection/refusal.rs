//! The answer to what is not a request: Kong's texts, in place of Pingora's empty ones.

use http::StatusCode;
use pingora_core::protocols::http::date::get_cached_date;
use uuid::Uuid;

use crate::proxy::{PRODUCT, message_of};

/// Why a header is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It cannot be read.
    Malformed,
    /// It did not come whole in time.
    HeaderTimeout,
    /// Its first line does not end.
    UriTooLong,
    /// It has too many bytes or fields.
    HeaderTooLarge,
    /// It asks for a tunnel.
    Connect,
}

/// A refused header: at most one on a connection, which closes after it.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Names it in the answer and in the log.
    pub id: String,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::Malformed,
        Self::HeaderTimeout,
        Self::UriTooLong,
        Self::HeaderTooLarge,
        Self::Connect,
    ];

    /// Returns the value of the metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::HeaderTimeout => "header_timeout",
            Self::UriTooLong => "uri_too_long",
            Self::HeaderTooLarge => "header_too_large",
            Self::Connect => "connect",
        }
    }

    /// Returns the status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::HeaderTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
        }
    }
}

impl Refusal {
    /// Refuses for a reason.
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            id: Uuid::new_v4().simple().to_string(),
        }
    }

    /// Returns the answer as it goes over the wire. JSON, whatever an `Accept` may say in a header that
    /// cannot be read.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (status, id) = (self.reason.status(), &self.id);
        let message = message_of(status);
        let body = format!("{{\"message\":\"{message}\",\"request_id\":\"{id}\"}}");
        let date = get_cached_date();
        let date = date.to_str().unwrap_or_default();
        format!(
            "HTTP/1.1 {status}\r\nDate: {date}\r\nServer: {PRODUCT}\r\nX-Kong-Request-Id: {id}\r\n\
             Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_a_whole_answer() {
        for reason in Reason::ALL {
            let refusal = Refusal::new(reason);
            let text = String::from_utf8(refusal.to_bytes()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(
                head.starts_with(&format!("HTTP/1.1 {}", reason.status())),
                "{head}"
            );
            assert!(
                head.contains(&format!("Content-Length: {}\r\n", body.len())),
                "{head}"
            );
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["request_id"], *refusal.id);
        }
    }
}
