//! The health thread: what keeps the set of Targets that may be chosen equal to what is known.
//!
//! One loop. It starts probes when they are due and takes their outcome; when an address flips, by a
//! probe, by a client's request or by an operator, it looks at what has changed (`Watch`). It is
//! woken for that, so a Target is out of rotation within milliseconds of the report that decided.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::task::JoinSet;

use super::probe::Prober;
use super::schedule::ProbeId;
use super::watch::Watch;
use super::{Observed, first_pass};
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
        let Some(mut watch) = self.take_watch() else {
            return;
        };
        let mut generation = self.published.watch();
        let mut under_way = JoinSet::new();
        let mut ids: HashMap<tokio::task::Id, ProbeId> = HashMap::new();
        let mut probers: Vec<Prober> = Vec::new();
        loop {
            let now = clock::monotonic();
            watch.catch_up(&self.published.current().upstreams, &self.observed, now);
            // Until something flips, the snapshot changes or the time has come. That a probe ended
            // is no reason to look at everything again.
            loop {
                let now = clock::monotonic();
                while let Some((id, job)) = watch.start_next(now) {
                    let mut prober = probers.pop().unwrap_or_default();
                    let task = under_way.spawn(async move {
                        job.run(&mut prober).await;
                        prober
                    });
                    ids.insert(task.id(), id);
                }
                let pause = watch.next_wake().saturating_duration_since(now);
                tokio::select! {
                    Some(done) = under_way.join_next_with_id() => {
                        let task = match done {
                            Ok((task, prober)) => {
                                probers.push(prober);
                                task
                            }
                            // A probe that panicked says nothing about its Target.
                            Err(error) => error.id(),
                        };
                        if let Some(id) = ids.remove(&task) {
                            watch.done(id, clock::monotonic());
                        }
                    }
                    () = tokio::time::sleep(pause) => {
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
