//! `serin explain`: which release a request would get, and why.
//!
//! Without files it asks a running proxy. With them it reads the files alone: no socket, no name is looked up, every
//! Target counts as healthy, and a ramp is where the clock, or `--at`, says that it is.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use http::Uri;
use serde_json::{Map, Value, json};

use super::client::{Access, Client, ClientError, conclude};
use super::{Format, print, table};
use crate::clock;
use crate::config::{self, Known, Overrides};
use crate::health::Observed;
use crate::proxy::explain::{Asked, Explanation, Question, count_canary, explain};
use crate::snapshot::{Builder, Snapshot};

/// What `serin explain` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Configuration files, or directories of them; without any, the running proxy is asked
    #[arg(value_name = "FILE", conflicts_with_all = ["admin", "token_file"])]
    files: Vec<PathBuf>,
    /// Path, or a whole URL, that is asked for
    #[arg(long, default_value = "/")]
    url: Uri,
    /// Method
    #[arg(long, default_value = "GET")]
    method: http::Method,
    /// Header field, e.g. --header 'X-User: 7'; may be given several times
    #[arg(long, value_name = "NAME: VALUE", value_parser = parse_header)]
    header: Vec<(http::HeaderName, http::HeaderValue)>,
    /// Consumer who asks, by username or id, in place of any credential
    #[arg(long, value_name = "NAME", conflicts_with = "key")]
    consumer: Option<String>,
    /// Key of the Consumer who asks, wherever the plugin key-auth looks for it
    #[arg(long)]
    key: Option<String>,
    /// Address that the request comes from
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<IpAddr>,
    /// When the request comes, e.g. 2026-12-24T18:00:00Z; default now
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "files", conflicts_with = "admin")]
    at: Option<Duration>,
    /// How many of so many made-up people would get the canary
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000), requires = "files", conflicts_with = "admin")]
    many: Option<u32>,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Sets a field under `server`, e.g. --set server.threads=2; may be given several times
    #[arg(long, value_name = "NAME=VALUE", requires = "files", conflicts_with = "admin")]
    set: Vec<String>,
    #[command(flatten)]
    access: Access,
}

/// Explains the request and prints how it would go.
pub fn run(arguments: &Arguments) -> ExitCode {
    if arguments.files.is_empty() {
        return conclude(ask(arguments));
    }
    match answer(arguments) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn answer(arguments: &Arguments) -> Result<String, String> {
    let snapshot = Arc::new(load(arguments)?);
    let question = question(arguments, &snapshot)?;
    if let Some(people) = arguments.many {
        let canary = count_canary(&snapshot, question, people)
            .ok_or("no canary of this request's Route goes by share: --many has nothing to count")?;
        return Ok(match arguments.format {
            Format::Text => format!(
                "{people} made-up people: {canary} canary ({}), {} stable ({})",
                percent(canary, people),
                people - canary,
                percent(people - canary, people)
            ),
            Format::Json => {
                let split =
                    serde_json::json!({"people": people, "canary": canary, "stable": people - canary});
                format!("{split:#}")
            }
        });
    }
    let explanation = explain(&snapshot, question);
    Ok(match arguments.format {
        Format::Text => text_of(arguments, &explanation),
        Format::Json => serde_json::to_string_pretty(&explanation).map_err(|error| error.to_string())?,
    })
}

/// Asks the running proxy.
fn ask(arguments: &Arguments) -> Result<ExitCode, ClientError> {
    let mut headers = Map::new();
    for (name, value) in &arguments.header {
        let value = String::from_utf8_lossy(value.as_bytes());
        // What comes in several fields is one list (RFC 9110, section 5.3); cookies have their own comma.
        let separator = if *name == http::header::COOKIE { "; " } else { ", " };
        let all = match headers.get(name.as_str()).and_then(Value::as_str) {
            Some(before) => format!("{before}{separator}{value}"),
            None => value.into_owned(),
        };
        headers.insert(name.as_str().to_owned(), all.into());
    }
    let asked = json!({
        "url": arguments.url.to_string(),
        "method": arguments.method.as_str(),
        "headers": headers,
        "consumer": arguments.consumer,
        "key": arguments.key,
        "ip": arguments.ip,
    });
    let answer = Client::new(&arguments.access)?.post("/explain", &asked)?.body;
    match arguments.format {
        Format::Json => print(&format!("{answer:#}")),
        Format::Text => match serde_json::from_value(answer) {
            Ok(explanation) => print(&text_of(arguments, &explanation)),
            Err(error) => {
                eprintln!("error: the proxy explains in words that this serin does not know: {error}");
                return Ok(ExitCode::FAILURE);
            }
        },
    }
    Ok(ExitCode::SUCCESS)
}

/// Compiles the files as if every name had an address and every Target were healthy.
fn load(arguments: &Arguments) -> Result<Snapshot, String> {
    // Here nothing tells when a plugin was made, as with a store in memory: a ramp has to say when it starts.
    let offline = "server.store.kind=memory".to_owned();
    let set = arguments.set.iter().cloned().chain([offline]).collect();
    let overrides = Overrides::from_process(set);
    let loaded = config::load(&arguments.files, &overrides, &mut Known::default())
        .map_err(|report| report.to_string())?;
    let observed = Observed::default();
    for name in loaded.configuration.host_names() {
        observed.names.assume(name, clock::monotonic());
    }
    let (now, monotonic) = clock::now();
    let configuration = loaded.configuration;
    let secret = configuration.settings.secret.clone();
    let builder = Builder {
        previous: None,
        secret: secret.as_ref(),
        access_log: None,
        observed: &observed,
        now: (arguments.at.unwrap_or(now), monotonic),
    };
    Ok(builder.build(configuration, 0))
}

fn question(arguments: &Arguments, snapshot: &Snapshot) -> Result<Question, String> {
    let asked = Asked {
        url: arguments.url.clone(),
        method: arguments.method.clone(),
        headers: arguments.header.clone(),
        consumer: arguments.consumer.clone(),
        key: arguments.key.clone(),
        address: arguments.ip,
        at: arguments.at.unwrap_or_else(clock::unix),
    };
    asked.question(snapshot).map_err(|error| format!("--{error}"))
}

fn text_of(arguments: &Arguments, explanation: &Explanation) -> String {
    let none = || "none".to_owned();
    let mut lines: Vec<(&str, String)> = vec![
        ("request", format!("{} {}", arguments.method, arguments.url)),
        ("route", explanation.route.clone().unwrap_or_else(none)),
        ("service", explanation.service.clone().unwrap_or_else(none)),
    ];
    let plugins = explanation.plugins.join(", ");
    lines.push(("plugins", if plugins.is_empty() { none() } else { plugins }));
    lines.push((
        "consumer",
        explanation.consumer.as_ref().map_or_else(none, |consumer| {
            let anonymous = if consumer.is_anonymous { ", anonymous" } else { "" };
            let groups = match consumer.groups.is_empty() {
                true => "in no group".to_owned(),
                false => format!("in {}", consumer.groups.join(", ")),
            };
            format!("{}{anonymous}, {groups}", consumer.name)
        }),
    ));
    if let Some(answer) = &explanation.answer {
        lines.push(("answer", format!("{} {}", answer.status, answer.message)));
        return table(&lines);
    }
    if let Some(release) = &explanation.release {
        let mut text = format!("canary on {}", release.upstream);
        if let Some(share) = release.share_percent {
            text += &format!(", share {share} %");
        }
        lines.push(("release", text));
        if let (Some(bucket), Some(identifier)) = (release.bucket, &release.identifier) {
            lines.push(("bucket", format!("{bucket} of 0 to 9999, by {identifier}")));
        }
        if let Some(start) = release.ramp_start {
            lines.push(("ramp", format!("from {}", time(start))));
        }
        if let Some(at) = release.reached_at {
            lines.push(("reached", time(at)));
        }
    }
    if let Some(variant) = &explanation.variant {
        let reason = explanation
            .reason
            .as_ref()
            .map_or_else(String::new, |reason| format!(", by {reason}"));
        lines.push(("variant", format!("{variant}{reason}")));
    }
    lines.push(("upstream", explanation.upstream.clone().unwrap_or_else(none)));
    for target in &explanation.targets {
        lines.push(("target", format!("{} weight {}", target.target, target.weight)));
    }
    table(&lines)
}

fn time(since_1970: Duration) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since_1970).to_string()
}

fn percent(part: u32, whole: u32) -> String {
    format!("{:.2} %", f64::from(part) * 100.0 / f64::from(whole))
}

fn parse_header(text: &str) -> Result<(http::HeaderName, http::HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write it as 'Name: value'")?;
    let name = name
        .trim()
        .parse()
        .map_err(|_| format!("'{name}' is no name of a header field"))?;
    let value = value
        .trim()
        .parse()
        .map_err(|_| format!("'{value}' is no value of a header field"))?;
    Ok((name, value))
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_rfc3339_weak(text).map_err(|error| error.to_string())?;
    time.duration_since(UNIX_EPOCH)
        .map_err(|_| "it lies before 1970".to_owned())
}
