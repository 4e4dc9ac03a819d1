//! Which threads go first when there is more to do than cores to do it.

use log::warn;

/// How much later than requests a change is served: a sixth of the weight of a thread that serves them, by the
/// kernel's table, so that changes stay possible on a machine that is overloaded.
const NICE: i32 = 8;

/// Lets every other thread of the process go before this one. Threads that it begins go after them as well.
pub fn yield_to_requests() {
    // Elsewhere it would be the whole process.
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::setpriority_process(None, NICE)
    {
        warn!("changes are served as urgently as requests: {error}");
    }
}
