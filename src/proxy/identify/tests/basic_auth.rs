//! Names and passwords.

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
