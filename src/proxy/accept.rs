//! The format of an answer of our own, by the client's `Accept` (RFC 9110 §12.5.1).
//!
//! Kong's four: JSON, plain text, HTML and XML. A client that names none, or none of these, gets JSON.
//! Kong itself answers plain text to a request without `Accept` where nginx found the error and JSON
//! where Kong did; here it is JSON each time, since a client cannot know who found it.

use http::HeaderMap;
use http::header::ACCEPT;

use super::request_id::RequestId;

/// A format of answers, in the order of preference where a client leaves it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/json`
    Json,
    /// `text/plain`
    Plain,
    /// `text/html`
    Html,
    /// `application/xml`
    Xml,
}

/// How well a client likes a format, and on account of which part of its `Accept`.
#[derive(Debug, Clone, Copy, Default)]
struct Liking {
    /// 2 for the format by name, 1 for its group, 0 for `*/*`.
    precision: u8,
    /// 0 to 1000; 0 refuses.
    quality: u16,
    /// The earlier of two that are liked alike wins, as in Kong.
    place: usize,
}

/// Returns the format that a client likes best; of equals the one it names first, then the one
/// preferred here. The more precise of two ranges counts for a format, so `text/*;q=0.1, text/html`
/// is HTML. One pass over the header, no allocation.
pub fn preferred_format(headers: &HeaderMap) -> Format {
    let mut likings: [Option<Liking>; Format::ALL.len()] = Default::default();
    let lines = headers.get_all(ACCEPT).iter();
    let ranges = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    for (place, range) in ranges.enumerate() {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let Some(quality) = parts.try_fold(1000, parameter_quality) else {
            continue;
        };
        for (format, liking) in Format::ALL.into_iter().zip(&mut likings) {
            let Some(precision) = format.precision_of(name) else {
                continue;
            };
            if liking.is_none_or(|known| known.precision < precision) {
                *liking = Some(Liking {
                    precision,
                    quality,
                    place,
                });
            }
        }
    }
    let liked = Format::ALL.into_iter().zip(likings);
    liked
        .filter_map(|(format, liking)| Some((format, liking.filter(|liking| liking.quality > 0)?)))
        // The first of equals stays: `max_by_key` would take the last.
        .reduce(|best, next| {
            let key = |liking: Liking| (liking.quality, usize::MAX - liking.place);
            if key(next.1) > key(best.1) { next } else { best }
        })
        .map_or(Format::Json, |(format, _)| format)
}

/// Takes a `q` parameter into account; none when it is not well formed.
fn parameter_quality(quality: u16, parameter: &[u8]) -> Option<u16> {
    match parameter {
        [b'q' | b'Q', b'=', value @ ..] => parse_quality(value),
        _ => Some(quality),
    }
}

/// Reads `0`, `0.123` or `1.000` in thousandths.
fn parse_quality(text: &[u8]) -> Option<u16> {
    let (whole, fraction) = match text {
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        [whole] => (whole, &[][..]),
        _ => return None,
    };
    let mut digits = [whole].into_iter().chain(fraction).chain([&b'0'; 3]).take(4);
    let thousandths = digits.try_fold(0, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
        Some(number * 10 + digit)
    });
    thousandths.filter(|quality| *quality <= 1000)
}

impl Format {
    const ALL: [Self; 4] = [Self::Json, Self::Plain, Self::Html, Self::Xml];

    /// Says how precisely a media range names this format; none when it does not.
    fn precision_of(self, range: &[u8]) -> Option<u8> {
        let (name, group): (&[u8], &[u8]) = match self {
            Self::Json => (b"application/json", b"application/*"),
            Self::Plain => (b"text/plain", b"text/*"),
            Self::Html => (b"text/html", b"text/*"),
            Self::Xml => (b"application/xml", b"application/*"),
        };
        if range.eq_ignore_ascii_case(name) {
            Some(2)
        } else if range.eq_ignore_ascii_case(group) {
            Some(1)
        } else {
            (range == b"*/*").then_some(0)
        }
    }

    /// Returns the value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json; charset=utf-8",
            Self::Plain => "text/plain; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Xml => "application/xml; charset=utf-8",
        }
    }

    /// Writes a message into a body.
    pub fn write(self, message: &str, id: &RequestId) -> String {
        match self {
            Self::Json => {
                let message = serde_json::Value::from(message);
                format!("{{\"message\":{message},\"request_id\":\"{id}\"}}")
            }
            Self::Plain => format!("{message}\nrequest_id: {id}\n"),
            Self::Html => format!(
                "<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    <title>Error</title>\n  </head>\n  \
                 <body>\n    <h1>Error</h1>\n    <p>{}.</p>\n    <p>request_id: {id}</p>\n  </body>\n</html>\n",
                escape(message)
            ),
            Self::Xml => format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>{}</message>\n  \
                 <requestid>{id}</requestid>\n</error>\n",
                escape(message)
            ),
        }
    }
}

/// Writes text so that it stays text in HTML and XML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::Format::{Html, Json, Plain, Xml};
    use super::*;

    fn check(lines: &[&str], format: Format) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT, line.parse().unwrap());
        }
        assert_eq!(preferred_format(&headers), format, "{lines:?}");
    }

    #[test]
    fn json_is_the_default() {
        check(&[], Json);
        check(&["*/*"], Json);
        check(&[""], Json);
        check(&["image/png"], Json);
        check(&["application/*"], Json);
        check(&["text/html;q=0, */*;q=0"], Json);
    }

    #[test]
    fn each_format_can_be_asked_for() {
        check(&["application/json"], Json);
        check(&["text/plain"], Plain);
        check(&["text/html"], Html);
        check(&["application/xml"], Xml);
        check(&["TEXT/HTML; charset=utf-8"], Html);
        check(&["text/*"], Plain);
    }

    #[test]
    fn the_best_liked_wins_then_the_first_named() {
        check(&["text/html;q=0.5, application/xml"], Xml);
        check(&["text/html, application/json"], Html);
        check(&["application/json, text/html"], Json);
        check(&["text/plain;q=0.2", "text/html;q=0.3"], Html);
        // A browser.
        check(
            &["text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"],
            Html,
        );
        check(&["text/html;q=0.001, image/png;q=1"], Html);
    }

    #[test]
    fn the_more_precise_range_counts() {
        check(&["*/*, application/json;q=0"], Plain);
        check(&["text/*;q=0.1, text/html, application/json;q=0.5"], Html);
        check(&["application/json;q=0.1, */*;q=0.5, text/plain;q=0.1"], Html);
        check(
            &["application/xml;q=0, application/*;q=0.4, text/plain;q=0.3"],
            Json,
        );
    }

    #[test]
    fn what_cannot_be_read_is_passed_over() {
        check(&["text/html;q=, text/plain;q=0.1"], Plain);
        check(&["text/html;q=2, text/plain;q=0.1"], Plain);
        check(&["text/html;q=0.1234, text/plain;q=0.1"], Plain);
        check(&["text/html;q=-1, text/plain;q=1."], Plain);
        check(&["text/html;q=1.001"], Json);
        check(&[";;;,,,text"], Json);
    }

    #[test]
    fn qualities_have_three_digits() {
        for (text, quality) in [
            ("0", Some(0)),
            ("1", Some(1000)),
            ("0.5", Some(500)),
            ("0.05", Some(50)),
            ("1.000", Some(1000)),
            ("1.001", None),
            ("9", None),
            ("0.1x", None),
            ("", None),
        ] {
            assert_eq!(parse_quality(text.as_bytes()), quality, "{text}");
        }
    }

    #[test]
    fn a_message_stays_a_message_in_every_format() {
        let id = super::super::request_id::RequestIds::new().next();
        let message = "<b>\"it's\" 5 > 4 & more</b>\n";
        let json: serde_json::Value = serde_json::from_str(&Json.write(message, &id)).unwrap();
        assert_eq!(json["message"], message);
        assert_eq!(json["request_id"], id.to_string());
        let escaped = "&lt;b&gt;&quot;it&#39;s&quot; 5 &gt; 4 &amp; more&lt;/b&gt;";
        for format in [Html, Xml] {
            let body = format.write(message, &id);
            assert!(body.contains(escaped) && !body.contains("<b>"), "{body}");
            assert!(body.contains(&id.to_string()), "{body}");
        }
        assert_eq!(Plain.write("no", &id), format!("no\nrequest_id: {id}\n"));
    }
}
