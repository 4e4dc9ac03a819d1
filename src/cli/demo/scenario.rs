//! What the demo shows: the configuration that it runs, who asks, and what to try meanwhile.

use std::path::Path;

use clap::ValueEnum;

/// What the demo shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Two weighted Targets
    Weighted,
    /// A canary with an exact share of the requests
    Canary,
    /// A canary for the Consumers of some groups
    Groups,
    /// A canary whose share of the users grows by itself
    Ramp,
    /// A canary that anonymous visitors keep, by cookie
    Sticky,
    /// Two releases that take turns at serving everybody
    BlueGreen,
}

/// Somebody who asks.
#[derive(Debug, Clone)]
pub struct Person {
    /// What the table calls him.
    pub name: String,
    /// Header lines of his requests, each with its line end.
    pub headers: String,
}

/// How the table shows who got what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum People {
    /// Nobody in particular asks.
    Unknown,
    /// A line for each.
    Each,
    /// One line for all: how many are on which release, and how many it was taken from.
    Counted,
}

/// Users of the ramp, and visitors with a cookie: enough that a share of them is near what is wanted.
const CROWD: u32 = 1000;

impl Scenario {
    /// Returns where the example lies in the repository.
    pub fn file(self) -> &'static Path {
        Path::new(match self {
            Self::Weighted => "conf/demo.yaml",
            Self::Canary => "conf/canary.yaml",
            Self::Groups => "conf/groups.yaml",
            Self::Ramp => "conf/ramp.yaml",
            Self::Sticky => "conf/cookie.yaml",
            Self::BlueGreen => "conf/blue_green.yaml",
        })
    }

    /// Returns the example, for whoever has the binary without the repository.
    pub fn example(self) -> &'static str {
        match self {
            Self::Weighted => include_str!("../../../conf/demo.yaml"),
            Self::Canary => include_str!("../../../conf/canary.yaml"),
            Self::Groups => include_str!("../../../conf/groups.yaml"),
            Self::Ramp => include_str!("../../../conf/ramp.yaml"),
            Self::Sticky => include_str!("../../../conf/cookie.yaml"),
            Self::BlueGreen => include_str!("../../../conf/blue_green.yaml"),
        }
    }

    /// Returns the origins: a name, the variable by which the example finds the port, and the port that it names;
    /// others are taken where these are not free.
    pub fn origins(self) -> [(&'static str, &'static str, u16); 2] {
        match self {
            Self::BlueGreen => [
                ("blue", "SERIN_DEMO_BLUE_PORT", 9001),
                ("green", "SERIN_DEMO_GREEN_PORT", 9002),
            ],
            _ => [
                ("v1", "SERIN_DEMO_V1_PORT", 9001),
                ("v2", "SERIN_DEMO_V2_PORT", 9002),
            ],
        }
    }

    /// Returns what to try while it runs; `{file}` stands for the configuration, `{admin}` for the Admin API.
    pub fn invitation(self) -> &'static str {
        match self {
            Self::Weighted => "Now edit a weight in {file} and save.",
            Self::Canary => "Now edit 'percentage' in {file} and save; 0 takes everybody back.",
            Self::Groups => "Now add 'employees' to 'groups' in {file} and save.",
            Self::Ramp => "Watch the share grow, or edit 'duration' in {file} and save.",
            Self::Sticky => "Now edit 'percentage' in {file} and save: up, then down.",
            Self::BlueGreen => {
                "It switches every 5 s; or do it yourself: serin switch shop green --admin http://{admin}"
            }
        }
    }

    /// Returns who asks, in turn; nobody in particular where it is empty.
    pub fn people(self) -> Vec<Person> {
        let crowd = |name: &str, headers: fn(u32) -> String| {
            (0..CROWD)
                .map(|number| Person {
                    name: format!("{name}-{number}"),
                    headers: headers(number),
                })
                .collect()
        };
        match self {
            Self::Weighted | Self::Canary | Self::BlueGreen => Vec::new(),
            // The Consumers of conf/groups.yaml.
            Self::Groups => ["alice, testers", "bob, employees", "carol, no group"]
                .into_iter()
                .map(|name| Person {
                    name: name.to_owned(),
                    headers: format!(
                        "apikey: key-of-{}\r\n",
                        name.split(',').next().unwrap_or_default()
                    ),
                })
                .collect(),
            Self::Ramp => crowd("user", |number| format!("X-User: user-{number}\r\n")),
            Self::Sticky => crowd("visitor", |_| String::new()),
        }
    }

    /// Returns how the table shows them.
    pub fn shown(self) -> People {
        match self {
            Self::Weighted | Self::Canary | Self::BlueGreen => People::Unknown,
            Self::Groups => People::Each,
            Self::Ramp | Self::Sticky => People::Counted,
        }
    }
}
