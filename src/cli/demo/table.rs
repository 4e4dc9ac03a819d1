//! The live table: what the file asks for beside what the origins received.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::DemoError;
use super::load::Measured;
use super::origin::Origin;
use crate::config::{self, Overrides};

/// A table that is drawn over itself on a terminal and line after line elsewhere.
pub struct Table {
    file: PathBuf,
    overrides: Overrides,
    is_terminal: bool,
    lines_drawn: usize,
    /// Generation the counts below began under.
    generation: u64,
    /// What each origin had received, and what was seen of all requests, when that generation began.
    base: Vec<u64>,
    weights: HashMap<String, u16>,
    /// Warnings and errors of the gateway since the last change that it took, e.g. why it refused one.
    troubles: Vec<String>,
}

impl Table {
    /// Reads weights from `file` whenever the gateway has taken it in.
    pub fn new(file: PathBuf, environment: Vec<(&str, String)>, is_terminal: bool) -> Self {
        let environment = environment
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        Self {
            file,
            overrides: Overrides {
                set: Vec::new(),
                environment,
            },
            is_terminal,
            lines_drawn: 0,
            generation: 0,
            base: Vec::new(),
            weights: HashMap::new(),
            troubles: Vec::new(),
        }
    }

    /// Draws the state after `elapsed`.
    pub fn draw(
        &mut self,
        elapsed: Duration,
        generation: Option<u64>,
        origins: &[Origin],
        measured: &Measured,
        news: &[String],
        is_last: bool,
    ) -> Result<(), DemoError> {
        let received: Vec<u64> = origins.iter().map(Origin::received).collect();
        if let Some(generation) = generation.filter(|generation| *generation != self.generation) {
            self.generation = generation;
            self.base = if self.base.is_empty() {
                vec![0; received.len()]
            } else {
                received.clone()
            };
            self.read_weights();
            self.troubles.clear();
        }
        self.troubles
            .extend(news.iter().filter(|line| !line.contains(" INFO ")).cloned());
        let since: Vec<u64> = received
            .iter()
            .zip(&self.base)
            .map(|(now, base)| now - base)
            .collect();
        let text = if self.is_terminal || is_last || !news.is_empty() {
            self.table(origins, &since, measured, elapsed)
        } else {
            self.line(origins, &since, measured, elapsed)
        };
        // Up to the first line of the last drawing, and clear from there.
        let above = match self.is_terminal && self.lines_drawn > 0 {
            true => format!("\x1b[{}A\x1b[J", self.lines_drawn),
            false => String::new(),
        };
        self.lines_drawn = text.lines().count();
        let mut out = std::io::stdout().lock();
        write!(out, "{above}{text}")
            .and_then(|()| out.flush())
            .map_err(|error| DemoError::System("print", error))
    }

    fn read_weights(&mut self) {
        let Ok(loaded) = config::load(std::slice::from_ref(&self.file), &self.overrides) else {
            return;
        };
        let targets = loaded
            .configuration
            .upstreams
            .iter()
            .flat_map(|upstream| &upstream.targets);
        self.weights = targets
            .map(|target| (target.label(), target.weight.get()))
            .collect();
    }

    fn weight(&self, origin: &Origin) -> u16 {
        self.weights
            .get(&origin.address.to_string())
            .copied()
            .unwrap_or(0)
    }

    fn table(&self, origins: &[Origin], since: &[u64], measured: &Measured, elapsed: Duration) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:>4} s   generation {}   {} requests   {} failed   p50 {}   p99 {}",
            elapsed.as_secs(),
            self.generation,
            measured.requests,
            measured.failed,
            ms(measured.percentile(0.50)),
            ms(measured.percentile(0.99)),
        );
        let _ = writeln!(
            text,
            "  release  target                weight   wanted     seen   requests since the change"
        );
        let total_weight: u32 = origins.iter().map(|origin| u32::from(self.weight(origin))).sum();
        let total: u64 = since.iter().sum();
        for (origin, count) in origins.iter().zip(since) {
            let weight = self.weight(origin);
            let _ = writeln!(
                text,
                "  {:<7}  {:<20}  {:>6}  {}  {}  {:>9}  {}",
                origin.name,
                origin.address,
                weight,
                percent(u64::from(weight), u64::from(total_weight)),
                percent(*count, total),
                count,
                bar(*count, total),
            );
        }
        for line in &self.troubles {
            let _ = writeln!(text, "  {line}");
        }
        text
    }

    fn line(&self, origins: &[Origin], since: &[u64], measured: &Measured, elapsed: Duration) -> String {
        let total: u64 = since.iter().sum();
        let mut text = format!("{:>5.1} s  generation {}", elapsed.as_secs_f64(), self.generation);
        for (origin, count) in origins.iter().zip(since) {
            let total_weight: u32 = origins.iter().map(|origin| u32::from(self.weight(origin))).sum();
            let wanted = percent(u64::from(self.weight(origin)), u64::from(total_weight));
            let _ = write!(
                text,
                "  {} wanted {} seen {}",
                origin.name,
                wanted.trim(),
                percent(*count, total).trim()
            );
        }
        let _ = writeln!(
            text,
            "  {} requests  {} failed  p50 {}  p99 {}",
            measured.requests,
            measured.failed,
            ms(measured.percentile(0.50)),
            ms(measured.percentile(0.99)),
        );
        text
    }
}

fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "     – ".to_owned(),
        whole => format!("{:>5.1} %", part as f64 * 100.0 / whole as f64),
    }
}

/// Up to 40 characters.
fn bar(part: u64, whole: u64) -> String {
    "█".repeat((part * 40).checked_div(whole).unwrap_or(0) as usize)
}

fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}
