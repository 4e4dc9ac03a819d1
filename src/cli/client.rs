//! A small client of the Admin API, for the verbs that talk to a running proxy.
//!
//! One connection for each request, HTTP/1.1 in plain, and limits on how long and how large an answer may be. That is
//! all these verbs need; a library for it would be larger than they are.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::config::reload::with_causes;

/// Where the Admin API is unless somebody says otherwise.
const DEFAULT: &str = "http://127.0.0.1:8001";
/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How long the proxy may say nothing: a change of a large configuration takes a while.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// Bytes that the header of an answer may have.
const MAX_HEADER: u64 = 64 * 1024;
/// Bytes that an answer may have.
const MAX_BODY: u64 = 1024 * 1024 * 1024;
/// What stands as it is in a part of a path.
const PART: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Which proxy is asked, and with what token.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Access {
    /// The Admin API of the proxy; default SERIN_ADMIN, or else http://127.0.0.1:8001
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// File that holds the token of the Admin API; default the token in SERIN_ADMIN_TOKEN, or else none
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// Asks one Admin API.
#[derive(Debug)]
pub struct Client {
    /// The address as people write it.
    url: String,
    /// `host:port`.
    authority: String,
    /// What stands before every path, without a slash at its end.
    prefix: String,
    token: Option<String>,
}

/// What it answered, if that was no refusal.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    /// The body; null where there is none.
    pub body: Value,
}

/// An answer as it came.
#[derive(Debug, PartialEq, Eq)]
struct Raw {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// It did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("'{0}' is no address of an Admin API")]
    Address(String),
    /// The token cannot be had.
    #[error("cannot read the token in {0}")]
    Token(PathBuf, #[source] io::Error),
    /// Nobody is there.
    #[error("cannot connect to the Admin API at {0}")]
    Unreachable(String, #[source] io::Error),
    /// The connection ended, or was silent for too long.
    #[error("no whole answer from the Admin API at {0}")]
    Broken(String, #[source] io::Error),
    /// Somebody else is there.
    #[error("what answers at {0} is no Admin API: {1}")]
    Foreign(String, String),
    /// It says no.
    #[error("{message}")]
    Refused {
        /// Status code.
        status: u16,
        /// What it says.
        message: String,
        /// Ways out that it names.
        hints: Vec<String>,
    },
}

impl ClientError {
    /// Returns the ways out.
    fn hints(&self) -> Vec<String> {
        let known = match self {
            Self::Address(_) => {
                "write it as http://HOST:PORT; it is served in plain, TLS is for a proxy in front"
            }
            Self::Token(..) => "the file holds the token and nothing else",
            Self::Unreachable(..) => {
                "is 'serin run' up, and its server.admin.address this one? --admin or SERIN_ADMIN names another"
            }
            Self::Broken(..) => "the proxy may have ended; its log says more",
            Self::Foreign(..) => {
                "the Admin API is on server.admin.address, port 8001 by default; clients are served elsewhere"
            }
            Self::Refused { status: 401, .. } => {
                "set SERIN_ADMIN_TOKEN, or name a file that holds it with --token-file"
            }
            Self::Refused { hints, .. } => return hints.clone(),
        };
        vec![known.to_owned()]
    }

    /// Says whether the thing asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Adds a way out.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Refused { hints, .. } = &mut self {
            hints.push(hint.into());
        }
        self
    }
}

/// Turns what a verb came to into an exit code, and tells of an error.
pub fn conclude(result: Result<ExitCode, ClientError>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("{}", words(&error));
        ExitCode::FAILURE
    })
}

/// Returns an error with its causes and ways out, as people read it.
pub fn words(error: &ClientError) -> String {
    let mut text = format!("error: {}", with_causes(error));
    for hint in error.hints() {
        let _ = write!(text, "\n  hint: {hint}");
    }
    text
}

/// Makes a path of parts that may hold anything.
pub fn path_of(parts: &[&str]) -> String {
    let encode = |part: &&str| format!("/{}", utf8_percent_encode(part, PART));
    parts.iter().map(encode).collect()
}

impl Client {
    /// Reads the address and the token.
    pub fn new(access: &Access) -> Result<Self, ClientError> {
        let of_environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let url = access
            .admin
            .clone()
            .or_else(|| of_environment("SERIN_ADMIN"))
            .unwrap_or_else(|| DEFAULT.to_owned());
        let token = match &access.token_file {
            Some(path) => Some(read_token(path)?),
            None => of_environment("SERIN_ADMIN_TOKEN"),
        };
        Self::at(&url, token)
    }

    /// Asks the Admin API at an address: `http://127.0.0.1:8001`, or that without `http://`.
    pub fn at(url: &str, token: Option<String>) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(url.to_owned());
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err(wrong()),
            None => url,
        };
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let parsed: http::uri::Authority = authority.parse().map_err(|_| wrong())?;
        if parsed.as_str().contains('@') || parsed.host().is_empty() {
            return Err(wrong());
        }
        if token
            .as_ref()
            .is_some_and(|token| token.contains(char::is_control))
        {
            let why = io::Error::new(io::ErrorKind::InvalidData, "it holds more than one line");
            return Err(ClientError::Token("SERIN_ADMIN_TOKEN".into(), why));
        }
        let port = parsed.port_u16().unwrap_or(80);
        Ok(Self {
            url: format!("http://{rest}"),
            authority: format!("{}:{port}", parsed.host()),
            prefix: prefix.trim_end_matches('/').to_owned(),
            token,
        })
    }

    /// Reads something.
    pub fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.send("GET", path, &Value::Null, None)
    }

    /// Asks about something that is in a body.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer, ClientError> {
        self.send("POST", path, body, None)
    }

    /// Changes some fields; with an ETag only if nobody else has changed the entity since.
    pub fn patch(&self, path: &str, body: &Value, etag: Option<&str>) -> Result<Answer, ClientError> {
        self.send("PATCH", path, body, etag)
    }

    /// Reads a text that is not JSON.
    pub fn text(&self, path: &str) -> Result<String, ClientError> {
        let raw = self.exchange("GET", path, "", None)?;
        if raw.status >= 400 {
            return Err(refusal(raw.status, &parse(&raw.body).unwrap_or_default()));
        }
        Ok(String::from_utf8_lossy(&raw.body).into_owned())
    }

    /// Reads a list, all its pages; what is no list comes as it is.
    pub fn whole(&self, path: &str) -> Result<Value, ClientError> {
        let mut answer = self.get(path)?.body;
        if !answer["data"].is_array() || !answer.as_object().is_some_and(|map| map.contains_key("next")) {
            return Ok(answer);
        }
        let mut items = Vec::new();
        loop {
            if let Value::Array(more) = answer["data"].take() {
                items.extend(more);
            }
            // Kong's lists name the next page by its path.
            let Some(next) = answer["next"].as_str().map(str::to_owned) else {
                return Ok(items.into());
            };
            answer = self.get(&next)?.body;
        }
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        etag: Option<&str>,
    ) -> Result<Answer, ClientError> {
        let text = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let raw = self.exchange(method, path, &text, etag)?;
        let body = match raw.body.is_empty() {
            true => Value::Null,
            false => parse(&raw.body).ok_or_else(|| {
                let said = String::from_utf8_lossy(&raw.body[..raw.body.len().min(80)]);
                let line = said.lines().next().unwrap_or_default();
                ClientError::Foreign(self.url.clone(), format!("it says {} {line:?}", raw.status))
            })?,
        };
        if raw.status >= 400 {
            return Err(refusal(raw.status, &body));
        }
        Ok(Answer {
            status: raw.status,
            headers: raw.headers,
            body,
        })
    }

    fn exchange(&self, method: &str, path: &str, body: &str, etag: Option<&str>) -> Result<Raw, ClientError> {
        let stream = self
            .connect()
            .map_err(|error| ClientError::Unreachable(self.url.clone(), error))?;
        let broken = |error: io::Error| match error.kind() {
            // What somebody sends who speaks something else.
            io::ErrorKind::InvalidData => ClientError::Foreign(self.url.clone(), error.to_string()),
            _ => ClientError::Broken(self.url.clone(), error),
        };
        let mut request = format!(
            "{method} {}{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.prefix, self.authority
        );
        let mut add = |name: &str, value: &str| {
            let _ = write!(request, "{name}: {value}\r\n");
        };
        if let Some(token) = &self.token {
            add("Authorization", &format!("Bearer {token}"));
        }
        if let Some(etag) = etag {
            add("If-Match", etag);
        }
        if !body.is_empty() {
            add("Content-Type", "application/json");
            add("Content-Length", &body.len().to_string());
        }
        let whole = [request.as_bytes(), b"\r\n", body.as_bytes()].concat();
        (&stream).write_all(&whole).map_err(broken)?;
        read_answer(&mut BufReader::new(&stream)).map_err(broken)
    }

    /// Connects to the first of the addresses that takes the connection.
    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = None;
        for address in self.authority.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(READ_LIMIT))?;
                    stream.set_write_timeout(Some(READ_LIMIT))?;
                    return Ok(stream);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
    }
}

impl Answer {
    /// Returns a field of the header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the generation that serves what was changed, as its number is written.
    pub fn generation(&self) -> &str {
        self.header("x-serin-generation").unwrap_or("?")
    }
}

fn read_token(path: &Path) -> Result<String, ClientError> {
    let failed = |error| ClientError::Token(path.to_owned(), error);
    let text = std::fs::read_to_string(path).map_err(failed)?;
    match text.trim() {
        "" => Err(failed(io::Error::new(io::ErrorKind::InvalidData, "it is empty"))),
        token => Ok(token.to_owned()),
    }
}

fn parse(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok()
}

/// Takes a refusal apart: what it says, and its hints by field.
fn refusal(status: u16, body: &Value) -> ClientError {
    let message = match &body["message"] {
        Value::String(message) => format!("{message} ({status})"),
        _ if body.is_null() => format!("the Admin API answered {status}"),
        _ => format!("{body} ({status})"),
    };
    let hints = body["hints"].as_object().into_iter().flatten();
    let hints = hints.filter_map(|(field, hint)| Some(format!("{field}: {}", hint.as_str()?)));
    ClientError::Refused {
        status,
        message,
        hints: hints.collect(),
    }
}

/// Reads one answer (RFC 9112): by its chunks, by its length, or to the end of the connection.
fn read_answer(reader: &mut impl BufRead) -> io::Result<Raw> {
    let first = read_line(reader)?;
    let mut parts = first.splitn(3, ' ');
    let is_http = parts.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let status = parts.next().and_then(|status| status.parse().ok());
    let Some(status) = status.filter(|_| is_http) else {
        return Err(malformed("it does not speak HTTP/1.1"));
    };
    let headers = read_fields(reader)?;
    let value = |name: &str| {
        let found = headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    };
    let is_chunked = value("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let body = if matches!(status, 204 | 304) {
        Vec::new()
    } else if is_chunked {
        read_chunks(reader)?
    } else if let Some(length) = value("content-length") {
        let length = length
            .parse()
            .map_err(|_| malformed("its Content-Length is no number"))?;
        read_exactly(reader, length)?
    } else {
        let mut body = Vec::new();
        reader.take(MAX_BODY).read_to_end(&mut body)?;
        body
    };
    Ok(Raw {
        status,
        headers,
        body,
    })
}

fn read_fields(reader: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok(headers);
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| malformed("its header is none"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        if headers.len() > 1000 {
            return Err(malformed("its header has no end"));
        }
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    let read = reader.take(MAX_HEADER).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.trim_end_matches('\r').to_owned()),
        None if read as u64 == MAX_HEADER => Err(malformed("its header has no end")),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(reader)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| malformed("a chunk has no size"))?;
        if size == 0 {
            read_fields(reader)?;
            return Ok(body);
        }
        let room = MAX_BODY.saturating_sub(body.len() as u64);
        body.extend(read_exactly(reader, size.min(room.saturating_add(1)))?);
        if body.len() as u64 > MAX_BODY {
            return Err(malformed("it is too long"));
        }
        read_line(reader)?;
    }
}

fn read_exactly(reader: &mut impl BufRead, length: u64) -> io::Result<Vec<u8>> {
    if length > MAX_BODY {
        return Err(malformed("it is too long"));
    }
    // Not reserved at once: the number is the other side's word.
    let mut body = Vec::new();
    match reader.take(length).read_to_end(&mut body)? as u64 == length {
        true => Ok(body),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Sets a field to a value, in mappings along the dots of its name.
pub fn set_field(body: &mut Value, name: &str, value: Value) {
    let (first, rest) = match name.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (name, None),
    };
    match rest {
        None => body[first] = value,
        Some(rest) => {
            if !body[first].is_object() {
                body[first] = json!({});
            }
            set_field(&mut body[first], rest, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &str, expected: Result<(u16, &str), io::ErrorKind>) {
        let read = read_answer(&mut answer.as_bytes());
        let read = read.map(|raw| (raw.status, String::from_utf8(raw.body).unwrap()));
        let expected = expected.map(|(status, body)| (status, body.to_owned()));
        assert_eq!(read.map_err(|error| error.kind()), expected, "{answer:?}");
    }

    #[test]
    fn an_answer_ends_where_its_header_says() {
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}more",
            Ok((200, "{}")),
        );
        check(
            "HTTP/1.1 201 Created\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
            Ok((201, "abc0123456789")),
        );
        check("HTTP/1.0 404 \r\n\r\nto the end", Ok((404, "to the end")));
        check("HTTP/1.1 204 No Content\r\n\r\n", Ok((204, "")));
    }

    #[test]
    fn half_an_answer_is_none() {
        for half in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ] {
            check(half, Err(io::ErrorKind::UnexpectedEof));
        }
        for foreign in [
            "SSH-2.0-OpenSSH_9\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n",
        ] {
            check(foreign, Err(io::ErrorKind::InvalidData));
        }
    }

    #[test]
    fn addresses_are_those_of_plain_http() {
        let parsed = |url: &str| {
            let client = Client::at(url, None).ok()?;
            Some((client.url, client.authority, client.prefix))
        };
        let of = |url: &str, authority: &str, prefix: &str| {
            Some((url.to_owned(), authority.to_owned(), prefix.to_owned()))
        };
        assert_eq!(
            parsed("127.0.0.1:8001"),
            of("http://127.0.0.1:8001", "127.0.0.1:8001", "")
        );
        assert_eq!(
            parsed("http://[::1]:8001/"),
            of("http://[::1]:8001/", "[::1]:8001", "")
        );
        assert_eq!(
            parsed("http://admin/kong/"),
            of("http://admin/kong/", "admin:80", "/kong")
        );
        for wrong in [
            "",
            "https://admin",
            "http://",
            "http://a b",
            "http://me@admin",
            ":8001",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn parts_of_a_path_may_hold_anything() {
        assert_eq!(
            path_of(&["upstreams", "a/b", "targets", "[::1]:80"]),
            "/upstreams/a%2Fb/targets/%5B%3A%3A1%5D%3A80"
        );
    }

    #[test]
    fn fields_nest_along_their_dots() {
        let mut body = json!({});
        set_field(&mut body, "config.percentage", json!(5));
        set_field(&mut body, "config.hash", json!("ip"));
        set_field(&mut body, "host", json!("green"));
        assert_eq!(
            body,
            json!({"config": {"percentage": 5, "hash": "ip"}, "host": "green"})
        );
    }
}
