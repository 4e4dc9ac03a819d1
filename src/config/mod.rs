//! How a change comes in: files to a checked configuration, all problems at once.
//!
//! The pipeline is [`load`]: `source` reads files, `yaml` makes documents with positions, `rows` flattens
//! them while `check` judges every value by the one table in `schema`, `identity` finds out which row is
//! which. All of this is a `reading`, of which an `edit` goes through what it changed. `review` looks
//! at what concerns several rows, `entities` brings them into the form in which
//! everything is kept, `build` makes the model. No step stops the others: whatever is wrong anywhere is in
//! one [`Report`], and a configuration comes out only if nothing is. What comes through the Admin API is
//! judged by the same `check` and built by the same `build`.
//!
//! Left to others: what the configuration means for requests (`snapshot`), and when to load again
//! (`reload`).

pub(crate) mod at;
mod block;
pub(crate) mod build;
pub(crate) mod check;
mod document;
mod edit;
pub(crate) mod entities;
mod environment;
pub(crate) mod export;
mod health;
mod hidden;
pub(crate) mod identity;
pub(crate) mod mark;
mod overrides;
mod problem;
mod reading;
pub mod reload;
mod review;
mod ring;
mod rows;
pub(crate) mod schema;
pub mod secret;
mod source;
mod suggest;
mod underscores;
mod yaml;

use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};
use siphasher::sip::SipHasher13;

pub use self::overrides::Overrides;
pub(crate) use self::problem::count;
pub use self::problem::{
    Excerpt, Place, Position, Problem, Report, Severity, count_problems, problems_to_json,
};
pub use self::schema::json::json_schema;

use self::at::{At, Path};
use self::build::Findings;
pub use self::build::Memo;
use self::check::Checker;
use self::identity::Identities;
use self::mark::Mark;
use self::reading::Reading;
use self::reload::Fingerprint;
use self::rows::Row;
use self::source::{Files, Source};
use crate::entity::{Entity, InOrder, State};
use crate::model::{Configuration, Settings};

/// A configuration that may be used.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration, if nothing else than the files counts.
    pub configuration: Configuration,
    /// What the files say.
    pub entities: Vec<Arc<Entity>>,
    /// What its author should know.
    pub warnings: Vec<Problem>,
    /// Hash of the names and bytes of all files.
    pub hash: u64,
    /// The files, in the order they were read.
    pub files: Vec<PathBuf>,
}

/// What a load may build on.
#[derive(Debug, Default)]
pub struct Known {
    /// What is in force: values that are the same are shared with it.
    pub state: State,
    /// What was built of it.
    pub memo: Memo,
    /// The files of certificates that the settings name, as they were just before they were read; also where
    /// they were refused, since such a file may come yet.
    pub certificate_files: Fingerprint,
    /// What was read, with the same flags and variables.
    reading: Option<Reading>,
    /// The entities of the files.
    in_order: InOrder,
}

/// Loads files and directories of files, with settings from flags and the environment laid over them.
///
/// # Errors
/// All problems of all files, when at least one of them is an error.
pub fn load(paths: &[PathBuf], overrides: &Overrides, known: &mut Known) -> Result<Loaded, Report> {
    let mut problems = Vec::new();
    let files = source::read(paths, &mut problems);
    check_and_build(files, overrides, problems, known)
}

/// Loads one text as [`load`] does a file; `name` is what problems call it.
///
/// # Errors
/// All problems, when at least one of them is an error.
pub fn load_text(name: &str, text: &str, overrides: &Overrides) -> Result<Loaded, Report> {
    let files = Files {
        sources: vec![Source::file(name, text)],
        paths: vec![PathBuf::from(name)],
        hash: 0,
    };
    check_and_build(files, overrides, Vec::new(), &mut Known::default())
}

/// Returns the hash that [`load`] would give, without looking into the files.
pub fn content_hash(paths: &[PathBuf]) -> u64 {
    source::read(paths, &mut Vec::new()).hash
}

fn check_and_build(
    files: Files,
    overrides: &Overrides,
    problems: Vec<Problem>,
    known: &mut Known,
) -> Result<Loaded, Report> {
    let Files {
        sources: texts,
        paths,
        mut hash,
    } = files;
    let anew = |texts, problems| Reading::new(texts, overrides, problems);
    let mut reading = match known.reading.take() {
        Some(last) if problems.is_empty() => last
            .edited(texts, &overrides.environment)
            .unwrap_or_else(|texts| anew(texts, problems)),
        _ => anew(texts, problems),
    };
    let Reading {
        sources,
        given,
        rows,
        identities,
        found,
        ..
    } = &mut reading;
    known.certificate_files = reload::fingerprint_certificates(&given.0);
    let mut checker = Checker::going_on(sources, found.clone());
    let server = check_server(&given.0, &given.1, &mut checker);
    let is_kept = server
        .as_ref()
        .is_none_or(|server| server["store"]["kind"] != "memory");
    review::review(rows, identities, is_kept, &mut checker);
    ring::warn(rows, identities, &mut checker);
    if let Some(server) = &server {
        underscores::warn(rows, server, &mut checker);
    }
    let mut built = None;
    if !checker.has_errors()
        && let Some(server) = server
    {
        let settings = build::settings(server, &mut checker);
        hidden::warn(&settings.certificates, &given.0, &given.1, &mut checker);
        hash ^= hash_of_certificates(&settings);
        let entities = entities::entities(rows, identities, &known.state);
        known.in_order = InOrder::of(&entities, &known.in_order);
        let (configuration, findings) = build::build(&known.in_order, settings, &mut known.memo);
        tell(&findings, rows, identities, &mut checker);
        built = Some((configuration, entities));
    }
    let mut problems = checker.finish();
    sources.sort(&mut problems);
    match built {
        Some((configuration, entities)) if problems.iter().all(|problem| !problem.is_error()) => {
            known.reading = Some(reading);
            Ok(Loaded {
                configuration,
                entities,
                warnings: problems,
                hash,
                files: paths,
            })
        }
        _ => Err(Report { problems }),
    }
}

/// Hash of the certificates in files, which are part of what the source says; 0 without any.
fn hash_of_certificates(settings: &Settings) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    for pair in settings
        .certificates
        .iter()
        .flat_map(|files| &files.certificate.pairs)
    {
        for certificate in &pair.certified().cert {
            certificate.hash(&mut hasher);
        }
    }
    match settings.certificates.is_empty() {
        true => 0,
        false => hasher.finish(),
    }
}

/// Reports what building found out where it stands in the files.
fn tell(findings: &Findings, rows: &[Row], identities: &Identities, checker: &mut Checker<'_>) {
    for finding in &findings.0 {
        let row = identities
            .row_of(finding.kind.name(), finding.id)
            .map(|row| &rows[row]);
        let (field, item) = finding.field;
        let span = row.and_then(|row| match item {
            Some(item) => row.item_span(field, item),
            None => row.span_of(field),
        });
        let path = row.map_or(String::new(), |row| format!("{}.{}", row.path, finding.path));
        let (message, hint) = (finding.message.clone(), finding.hint.clone());
        match finding.severity {
            Severity::Error => checker.error(span, path, message, hint),
            Severity::Warning => checker.warn(span, path, message, hint),
        }
    }
}

fn check_server(value: &Value, mark: &Mark, checker: &mut Checker<'_>) -> Option<Map<String, Value>> {
    let empty = Value::Object(Map::new());
    let value = if value.is_null() { &empty } else { value };
    let at = At {
        value,
        mark: Some(mark),
        path: Path::ROOT.key("server"),
    };
    checker
        .record(&schema::server::SERVER, at)
        .map(|checked| checked.values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHOLE: &str = r#"_format_version: "3.0"
server:
  threads: 2
  listeners: [{address: "127.0.0.1:0"}]
  limits: {header_bytes: 32KiB}
services:
- name: shop
  url: http://shop/api
  tags: [a, b]
  routes:
  - name: shop
    hosts: ["*.shop.example"]
    paths: [/cart, "~/item/(?<id>\\d+)"]
    headers: {x-team: [blue]}
- &base
  name: cart
  host: ${CART_HOST:-cart}
  port: ${CART_PORT:-8080}
upstreams:
- name: shop
  hash_on: header
  hash_on_header: x-user
  healthchecks: {active: {healthy: {interval: 5}}}
  targets:
  - {target: "shop-v1:80", weight: 99}
  - target: "[::1]:80"
    weight: 1
routes:
- {service: cart, methods: [GET]}
- {service: cart, methods: [GET]}
"#;

    fn load_with(text: &str, overrides: &Overrides) -> Result<Loaded, Report> {
        load_text("f.yaml", text, overrides)
    }

    fn check(text: &str) -> Configuration {
        match load_with(text, &Overrides::default()) {
            Ok(loaded) => loaded.configuration,
            Err(report) => panic!("{report}"),
        }
    }

    #[test]
    fn a_whole_file_loads_and_means_the_same_each_time() {
        let configuration = check(WHOLE);
        assert_eq!(
            (
                configuration.services.len(),
                configuration.routes.len(),
                configuration.upstreams.len()
            ),
            (2, 3, 1)
        );
        assert_eq!(configuration.services[1].port, 8080);
        assert_eq!(
            configuration.routes[0].service,
            Some(configuration.services[0].id)
        );
        assert_eq!(check(WHOLE), configuration);
    }

    /// Such a dump writes out every default, nulls included.
    #[test]
    fn a_dump_made_by_deck_is_accepted_without_a_word() {
        let loaded = load_with(include_str!("../../tests/data/deck.yaml"), &Overrides::default()).unwrap();
        assert_eq!(loaded.warnings, []);
    }

    #[test]
    fn ids_stay_when_other_things_change() {
        let before = check(WHOLE);
        let after = check(
            &WHOLE
                .replace("name: cart\n", "retries: 1\n  name: cart\n")
                .replace("weight: 99", "weight: 50"),
        );
        let ids = |configuration: &Configuration| -> Vec<uuid::Uuid> {
            let services = configuration.services.iter().map(|service| service.id);
            let routes = configuration.routes.iter().map(|route| route.id);
            let targets = configuration
                .upstreams
                .iter()
                .flat_map(|upstream| upstream.targets.iter().map(|target| target.id));
            services.chain(routes).chain(targets).collect()
        };
        assert_eq!(ids(&before), ids(&after));
        let mut unique = ids(&before);
        unique.sort();
        unique.dedup();
        assert_eq!(
            unique.len(),
            ids(&before).len(),
            "two equal routes without a name have two ids"
        );
    }

    #[test]
    fn settings_of_flags_and_environment_reach_the_model() {
        let overrides = Overrides {
            set: vec!["server.threads=7".into()],
            environment: [
                ("SERIN_SERVER_THREADS", "5"),
                ("SERIN_SERVER_STATUS", "false"),
                ("CART_PORT", "81"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        };
        let configuration = load_with(WHOLE, &overrides).unwrap().configuration;
        assert_eq!(
            (configuration.settings.threads, configuration.settings.status),
            (Some(7), None)
        );
        assert_eq!(configuration.services[1].port, 81);
    }

    #[test]
    fn files_are_merged_and_hashed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(
            path("a.yaml"),
            "_format_version: \"3.0\"\nservices: [{name: a, host: a}]",
        )
        .unwrap();
        std::fs::write(path("b.yaml"), "routes: [{service: a, paths: [/]}]").unwrap();
        let paths = [directory.path().to_owned()];
        let loaded = load(&paths, &Overrides::default(), &mut Known::default()).unwrap();
        assert_eq!(
            loaded.configuration.routes[0].service,
            Some(loaded.configuration.services[0].id)
        );
        assert_eq!(loaded.files, [path("a.yaml"), path("b.yaml")]);
        assert_eq!(loaded.hash, content_hash(&paths));
        std::fs::write(path("b.yaml"), "routes: [{service: a, paths: [/b]}]").unwrap();
        assert_ne!(loaded.hash, content_hash(&paths));
    }

    #[test]
    fn a_file_that_cannot_be_read_makes_no_reference_dangle() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        std::fs::write(
            &file,
            "_format_version: \"3.0\"\nroutes: [{service: elsewhere, paths: [/]}]",
        )
        .unwrap();
        let report = load(
            &[file, directory.path().join("missing.yaml")],
            &Overrides::default(),
            &mut Known::default(),
        )
        .unwrap_err();
        let messages: Vec<_> = report
            .problems
            .iter()
            .map(|problem| problem.message.as_str())
            .collect();
        assert_eq!(messages, ["no such file or directory"]);
    }

    #[test]
    fn millions_of_mistakes_are_a_thousand_problems() {
        let text = format!(
            "_format_version: \"3.0\"\nservices: [{}]",
            "{x: 1},".repeat(20_000)
        );
        let report = load_with(&text, &Overrides::default()).unwrap_err();
        assert_eq!(report.problems.len(), 1001);
        assert!(
            report
                .problems
                .iter()
                .any(|problem| problem.message == "39000 more like these are not shown")
        );
    }

    #[test]
    fn thousands_of_warnings_refuse_nothing() {
        let upstreams: String = (0..1500).map(|n| format!("{{name: u{n}}},")).collect();
        let loaded = load_with(
            &format!("_format_version: \"3.0\"\nupstreams: [{upstreams}]"),
            &Overrides::default(),
        )
        .unwrap();
        assert_eq!(
            (loaded.configuration.upstreams.len(), loaded.warnings.len()),
            (1500, 1001)
        );
    }

    /// A document of one long text and many aliases of it is small in values and enormous in bytes.
    #[test]
    fn aliases_of_a_long_text_are_bounded_too() {
        let text = format!(
            "_format_version: \"3.0\"\n_comment: &a {}\n_ignore: [{}]",
            "x".repeat(1 << 20),
            "*a,".repeat(5000)
        );
        let report = load_with(&text, &Overrides::default()).unwrap_err();
        assert_eq!(
            report.problems[0].message,
            "aliases expand to more than 100000 values"
        );
    }

    #[test]
    fn a_secret_is_in_no_message() {
        for secret in ["hunter2", "[hunter2]", "{a: hunter2}"] {
            let overrides = Overrides {
                set: vec![],
                environment: [("S".to_owned(), "hunter2".to_owned())].into(),
            };
            for text in [secret, "${S}", "\"${S}\""] {
                let text = format!("_format_version: \"3.0\"\nserver:\n  secret: {text}\n");
                let report = load_with(&text, &overrides).unwrap_err().to_string();
                assert!(!report.contains("hunter2"), "{report}");
            }
        }
        let overrides = Overrides {
            set: vec!["server.secret=hunter2".into()],
            ..Overrides::default()
        };
        let report = load_with(WHOLE, &overrides).unwrap_err().to_string();
        assert!(
            report.contains("length must be at least 32") && !report.contains("hunter2"),
            "{report}"
        );
    }

    #[test]
    fn a_credential_is_in_no_message_either() {
        for written in [
            "keyauth_credentials: [{key: hunter2, bogus: 1}]",
            "keyauth_credentials: [{key: [hunter2]}]",
            "keyauth_credentials: [{kye: hunter2}]",
            "keyauth_credentials: [{key: hunter2}, {key: hunter2}]",
            "keyauth_credentials: [hunter2]",
            "keyauth_credentials: hunter2",
            "keyauth_credentials: [{key: \"${S}\", ttl: x}]",
            "basicauth_credentials: [{username: a, password: hunter2, tags: 5}]",
            "basicauth_credentials: [{username: a, pass: hunter2}]",
            "jwt_secrets: [{secret: hunter2}]",
            "jwt_secrets: [{key: k, secret: {hunter2: hunter2}}]",
            "keyauth_credentials: [{key: hunter2, key: b}]",
            "keyauth_credentials: [{key: \"hunter2}]",
            "basicauth_credentials: [{username: a, \"password\" : hunter2, @}]",
            "basicauth_credentials: [{username: a, password: hunter2 ${UNSET}}]",
            "jwt_secrets: [{key: k, secret: hunter2, algorithm: RS256, rsa_public_key: x}]",
        ] {
            for text in [
                format!("{written}\n"),
                format!("consumers:\n- username: a\n  {written}\n"),
            ] {
                let overrides = Overrides {
                    set: vec![],
                    environment: [("S".to_owned(), "hunter2".to_owned())].into(),
                };
                let text = format!("_format_version: \"3.0\"\n_transform: false\n{text}");
                let report = load_with(&text, &overrides).unwrap_err();
                assert!(
                    !format!("{report}{}", report.to_json()).contains("hunter2"),
                    "{report}"
                );
            }
        }
        let number = load_with(
            "_format_version: \"3.0\"\nkeyauth_credentials:\n- consumer: a\n  key:\n    20240117\n",
            &Overrides::default(),
        );
        assert!(!number.unwrap_err().to_string().contains("20240117"));
        let text = "_format_version: \"3.0\"\nconsumers: [{username: a, keyauth_credentials: [{key: hunter2}], jwt_secrets: [{key: k, secret: hunter2}]}]";
        assert!(!format!("{:?}", check(text)).contains("hunter2"));
    }

    /// Takes minutes if any step is quadratic; without one, well under a second when optimised.
    #[test]
    fn ten_thousand_services_and_routes_load() {
        let mut text = String::from("_format_version: \"3.0\"\nservices:\n");
        for n in 0..10_000 {
            text.push_str(&format!("- name: service-{n}\n  host: upstream-{n}\n"));
        }
        text.push_str("routes:\n");
        for n in 0..10_000 {
            text.push_str(&format!(
                "- name: route-{n}\n  service: service-{n}\n  paths: [\"/path/{n}\"]\n"
            ));
        }
        assert_eq!(check(&text).routes.len(), 10_000);
    }

    /// The same for Consumers, half of their credentials apart.
    #[test]
    fn a_hundred_thousand_consumers_load() {
        let mut text =
            String::from("_format_version: \"3.0\"\nconsumer_groups: [{name: gold}]\nconsumers:\n");
        for n in 0..100_000 {
            text.push_str(&format!(
                "- {{username: u{n}, groups: [gold], acls: [{{group: g}}]}}\n"
            ));
        }
        text.push_str("keyauth_credentials:\n");
        for n in 0..100_000 {
            text.push_str(&format!("- {{consumer: u{n}, key: k{n}}}\n"));
        }
        let consumers = check(&text).consumers;
        assert_eq!((consumers.len(), consumers[99_999].keys.len()), (100_000, 1));
    }

    fn never_panics(text: &str) {
        if let Err(report) = load_with(text, &Overrides::default()) {
            assert!(report.error_count() > 0, "{text:?}");
            let _ = (report.to_string(), report.to_json());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn any_text_is_a_configuration_or_a_report(text in "\\PC{0,80}") {
            never_panics(&text);
        }

        #[test]
        fn any_text_of_yamls_own_characters_is_too(text in "[ \n\t:\\-\\[\\]{}&*!|>'\"%@`#,?a<~$0-9\u{feff}\u{85}]{0,60}") {
            never_panics(&text);
        }

        #[test]
        fn a_file_with_a_mistake_is_too(
            at in 0..WHOLE.len(),
            length in 0_usize..20,
            insert in "[ \n\t:\\-\\[\\]{}&*!|>'\"%@#,?a<~$0-9]{0,5}",
        ) {
            let end = (at + length).min(WHOLE.len());
            never_panics(&format!("{}{insert}{}", &WHOLE[..at], &WHOLE[end..]));
        }
    }
}
