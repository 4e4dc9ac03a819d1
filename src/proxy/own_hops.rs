//! How often a request has come through here already, by `Via` (RFC 9110 §7.6.3).

use http::HeaderMap;
use http::header::VIA;

use super::forward::PRODUCT_NAME;

/// Most hops of this product that a request may have behind it. Beyond any chain that somebody builds on
/// purpose, and small enough that a Service that leads back here ends before it takes all connections.
pub const MAX_OWN_HOPS: usize = 10;

/// Counts the entries of `Via` that a gateway of this product wrote; one that nobody can tell from ours,
/// whatever its release. A client may write such entries too, and harms itself alone.
///
/// Without `Via`, which is what clients send, one look-up.
pub fn count_own_hops(headers: &HeaderMap) -> usize {
    headers
        .get_all(VIA)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter(|hop| is_own(hop))
        .count()
}

/// `received-protocol RWS received-by`, of which the second is ours.
fn is_own(hop: &[u8]) -> bool {
    let mut words = hop
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .filter(|word| !word.is_empty());
    words.nth(1).is_some_and(|name| name.starts_with(PRODUCT_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::forward::via;

    fn check(lines: &[&str], count: usize) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(VIA, line.parse().unwrap());
        }
        assert_eq!(count_own_hops(&headers), count, "{lines:?}");
    }

    #[test]
    fn only_hops_of_this_product_count() {
        check(&[], 0);
        check(&[""], 0);
        check(&["1.1 varnish, 2 edge.example (nginx)"], 0);
        check(&["1.1 serin/0.1.0"], 1);
        check(&["1.1  serin/9.9,2\tserin/0.1.0 (comment)"], 2);
        check(&["1.0 fred, 1.1 serin/1", "1.1 serin/2"], 2);
        check(&["serin/1, 1.1 serin, 1.1 serin.example"], 0);
    }

    #[test]
    fn what_is_written_here_is_counted_here() {
        let mut headers = HeaderMap::new();
        for hops in 0..3 {
            assert_eq!(count_own_hops(&headers), hops);
            let value = via(&headers, http::Version::HTTP_11).unwrap();
            headers.insert(VIA, value);
        }
    }
}
