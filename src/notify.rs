//! What the service manager is told: sd_notify(3). Where there is none, nothing is told to nobody.

use std::future::pending;
use std::time::Duration;

use log::warn;
use sd_notify::NotifyState;

use crate::lifecycle::{Intake, Lifecycle};

/// Shortest pause between two beats, whatever the manager asks for.
const LEAST_PAUSE: Duration = Duration::from_millis(1);

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("cannot tell the service manager: {error}");
    }
}

/// Says when the process is ready, and from then on that it is alive, as often as it is asked to. For the
/// thread without which a process must not count as alive.
pub async fn run(lifecycle: &Lifecycle, is_successor: bool) {
    lifecycle.started().await;
    // A successor is not the service before its predecessor has said so.
    let mut intake = lifecycle.intake();
    if intake
        .wait_for(|intake| *intake != Intake::Waiting)
        .await
        .is_err()
    {
        return;
    }
    match is_successor {
        true => tell(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]),
        false => tell(&[NotifyState::Ready]),
    }
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return pending().await;
    };
    // Half the time that may pass, as sd_watchdog_enabled(3) recommends.
    let pause = (limit / 2).max(LEAST_PAUSE);
    while !lifecycle.is_handed_over() {
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(pause).await;
    }
}

/// Says that a reload begins; [`reloaded`] is to follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!("cannot tell the service manager of a reload: {error}"),
    }
}

/// Says that a reload has ended, whether or not it has changed something.
pub fn reloaded() {
    tell(&[NotifyState::Ready]);
}

/// Says that the process is on its way out.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}
