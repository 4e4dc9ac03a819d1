//! The first look at every Target, before the proxy is ready.
//!
//! A Target counts as healthy until checks say otherwise, and with a threshold of three and an
//! interval of ten seconds that takes half a minute. So at the start each Target that is checked
//! actively is probed at once, and again at once while its probes fail, until its threshold is
//! reached: a Target that is down at the start gets no request.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use log::{info, warn};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::job::Job;
use super::probe::Prober;
use super::schedule::MAX_UNDER_WAY;
use crate::clock;

/// How long the start may take for this; whoever has not answered by then stays in until later
/// probes decide.
const LIMIT: Duration = Duration::from_secs(3);

/// Carries out all probes until they have decided, or for 3 s.
pub(super) async fn run(jobs: Vec<Arc<Job>>) {
    if jobs.is_empty() {
        return;
    }
    let (count, started) = (jobs.len(), clock::monotonic());
    let mut of_upstream: HashMap<usize, VecDeque<Arc<Job>>> = HashMap::new();
    for job in jobs {
        of_upstream
            .entry(std::ptr::from_ref(&*job.upstream).addr())
            .or_default()
            .push_back(job);
    }
    let shared = Arc::new(Shared {
        places: Semaphore::new(MAX_UNDER_WAY),
        probers: Mutex::default(),
    });
    let mut upstreams = JoinSet::new();
    for jobs in of_upstream.into_values() {
        upstreams.spawn(run_upstream(jobs, shared.clone()));
    }
    let is_over = timeout(LIMIT, upstreams.join_all()).await.is_ok();
    let took = clock::monotonic() - started;
    match is_over {
        true => info!("first health checks of {count} addresses took {took:.0?}"),
        false => {
            warn!("first health checks of {count} addresses are not over after {took:.0?}; going on without")
        }
    }
}

/// What all Upstreams have in common.
struct Shared {
    places: Semaphore,
    probers: Mutex<Vec<Prober>>,
}

async fn run_upstream(mut jobs: VecDeque<Arc<Job>>, shared: Arc<Shared>) {
    let limit = jobs
        .front()
        .map_or(1, |job| job.upstream.health().active.concurrency.max(1));
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() < limit {
            let Some(job) = jobs.pop_front() else { break };
            under_way.spawn(shared.clone().run(job));
        }
        match under_way.join_next().await {
            None => return,
            Some(Ok(job)) if job.is_undecided() => jobs.push_back(job),
            Some(_) => {}
        }
    }
}

impl Shared {
    async fn run(self: Arc<Self>, job: Arc<Job>) -> Arc<Job> {
        let _place = self.places.acquire().await;
        let known = self.probers().pop();
        let mut prober = known.unwrap_or_default();
        let is_over = tokio::time::sleep(job.order.timeout());
        job.run(&mut prober, is_over).await;
        self.probers().push(prober);
        job
    }

    fn probers(&self) -> std::sync::MutexGuard<'_, Vec<Prober>> {
        self.probers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
