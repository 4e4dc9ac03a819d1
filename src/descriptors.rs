//! How many files, and with them connections, the process may have open.

use log::{info, warn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Fewer than this are no number for a proxy: what a shell allows where nobody has set anything.
const FEW: u64 = 4096;

/// Raises the limit to what the system lets this process have. A proxy has no use for the lower one, which
/// is there for programs that call select(2).
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let (current, maximum) = (limit.current, limit.maximum);
    if current != maximum {
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            warn!("cannot raise the limit of open files: {error}");
        }
    }
    match getrlimit(Resource::Nofile).current {
        None => info!("open files: no limit"),
        Some(count) if count < FEW => warn!(
            "open files: at most {count}, which is enough for about {} connections at a time; raise the hard limit (ulimit -Hn, LimitNOFILE)",
            count / 2
        ),
        Some(count) => info!("open files: at most {count}"),
    }
}
