//! What keeps the gateway from starting, and what its settings can come from.

use std::net::TcpListener;

use crate::harness::{Client, Command, Gateway, Origin, shop};

/// Runs to the end and returns standard error; the gateway must not have started.
fn refused(command: Command) -> String {
    let (code, stdout, stderr) = command.finish();
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert!(!stderr.contains("] ready"), "{stderr}");
    stderr
}

#[test]
fn a_taken_port_is_a_clear_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for settings in [
        format!("  listeners: [{{address: '{address}'}}]\n"),
        format!("  status: {{address: '{address}'}}\n"),
    ] {
        let stderr = refused(Command::run(&format!("server:\n{settings}")));
        let expected = format!("error: cannot listen on {address}: Address already in use");
        assert!(stderr.contains(&expected), "{stderr}");
        assert!(stderr.contains("hint: another process listens there"), "{stderr}");
    }
}

#[test]
fn an_address_of_another_host_is_a_clear_error() {
    let stderr = refused(Command::run(
        "server:\n  listeners: [{address: '192.0.2.1:8000'}]\n",
    ));
    let expected = "error: cannot listen on 192.0.2.1:8000: Cannot assign requested address";
    assert!(stderr.contains(expected), "{stderr}");
    assert!(
        stderr.contains("hint: no interface of this host has the address"),
        "{stderr}"
    );
}

/// Pingora reads them before the first request, also where every Service is served by plain HTTP.
#[test]
fn authorities_that_cannot_be_read_are_a_clear_error() {
    let broken = "-----BEGIN CERTIFICATE-----\nbm8gY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";
    let origin = Origin::start("a");
    for (file, cause) in [
        ("missing.pem", "No such file or directory"),
        ("broken.pem", "invalid"),
    ] {
        let command = Command::run(&shop(&[(&origin, 1)])).file("broken.pem", broken);
        let folder = command.folder().to_str().unwrap().to_owned();
        let path = format!("{folder}/{file}");
        // Without a certificate in it: with one, a file that is missing is passed over.
        let command = command
            .variable("SSL_CERT_FILE", &path)
            .variable("SSL_CERT_DIR", &folder);
        let stderr = refused(command);
        let expected = format!(
            "cannot read the certificate authorities that the environment names, SSL_CERT_FILE={path}"
        );
        for part in [
            &*expected,
            cause,
            "hint: every connection to an origin is prepared for TLS",
        ] {
            assert!(stderr.contains(part), "{part} is missing in {stderr}");
        }
    }
}

#[test]
fn a_bad_configuration_is_reported_whole_as_check_does() {
    let bad = "_format_version: \"3.0\"\nservices:\n- {name: shop, host: shop, retries: many}\n\
               - {name: shop, host: other, colour: red}\nroutes:\n- {name: r, service: nobody, paths: [no-slash]}\n";
    let stderr = refused(Command::new(&["run", "bad.yaml"]).file("bad.yaml", bad));
    for part in [
        "bad.yaml:3:",
        "services[0].retries",
        "services[1].colour",
        "routes[0].service",
        "routes[0].paths[0]",
    ] {
        assert!(stderr.contains(part), "{part} is missing in\n{stderr}");
    }
    let (code, stdout, _) = Command::new(&["check", "bad.yaml"])
        .file("bad.yaml", bad)
        .finish();
    assert_eq!(code, Some(1));
    assert!(stderr.contains(stdout.trim_end()), "{stdout}\n---\n{stderr}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let stderr = refused(Command::new(&["run", "missing.yaml"]));
    assert!(stderr.contains("missing.yaml"), "{stderr}");
}

#[test]
fn an_access_log_that_cannot_be_opened_is_an_error() {
    let stderr = refused(Command::run(
        "server:\n  access_log: {path: /nowhere/access.log}\n",
    ));
    let expected = "cannot open the access log /nowhere/access.log: No such file or directory";
    assert!(stderr.contains(expected), "{stderr}");
}

#[test]
fn a_secret_that_cannot_be_kept_is_an_error_where_one_is_needed() {
    let config = "server:\n  secret_file: /nowhere/secret\nupstreams:\n- {name: u, hash_on: path}\n";
    let stderr = refused(Command::run(config));
    assert!(
        stderr.contains("cannot read or make the secret file /nowhere/secret"),
        "{stderr}"
    );
    Gateway::start("server:\n  secret_file: /nowhere/secret\n");
}

#[test]
fn a_store_in_memory_keeps_no_secret() {
    let config = |more: &str| {
        format!("server:\n  store: {{kind: memory}}\n{more}upstreams:\n- {{name: u, hash_on: path}}\n")
    };
    let stderr = refused(Command::run(&config("")));
    assert!(
        stderr.contains("set server.secret (SERIN_SERVER_SECRET)"),
        "{stderr}"
    );
    Gateway::start(&config("  secret_file: kept\n"));
}

#[test]
fn a_plain_kong_file_runs_as_it_is() {
    let origin = Origin::start("a");
    let config = format!("_format_version: \"3.0\"\n{}", shop(&[(&origin, 1)]));
    let gateway = Command::new(&["run", "kong.yml"])
        .file("kong.yml", &config)
        .variable("SERIN_SERVER_LISTENERS", "[{address: 127.0.0.1:0}]")
        .variable("SERIN_SERVER_STATUS_ADDRESS", "127.0.0.1:0")
        .variable("SERIN_SERVER_ADMIN_ADDRESS", "127.0.0.1:0")
        .start();
    assert_eq!(gateway.get("/").text(), "a");
    assert_eq!(gateway.get_status("/status/ready").status, 200);
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let workers = |command: Command| {
        let gateway = command.start();
        let log = gateway.log_text();
        let (_, count) = log.split_once("is in force on ").unwrap();
        count.split(' ').next().unwrap().to_owned()
    };
    let config = "server:\n  threads: 1\n";
    let variable = || Command::run(config).variable("SERIN_SERVER_THREADS", "2");
    assert_eq!(workers(Command::run(config)), "1");
    assert_eq!(workers(variable()), "2");
    assert_eq!(
        workers(variable().argument("--set").argument("server.threads=3")),
        "3"
    );
    // They hold over a reload too: what the file says of threads changes nothing.
    let gateway = variable().start();
    gateway.apply("server:\n  threads: 5\n");
    assert_eq!(
        gateway.metrics().sum("serin_config_restart_required", &[]),
        Some(0.0)
    );
}

#[test]
fn a_wrong_flag_or_variable_is_reported_under_its_name() {
    let stderr = refused(
        Command::run("")
            .variable("SERIN_SERVER_THREADS", "many")
            .argument("--set")
            .argument("server.thread=2"),
    );
    assert!(stderr.contains("SERIN_SERVER_THREADS"), "{stderr}");
    assert!(stderr.contains("did you mean 'server.threads'?"), "{stderr}");
}

#[test]
fn a_folder_of_files_is_one_configuration() {
    let origin = Origin::start("a");
    let command = Command::new(&["run", "conf"]);
    std::fs::create_dir(command.folder().join("conf")).unwrap();
    let version = "_format_version: \"3.0\"\n";
    let ports = "server:\n  listeners: [{address: 127.0.0.1:0}]\n  status: false\n  admin: false\n";
    let gateway = command
        .file("conf/server.yaml", &format!("{version}{ports}"))
        .file("conf/shop.yaml", &format!("{version}{}", shop(&[(&origin, 1)])))
        .file("conf/README.txt", "no configuration")
        .start();
    assert_eq!(gateway.get("/").text(), "a");
}

#[test]
fn every_listener_serves() {
    let origin = Origin::start("a");
    let config = format!(
        "server:\n  threads: 2\n  listeners: [{{address: 127.0.0.1:0}}, {{address: '[::1]:0'}}]\n{}",
        shop(&[(&origin, 1)])
    );
    let gateway = Gateway::start(&config);
    let mut connections = Vec::new();
    for address in gateway.addresses() {
        for _ in 0..8 {
            let mut client = Client::connect(*address);
            assert_eq!(client.get("/").text(), "a");
            connections.push(client);
        }
    }
    assert_eq!(connections.len(), 16);
    let last = origin.received().pop().unwrap();
    assert_eq!(last.header("X-Forwarded-For"), Some("::1"));
}

#[test]
fn healthcheck_says_whether_the_gateway_is_ready() {
    let mut gateway = Gateway::start("server:\n  shutdown: {pre_stop_delay: 30s}\n");
    let address = gateway.status_address().to_string();
    let check = || Command::new(&["healthcheck", "--address", &address]).finish();
    let (code, stdout, _) = check();
    assert_eq!((code, stdout.as_str()), (Some(0), "ready\n"));
    let (code, ..) = Command::new(&["healthcheck"])
        .variable("SERIN_SERVER_STATUS_ADDRESS", &address)
        .finish();
    assert_eq!(code, Some(0));

    gateway.terminate();
    gateway.wait_for_log("accepting for 30s more");
    let (code, stdout, _) = check();
    assert_eq!(code, Some(1));
    assert!(stdout.contains("draining"), "{stdout}");

    // The second and third signal end the delay and the drain.
    gateway.terminate();
    gateway.wait_for_exit();
    let (code, stdout, _) = check();
    assert_eq!(code, Some(1));
    assert!(stdout.contains(&address), "{stdout}");
}
