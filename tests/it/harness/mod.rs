//! What the tests stand on: real origins, the real binary, and a client that sends bytes.
//!
//! Nothing here sleeps to be on the safe side. Whoever waits waits for a state, on a condition
//! variable where the state is ours and by looking again ([`wait_until`]) where it is another
//! process's, and gives up with a message after [`HANG_LIMIT`].

mod admin;
mod client;
mod config;
mod dns;
mod gateway;
mod grpc;
mod http2;
mod message;
mod origin;
mod tls;
mod wire;

use http2::fields;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use admin::Admin;
pub use client::{Client, PersistentClient, Request, Response, is_request_id};
pub use config::{DEBUG, canary, shop, targets};
pub use dns::{Answer as DnsAnswer, NameServer};
pub use gateway::{Command, Gateway, complete, replace};
pub use grpc::GrpcOrigin;
pub use http2::{Http2, runtime};
pub use origin::{Origin, Received, Reply};
pub use tls::{Authority, TlsClient, der, serial};

/// How long anything may take before it counts as hanging. Far beyond what a loaded machine needs,
/// so that a test never fails for being slow.
pub const HANG_LIMIT: Duration = Duration::from_secs(20);
/// Pause between two looks at a state of another process.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Looks until `state` has a value. The only place that pauses.
pub fn wait_until<T>(what: &str, mut state: impl FnMut() -> Option<T>) -> T {
    let deadline = now() + HANG_LIMIT;
    loop {
        if let Some(value) = state() {
            return value;
        }
        assert!(now() < deadline, "waited {HANG_LIMIT:?} in vain: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The monotonic clock, for hang limits and lower bounds only.
pub fn now() -> Instant {
    serin::clock::monotonic()
}

/// A value that threads change and wait for.
struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            changed: Condvar::new(),
        }
    }

    /// A test that fails while it holds the lock must not hide its message behind another panic.
    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the value and wakes whoever waits.
    fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits for a state that the other side may never reach on its own account.
    fn wait_for_ever<R>(&self, mut state: impl FnMut(&mut T) -> Option<R>) -> R {
        let mut value = self.lock();
        loop {
            if let Some(result) = state(&mut value) {
                return result;
            }
            value = self.changed.wait(value).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for a state that must come; `None` when it has not within the limit.
    fn wait_for<R>(&self, mut state: impl FnMut(&mut T) -> Option<R>) -> Option<R> {
        let deadline = now() + HANG_LIMIT;
        let mut value = self.lock();
        loop {
            if let Some(result) = state(&mut value) {
                return Some(result);
            }
            let left = deadline.checked_duration_since(now())?;
            (value, _) = self
                .changed
                .wait_timeout(value, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}
