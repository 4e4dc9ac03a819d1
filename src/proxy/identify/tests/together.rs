//! Several plugins on one Route, and groups.

use super::*;

const FORBIDDEN: &str = "You cannot consume this service";

fn jwt(name: Option<&str>) -> PluginConfig {
    PluginConfig::Jwt(model::Jwt {
        common: anonymous(name),
        ..jwt_rules()
    })
}

fn alice_by_name() -> RequestHeader {
    get("/", &[("authorization", &basic("al:pass:word"))])
}

#[test]
fn without_anonymous_every_plugin_must_succeed_and_the_last_says_who_it_is() {
    let both = || vec![basic_auth(None), key_auth(None)];
    let good = basic("al:pass:word");
    let request = get("/", &[("authorization", &*good), ("apikey", "bob-key")]);
    check(both(), &request, "alice");
    check_refused(
        both(),
        &alice_by_name(),
        401,
        "No API key found in request",
        Some("Key"),
    );
    let bob = get("/", &[("apikey", "bob-key")]);
    check_refused(both(), &bob, 401, "Unauthorized", Some("Basic realm=\"service\""));
    // Who was identified before the refusal is in the log.
    assert_eq!(visit(both(), &bob).0, "bob");
}

#[test]
fn with_anonymous_one_credential_will_do() {
    let any = || {
        vec![
            jwt(Some("guest")),
            basic_auth(Some("guest")),
            key_auth(Some("guest")),
        ]
    };
    check(any(), &get("/", &[("apikey", "bob-key")]), "bob");
    check(any(), &alice_by_name(), "alice");
    // The first that succeeds counts: key-auth runs before basic-auth.
    let good = basic("al:pass:word");
    let two = get("/", &[("authorization", &*good), ("apikey", "bob-key")]);
    check(any(), &two, "bob");
    for request in [get("/", &[]), get("/", &[("apikey", "wrong")])] {
        let identity = check(any(), &request, "guest");
        assert_eq!(identity.credential, None);
    }
}

#[test]
fn one_of_two_may_be_optional() {
    let mixed = || vec![jwt(Some("guest")), key_auth(None)];
    check(mixed(), &get("/", &[("apikey", "bob-key")]), "bob");
    check_refused(
        mixed(),
        &get("/", &[]),
        401,
        "No API key found in request",
        Some("Key"),
    );
}

#[test]
fn anonymous_is_found_by_id_and_must_exist() {
    let id = Uuid::from_u128(30).to_string();
    check(vec![key_auth(Some(&id))], &get("/", &[]), "guest");
    let message = "anonymous consumer ghost is configured but doesn't exist".to_owned();
    check_refused(vec![key_auth(Some("ghost"))], &get("/", &[]), 500, message, None);
    check(
        vec![key_auth(Some("ghost"))],
        &get("/", &[("apikey", "bob-key")]),
        "bob",
    );
}

#[test]
fn who_is_taken_for_granted_is_only_where_somebody_asks() {
    let consumers = consumers();
    let request = get("/", &[]);
    let assumed = consumers.find("bob");
    let caller = Caller {
        request: &request,
        consumers: &consumers,
        now: Duration::from_secs(NOW),
        assumed,
    };
    let identify = |plugins: Vec<PluginConfig>| {
        let plugins: Vec<Plugin> = plugins.into_iter().map(plugin).collect();
        let plugins = PluginIndex::new(&plugins);
        identify(
            &Guard::build(plugins.plugins_for(ROUTE, None), &consumers),
            caller,
        )
    };
    for plugins in [
        vec![key_auth(None)],
        vec![key_auth(Some("guest")), basic_auth(Some("guest"))],
    ] {
        let (identity, answer) = identify(plugins);
        assert_eq!(
            (identity.consumer, identity.is_anonymous, answer),
            (assumed, false, None)
        );
    }
    let (identity, answer) = identify(vec![key_auth(None), allow(&["staff"])]);
    assert_eq!(
        (identity.consumer, answer.unwrap().status.as_u16()),
        (assumed, 403)
    );
    let (identity, _) = identify(vec![deny(&["staff"])]);
    assert_eq!((identity.consumer, identity.assumed), (None, assumed));
}

#[test]
fn preflights_pass_where_the_plugin_says_so() {
    let PluginConfig::KeyAuth(mut config) = key_auth(None) else {
        unreachable!()
    };
    let options = RequestHeader::build("OPTIONS", b"/", None).unwrap();
    let plugins = vec![PluginConfig::KeyAuth(config.clone())];
    check_refused(plugins, &options, 401, "No API key found in request", Some("Key"));
    config.run_on_preflight = false;
    let plugins = || vec![PluginConfig::KeyAuth(config.clone())];
    check(plugins(), &options, "nobody");
    check_refused(
        plugins(),
        &get("/", &[]),
        401,
        "No API key found in request",
        Some("Key"),
    );
}

#[test]
fn a_plugin_for_https_asks_those_who_come_without_it_too() {
    for (protocols, is_asked) in [(vec![RouteProtocol::Https], true), (vec![], false)] {
        let mut key_auth = plugin(key_auth(None));
        key_auth.protocols = protocols;
        let (_, _, answer) = visit_by(vec![key_auth], &get("/", &[]));
        assert_eq!(answer.is_some(), is_asked);
    }
}

#[test]
fn groups_decide_who_passes_and_are_told() {
    let alice = get("/", &[("apikey", "alice-key")]);
    let bob = get("/", &[("apikey", "bob-key")]);
    let with = |acl| vec![key_auth(None), acl];
    let identity = check(with(allow(&["testers"])), &alice, "alice");
    assert_eq!(identity.groups.unwrap(), "staff, testers");
    let identity = check(with(deny(&["testers"])), &bob, "bob");
    assert_eq!(identity.groups, None);
    for (acl, request) in [
        (allow(&["testers"]), &bob),
        (allow(&["nobody-is-in-it"]), &alice),
        (allow(&[]), &alice),
        (deny(&["other", "staff"]), &alice),
        // A consumer group is no ACL group unless the plugin says so.
        (allow(&["gold"]), &alice),
    ] {
        check_refused(with(acl), request, 403, FORBIDDEN, None);
    }
    let included = PluginConfig::Acl(Acl {
        rule: AclRule::Allow(vec!["gold".to_owned()]),
        hide_groups_header: false,
        include_consumer_groups: true,
    });
    let identity = check(with(included), &alice, "alice");
    assert_eq!(identity.groups.unwrap(), "staff, testers, gold");
    let hidden = PluginConfig::Acl(Acl {
        rule: AclRule::Allow(vec!["staff".to_owned()]),
        hide_groups_header: true,
        include_consumer_groups: false,
    });
    assert_eq!(check(with(hidden), &alice, "alice").groups, None);
}

#[test]
fn who_is_nobody_is_asked_to_say_who_it_is() {
    check_refused(vec![allow(&["staff"])], &get("/", &[]), 401, "Unauthorized", None);
    check_refused(vec![deny(&["staff"])], &get("/", &[]), 401, "Unauthorized", None);
    let guest = || vec![key_auth(Some("guest"))];
    let with = |acl| guest().into_iter().chain([acl]).collect::<Vec<_>>();
    check_refused(with(allow(&["staff"])), &get("/", &[]), 401, "Unauthorized", None);
    check(with(deny(&["staff"])), &get("/", &[]), "guest");
    // In some group, but not in one of these.
    let as_alice = vec![key_auth(Some("alice")), allow(&["other"])];
    check_refused(as_alice, &get("/", &[]), 403, FORBIDDEN, None);
}
