//! HTTP/1.1 messages as they are on the wire: just enough to read them, and nothing repaired.

use std::io::{self, BufRead, ErrorKind};

/// Header fields in the order in which they came, spelt as they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Takes fields as they came.
    pub fn new(fields: Vec<(String, String)>) -> Self {
        Self(fields)
    }

    /// Returns the first field of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Returns every field of a name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.0.iter();
        fields
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    fn is_chunked(&self) -> bool {
        self.get("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    }

    fn content_length(&self) -> Option<usize> {
        self.get("content-length")?.parse().ok()
    }
}

/// Start line and header fields.
#[derive(Debug, Clone)]
pub struct Head {
    /// First line, without its end.
    pub start: String,
    /// Fields.
    pub headers: Headers,
}

impl Head {
    /// Reads a head; `None` when the connection was closed before its first byte.
    pub fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let start = read_line(reader)?;
        if start.is_empty() {
            return Ok(None);
        }
        let mut fields = Vec::new();
        loop {
            let line = read_line(reader)?;
            match line.as_str() {
                "" => return Err(ErrorKind::UnexpectedEof.into()),
                "\r\n" => break,
                line => {
                    let (name, value) = line.split_once(':').ok_or(ErrorKind::InvalidData)?;
                    fields.push((name.to_owned(), value.trim().to_owned()));
                }
            }
        }
        Ok(Some(Self {
            start: start.trim_end().to_owned(),
            headers: Headers(fields),
        }))
    }
}

/// Reads a line with its end; empty at the end of the stream. Bytes that are no UTF-8 are replaced.
fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Reads the body of a request.
pub fn read_request_body(reader: &mut impl BufRead, headers: &Headers) -> io::Result<Vec<u8>> {
    match headers.is_chunked() {
        true => read_chunks(reader),
        false => read_bytes(reader, headers.content_length().unwrap_or(0)),
    }
}

/// Reads the body of a response that may have one.
pub fn read_response_body(reader: &mut impl BufRead, headers: &Headers) -> io::Result<Vec<u8>> {
    match (headers.is_chunked(), headers.content_length()) {
        (true, _) => read_chunks(reader),
        (false, Some(length)) => read_bytes(reader, length),
        (false, None) => {
            let mut body = Vec::new();
            reader.read_to_end(&mut body)?;
            Ok(body)
        }
    }
}

fn read_bytes(reader: &mut impl BufRead, length: usize) -> io::Result<Vec<u8>> {
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = read_chunk(reader)? {
        body.extend(chunk);
    }
    Ok(body)
}

/// Reads one chunk; `None` for the last one, with the (empty) trailer after it.
pub fn read_chunk(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let line = read_line(reader)?;
    if line.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let size = usize::from_str_radix(line.trim(), 16).map_err(|_| ErrorKind::InvalidData)?;
    let chunk = read_bytes(reader, size)?;
    read_line(reader)?;
    Ok((size > 0).then_some(chunk))
}
