//! What outlives the process: the real binary on a store in its folder, started again and again.
//!
//! What is kept is read by opening the file, once the process that held it has ended.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};
use serin::store::{BaseChange, Change, Embedded, Key, Loaded, Store, Transaction};

use crate::harness::{Command, Gateway, Origin, canary, shop};

const FILE: &str = "serin.redb";

/// Works on a store that no process has open.
fn with_store<T>(path: &Path, work: impl AsyncFnOnce(Embedded) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { work(Embedded::open(path).unwrap()).await })
}

/// Returns all that is kept in the folder's store.
fn kept(folder: &Path) -> Loaded {
    with_store(&folder.join(FILE), async |store| store.load().await.unwrap())
}

fn entities<'a>(kept: &'a Loaded, kind: &str) -> Vec<(&'a Key, &'a Map<String, Value>)> {
    let all = kept.entities.iter().map(|(key, values)| (key, values));
    all.filter(|(key, _)| key.kind == kind).collect()
}

/// Ends the process and returns its folder, which lasts as long as the command.
fn stop(gateway: Gateway) -> Command {
    let another = gateway.another();
    drop(gateway);
    another
}

/// Runs to the end and returns standard error; the gateway must not have started.
fn refused(command: Command) -> String {
    let (code, stdout, stderr) = command.finish();
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(
        !stderr.contains("panicked") && !stderr.contains("] ready"),
        "{stderr}"
    );
    stderr
}

fn generation(gateway: &Gateway) -> Value {
    gateway.status()["generation"].clone()
}

#[test]
fn a_start_with_the_files_of_last_time_changes_nothing() {
    let origin = Origin::start("a");
    let command = stop(Gateway::start(&shop(&[(&origin, 1)])));
    let before = kept(command.folder());
    assert_eq!(before.revision, 1);
    let kinds: Vec<_> = before.entities.iter().map(|(key, _)| key.kind.as_str()).collect();
    assert_eq!(kinds, ["routes", "services", "targets", "upstreams"]);

    let gateway = command.start();
    assert_eq!(generation(&gateway), 1);
    assert_eq!(gateway.get("/").text(), "a");
    let command = stop(gateway);
    let after = kept(command.folder());
    assert_eq!((after.revision, &after.entities), (1, &before.entities));
    assert_eq!(after.bases, before.bases);

    // Generations go on from there.
    let gateway = command.start();
    let other = Origin::start("b");
    gateway.apply(&shop(&[(&other, 1)]));
    assert_eq!(generation(&gateway), 2);
    assert_eq!(gateway.get("/").text(), "b");
    assert_eq!(generation(&gateway.restart()), 2);
}

/// As if the files had been called otherwise: there is one owner of what is kept.
#[test]
fn files_of_another_name_take_the_place_of_those_of_last_time() {
    let origin = Origin::start("a");
    let command = stop(Gateway::start(&shop(&[(&origin, 1)])));
    let before = kept(command.folder());
    let [base] = &before.bases[..] else {
        panic!("one source: {:?}", before.bases);
    };
    let said = base.entities.iter().cloned();
    let renamed = Transaction {
        forget: vec![base.source.clone()],
        base: Some(BaseChange {
            source: "other.yaml".to_owned(),
            hash: base.hash,
            changes: said.map(|(key, values)| Change::Put(key, values)).collect(),
        }),
        ..Transaction::default()
    };
    with_store(&command.folder().join(FILE), async |store| {
        assert_eq!(store.commit(renamed, 1).await.unwrap(), 2);
    });
    let gateway = command.start();
    gateway.wait_for_log(&format!(
        "the store was last written from other.yaml; {} takes its place",
        base.source
    ));
    assert_eq!(generation(&gateway), 3);
    let after = kept(stop(gateway).folder());
    assert_eq!(after.bases, before.bases);
    assert_eq!(after.entities, before.entities);
}

#[test]
fn a_process_that_is_killed_has_kept_what_it_served() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let mut gateway = Gateway::start(&shop(&[(&a, 1)]));
    gateway.apply(&shop(&[(&b, 1)]));
    gateway.signal(rustix::process::Signal::KILL);
    gateway.wait_for_exit();
    let gateway = gateway.restart();
    assert_eq!(generation(&gateway), 2);
    assert_eq!(gateway.get("/").text(), "b");
}

#[test]
fn what_the_file_says_at_the_start_is_merged_like_any_edit() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gateway = Gateway::start(&shop(&[(&a, 1)]));
    let config = gateway.config_path();
    let command = stop(gateway);
    let before = kept(command.folder());
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace(&a.address().to_string(), &b.address().to_string()),
    )
    .unwrap();
    let gateway = command.start();
    assert_eq!(generation(&gateway), 2);
    assert_eq!(gateway.get("/").text(), "b");
    let after = kept(stop(gateway).folder());
    for kind in ["services", "routes", "upstreams"] {
        assert_eq!(entities(&after, kind), entities(&before, kind), "{kind}");
    }
    let targets = entities(&after, "targets");
    assert_eq!(targets.len(), 1, "the one that the file has dropped is gone");
    assert_eq!(targets[0].1["target"], b.address().to_string());
}

/// What somebody has changed since is in the store, so a start with the same file keeps it. The change is
/// made in the store itself here.
#[test]
fn a_change_that_no_file_made_outlives_restarts_and_edits_of_something_else() {
    let origin = Origin::start("a");
    let config = shop(&[(&origin, 1)]);
    let gateway = Gateway::start(&config);
    assert_eq!(gateway.get("/missing").status, 200);
    let command = stop(gateway);
    edit(command.folder(), "services", |values| {
        values.insert("path".to_owned(), "/kept".into());
    });
    let gateway = command.start();
    assert_eq!(generation(&gateway), 2);
    gateway.get("/x");
    assert_eq!(origin.received().last().unwrap().target, "/kept/x");
    gateway.apply(&config.replace("host: shop,", "host: shop, retries: 1,"));
    gateway.get("/y");
    assert_eq!(origin.received().last().unwrap().target, "/kept/y");
    // Where the file has a word of its own about it, that counts.
    gateway.apply(&config.replace("host: shop,", "host: shop, path: /file,"));
    gateway.wait_for_log(
        "conflict: services shop: path: changed in the file and by the Admin API; the file's value is in force",
    );
    let gateway = gateway.restart();
    gateway.get("/z");
    assert_eq!(origin.received().last().unwrap().target, "/file/z");
}

/// The Admin API has made a Service whose name the file takes.
#[test]
fn a_name_that_somebody_else_has_taken_is_named_with_both_ways_out() {
    let origin = Origin::start("a");
    let config = shop(&[(&origin, 1)]);
    let command = stop(Gateway::start(&config));
    let id = "11111111-2222-4333-8444-555555555555";
    commit(command.folder(), |entities| {
        let of_file = entities.into_iter().find(|(key, _)| key.kind == "services");
        let (key, mut values) = of_file.unwrap();
        values.insert("id".to_owned(), id.into());
        values.insert("name".to_owned(), "extra".into());
        vec![Change::Put(Key::new(key.kind, id.parse().unwrap()), values)]
    });
    let gateway = command.start();
    let with_extra = |fields: &str| {
        let extra = format!("services:\n- {{name: extra, host: shop, {fields}}}\n");
        config.replacen("services:\n", &extra, 1)
    };
    gateway.write_config(&with_extra("retries: 7"));
    gateway.wait_for_metric("serin_config_reloads_total", &[("outcome", "refused")], 1.0);
    let problems = gateway.status()["configuration"]["last_reload"]["problems"].to_string();
    for part in [
        "services extra: through the Admin API, the entity 11111111-2222-4333-8444-555555555555 was given the same name",
        "'id: 11111111-2222-4333-8444-555555555555'",
    ] {
        assert!(problems.contains(part), "{part} is missing in {problems}");
    }
    assert_eq!(generation(&gateway), 2);
    gateway.apply(&with_extra(&format!("retries: 7, id: {id}")));
    let kept = kept(stop(gateway).folder());
    let services = entities(&kept, "services");
    let extra = services.iter().find(|(_, values)| values["name"] == "extra");
    let (key, values) = extra.unwrap();
    assert_eq!((key.id.to_string().as_str(), &values["retries"]), (id, &7.into()));
    assert_eq!(services.len(), 2);
}

#[test]
fn two_changes_that_do_not_go_together_are_refused() {
    let origin = Origin::start("a");
    let config = |groups: &str| {
        format!(
            "{}plugins:\n- {{name: acl, config: {{allow: [{groups}]}}}}\n",
            shop(&[(&origin, 1)])
        )
    };
    let command = stop(Gateway::start(&config("a")));
    edit(command.folder(), "plugins", |values| {
        let config = values["config"].as_object_mut().unwrap();
        config.shift_remove("allow");
        config.insert("deny".to_owned(), vec!["b"].into());
    });
    let gateway = command.start();
    gateway.write_config(&config("a, c"));
    gateway.wait_for_metric("serin_config_reloads_total", &[("outcome", "refused")], 1.0);
    let problems = gateway.status()["configuration"]["last_reload"]["problems"].to_string();
    assert!(problems.contains("both changes do not go together"), "{problems}");
    assert_eq!(generation(&gateway), 2);
}

/// Commits to a store that no process has open.
fn commit(folder: &Path, changes: impl FnOnce(Vec<(Key, Map<String, Value>)>) -> Vec<Change>) {
    with_store(&folder.join(FILE), async |store| {
        let kept = store.load().await.unwrap();
        let transaction = Transaction {
            changes: changes(kept.entities),
            ..Transaction::default()
        };
        store.commit(transaction, kept.revision).await.unwrap();
    });
}

/// Changes every entity of a kind in a store that no process has open.
fn edit(folder: &Path, kind: &str, change: impl Fn(&mut Map<String, Value>)) {
    commit(folder, |entities| {
        let of_kind = entities.into_iter().filter(|(key, _)| key.kind == kind);
        let changes = of_kind.map(|(key, mut values)| {
            change(&mut values);
            Change::Put(key, values)
        });
        changes.collect()
    });
}

const RAMP: &str = "duration: 8640000, steps: 10, hash: header, hash_header: x-user";

/// A ramp of 100 days whose start is nowhere in the file. After its first start the store says that its
/// plugin was made 55 days ago: five of ten steps.
#[test]
fn a_ramp_without_a_start_began_when_its_plugin_was_made() {
    let (stable, trial) = (Origin::start("stable"), Origin::start("canary"));
    let config = canary(&stable, &trial, RAMP);
    let before = serin::clock::unix();
    let gateway = Gateway::start(&config);
    let share = |gateway: &Gateway, share: f64| {
        gateway.wait_for_metric("serin_release_share_ratio", &[("service", "shop")], share);
    };
    share(&gateway, 0.0);
    let command = stop(gateway);
    let kept = kept(command.folder());
    let made = entities(&kept, "plugins")[0].1["created_at"].as_f64().unwrap();
    let made = Duration::from_secs_f64(made);
    assert!(before <= made + Duration::from_millis(1) && made <= serin::clock::unix());

    edit(command.folder(), "plugins", |values| {
        let made = values["created_at"].as_f64().unwrap();
        values["created_at"] = (made - 55.0 * 86400.0).into();
    });
    let gateway = command.start();
    share(&gateway, 0.5);
    // Neither an edit of something else nor one of the ramp itself makes it begin anew.
    gateway.apply(&config.replace("name: stable\n", "name: stable\n  tags: [edited]\n"));
    share(&gateway, 0.5);
    gateway.apply(&config.replace("steps: 10,", "steps: 5,"));
    share(&gateway, 0.5);
    let gateway = gateway.restart();
    share(&gateway, 0.5);
}

#[test]
fn a_ramp_needs_a_start_only_where_nothing_is_kept() {
    let (stable, trial) = (Origin::start("stable"), Origin::start("canary"));
    let config = canary(&stable, &trial, RAMP);
    let kept = format!("_format_version: \"3.0\"\n{config}");
    let memory = format!("_format_version: \"3.0\"\nserver: {{store: {{kind: memory}}}}\n{config}");
    let of = |arguments: &[&str], config: &str| Command::new(arguments).file("serin.yaml", config).finish();
    assert_eq!(of(&["check", "serin.yaml"], &kept).0, Some(0));
    let (code, stdout, _) = of(&["check", "serin.yaml"], &memory);
    assert_eq!(code, Some(1));
    assert!(
        stdout.contains("config.start: required field missing"),
        "{stdout}"
    );
    // Nor is there a store where somebody only asks.
    let (code, _, stderr) = of(&["explain", "serin.yaml"], &kept);
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("config.start: required field missing"),
        "{stderr}"
    );

    let stderr = refused(Command::run(&format!(
        "server:\n  store: {{kind: memory}}\n{config}"
    )));
    assert!(
        stderr.contains("config.start: required field missing"),
        "{stderr}"
    );
}

#[test]
fn a_store_in_memory_makes_no_file_and_counts_anew() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let config = |origin| format!("server:\n  store: {{kind: memory}}\n{}", shop(&[(origin, 1)]));
    let gateway = Gateway::start(&config(&a));
    gateway.apply(&config(&b));
    assert!(!gateway.folder().join(FILE).exists());
    let gateway = gateway.restart();
    assert_eq!(generation(&gateway), 1);
    assert_eq!(gateway.get("/").text(), "b");
}

#[test]
fn a_store_that_cannot_be_made_is_a_clear_error() {
    for (path, cause) in [
        ("nowhere/serin.redb", "No such file or directory"),
        ("serin.yaml/serin.redb", "Not a directory"),
        ("/proc/serin.redb", "No such file or directory"),
    ] {
        let stderr = refused(Command::run(&format!("server:\n  store: {{path: {path}}}\n")));
        let expected = format!(
            "error: cannot open the store {path}; create the directory, or set server.store.path to a place \
             that can be written, or server.store.kind to memory: {cause}"
        );
        assert!(stderr.contains(&expected), "{stderr}");
    }
}

#[test]
fn a_file_that_is_no_store_is_left_as_it_is() {
    let garbage = "this is not a store\n".repeat(1000);
    let mut gateway = Command::run("").file(FILE, &garbage).spawn();
    assert_eq!(gateway.wait_for_exit().code(), Some(1));
    let stderr = refused(gateway.another());
    let expected = "error: cannot read serin.redb as a store; move the file away to start from the \
                    configuration file, or restore a copy; nothing was changed: ";
    assert!(stderr.contains(expected), "{stderr}");
    let kept = std::fs::read_to_string(gateway.folder().join(FILE)).unwrap();
    assert_eq!(kept, garbage);
}

#[test]
fn one_store_is_for_one_process() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&shop(&[(&origin, 1)]));
    let stderr = refused(gateway.another());
    let expected = "error: the store serin.redb is in use by another process; stop that one, or set \
                    server.store.path to another file";
    assert!(stderr.contains(expected), "{stderr}");
    assert_eq!(gateway.get("/").text(), "a");
    gateway.apply(&shop(&[(&origin, 2)]));
    let other = gateway
        .another()
        .argument("--set")
        .argument("server.store.path=other.redb");
    assert_eq!(generation(&other.start()), 1);
}

#[test]
fn an_edit_that_concerns_no_entity_is_a_generation_too() {
    let origin = Origin::start("a");
    let config = shop(&[(&origin, 1)]);
    let gateway = Gateway::start(&config);
    gateway.apply(&format!("server:\n  variant_header: true\n{config}"));
    gateway.apply(&format!("# A remark.\n{config}"));
    assert_eq!(generation(&gateway), 3);
    let command = stop(gateway);
    let entries = with_store(&command.folder().join(FILE), async |store| {
        store.entries(None, 10).await.unwrap()
    });
    let entries: Vec<_> = entries
        .iter()
        .map(|entry| (entry.revision, &*entry.who))
        .collect();
    assert_eq!(
        entries,
        [(1, "file")],
        "what changed no entity is not in the audit trail"
    );
}

#[test]
fn a_refused_edit_leaves_what_is_kept() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let good = shop(&[(&a, 1)]);
    let gateway = Gateway::start(&good);
    gateway.write_config(&shop(&[(&b, 1)]).replace("weight: 1", "weight: many"));
    gateway.wait_for_metric("serin_config_reloads_total", &[("outcome", "refused")], 1.0);
    assert_eq!(gateway.get("/").text(), "a");
    gateway.write_config(&good);
    gateway.wait_for_metric("serin_config_reloads_total", &[("outcome", "unchanged")], 1.0);
    let kept = kept(stop(gateway).folder());
    assert_eq!(kept.revision, 1);
    assert_eq!(entities(&kept, "targets")[0].1["target"], a.address().to_string());
}

/// A limit on the size of files stands for a disk that is full: the store cannot grow. The signal that
/// comes with it is ignored, so that the write fails as it does on a full disk.
#[test]
fn a_full_disk_refuses_changes_and_serves_on() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gateway = Command::run_after("trap '' XFSZ", &shop(&[(&a, 1)])).start();
    let size = std::fs::metadata(gateway.folder().join(FILE)).unwrap().len();
    gateway.limit_file_size(Some(size));
    let remark = "x".repeat(1000);
    let tags: Vec<String> = (0..size / 500)
        .map(|number| format!("{remark}{number}"))
        .collect();
    let large = format!("{}  tags: [{}]\n", shop(&[(&b, 1)]), tags.join(", "));
    gateway.write_config(&large);
    gateway.wait_for_metric("serin_config_reloads_total", &[("outcome", "refused")], 1.0);
    assert_eq!(gateway.get("/").text(), "a");
    assert_eq!(generation(&gateway), 1);
    let status = gateway.status()["configuration"]["last_reload"].clone();
    assert_eq!(status["successful"], false);
    let problems = status["problems"].to_string();
    assert!(
        problems.contains("cannot keep the change: cannot read or write the store serin.redb"),
        "{problems}"
    );

    gateway.limit_file_size(None);
    gateway.reload_by_signal();
    gateway.wait_for_generation(2);
    assert_eq!(gateway.get("/").text(), "b");
    let gateway = gateway.restart();
    assert_eq!(generation(&gateway), 2);
    assert_eq!(gateway.get("/").text(), "b");
}
