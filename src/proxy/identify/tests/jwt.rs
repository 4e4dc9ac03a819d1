//! Tokens.

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
    let key = EncodingKey::from_rsa_pem(include_bytes!("../../../../tests/data/keys/rsa.pem")).unwrap();
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
        let public = include_bytes!("../../../../tests/data/keys/rsa.pub.pem");
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
