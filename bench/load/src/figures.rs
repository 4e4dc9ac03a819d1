//! What is measured, as one line of JSON.

use std::time::{Duration, Instant};

use crate::connection::Answer;

/// Answers and faults.
#[derive(Default)]
pub(crate) struct Figures {
    /// Microseconds, of every answer with status 200.
    latencies: Vec<u32>,
    /// Microseconds between due and sent.
    late: Vec<u32>,
    bytes: u64,
    other_status: u64,
    full_handshakes: u64,
    resumed_handshakes: u64,
    /// Connections that ended instead of an answer.
    pub(crate) failed: u64,
    /// Requests without an answer at the end.
    pub(crate) timeouts: u64,
}

impl Figures {
    pub(crate) fn answered(&mut self, answer: Answer) {
        self.bytes += answer.bytes as u64;
        match answer.status {
            200 => self.latencies.push(micros(Instant::now() - answer.due)),
            _ => self.other_status += 1,
        }
    }

    pub(crate) fn sent_late(&mut self, by: Duration) {
        self.late.push(micros(by));
    }

    pub(crate) fn count_handshake(&mut self, is_resumed: bool) {
        match is_resumed {
            true => self.resumed_handshakes += 1,
            false => self.full_handshakes += 1,
        }
    }

    pub(crate) fn json(mut self, length: Duration) -> String {
        self.latencies.sort_unstable();
        self.late.sort_unstable();
        let of = |share| percentile(&self.latencies, share);
        format!(
            "{{\"requests\":{},\"duration_us\":{},\"bytes\":{},\"p50_us\":{},\"p90_us\":{},\"p99_us\":{},\"p999_us\":{},\
             \"max_us\":{},\"sent_late_p50_us\":{},\"sent_late_p99_us\":{},\"full_handshakes\":{},\"resumed_handshakes\":{},\
             \"errors\":{{\"connect\":0,\"read\":{},\"write\":0,\"status\":{},\"timeout\":{}}}}}",
            self.latencies.len(),
            length.as_micros(),
            self.bytes,
            of(0.5),
            of(0.9),
            of(0.99),
            of(0.999),
            of(1.0),
            percentile(&self.late, 0.5),
            percentile(&self.late, 0.99),
            self.full_handshakes,
            self.resumed_handshakes,
            self.failed,
            self.other_status,
            self.timeouts,
        )
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// The least value that so large a share of the sorted values does not exceed.
fn percentile(sorted: &[u32], share: f64) -> u32 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&values, 0.5), 50);
        assert_eq!(percentile(&values, 0.99), 99);
        assert_eq!(percentile(&values, 1.0), 100);
        assert_eq!(percentile(&[], 0.5), 0);
    }
}
