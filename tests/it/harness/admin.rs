//! A client of the Admin API: JSON there and back.

use std::io;

use serde_json::Value;

use super::{Client, Request, Response};

/// A connection to the Admin API.
pub struct Admin(pub(super) Client);

/// What the Admin API answers.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The body; null when there is none.
    pub body: Value,
    /// All of it, for header fields.
    pub response: Response,
}

impl Answer {
    /// Returns the generation that serves what was changed.
    pub fn generation(&self) -> u64 {
        let generation = self.response.header("x-serin-generation");
        generation.expect("a change").parse().unwrap()
    }

    /// Insists on a status and returns the body.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }
}

impl Admin {
    /// Talks to the Admin API over a connection to it.
    pub fn on(client: Client) -> Self {
        Self(client)
    }

    /// Sends a request with a JSON body, or without one for null.
    #[track_caller]
    pub fn send(&mut self, method: &str, path: &str, body: Value) -> Answer {
        self.try_send(method, path, &body).unwrap()
    }

    /// Sends a request; fails when the connection does.
    pub fn try_send(&mut self, method: &str, path: &str, body: &Value) -> io::Result<Answer> {
        let request = Request::new(method, path).host("localhost");
        let request = match body {
            Value::Null => request,
            body => request
                .header("content-type", "application/json")
                .body(&body.to_string()),
        };
        Ok(Self::read(self.0.try_exchange(&request)?))
    }

    /// Sends a change that is to be made only to the entity of this tag.
    pub fn send_if(&mut self, method: &str, path: &str, body: Value, tag: &str) -> Answer {
        let request = Request::new(method, path)
            .host("localhost")
            .header("content-type", "application/json")
            .header("if-match", tag)
            .body(&body.to_string());
        self.exchange(&request)
    }

    /// Sends a request as it is.
    pub fn exchange(&mut self, request: &Request) -> Answer {
        Self::read(self.0.exchange(request))
    }

    /// Sends a GET.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, Value::Null)
    }

    fn read(response: Response) -> Answer {
        Answer {
            status: response.status,
            body: serde_json::from_slice(&response.body).unwrap_or(Value::Null),
            response,
        }
    }
}
