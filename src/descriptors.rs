//! How many files, and with them connections, the process may have open.

use log::{info, warn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A client's connection has one to a Target beside it.
const PER_CONNECTION: u64 = 2;

/// Raises the limit to what the system lets this process have. A proxy has no use for the lower one, which
/// is there for programs that call select(2).
///
/// Says where that is too little for as many clients as the settings let in.
pub fn raise_limit(connections: usize) {
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
        Some(count) if count / PER_CONNECTION < connections as u64 => warn!(
            "open files: at most {count}, which is enough for about {} connections at a time and not for the {connections} of server.limits.connections; raise the hard limit (ulimit -Hn, LimitNOFILE) or lower the setting",
            count / PER_CONNECTION
        ),
        Some(count) => info!("open files: at most {count}"),
    }
}
