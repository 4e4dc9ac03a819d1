//! Formats of text: what a host, a path, a header's name may look like.
//!
//! The messages are Kong's (`kong/db/schema/typedefs.lua`), letter for letter where a client could have
//! seen them. A format says yes or no; it never changes the text.

use std::net::{IpAddr, SocketAddr};

use super::address::{parse_network, split_host};
use super::path::{regex, route_path, service_path};
use crate::model::ListenAddress;

/// A format of text.
#[derive(Debug)]
pub(crate) struct Format {
    /// Judges a text.
    pub(crate) check: fn(&str) -> Result<(), Fault>,
    /// The same as a regular expression for editors, as far as one can say it.
    pub(crate) pattern: Option<&'static str>,
}

/// Why a text does not fit, and perhaps a way out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Nothing, or why not.
pub(super) type Judged = Result<(), Fault>;

macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident = $check:expr, $pattern:expr;)*) => {
        $($(#[$doc])* pub(crate) static $name: Format = Format { check: $check, pattern: $pattern };)*
    };
}

formats! {
    /// Any text.
    ANY = |_| Ok(()), None;
    /// Any text but none.
    NON_EMPTY = non_empty, Some(".");
    /// Name of a Service or Route.
    NAME = name, None;
    /// UUID.
    UUID = uuid, Some("^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$");
    /// Label of an entity.
    TAG = tag, Some("^[^,/]+$");
    /// Host of a Service: a name or an address, without a port.
    SERVICE_HOST = service_host, None;
    /// Path of a Service.
    SERVICE_PATH = service_path, Some("^/");
    /// Path of a canary.
    CANARY_PATH = |text| non_empty(text).and_then(|()| service_path(text)), Some("^/");
    /// Short form of a Service's address.
    URL = url, Some("^[a-z_]+://");
    /// Method of a Route.
    METHOD = method, Some("^[A-Z]+$");
    /// Host of a Route: perhaps a wildcard, perhaps a port.
    ROUTE_HOST = route_host, None;
    /// Path of a Route: a prefix, or `~` and a regular expression.
    ROUTE_PATH = route_path, Some("^~?/");
    /// Name of a header field.
    HEADER = header, Some("^[A-Za-z0-9_-]+$");
    /// Name of a header field that a Route may ask for.
    ROUTE_HEADER = route_header, Some("^[A-Za-z0-9_-]+$");
    /// Value of a header field that a Route asks for.
    HEADER_VALUE = header_value, None;
    /// Name of a cookie.
    COOKIE = cookie, Some("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$");
    /// Name in a TLS handshake.
    SNI = sni, None;
    /// Name under which a certificate is shown: as in a handshake, or `*` for all others.
    SERVER_NAME = |text| if text == "*" { Ok(()) } else { sni(text) }, None;
    /// Name of an Upstream.
    UPSTREAM_NAME = upstream_name, None;
    /// Host, perhaps with a port.
    HOST_AND_PORT = host_and_port, None;
    /// Address of a Target, perhaps with a port.
    TARGET = target, None;
    /// Address or network.
    NETWORK = network, None;
    /// Address and port to listen on.
    LISTEN_ADDRESS = listen_address, None;
    /// Address and port, or path of a Unix socket, to listen on.
    SOCKET_ADDRESS = socket_address, None;
    /// Secret that keys hashes.
    SECRET = secret, Some("^(.|\\n){32,}$");
    /// Token that lets somebody in.
    TOKEN = token, Some("^(.|\\n){16,}$");
}

fn non_empty(text: &str) -> Judged {
    if text.is_empty() {
        Err(Fault::new("length must be at least 1"))
    } else {
        Ok(())
    }
}

fn name(text: &str) -> Judged {
    non_empty(text)?;
    match text
        .chars()
        .find(|c| c.is_ascii() && !c.is_ascii_alphanumeric() && !"._~-".contains(*c))
    {
        None => Ok(()),
        Some(_) => Err(Fault::new(format!(
            "invalid value '{text}': it must only contain alphanumeric and '., -, _, ~' characters"
        ))),
    }
}

fn uuid(text: &str) -> Judged {
    let is_uuid = text.len() == 36 && uuid::Uuid::parse_str(text).is_ok();
    if is_uuid {
        Ok(())
    } else {
        Err(Fault::new("expected a valid UUID").hint("leave it out to have one made from the name"))
    }
}

pub(super) fn tag(text: &str) -> Judged {
    non_empty(text)?;
    if text.chars().any(|c| c == ',' || c == '/' || c.is_ascii_control()) {
        return Err(Fault::new(format!(
            "invalid tag '{text}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"
        )));
    }
    Ok(())
}

fn service_host(text: &str) -> Judged {
    if text.contains("://") {
        return Err(
            Fault::new(format!("invalid value: {text}")).hint("an address with a scheme goes into 'url'")
        );
    }
    match split_host(text) {
        Ok((_, None)) => Ok(()),
        Ok((host, Some(port))) => {
            Err(Fault::new("must not have a port").hint(format!("write host: {host} and port: {port}")))
        }
        Err("invalid port number") => {
            Err(Fault::new("must not have a port").hint("the port goes into 'port'"))
        }
        Err(why) => Err(Fault::new(format!("invalid value: {text}")).hint(why)),
    }
}

fn upstream_name(text: &str) -> Judged {
    match split_host(text) {
        Ok((_, Some(_))) | Err("invalid port number") => {
            Err(Fault::new("Invalid name; no port allowed").hint("ports belong to the targets"))
        }
        Ok((host, None)) if host.parse::<IpAddr>().is_ok() => {
            Err(Fault::new("Invalid name; no ip addresses allowed").hint("addresses belong to the targets"))
        }
        Ok(_) => Ok(()),
        Err(_) => {
            Err(Fault::new("Invalid name; must be a valid hostname")
                .hint("letters, digits, '-', '_' and '.'"))
        }
    }
}

fn host_and_port(text: &str) -> Judged {
    split_host(text)
        .map(drop)
        .map_err(|why| Fault::new(format!("invalid value: {text}")).hint(why))
}

fn sni(text: &str) -> Judged {
    let name = text
        .strip_prefix("*.")
        .or_else(|| text.strip_suffix(".*"))
        .unwrap_or(text);
    match split_host(name) {
        Ok((_, Some(_))) | Err("invalid port number") => Err(Fault::new("must not have a port")),
        Ok((host, None)) if host.parse::<IpAddr>().is_ok() => Err(Fault::new("must not be an IP")),
        Ok(_) => Ok(()),
        Err(_) => Err(Fault::new(format!("invalid value: {text}"))),
    }
}

fn target(text: &str) -> Judged {
    split_host(text).map(drop).map_err(|why| {
        let hint = if text.contains("://") {
            "a target has no scheme: write host:port"
        } else {
            why
        };
        Fault::new(format!(
            "Invalid target ('{text}'); not a valid hostname or ip address"
        ))
        .hint(hint)
    })
}

fn method(text: &str) -> Judged {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(());
    }
    let upper = text.to_ascii_uppercase();
    let fault = Fault::new(format!("invalid value: {text}"));
    let is_case = !upper.is_empty() && upper.bytes().all(|byte| byte.is_ascii_uppercase());
    Err(if is_case {
        fault.hint(format!("methods are upper case: {upper}"))
    } else {
        fault.hint("upper case letters only")
    })
}

fn route_host(text: &str) -> Judged {
    if text.contains('/') {
        return Err(
            Fault::new(format!("invalid hostname: {text}")).hint("a host name only: no scheme, no path")
        );
    }
    let wildcards = text.matches('*').count();
    if wildcards > 1 {
        return Err(Fault::new("invalid wildcard: must have at most one wildcard"));
    }
    let host = text
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(text, |(host, _)| host);
    if wildcards == 1 && !host.starts_with("*.") && !host.ends_with(".*") {
        return Err(
            Fault::new("invalid wildcard: must be placed at leftmost or rightmost label")
                .hint("*.example.com matches every sub-domain, example.* every ending"),
        );
    }
    match split_host(&text.replace('*', "abc")) {
        Ok(_) => Ok(()),
        Err("invalid port number") => Err(Fault::new("invalid port number")),
        Err(_) => {
            Err(Fault::new(format!("invalid hostname: {text}")).hint("letters, digits, '-', '_' and '.'"))
        }
    }
}

fn header(text: &str) -> Judged {
    let is_sound = !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if is_sound {
        Ok(())
    } else {
        Err(Fault::new(format!(
            "bad header name '{text}', allowed characters are A-Z, a-z, 0-9, '_', and '-'"
        )))
    }
}

fn route_header(text: &str) -> Judged {
    if text.eq_ignore_ascii_case("host") {
        return Err(Fault::new(
            "cannot contain 'host' header, which must be specified in the 'hosts' attribute",
        ));
    }
    header(text)
}

fn header_value(text: &str) -> Judged {
    text.strip_prefix("~*").map_or(Ok(()), regex)
}

fn cookie(text: &str) -> Judged {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !text.is_empty() && text.bytes().all(is_token) {
        return Ok(());
    }
    Err(Fault::new(format!(
        "bad cookie name '{text}', allowed characters are A-Z, a-z, 0-9, '_', and '-'"
    )))
}

fn network(text: &str) -> Judged {
    match parse_network(text) {
        Some(_) => Ok(()),
        None => Err(Fault::new(format!("invalid ip or cidr range: '{text}'"))
            .hint("such as 10.0.0.0/8, 192.0.2.7 or fd00::/8")),
    }
}

/// The longest path that fits into the system's structure for an address.
const UNIX_PATH_BYTES: usize = 107;

fn socket_address(text: &str) -> Judged {
    let Some(path) = text.strip_prefix(ListenAddress::UNIX_PREFIX) else {
        return listen_address(text);
    };
    if !path.starts_with('/') {
        return Err(Fault::new(format!("expected an absolute path, not '{path}'"))
            .hint("such as unix:/run/serin/http.sock"));
    }
    match path.len() {
        ..=UNIX_PATH_BYTES => Ok(()),
        bytes => Err(Fault::new(format!(
            "the path has {bytes} bytes, and a socket's may have {UNIX_PATH_BYTES}"
        ))
        .hint("such as unix:/run/serin/http.sock")),
    }
}

fn listen_address(text: &str) -> Judged {
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    let fault = Fault::new(format!("expected an address and a port, not '{text}'"));
    let port = text.trim_start_matches('*').trim_start_matches(':');
    Err(match port.parse::<u16>() {
        Ok(port) => fault.hint(format!("0.0.0.0:{port} for all of IPv4, [::]:{port} for all addresses, 127.0.0.1:{port} for this machine only")),
        Err(_) if text.parse::<IpAddr>().is_ok() => fault.hint(format!("add the port: {}", SocketAddr::new(text.parse().unwrap_or(IpAddr::from([0, 0, 0, 0])), 8000))),
        Err(_) => fault.hint("such as 0.0.0.0:8000 or [::1]:8000; names are not resolved"),
    })
}

fn secret(text: &str) -> Judged {
    let least = crate::model::Secret::MIN_BYTES;
    if text.len() >= least {
        return Ok(());
    }
    Err(Fault::new(format!("length must be at least {least}"))
        .hint("for example the output of: openssl rand -hex 32"))
}

fn token(text: &str) -> Judged {
    if text.len() >= 16 {
        return Ok(());
    }
    Err(Fault::new("length must be at least 16").hint("for example the output of: openssl rand -hex 32"))
}

fn url(text: &str) -> Judged {
    let Some((protocol, rest)) = text.split_once("://") else {
        return Err(Fault::new("missing scheme in url").hint(format!("write http://{text}")));
    };
    if protocol.is_empty() {
        return Err(Fault::new("missing scheme in url").hint("such as http://shop.internal:8080/api"));
    }
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    if authority.is_empty() {
        return Err(Fault::new("missing host in url").hint("such as http://shop.internal:8080/api"));
    }
    if authority.contains('@') {
        return Err(
            Fault::new("a url must not hold a user name or password").hint("a Service has no field for them")
        );
    }
    if path.contains(['?', '#']) {
        return Err(Fault::new("a url must not hold a query or fragment")
            .hint("a Service has protocol, host, port and path only"));
    }
    split_host(authority)
        .map_err(|why| Fault::new(format!("invalid host in url: '{authority}'")).hint(why))?;
    if path.is_empty() {
        Ok(())
    } else {
        service_path(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::address::Url;

    fn accepts(format: &Format, texts: &[&str]) {
        for text in texts {
            assert_eq!((format.check)(text), Ok(()), "{text}");
        }
    }

    fn refuses(format: &Format, cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            let fault = (format.check)(text).expect_err(text);
            assert_eq!(&fault.message, expected, "{text}");
        }
    }

    #[test]
    fn hosts_of_services_and_upstreams() {
        accepts(
            &SERVICE_HOST,
            &[
                "shop",
                "shop.v1-a_b.internal",
                "10.0.0.1",
                "::1",
                "[::1]",
                "1991.io",
            ],
        );
        refuses(
            &SERVICE_HOST,
            &[
                ("shop:80", "must not have a port"),
                ("shop:x", "must not have a port"),
                ("http://shop", "invalid value: http://shop"),
                ("", "invalid value: "),
                ("a..b", "invalid value: a..b"),
                ("10.0.0", "invalid value: 10.0.0"),
                (".a", "invalid value: .a"),
                ("[::1]:80", "must not have a port"),
            ],
        );
        accepts(&UPSTREAM_NAME, &["shop", "shop.internal", "a_b"]);
        refuses(
            &UPSTREAM_NAME,
            &[
                ("10.0.0.1", "Invalid name; no ip addresses allowed"),
                ("[::1]", "Invalid name; no ip addresses allowed"),
                ("shop:80", "Invalid name; no port allowed"),
                ("a b", "Invalid name; must be a valid hostname"),
            ],
        );
    }

    #[test]
    fn targets() {
        accepts(
            &TARGET,
            &["shop:8080", "shop", "10.0.0.1:80", "[::1]:80", "::1", "[::1]"],
        );
        refuses(
            &TARGET,
            &[
                (
                    "http://a:1",
                    "Invalid target ('http://a:1'); not a valid hostname or ip address",
                ),
                (
                    "a:99999",
                    "Invalid target ('a:99999'); not a valid hostname or ip address",
                ),
                ("a:", "Invalid target ('a:'); not a valid hostname or ip address"),
                (
                    "[::1",
                    "Invalid target ('[::1'); not a valid hostname or ip address",
                ),
                (
                    "300.0.0.1:80",
                    "Invalid target ('300.0.0.1:80'); not a valid hostname or ip address",
                ),
            ],
        );
    }

    #[test]
    fn hosts_of_routes() {
        accepts(
            &ROUTE_HOST,
            &[
                "shop.example",
                "*.shop.example",
                "shop.*",
                "*.shop.example:8080",
                "SHOP.example",
                "10.0.0.1",
                "shop.*:80",
            ],
        );
        refuses(
            &ROUTE_HOST,
            &[
                ("*.a.*", "invalid wildcard: must have at most one wildcard"),
                (
                    "*a.com",
                    "invalid wildcard: must be placed at leftmost or rightmost label",
                ),
                (
                    "a*b.com",
                    "invalid wildcard: must be placed at leftmost or rightmost label",
                ),
                ("a.com:1000000", "invalid port number"),
                ("a b", "invalid hostname: a b"),
                ("a.com/x", "invalid hostname: a.com/x"),
            ],
        );
    }

    #[test]
    fn names_headers_and_other_words() {
        accepts(&NAME, &["shop-v1.0_a~b", "läden"]);
        refuses(
            &NAME,
            &[
                (
                    "a b",
                    "invalid value 'a b': it must only contain alphanumeric and '., -, _, ~' characters",
                ),
                ("", "length must be at least 1"),
            ],
        );
        refuses(&METHOD, &[("get", "invalid value: get"), ("", "invalid value: ")]);
        refuses(
            &ROUTE_HEADER,
            &[
                (
                    "Host",
                    "cannot contain 'host' header, which must be specified in the 'hosts' attribute",
                ),
                (
                    "a b",
                    "bad header name 'a b', allowed characters are A-Z, a-z, 0-9, '_', and '-'",
                ),
            ],
        );
        refuses(&HEADER_VALUE, &[("~*a(", "invalid regex: 'a(' (unclosed group)")]);
        refuses(&UUID, &[("5", "expected a valid UUID")]);
        refuses(
            &TAG,
            &[(
                "a,b",
                "invalid tag 'a,b': expected printable ascii (except `,` and `/`) or valid utf-8 sequences",
            )],
        );
        accepts(&SNI, &["a.example", "*.a.example"]);
        refuses(
            &SNI,
            &[
                ("10.0.0.1", "must not be an IP"),
                ("a:1", "must not have a port"),
                ("a b", "invalid value: a b"),
            ],
        );
        refuses(
            &COOKIE,
            &[(
                "a b",
                "bad cookie name 'a b', allowed characters are A-Z, a-z, 0-9, '_', and '-'",
            )],
        );
    }

    #[test]
    fn addresses() {
        accepts(&LISTEN_ADDRESS, &["0.0.0.0:8000", "[::1]:0"]);
        refuses(
            &LISTEN_ADDRESS,
            &[
                (":8000", "expected an address and a port, not ':8000'"),
                (
                    "localhost:80",
                    "expected an address and a port, not 'localhost:80'",
                ),
            ],
        );
        accepts(&NETWORK, &["10.0.0.0/8", "10.1.2.3", "::1", "fd00::/8"]);
        refuses(
            &NETWORK,
            &[("10.0.0.0/33", "invalid ip or cidr range: '10.0.0.0/33'")],
        );
    }

    #[test]
    fn urls_are_taken_apart() {
        let parsed = |text: &str| {
            accepts(&URL, &[text]);
            let url = Url::parse(text).unwrap();
            (url.protocol, url.host, url.port, url.path)
        };
        assert_eq!(
            parsed("http://shop:81/api"),
            ("http".into(), "shop".into(), Some(81), Some("/api".into()))
        );
        assert_eq!(parsed("HTTP://[::1]"), ("http".into(), "::1".into(), None, None));
        refuses(
            &URL,
            &[
                ("shop:80", "missing scheme in url"),
                ("http:///a", "missing host in url"),
                ("http://u:p@h", "a url must not hold a user name or password"),
                ("http://h/a?b", "a url must not hold a query or fragment"),
                ("http://h:x/", "invalid host in url: 'h:x'"),
                ("http://h/a//b", "must not have empty segments"),
            ],
        );
    }
}
