//! The door with real guards and Consumers, without a proxy around it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use uuid::Uuid;

use super::*;
use crate::model::{
    self, Acl, AclRule, Authentication, BasicAuth, BasicCredential, JwtAlgorithm, JwtCredential, KeyAuth,
    KeyCredential, Masked, PasswordHash, Plugin, PluginConfig, RouteProtocol, Scope,
};
use crate::proxy::respond::Text;
use crate::snapshot::PluginIndex;

const NOW: u64 = 1_800_000_000;
const ROUTE: Uuid = Uuid::from_u128(1);

/// Alice, with one of everything and in two groups; Bob, with a key and in none; `guest`, with nothing.
fn consumers() -> Consumers {
    let person = |number: u128, name: &str| model::Consumer {
        id: Uuid::from_u128(number),
        username: Some(name.to_owned()),
        custom_id: None,
        acl_groups: Vec::new(),
        consumer_groups: Vec::new(),
        keys: vec![KeyCredential {
            id: Uuid::from_u128(number + 100),
            key: Masked::new(format!("{name}-key")),
            expires_at: None,
        }],
        passwords: Vec::new(),
        tokens: Vec::new(),
    };
    let alice_id = Uuid::from_u128(10);
    let mut hasher = Sha1::new();
    hasher.update("pass:word");
    hasher.update(alice_id.to_string());
    let token = |key: &str, algorithm, public_key: Option<&str>| JwtCredential {
        id: Uuid::nil(),
        key: key.to_owned(),
        algorithm,
        secret: Masked::new("secret"),
        public_key: public_key.map(str::to_owned),
    };
    let public = include_str!("../../../tests/data/keys/rsa.pub.pem");
    let alice = model::Consumer {
        acl_groups: vec!["staff".to_owned(), "testers".to_owned()],
        consumer_groups: vec!["gold".to_owned()],
        passwords: vec![BasicCredential {
            id: Uuid::nil(),
            username: "al".to_owned(),
            password: PasswordHash(hasher.finalize().into()),
        }],
        tokens: vec![
            token("hmac", JwtAlgorithm::Hs256, None),
            token("rsa", JwtAlgorithm::Rs256, Some(public)),
            token("broken", JwtAlgorithm::Rs256, None),
        ],
        ..person(10, "alice")
    };
    let guest = model::Consumer {
        keys: Vec::new(),
        ..person(30, "guest")
    };
    Consumers::build(&[alice, person(20, "bob"), guest])
}

fn plugin(config: PluginConfig) -> Plugin {
    Plugin {
        id: Uuid::new_v4(),
        scope: Scope::Global,
        protocols: vec![RouteProtocol::Http, RouteProtocol::Https],
        config,
    }
}

fn anonymous(name: Option<&str>) -> Authentication {
    Authentication {
        anonymous: name.map(str::to_owned),
        ..Authentication::default()
    }
}

fn key_auth(name: Option<&str>) -> PluginConfig {
    PluginConfig::KeyAuth(KeyAuth {
        common: anonymous(name),
        key_names: vec!["apikey".to_owned(), "X-Key".to_owned()],
        in_header: true,
        in_query: true,
        run_on_preflight: true,
    })
}

fn basic_auth(name: Option<&str>) -> PluginConfig {
    let common = Authentication {
        realm: Some("service".to_owned()),
        ..anonymous(name)
    };
    PluginConfig::BasicAuth(BasicAuth { common })
}

fn jwt_rules() -> model::Jwt {
    model::Jwt {
        common: anonymous(None),
        uri_param_names: vec!["jwt".to_owned()],
        header_names: vec![http::header::AUTHORIZATION],
        cookie_names: vec!["session".to_owned()],
        key_claim_name: "iss".to_owned(),
        secret_is_base64: false,
        verify_exp: false,
        verify_nbf: false,
        maximum_expiration: None,
        run_on_preflight: true,
    }
}

fn acl(rule: AclRule) -> PluginConfig {
    PluginConfig::Acl(Acl {
        rule,
        hide_groups_header: false,
        include_consumer_groups: false,
    })
}

fn allow(groups: &[&str]) -> PluginConfig {
    acl(AclRule::Allow(
        groups.iter().map(|name| (*name).to_owned()).collect(),
    ))
}

fn deny(groups: &[&str]) -> PluginConfig {
    acl(AclRule::Deny(
        groups.iter().map(|name| (*name).to_owned()).collect(),
    ))
}

fn get(target: &str, fields: &[(&'static str, &str)]) -> RequestHeader {
    let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
    for (name, value) in fields {
        request.append_header(*name, *value).unwrap();
    }
    request
}

fn basic(text: &str) -> String {
    format!("Basic {}", STANDARD.encode(text))
}

/// Sends a request to a door with these plugins.
fn visit(plugins: Vec<PluginConfig>, request: &RequestHeader) -> (String, Identity, Option<Answer>) {
    visit_by(plugins.into_iter().map(plugin).collect(), request, false)
}

fn visit_by(
    plugins: Vec<Plugin>,
    request: &RequestHeader,
    is_secure: bool,
) -> (String, Identity, Option<Answer>) {
    let consumers = consumers();
    let guard = Guard::build(PluginIndex::new(&plugins).plugins_for(ROUTE, None), &consumers);
    let visitor = Visitor {
        request,
        is_secure,
        consumers: &consumers,
        now: Duration::from_secs(NOW),
        assumed: None,
    };
    let (identity, answer) = identify(&guard, visitor);
    let label = identity.consumer.map(|consumer| consumers.get(consumer).label());
    (label.unwrap_or("nobody").to_owned(), identity, answer)
}

/// Insists on who passes.
#[track_caller]
fn check(plugins: Vec<PluginConfig>, request: &RequestHeader, name: &str) -> Identity {
    let (label, identity, answer) = visit(plugins, request);
    assert_eq!((&*label, answer), (name, None));
    assert_eq!(identity.is_anonymous, name == "guest");
    identity
}

/// Insists on a refusal: its status, text and challenge.
#[track_caller]
fn check_refused(
    plugins: Vec<PluginConfig>,
    request: &RequestHeader,
    status: u16,
    text: impl Into<Text>,
    challenge: Option<&str>,
) {
    let (_, _, answer) = visit(plugins, request);
    let answer = answer.expect("nobody passes");
    assert_eq!((answer.status.as_u16(), answer.text), (status, text.into()));
    let actual = answer
        .challenge
        .as_ref()
        .map(|challenge| challenge.to_str().unwrap());
    assert_eq!(actual, challenge);
}

mod key_auth_ {
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
}

mod basic_auth_ {
    use super::*;

    #[test]
    fn a_name_and_its_password_may_be_in_either_field() {
        let good = basic("al:pass:word");
        for fields in [
            &[("authorization", &*good)][..],
            &[("proxy-authorization", &good)],
            &[("authorization", &good.replace("Basic", "bAsIc  "))],
            // Unknown in the first, known in the second.
            &[
                ("proxy-authorization", &basic("who:what")),
                ("authorization", &good),
            ],
            &[("proxy-authorization", "Bearer x"), ("authorization", &good)],
        ] {
            let identity = check(vec![basic_auth(None)], &get("/", fields), "alice");
            assert_eq!(identity.credential.unwrap(), "al");
        }
    }

    #[test]
    fn everything_else_is_refused_alike() {
        let good = basic("al:pass:word");
        for fields in [
            &[][..],
            &[("authorization", "Basic")],
            &[("authorization", "Basic !!!")],
            &[("authorization", &basic("al"))],
            &[("authorization", &basic(":pass:word"))],
            &[("authorization", &basic("al:pass"))],
            &[("authorization", &basic("al:"))],
            &[("authorization", &basic("alice:pass:word"))],
            &[("authorization", &basic("\u{fffd}:pass:word"))],
            &[("authorization", &good.replace("Basic", "Digest"))],
            // A name that is known counts, with the wrong password too.
            &[
                ("proxy-authorization", &basic("al:wrong")),
                ("authorization", &good),
            ],
        ] {
            let request = get("/", fields);
            let challenge = Some("Basic realm=\"service\"");
            check_refused(vec![basic_auth(None)], &request, 401, "Unauthorized", challenge);
        }
    }
}

mod jwt_ {
    use super::*;

    const BASE: Option<&str> = Some("Bearer");
    const INVALID: Option<&str> = Some("Bearer error=\"invalid_token\"");

    fn jwt(change: impl FnOnce(&mut model::Jwt)) -> Vec<PluginConfig> {
        let mut rules = jwt_rules();
        change(&mut rules);
        vec![PluginConfig::Jwt(rules)]
    }

    fn hmac(claims: Value) -> String {
        let key = EncodingKey::from_secret(b"secret");
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
    }

    fn bearer(token: &str) -> RequestHeader {
        get("/", &[("authorization", &format!("Bearer {token}"))])
    }

    /// A token of any two parts, signed or not.
    fn parts(header: &str, claims: &str, signature: &str) -> String {
        let encode = |part: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(part);
        format!("{}.{}.{signature}", encode(header), encode(claims))
    }

    #[test]
    fn a_token_may_be_in_a_field_a_cookie_or_the_query() {
        let token = hmac(json!({"iss": "hmac"}));
        for request in [
            bearer(&token),
            get("/", &[("authorization", &format!("  bEARER   {token} "))]),
            get(&format!("/?a=1&jwt={token}"), &[]),
            get("/", &[("cookie", &format!("a=b; session={token}"))]),
            // One token in several places is one token.
            get(
                &format!("/?jwt={token}&jwt={token}&jwt="),
                &[("authorization", &format!("Bearer {token}"))],
            ),
        ] {
            let identity = check(jwt(|_| ()), &request, "alice");
            assert_eq!(identity.credential.unwrap(), "hmac");
        }
    }

    #[test]
    fn a_public_key_verifies_what_its_private_key_signed() {
        let key = EncodingKey::from_rsa_pem(include_bytes!("../../../tests/data/keys/rsa.pem")).unwrap();
        let header = jsonwebtoken::Header::new(Algorithm::RS256);
        let token = jsonwebtoken::encode(&header, &json!({"iss": "rsa"}), &key).unwrap();
        check(jwt(|_| ()), &bearer(&token), "alice");
    }

    #[test]
    fn the_issuer_may_be_another_claim_or_in_the_header() {
        let kid = |rules: &mut model::Jwt| rules.key_claim_name = "kid".to_owned();
        check(jwt(kid), &bearer(&hmac(json!({"kid": "hmac"}))), "alice");
        let header = jsonwebtoken::Header {
            kid: Some("hmac".to_owned()),
            ..jsonwebtoken::Header::default()
        };
        let key = EncodingKey::from_secret(b"secret");
        let in_header = jsonwebtoken::encode(&header, &json!({"kid": null}), &key).unwrap();
        check(jwt(kid), &bearer(&in_header), "alice");
    }

    #[test]
    fn refusals_have_kongs_words() {
        let good = hmac(json!({"iss": "hmac"}));
        let other = hmac(json!({"iss": "hmac", "n": 1}));
        let hs256 = r#"{"alg":"HS256"}"#;
        let iss = r#"{"iss":"hmac"}"#;
        let message = good.rsplit_once('.').unwrap().0;
        let forged = {
            let public = include_bytes!("../../../tests/data/keys/rsa.pub.pem");
            let key = EncodingKey::from_secret(public);
            jsonwebtoken::encode(&jsonwebtoken::Header::default(), &json!({"iss": "rsa"}), &key).unwrap()
        };
        for (request, message) in [
            (
                get(
                    &format!("/?jwt={other}"),
                    &[("authorization", &format!("Bearer {good}"))],
                ),
                "Multiple tokens provided",
            ),
            (
                get(&format!("/?jwt={good}&jwt={other}"), &[]),
                "Multiple tokens provided",
            ),
            (bearer("x"), "Bad token; invalid JSON"),
            (bearer("x.y.z"), "Bad token; invalid JSON"),
            (bearer(&parts("{", iss, "x")), "Bad token; invalid JSON"),
            (bearer(&parts(hs256, "", "x")), "Bad token; invalid JSON"),
            (bearer(&parts("[]", iss, "x")), "Bad token; invalid header"),
            (bearer(&parts("{}", iss, "x")), "Bad token; invalid alg"),
            (
                bearer(&parts(r#"{"alg":"none"}"#, iss, "")),
                "Bad token; invalid alg",
            ),
            (bearer(&parts(r#"{"alg":7}"#, iss, "x")), "Bad token; invalid alg"),
            (bearer(&parts(hs256, "[]", "x")), "Bad token; invalid claims"),
            (bearer(&parts(hs256, iss, "")), "Bad token; invalid signature"),
            (
                bearer(&hmac(json!({"sub": "hmac"}))),
                "No mandatory 'iss' in claims",
            ),
            (
                bearer(&hmac(json!({"iss": null}))),
                "No mandatory 'iss' in claims",
            ),
            (bearer(&hmac(json!({"iss": ""}))), "Invalid 'iss' in claims"),
            (bearer(&hmac(json!({"iss": 7}))), "Invalid 'iss' in claims"),
            (
                bearer(&hmac(json!({"iss": "who"}))),
                "No credentials found for given 'iss'",
            ),
            (bearer(&forged), "Invalid algorithm"),
            (
                bearer(&parts(r#"{"alg":"HS512"}"#, iss, "x")),
                "Invalid algorithm",
            ),
            (
                bearer(&parts(r#"{"alg":"RS256"}"#, r#"{"iss":"broken"}"#, "x")),
                "Invalid key/secret",
            ),
            (bearer(&format!("{message}.AAAA")), "Invalid signature"),
            (bearer(&format!("{good}.x")), "Invalid signature"),
            (bearer(&format!("{}x", good)), "Invalid signature"),
        ] {
            check_refused(jwt(|_| ()), &request, 401, message, INVALID);
        }
        for request in [
            get("/?jwt=", &[]),
            get("/", &[("authorization", "Bearer")]),
            get("/", &[("authorization", &basic("al:pass:word"))]),
        ] {
            check_refused(jwt(|_| ()), &request, 401, "Unauthorized", BASE);
        }
        let realm = |rules: &mut model::Jwt| rules.common.realm = Some("r".to_owned());
        let request = bearer("x");
        check_refused(
            jwt(realm),
            &request,
            401,
            "Bad token; invalid JSON",
            Some("Bearer realm=\"r\", error=\"invalid_token\""),
        );
    }

    #[test]
    fn claims_are_checked_where_asked() {
        let both = |rules: &mut model::Jwt| (rules.verify_exp, rules.verify_nbf) = (true, true);
        let at_most = |seconds| {
            move |rules: &mut model::Jwt| {
                rules.verify_exp = true;
                rules.maximum_expiration = Some(Duration::from_secs(seconds));
            }
        };
        let claims = |exp: Value, nbf: Value| bearer(&hmac(json!({"iss": "hmac", "exp": exp, "nbf": nbf})));
        check(jwt(both), &claims((NOW + 1).into(), NOW.into()), "alice");
        check(jwt(both), &claims((NOW as f64 + 0.5).into(), json!(-1)), "alice");
        check(jwt(|_| ()), &claims(1.into(), json!("never")), "alice");
        check(jwt(at_most(60)), &claims((NOW + 60).into(), Value::Null), "alice");
        for (plugins, request, wrong) in [
            (
                jwt(both),
                claims(NOW.into(), NOW.into()),
                vec![("exp", "token expired")],
            ),
            (
                jwt(both),
                claims(1.into(), (NOW + 1).into()),
                vec![("exp", "token expired"), ("nbf", "token not valid yet")],
            ),
            (
                jwt(both),
                claims(json!("1"), Value::Null),
                vec![("exp", "must be a number"), ("nbf", "must be a number")],
            ),
            (
                jwt(at_most(60)),
                claims((NOW + 61).into(), Value::Null),
                vec![("exp", "exceeds maximum allowed expiration")],
            ),
        ] {
            check_refused(plugins, &request, 401, Text::Claims(wrong), INVALID);
        }
    }
}

mod together {
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
        let visitor = Visitor {
            request: &request,
            is_secure: false,
            consumers: &consumers,
            now: Duration::from_secs(NOW),
            assumed,
        };
        let identify = |plugins: Vec<PluginConfig>| {
            let plugins: Vec<Plugin> = plugins.into_iter().map(plugin).collect();
            let plugins = PluginIndex::new(&plugins);
            identify(
                &Guard::build(plugins.plugins_for(ROUTE, None), &consumers),
                visitor,
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
    fn a_plugin_is_for_its_protocols() {
        let plugins = || {
            let mut key_auth = plugin(key_auth(None));
            key_auth.protocols = vec![RouteProtocol::Https];
            vec![key_auth]
        };
        assert_eq!(visit_by(plugins(), &get("/", &[]), false).2, None);
        assert!(visit_by(plugins(), &get("/", &[]), true).2.is_some());
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
}
