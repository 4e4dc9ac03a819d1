//! The health thread: what keeps the set of Targets that may be chosen equal to what is known.
//!
//! One loop. It starts probes when they are due and takes their outcome; when an address flips, by a
//! probe, by a client's request or by an operator, it looks at what has changed (`Watch`). It is
//! woken for that, so a Target is out of rotation within milliseconds of the report that decided.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::time::sleep_until;

use super::under_way::UnderWay;
use super::watch::Watch;
use super::{Observed, deadline, first_pass};
use crate::clock;
use crate::snapshot::Published;

/// The background service.
pub struct HealthService {
    published: Arc<Published>,
    observed: Arc<Observed>,
    watch: Mutex<Option<Watch>>,
}

impl HealthService {
    /// Watches over what `published` holds.
    pub fn new(published: Arc<Published>, observed: Arc<Observed>) -> Self {
        let watch = Mutex::new(Some(Watch::new(clock::monotonic())));
        Self {
            published,
            observed,
            watch,
        }
    }

    /// Probes every Target that is checked actively, before the proxy is ready; see `first_pass`.
    pub async fn run_first_pass(&self) {
        let Some(mut watch) = self.take_watch() else {
            return;
        };
        let upstreams = &self.published.current().upstreams;
        watch.catch_up(upstreams, &self.observed, clock::monotonic());
        first_pass::run(watch.jobs()).await;
        watch.catch_up(upstreams, &self.observed, clock::monotonic());
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
    }

    fn take_watch(&self) -> Option<Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl BackgroundService for HealthService {
    /// Runs until the process ends: while connections drain, their requests go to Targets, too.
    async fn start(&self, _: ShutdownWatch) {
        tokio::join!(self.keep_watch(), deadline::run(&self.published, &self.observed));
    }
}

impl HealthService {
    async fn keep_watch(&self) {
        let Some(mut watch) = self.take_watch() else {
            return;
        };
        let mut generation = self.published.watch();
        let mut under_way = UnderWay::default();
        let mut next_wake = clock::monotonic();
        let mut timer = pin!(sleep_until(next_wake.into()));
        loop {
            let now = clock::monotonic();
            watch.catch_up(&self.published.current().upstreams, &self.observed, now);
            // Until something flips, the snapshot changes or the time has come. That a probe ended
            // is no reason to look at everything again.
            loop {
                let now = clock::monotonic();
                under_way.end_overdue(now);
                while let Some((id, job)) = watch.start_next(now) {
                    under_way.start(id, job, now);
                }
                let overdue = under_way.next_overdue();
                let wake = overdue.map_or(watch.next_wake(), |at| at.min(watch.next_wake()));
                if wake != next_wake {
                    next_wake = wake;
                    timer.as_mut().reset(wake.into());
                }
                tokio::select! {
                    Some(id) = under_way.next_ended() => watch.done(id, clock::monotonic()),
                    () = &mut timer => {
                        if watch.is_time_to_look(clock::monotonic()) { break }
                    }
                    () = self.observed.registry.changed() => break,
                    changed = generation.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                }
            }
        }
    }
}
