//! When requests are due: at even distances, whatever happens to them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// More often than this the timer need not ring: what is due by then is sent together.
const SHORTEST_NANOS: u64 = 20_000;

/// The times at which requests are due, and a timer that rings for them: epoll's own time-outs are of milliseconds.
pub(crate) struct Schedule {
    began: Instant,
    nanos: f64,
    count: u64,
    taken: u64,
    timer: OwnedFd,
}

impl Schedule {
    pub(crate) fn new(began: Instant, length: Duration, rate: f64) -> io::Result<Self> {
        let nanos = 1e9 / rate;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let pause = Duration::from_nanos((nanos as u64).max(SHORTEST_NANOS));
        let pause = Timespec {
            tv_sec: pause.as_secs() as i64,
            tv_nsec: pause.subsec_nanos().into(),
        };
        let setting = Itimerspec {
            it_interval: pause,
            it_value: pause,
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &setting)?;
        Ok(Self {
            began,
            nanos,
            count: (length.as_secs_f64() * rate) as u64,
            taken: 0,
            timer,
        })
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.timer.as_raw_fd()
    }

    /// Makes the timer ring again.
    pub(crate) fn awoken(&self) {
        // Only how often it rang is read; nothing is lost where that fails.
        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
    }

    /// Moves what is due by now into `due`.
    pub(crate) fn take(&mut self, now: Instant, due: &mut VecDeque<Instant>) {
        while self.taken < self.count {
            let at = self.at(self.taken);
            if at > now {
                break;
            }
            due.push_back(at);
            self.taken += 1;
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.taken == self.count
    }

    pub(crate) fn end(&self) -> Instant {
        self.at(self.count)
    }

    fn at(&self, number: u64) -> Instant {
        self.began + Duration::from_nanos((number as f64 * self.nanos) as u64)
    }
}
