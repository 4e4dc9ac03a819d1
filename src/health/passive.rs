//! Verdicts from live traffic.
//!
//! The status of an Upstream's own answer counts once, a try that brought none counts once. What is
//! the client's or our own doing never counts: a client that hangs up, a process without descriptors.
//! Workers call this; it takes no lock, allocates nothing, and where passive checks are off it ends
//! after one comparison.

use std::io;
use std::time::Instant;

use pingora_error::{Error, ErrorSource, ErrorType};
use rustix::io::Errno;

use super::job::memory;
use super::machine::Report;
use super::state::Cause;
use crate::snapshot::{Endpoint, Upstream};

/// Reports the status that a Target answered with.
pub fn observe_status(upstream: &Upstream, endpoint: &Endpoint, status: u16, now: Instant) {
    let Some(passive) = upstream.passive_checks() else {
        return;
    };
    let report = if passive.statuses.healthy.contains(status) {
        Report::Success
    } else if passive.statuses.unhealthy.contains(status) {
        Report::HttpFailure
    } else {
        return;
    };
    observe(upstream, endpoint, report, now);
}

/// Reports a try that brought no answer.
pub fn observe_failure(upstream: &Upstream, endpoint: &Endpoint, error: &Error, now: Instant) {
    if upstream.passive_checks().is_some()
        && let Some(report) = failure_of(error)
    {
        observe(upstream, endpoint, report, now);
    }
}

fn observe(upstream: &Upstream, endpoint: &Endpoint, report: Report, now: Instant) {
    let checks = upstream.health();
    let thresholds = &checks.passive.thresholds;
    let state = upstream.state();
    state.report(
        &endpoint.state,
        Cause::Request(report),
        thresholds,
        memory(checks),
        now,
    );
}

/// Returns what an error says against the other side; `None` when it says nothing.
pub(super) fn failure_of(error: &Error) -> Option<Report> {
    if matches!(error.esource(), ErrorSource::Downstream) || is_local(error) {
        return None;
    }
    Some(match error.etype() {
        ErrorType::ConnectTimedout
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::ReadTimedout
        | ErrorType::WriteTimedout => Report::Timeout,
        _ => Report::TcpFailure,
    })
}

/// Says whether this process or this host is what lacks something: descriptors, memory, a port.
fn is_local(error: &Error) -> bool {
    const LACKING: [Errno; 5] = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
    ];
    let is_ours = |etype: &ErrorType| {
        matches!(
            etype,
            ErrorType::InternalError | ErrorType::SocketError | ErrorType::BindError
        )
    };
    let root = error.root_cause();
    let code = root
        .downcast_ref::<io::Error>()
        .or_else(|| root.source()?.downcast_ref())
        .and_then(Errno::from_io_error);
    is_ours(error.etype()) || is_ours(error.root_etype()) || code.is_some_and(|code| LACKING.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: Box<Error>, expected: Option<Report>) {
        assert_eq!(failure_of(&error), expected, "{error}");
    }

    fn caused_by(etype: ErrorType, code: Errno) -> Box<Error> {
        Error::because(etype, "connecting", io::Error::from(code))
    }

    #[test]
    fn timeouts_are_timeouts_and_the_rest_are_failures() {
        check(Error::new_up(ErrorType::ReadTimedout), Some(Report::Timeout));
        check(Error::new(ErrorType::ConnectTimedout), Some(Report::Timeout));
        check(Error::new(ErrorType::ConnectRefused), Some(Report::TcpFailure));
        check(Error::new_up(ErrorType::ReadError), Some(Report::TcpFailure));
        check(
            Error::new_up(ErrorType::InvalidHTTPHeader),
            Some(Report::TcpFailure),
        );
        check(
            Error::new(ErrorType::TLSHandshakeFailure),
            Some(Report::TcpFailure),
        );
    }

    #[test]
    fn faults_of_our_own_and_of_clients_do_not_count() {
        check(Error::new(ErrorType::InternalError), None);
        check(Error::new_down(ErrorType::ReadError), None);
        check(caused_by(ErrorType::ConnectError, Errno::MFILE), None);
        check(caused_by(ErrorType::ConnectError, Errno::ADDRNOTAVAIL), None);
        // Wrapped once more, as Pingora does.
        let inner = caused_by(ErrorType::SocketError, Errno::NFILE);
        check(Error::because(ErrorType::ConnectError, "outer", inner), None);
        check(
            caused_by(ErrorType::ConnectError, Errno::CONNREFUSED),
            Some(Report::TcpFailure),
        );
    }
}
