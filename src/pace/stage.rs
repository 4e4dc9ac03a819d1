//! In which order a worker goes through its requests: stage by stage.
//!
//! A request runs once through more code than a core's first cache holds (some 200 KiB, the kernel's not
//! counted), so nearly every line of it comes from farther away. Where many are under way, each therefore
//! stops between two stages and lets the others get as far: what follows is the same code for all of
//! them, and is there for all but the first. This is cohort scheduling (Larus and Parkes, "Using Cohort
//! Scheduling to Enhance Server Performance", USENIX 2002).

use std::future::poll_fn;
use std::task::Poll;

use super::Pace;

/// With fewer under way there are hardly two at the same stage, and to stop costs what it costs.
const COHORT: usize = 8;

impl Pace {
    /// Ends a stage: those that are ready to run, where there are some, come first. No time passes otherwise.
    pub async fn end_stage(&self) {
        if self.under_way() >= COHORT {
            go_to_the_end_of_the_queue().await;
        }
    }
}

/// Not tokio's `yield_now`, which comes back only after a call to the system for what has arrived.
async fn go_to_the_end_of_the_queue() {
    let mut is_queued = false;
    poll_fn(|context| {
        if is_queued {
            return Poll::Ready(());
        }
        is_queued = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use prometheus::IntGauge;
    use tokio::task::LocalSet;

    use super::*;

    /// Lets as many requests as said go through three stages; returns who was at which, in order.
    async fn go_through(count: usize) -> Vec<(usize, usize)> {
        let pace = Pace::new(IntGauge::new("waiting", "waiting").unwrap());
        let _under_way: Vec<_> = (0..count).map(|_| pace.begin().now_or_never().unwrap()).collect();
        let steps = Rc::new(RefCell::new(Vec::new()));
        let tasks = LocalSet::new();
        let requests: Vec<_> = (0..count)
            .map(|request| {
                let (pace, steps) = (pace.clone(), steps.clone());
                tasks.spawn_local(async move {
                    for stage in 0..3 {
                        steps.borrow_mut().push((stage, request));
                        pace.end_stage().await;
                    }
                })
            })
            .collect();
        tasks.run_until(join_all(requests)).await;
        steps.take()
    }

    #[tokio::test]
    async fn many_requests_go_through_each_stage_one_after_the_other() {
        let expected: Vec<_> = (0..3)
            .flat_map(|stage| (0..COHORT).map(move |request| (stage, request)))
            .collect();
        assert_eq!(go_through(COHORT).await, expected);
    }

    #[tokio::test]
    async fn a_few_do_not_stop_between_stages() {
        let expected: Vec<_> = (0..COHORT - 1)
            .flat_map(|request| (0..3).map(move |stage| (stage, request)))
            .collect();
        assert_eq!(go_through(COHORT - 1).await, expected);
    }
}
