//! What is kept of a request when it is over: metrics and the access log.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use http::header::{REFERER, USER_AGENT};
use pingora_error::Error;
use pingora_proxy::Session;
use serde::Serialize;

use super::context::Context;
use super::query;
use crate::clock;
use crate::connection::Refusal;
use crate::metrics::status_class;
use crate::model::{AccessLogFormat, Reason};
use crate::snapshot::Snapshot;

/// Counts the request and offers its line to the access log.
pub fn record(session: &Session, error: Option<&Error>, ctx: &Context) {
    let status = session
        .response_written()
        .map_or(0, |response| response.status.as_u16());
    let took = clock::monotonic() - ctx.started;
    if error.is_some()
        && ctx.exchange.is_ending()
        && let Some(destination) = ctx.destination()
    {
        destination.upstream.state().count_drain_closed();
    }
    match ctx.route() {
        Some(route) => {
            route.requests(status_class(status)).inc();
            // Both by what was decided: that stable stepped in is counted against the canary.
            if let Some(destination) = ctx.intended_destination() {
                destination.request_duration().observe(took.as_secs_f64());
            }
            if let (Some(release), Some(decision), Some(reason)) =
                (&route.release, ctx.decision, ctx.reason())
            {
                release.requests(decision.variant, reason).inc();
            }
        }
        None => ctx.snapshot.unrouted(status_class(status)).inc(),
    }
    if let Some(log) = &ctx.snapshot.settings.access_log {
        log.offer(match log.format {
            AccessLogFormat::Json => json_line(session, error, ctx, status, took),
            AccessLogFormat::Combined => combined_line(session, ctx, status),
        });
    }
}

/// Offers the line of what never became a request to the access log: time, client and outcome are all that
/// is known of it.
pub fn record_refusal(snapshot: &Snapshot, client: Option<IpAddr>, refusal: &Refusal) {
    let Some(log) = &snapshot.settings.access_log else {
        return;
    };
    let status = refusal.reason.status().as_u16();
    let now = clock::unix();
    let line = match log.format {
        AccessLogFormat::Json => {
            let line = RefusalLine {
                time: time_for_log(now),
                request_id: &refusal.id,
                client,
                status,
                error: refusal.reason.label(),
            };
            serde_json::to_string(&line).unwrap_or_default()
        }
        AccessLogFormat::Combined => {
            let client = client.map_or_else(|| "-".to_owned(), |client| client.to_string());
            format!(
                "{client} - - [{}] \"-\" {status} 0 \"-\" \"-\"",
                common_log_time(now)
            )
        }
    };
    log.offer((line + "\n").into_bytes());
}

/// The fields of a [`Line`] that a refused header has.
#[derive(Serialize)]
struct RefusalLine<'a> {
    time: String,
    request_id: &'a str,
    client: Option<IpAddr>,
    status: u16,
    error: &'static str,
}

fn time_for_log(now: Duration) -> String {
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + now).to_string()
}

/// A line of the JSON access log. Times are in milliseconds, sizes in bytes.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request_id: String,
    client: Option<IpAddr>,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    protocol: &'static str,
    status: u16,
    bytes_sent: usize,
    bytes_received: usize,
    duration_ms: f64,
    upstream_ms: Option<f64>,
    service: Option<&'a str>,
    route: Option<&'a str>,
    consumer: Option<&'a str>,
    variant: Option<&'static str>,
    reason: Option<&'static str>,
    upstream: Option<&'a str>,
    target: Option<&'a str>,
    upstream_status: Option<u16>,
    tries: u32,
    generation: u64,
    user_agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn json_line(
    session: &Session,
    error: Option<&Error>,
    ctx: &Context,
    status: u16,
    took: Duration,
) -> Vec<u8> {
    let request = session.req_header();
    let service = ctx.service();
    let path = path_for_log(session, ctx);
    let line = Line {
        time: time_for_log(clock::unix()),
        request_id: ctx.id.to_string(),
        client: ctx.client.address,
        method: request.method.as_str(),
        host: header(session, &http::header::HOST),
        path: &path,
        protocol: protocol(request.version),
        status,
        bytes_sent: session.body_bytes_sent(),
        bytes_received: session.body_bytes_read(),
        duration_ms: to_ms(took),
        upstream_ms: ctx
            .header_received
            .zip(ctx.try_started)
            .map(|(at, from)| to_ms(at - from)),
        service: service.map(|service| &*service.label),
        route: ctx.route().map(|route| &*route.label),
        consumer: ctx.consumer().map(|consumer| consumer.label()),
        variant: service.map(|_| ctx.variant.label()),
        reason: ctx.reason().map(Reason::label),
        upstream: ctx.destination().map(|destination| destination.upstream.label()),
        target: ctx.chosen.as_ref().map(|chosen| &*chosen.endpoint().label),
        upstream_status: ctx.upstream_status,
        tries: ctx.tries,
        generation: ctx.snapshot.generation,
        user_agent: header(session, &USER_AGENT),
        error: error.map(ToString::to_string),
    };
    let mut bytes = Vec::with_capacity(512);
    if serde_json::to_writer(&mut bytes, &line).is_err() {
        bytes.clear();
    }
    bytes.push(b'\n');
    bytes
}

/// Path and query, without credentials: a log is read by more people than may use them.
fn path_for_log<'a>(session: &'a Session, ctx: &Context) -> Cow<'a, str> {
    let path = session.req_header().uri.path_and_query();
    let path = path.map_or("", |path| path.as_str());
    query::masked(path, &ctx.snapshot.secret_arguments)
}

/// Apache's combined format: `client - user [time] "request" status bytes "referer" "agent"`.
fn combined_line(session: &Session, ctx: &Context, status: u16) -> Vec<u8> {
    let request = session.req_header();
    let client = ctx
        .client
        .address
        .map_or_else(|| "-".to_owned(), |address| address.to_string());
    let path = path_for_log(session, ctx);
    let referer = query::masked(header(session, &REFERER), &ctx.snapshot.secret_arguments);
    let dash = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            escape(text)
        }
    };
    // A space would begin the next field.
    let user = dash(ctx.consumer().map_or("", |consumer| consumer.label())).replace(' ', "\\x20");
    let mut line = String::with_capacity(256);
    let _ = writeln!(
        line,
        "{client} - {} [{}] \"{} {} {}\" {status} {} \"{}\" \"{}\"",
        user,
        common_log_time(clock::unix()),
        request.method,
        escape(&path),
        protocol(request.version),
        session.body_bytes_sent(),
        dash(&referer),
        dash(header(session, &USER_AGENT)),
    );
    line.into_bytes()
}

/// Quotes and control characters cannot end a field or a line.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            c if c.is_control() => escaped.extend(c.escape_default()),
            c => escaped.push(c),
        }
    }
    escaped
}

/// `23/Nov/2026:02:11:00 +0000`.
fn common_log_time(now: Duration) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    // RFC 3339: `2026-11-23T02:11:00Z`.
    let text = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + now).to_string();
    let month = text[5..7]
        .parse::<usize>()
        .ok()
        .and_then(|month| MONTHS.get(month - 1))
        .unwrap_or(&"Jan");
    format!("{}/{month}/{}:{} +0000", &text[8..10], &text[..4], &text[11..19])
}

fn header<'a>(session: &'a Session, name: &http::HeaderName) -> &'a str {
    let value = session.req_header().headers.get(name);
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

fn to_ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combined_times_are_apaches() {
        assert_eq!(
            common_log_time(Duration::from_secs(1_795_399_860)),
            "23/Nov/2026:02:11:00 +0000"
        );
    }

    #[test]
    fn what_a_client_sends_cannot_break_a_line() {
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
