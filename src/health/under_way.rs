//! Probes under way: their tasks, and by when each must have ended.
//!
//! A timer for each probe would cost two system calls: tokio wakes its own driver for a timer that is due
//! before all others. So the deadlines are kept here, and the thread looks at them when it wakes.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio::task::{Id, JoinSet};

use super::job::Job;
use super::probe::Prober;
use super::schedule::ProbeId;

/// The probes under way.
#[derive(Default)]
pub(super) struct UnderWay {
    tasks: JoinSet<Prober>,
    started: HashMap<Id, (Instant, ProbeId)>,
    /// By deadline. A probe is over when what stands here for it is dropped; nothing is ever sent.
    overdue: BTreeMap<(Instant, ProbeId), oneshot::Sender<Infallible>>,
    /// What carried out those that have ended.
    idle: Vec<Prober>,
}

impl UnderWay {
    /// Starts a probe, which ends by itself or once it is overdue.
    pub(super) fn start(&mut self, id: ProbeId, job: Arc<Job>, now: Instant) {
        let key = (now + job.order.timeout(), id);
        let (sender, receiver) = oneshot::channel();
        let mut prober = self.idle.pop().unwrap_or_default();
        let task = self.tasks.spawn(async move {
            let is_over = async {
                let _ = receiver.await;
            };
            job.run(&mut prober, is_over).await;
            prober
        });
        self.started.insert(task.id(), key);
        self.overdue.insert(key, sender);
    }

    /// Ends the probes whose time is over.
    pub(super) fn end_overdue(&mut self, now: Instant) {
        while let Some(first) = self.overdue.first_entry()
            && first.key().0 <= now
        {
            first.remove();
        }
    }

    /// Returns when the next probe will be overdue.
    pub(super) fn next_overdue(&self) -> Option<Instant> {
        self.overdue.first_key_value().map(|((at, _), _)| *at)
    }

    /// Waits until one has ended, reports included; none when none is under way. Losing the wait loses
    /// nothing.
    pub(super) async fn next_ended(&mut self) -> Option<ProbeId> {
        let task = match self.tasks.join_next_with_id().await? {
            Ok((task, prober)) => {
                self.idle.push(prober);
                task
            }
            // A probe that panicked says nothing about its Target.
            Err(error) => error.id(),
        };
        let key = self.started.remove(&task)?;
        self.overdue.remove(&key);
        Some(key.1)
    }
}
