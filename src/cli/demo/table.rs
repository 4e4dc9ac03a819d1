//! The live table: what the file asks for beside what the origins received.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::DemoError;
use super::gateway::Told;
use super::load::{Given, Measured};
use super::origin::Origin;
use super::scenario::{People, Person, Scenario};
use super::switcher::Switcher;
use crate::config::{self, Overrides};

/// A table that is drawn over itself on a terminal and line after line elsewhere.
pub struct Table {
    scenario: Scenario,
    people: Vec<Person>,
    file: PathBuf,
    overrides: Overrides,
    is_terminal: bool,
    lines_drawn: usize,
    /// Generation the counts below began under.
    generation: u64,
    /// What each origin had received, and what was seen of all requests, when that generation began.
    base: Vec<u64>,
    weights: HashMap<String, u16>,
    /// Share of the canary in force, where there is one that goes by share.
    canary_share: Option<f64>,
    /// Warnings and errors of the gateway since the last change that it took, e.g. why it refused one.
    troubles: Vec<String>,
}

impl Table {
    /// Reads weights from `file` whenever the gateway has taken it in.
    pub fn new(
        scenario: Scenario,
        people: Vec<Person>,
        file: PathBuf,
        environment: Vec<(&str, String)>,
        is_terminal: bool,
    ) -> Self {
        let environment = environment
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        Self {
            scenario,
            people,
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
            canary_share: None,
            troubles: Vec::new(),
        }
    }

    /// Draws the state after `elapsed`.
    pub fn draw(
        &mut self,
        elapsed: Duration,
        (told, switcher): (Told, Option<&Switcher>),
        origins: &[Origin],
        measured: &Measured,
        news: &[String],
        is_last: bool,
    ) -> Result<(), DemoError> {
        let received: Vec<u64> = origins.iter().map(Origin::received).collect();
        self.canary_share = told.canary_share;
        if let Some(generation) = told
            .generation
            .filter(|generation| *generation != self.generation)
        {
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
        let is_table = self.is_terminal || is_last || !news.is_empty();
        let text = match (switcher, is_table) {
            (Some(switcher), true) => self.colours(switcher, origins, &since, measured, elapsed),
            (Some(switcher), false) => self.colours_line(switcher, origins, &since, measured, elapsed),
            (None, true) => self.table(origins, &since, measured, elapsed),
            (None, false) => self.line(origins, &since, measured, elapsed),
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
        let Ok(loaded) = config::load(
            std::slice::from_ref(&self.file),
            &self.overrides,
            &mut config::Known::default(),
        ) else {
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

    /// What an origin is wanted to get, in percent: by its weight, or by the share of the canary.
    fn wanted(&self, origins: &[Origin], number: usize) -> String {
        if self.scenario == Scenario::Weighted {
            let weight = |origin: &Origin| u64::from(self.weight(origin));
            return percent(weight(&origins[number]), origins.iter().map(weight).sum());
        }
        match (self.canary_share, number) {
            (None, _) => NOTHING.to_owned(),
            (Some(share), 0) => format!("{:>5.1} %", (1.0 - share) * 100.0),
            (Some(share), _) => format!("{:>5.1} %", share * 100.0),
        }
    }

    fn weight(&self, origin: &Origin) -> u16 {
        self.weights
            .get(&origin.address.to_string())
            .copied()
            .unwrap_or(0)
    }

    fn heading(&self, measured: &Measured, elapsed: Duration) -> String {
        format!(
            "{:>4} s   generation {}   {} requests   {} failed   p50 {}   p99 {}\n",
            elapsed.as_secs(),
            self.generation,
            measured.requests,
            measured.failed,
            ms(measured.percentile(0.50)),
            ms(measured.percentile(0.99)),
        )
    }

    /// Which colour serves, and what is still under way on the other.
    fn colours(
        &self,
        switcher: &Switcher,
        origins: &[Origin],
        since: &[u64],
        measured: &Measured,
        elapsed: Duration,
    ) -> String {
        let mut text = self.heading(measured, elapsed);
        let _ = writeln!(
            text,
            "  colour  target                serves   in flight   requests   since the switch"
        );
        let total: u64 = since.iter().sum();
        for (number, (origin, count)) in origins.iter().zip(since).enumerate() {
            let _ = writeln!(
                text,
                "  {:<6}  {:<20}  {:>6}  {:>10}  {:>9}  {:>17}  {}",
                origin.name,
                origin.address,
                if origin.name == switcher.live { "yes" } else { "" },
                switcher.in_flight.get(number).unwrap_or(&0),
                origin.received(),
                count,
                bar(*count, total),
            );
        }
        let took = switcher
            .took
            .map_or_else(String::new, |took| format!(", the last one in {}", ms(took)));
        let _ = writeln!(
            text,
            "  switched {}{took}   {} requests on new connections, {} on kept ones",
            config::count(switcher.count as usize, "time"),
            measured.on_new,
            measured.requests - measured.on_new,
        );
        for line in &self.troubles {
            let _ = writeln!(text, "  {line}");
        }
        text
    }

    fn colours_line(
        &self,
        switcher: &Switcher,
        origins: &[Origin],
        since: &[u64],
        measured: &Measured,
        elapsed: Duration,
    ) -> String {
        let mut text = format!(
            "{:>5.1} s  generation {}  {} serves",
            elapsed.as_secs_f64(),
            self.generation,
            switcher.live
        );
        for (number, (origin, count)) in origins.iter().zip(since).enumerate() {
            let in_flight = switcher.in_flight.get(number).unwrap_or(&0);
            let _ = write!(text, "  {} {count}, {in_flight} in flight", origin.name);
        }
        let _ = writeln!(
            text,
            "  {} requests  {} failed",
            measured.requests, measured.failed
        );
        text
    }

    fn table(&self, origins: &[Origin], since: &[u64], measured: &Measured, elapsed: Duration) -> String {
        let mut text = self.heading(measured, elapsed);
        let is_weighted = self.scenario == Scenario::Weighted;
        let _ = writeln!(
            text,
            "  release  target                {}   wanted     seen   requests since the change",
            if is_weighted { "weight" } else { "      " }
        );
        let total: u64 = since.iter().sum();
        for (number, (origin, count)) in origins.iter().zip(since).enumerate() {
            let weight = match is_weighted {
                true => self.weight(origin).to_string(),
                false => String::new(),
            };
            let _ = writeln!(
                text,
                "  {:<7}  {:<20}  {weight:>6}  {}  {}  {:>9}  {}",
                origin.name,
                origin.address,
                self.wanted(origins, number),
                percent(*count, total),
                count,
                bar(*count, total),
            );
        }
        self.write_people(&mut text, origins, &measured.people);
        for line in &self.troubles {
            let _ = writeln!(text, "  {line}");
        }
        text
    }

    fn write_people(&self, text: &mut String, origins: &[Origin], given: &[Given]) {
        match self.scenario.shown() {
            People::Unknown => {}
            People::Each => {
                for (person, given) in self.people.iter().zip(given) {
                    let _ = writeln!(
                        text,
                        "  {:<20}  {}  for {} requests in a row",
                        person.name, given.release, given.answers
                    );
                }
            }
            People::Counted => {
                let _ = writeln!(text, "  {}", count_people(origins, given));
            }
        }
    }

    fn line(&self, origins: &[Origin], since: &[u64], measured: &Measured, elapsed: Duration) -> String {
        let total: u64 = since.iter().sum();
        let mut text = format!("{:>5.1} s  generation {}", elapsed.as_secs_f64(), self.generation);
        for (number, (origin, count)) in origins.iter().zip(since).enumerate() {
            let _ = write!(
                text,
                "  {} wanted {} seen {}",
                origin.name,
                self.wanted(origins, number).trim(),
                percent(*count, total).trim()
            );
        }
        match self.scenario.shown() {
            People::Unknown => {}
            People::Each => {
                for (person, given) in self.people.iter().zip(&measured.people) {
                    let _ = write!(text, "  {}: {}", person.name, given.release);
                }
            }
            People::Counted => {
                let _ = write!(text, "  {}", count_people(origins, &measured.people));
            }
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

/// How many are on each release, and how often anybody was given another one.
fn count_people(origins: &[Origin], given: &[Given]) -> String {
    let known = given.iter().filter(|given| !given.release.is_empty()).count();
    let mut text = format!("{known} people:");
    for origin in origins {
        let on_it = given.iter().filter(|given| given.release == origin.name).count();
        let share = percent(on_it as u64, known as u64);
        let _ = write!(text, " {on_it} on {} ({}),", origin.name, share.trim());
    }
    let changes: u64 = given.iter().map(|given| given.changes).sum();
    let returns: u64 = given.iter().map(|given| given.returns).sum();
    let _ = write!(
        text,
        " {changes} changes of release, {returns} back to one had before"
    );
    text
}

/// Stands where there is no share.
const NOTHING: &str = "     – ";

fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => NOTHING.to_owned(),
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
