//! Switches a Service from one colour to the other, as somebody at the Admin API would.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cli::client::{Client, ClientError, path_of};
use crate::clock;

/// Time between two switches.
const EVERY: Duration = Duration::from_secs(5);
/// The Service of `conf/blue_green.yaml`.
const SERVICE: &str = "/services/shop";

/// Switches when it is due and knows what is under way.
pub struct Switcher {
    admin: Client,
    due: Instant,
    /// Switches so far, by whomever.
    pub count: u32,
    /// How long the last one of ours took.
    pub took: Option<Duration>,
    /// The colour that serves.
    pub live: String,
    /// What is under way on each colour.
    pub in_flight: Vec<u64>,
}

impl Switcher {
    /// Switches at this Admin API from now on.
    pub fn new(admin: SocketAddr) -> Result<Self, ClientError> {
        Ok(Self {
            admin: Client::at(&admin.to_string(), None)?,
            due: clock::monotonic() + EVERY,
            count: 0,
            took: None,
            live: String::new(),
            in_flight: Vec::new(),
        })
    }

    /// Looks what is in force and switches to the other one of the colours if it is time to.
    pub fn step(&mut self, colours: &[&str; 2], is_last: bool) -> Result<(), ClientError> {
        self.look(colours)?;
        if clock::monotonic() >= self.due && !is_last {
            let next = colours[usize::from(self.live == colours[0])];
            let begun = clock::monotonic();
            self.admin.patch(SERVICE, &json!({ "host": next }), None)?;
            self.took = Some(clock::monotonic() - begun);
            self.due = clock::monotonic() + EVERY;
            self.look(colours)?;
        }
        Ok(())
    }

    fn look(&mut self, colours: &[&str; 2]) -> Result<(), ClientError> {
        let service = self.admin.get(SERVICE)?.body;
        let live = service["host"].as_str().unwrap_or_default();
        if self.live != live {
            self.count += u32::from(!self.live.is_empty());
            live.clone_into(&mut self.live);
        }
        let in_flight = |colour: &&str| {
            let drain = self.admin.get(&path_of(&["upstreams", colour, "drain"]))?;
            Ok(drain.body["in_flight"].as_u64().unwrap_or_default())
        };
        self.in_flight = colours
            .iter()
            .map(in_flight)
            .collect::<Result<_, ClientError>>()?;
        Ok(())
    }
}
