//! Keys.

use super::*;

#[test]
fn a_key_may_be_in_a_field_or_in_the_query() {
    for request in [
        get("/", &[("apikey", "alice-key")]),
        get("/", &[("APIKEY", "alice-key")]),
        get("/", &[("x-key", "alice-key")]),
        get("/?a=1&apikey=alice-key", &[]),
        get("/?X-Key=alice%2Dkey", &[]),
        get("/?apikey", &[("x-key", "alice-key")]),
        // The first name decides, a field before an argument.
        get(
            "/?apikey=bob-key",
            &[("apikey", "alice-key"), ("x-key", "bob-key")],
        ),
    ] {
        let identity = check(vec![key_auth(None)], &request, "alice");
        assert_eq!(
            identity.credential.unwrap(),
            Uuid::from_u128(110).to_string().as_str()
        );
    }
}

#[test]
fn what_is_no_key_is_refused_with_kongs_words() {
    let missing = "No API key found in request";
    let duplicate = "Duplicate API key found";
    for (request, message) in [
        (get("/", &[]), missing),
        (get("/?apikey", &[]), missing),
        (get("/?apikey=", &[]), missing),
        (get("/?APIKEY=alice-key", &[]), missing),
        (get("/?apikey=alice-key", &[("apikey", "")]), missing),
        (
            get("/", &[("apikey", "alice-key"), ("apikey", "alice-key")]),
            duplicate,
        ),
        (get("/?apikey=alice-key&apikey=alice-key", &[]), duplicate),
        (get("/", &[("apikey", "nobody-key")]), "Unauthorized"),
        (get("/", &[("apikey", "Alice-key")]), "Unauthorized"),
    ] {
        check_refused(vec![key_auth(None)], &request, 401, message, Some("Key"));
    }
}

#[test]
fn a_key_is_looked_for_where_the_plugin_says() {
    let only = |in_header, in_query| {
        let PluginConfig::KeyAuth(mut config) = key_auth(None) else {
            unreachable!()
        };
        (config.in_header, config.in_query) = (in_header, in_query);
        config.common.realm = Some("r".to_owned());
        vec![PluginConfig::KeyAuth(config)]
    };
    let (field, argument) = (get("/", &[("apikey", "bob-key")]), get("/?apikey=bob-key", &[]));
    check(only(true, false), &field, "bob");
    check(only(false, true), &argument, "bob");
    for (plugins, request) in [
        (only(true, false), &argument),
        (only(false, true), &field),
        (only(false, false), &field),
    ] {
        check_refused(
            plugins,
            request,
            401,
            "No API key found in request",
            Some("Key realm=\"r\""),
        );
    }
}
