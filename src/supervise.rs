//! What a panic costs: a request that panics is lost, and nothing else; a part of the process that panics
//! ends the process in good order.
//!
//! Pingora runs every connection in a task of its own, which a panic ends. But it runs background services in
//! such tasks too: one that panicked would be gone, and the process would go on without its health checks or
//! its configuration, to all appearances well. Restarting the part in place is refused: what it was changing
//! when it panicked is half changed. A supervisor starts the process anew.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use log::error;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::{BackgroundService, GenBackgroundService, background_service};

use crate::lifecycle::{End, Lifecycle};
use crate::metrics::metrics;

/// Counts every panic from now on, and logs it in one line with its place.
pub fn count_panics() {
    std::panic::set_hook(Box::new(tell));
}

fn tell(panic: &PanicHookInfo<'_>) {
    metrics().panics.inc();
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name").to_owned();
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic
        .location()
        .map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    error!("panic in thread {name} at {place}: {message}");
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        error!("{trace}");
    }
}

/// A background service whose panic ends the process.
pub struct Supervised<S> {
    name: &'static str,
    service: S,
    lifecycle: Arc<Lifecycle>,
}

/// Makes a part of the process that must not be missing.
pub fn part<S>(
    name: &'static str,
    service: S,
    lifecycle: &Arc<Lifecycle>,
) -> GenBackgroundService<Supervised<S>> {
    let supervised = Supervised {
        name,
        service,
        lifecycle: lifecycle.clone(),
    };
    background_service(name, supervised)
}

#[async_trait]
impl<S: BackgroundService + Send + Sync> BackgroundService for Supervised<S> {
    async fn start(&self, shutdown: ShutdownWatch) {
        let mut work = pin!(self.service.start(shutdown));
        let has_panicked = poll_fn(|ctx| {
            // A future that has panicked is not asked again.
            match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(ctx))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(())) => Poll::Ready(false),
                Err(_) => Poll::Ready(true),
            }
        });
        if has_panicked.await {
            let why = format!("the {} thread has panicked", self.name);
            self.lifecycle.end(End::Failed(why));
        }
    }
}

/// Panics in a request for the path that the variable `FAULT_PANIC_PATH` names. Exists in builds with
/// assertions only: what is shipped has no such switch.
#[cfg(debug_assertions)]
pub fn fault(path: &str) {
    static PATH: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let fault = PATH.get_or_init(|| std::env::var("FAULT_PANIC_PATH").ok());
    assert!(fault.as_deref() != Some(path), "asked to");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Intake;

    struct Ends(bool);

    #[async_trait]
    impl BackgroundService for Ends {
        async fn start(&self, _: ShutdownWatch) {
            tokio::task::yield_now().await;
            assert!(!self.0, "half-way through");
        }
    }

    async fn check(panics: bool, expected: Option<End>) {
        let lifecycle = Arc::new(Lifecycle::new(1, Intake::Open));
        let (_stop, shutdown) = tokio::sync::watch::channel(false);
        let part = part("test", Ends(panics), &lifecycle);
        part.task().start(shutdown).await;
        assert_eq!(lifecycle.why_ended(), expected);
    }

    #[tokio::test]
    async fn a_part_that_panics_ends_the_process_and_one_that_returns_does_not() {
        let failed = End::Failed("the test thread has panicked".to_owned());
        check(true, Some(failed)).await;
        check(false, None).await;
    }
}
