//! Hosts, ports, networks and URLs, taken apart.

use std::net::IpAddr;

use ipnet::IpNet;

/// Says whether a text is a host name as Kong takes it: labels of letters, digits, `-` and `_`.
fn is_host_name(text: &str) -> bool {
    // The lengths are those of RFC 1035, without which a name could never be resolved.
    !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

/// Says whether a text looks like an IPv4 address, right or wrong: digits and dots only.
fn looks_like_ipv4(text: &str) -> bool {
    text.contains('.') && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// A host with its port, taken apart; says why if it cannot be.
pub(crate) fn split_host(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or("missing ']'")?;
        if !address.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) {
            return Err("not an IPv6 address in brackets");
        }
        (address, after)
    } else if text.matches(':').count() > 1 {
        if text.parse::<IpAddr>().is_err() {
            return Err("not an IPv6 address");
        }
        (text, "")
    } else {
        let at = text.find(':').unwrap_or(text.len());
        let host = &text[..at];
        let is_sound = if looks_like_ipv4(host) {
            host.parse::<IpAddr>().is_ok()
        } else {
            is_host_name(host)
        };
        if !is_sound {
            return Err("not a host name or address");
        }
        (host, &text[at..])
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok((host, None)),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits
            .parse()
            .map(|port| (host, Some(port)))
            .map_err(|_| "invalid port number"),
        _ => Err("invalid port number"),
    }
}

/// Reads a network, or an address as a network of one.
pub(crate) fn parse_network(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// A Service's address in its short form, taken apart but not judged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) protocol: String,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) path: Option<String>,
}

impl Url {
    /// Takes apart what [`URL`](super::format::URL) has found right.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (protocol, rest) = text.split_once("://")?;
        let at = rest.find('/').unwrap_or(rest.len());
        let (host, port) = split_host(&rest[..at]).ok()?;
        let path = Some(&rest[at..]).filter(|path| !path.is_empty());
        Some(Self {
            protocol: protocol.to_ascii_lowercase(),
            host: host.to_owned(),
            port,
            path: path.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(&str, Option<u16>), &str>) {
        assert_eq!(split_host(text), expected, "{text}");
    }

    #[test]
    fn a_host_and_its_port_are_told_apart() {
        check("shop", Ok(("shop", None)));
        check("shop:80", Ok(("shop", Some(80))));
        check("10.0.0.1:80", Ok(("10.0.0.1", Some(80))));
        check("[::1]:80", Ok(("::1", Some(80))));
        check("::1", Ok(("::1", None)));
    }

    #[test]
    fn what_is_neither_is_refused_with_a_reason() {
        check("shop:", Err("invalid port number"));
        check("shop:65536", Err("invalid port number"));
        check("[::1]80", Err("invalid port number"));
        check("[::1", Err("missing ']'"));
        check("[10.0.0.1]", Err("not an IPv6 address in brackets"));
        check("a:b:c", Err("not an IPv6 address"));
        check("300.0.0.1", Err("not a host name or address"));
        check(&"a".repeat(64), Err("not a host name or address"));
    }
}
