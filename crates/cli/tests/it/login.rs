//! Logins: given, kept, removed, listed, and which of them is used.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use serde_json::Value;
use unlade_test_support::{FakeRegistry, TokenAuth};

use crate::sandbox::{Ran, Sandbox, registry};
use crate::terminal::terminal;

/// A registry that lets alice in, with a token.
fn private() -> FakeRegistry {
    let registry = registry();
    registry.require_token(TokenAuth::new().user("alice", "hunter2"));
    registry
}

fn piped(mut command: Command, input: &str) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn login(sandbox: &Sandbox, host: &str, password: &str, options: &[&str]) -> Ran {
    let mut command = sandbox.command(["login", host, "--username", "alice", "--password-stdin"]);
    command.args(options);
    piped(command, password)
}

fn docker_config(sandbox: &Sandbox) -> Value {
    let path = sandbox.path("home/.docker/config.json");
    fs::read_to_string(path).unwrap().parse().unwrap()
}

#[test]
fn a_login_is_checked_kept_used_shown_and_removed() {
    let (sandbox, registry) = (Sandbox::new(), private());
    let host = registry.host();
    let reference = registry.reference("x", "1");
    assert_eq!(sandbox.run(&format!("resolve {reference}")).code, Some(4));

    let ran = login(&sandbox, &host, "hunter2\n", &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    insta::assert_snapshot!(sandbox.steady(&ran.stdout, &registry), @r"
    logged in to REGISTRY as alice
    kept in HOME/home/.docker/config.json, readable by you alone, not encrypted
    ");
    assert_eq!(ran.stderr, "");
    let mode = fs::metadata(sandbox.path("home/.docker/config.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(docker_config(&sandbox)["auths"][&host]["auth"], "YWxpY2U6aHVudGVyMg==");
    sandbox.ok(&format!("resolve {reference}"));
    sandbox.ok(&format!("pull {reference}"));

    let shown = sandbox.ok("auth status");
    let columns: Vec<_> = shown.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(columns[..4], [host.as_str(), "yes", "alice", "password"]);
    assert!(columns[4].ends_with("/home/.docker/config.json,"), "{shown}");
    let status = sandbox.json("auth status --format json");
    assert_eq!(status[0]["name"], host.as_str());
    assert_eq!(status[0]["source"]["key"], host.as_str());
    assert!(!format!("{shown}{status}").contains("hunter2"));

    let gone = sandbox.ok(&format!("logout {host}"));
    insta::assert_snapshot!(sandbox.steady(&gone, &registry), @r#"removed the login for REGISTRY (HOME/home/.docker/config.json, auths "REGISTRY")"#);
    insta::assert_snapshot!(sandbox.steady(&sandbox.ok(&format!("logout {host}")), &registry), @"there was no login for REGISTRY in HOME/home/.docker/config.json");
    assert_eq!(sandbox.run(&format!("resolve {reference}")).code, Some(4));
    assert_eq!(sandbox.json("auth status --format json"), serde_json::json!([]));
}

#[test]
fn a_wrong_password_is_not_kept() {
    let (sandbox, registry) = (Sandbox::new(), private());
    let ran = login(&sandbox, &registry.host(), "wrong", &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), ""));
    insta::assert_snapshot!(sandbox.steady(&ran.stderr, &registry), @r"
    error: GET http://REGISTRY/token?service=fake-registry&account=REDACTED: the token server refused a token (status 401 Unauthorized, UNAUTHORIZED: incorrect username or password; the password from --username and --password-stdin was sent)
    hint: the login that was sent may be outdated or not allowed to read this; log in again (`unlade login REGISTRY`)
    ");
    assert!(!sandbox.path("home/.docker").join("config.json").exists());
    registry.require_basic("alice", "hunter2");
    let ran = login(&sandbox, &registry.host(), "wrong", &["--format", "json"]);
    let error: Value = ran.stderr.parse().unwrap();
    assert_eq!((ran.code, &error["class"]), (Some(4), &"auth".into()));
}

#[test]
fn docker_hub_has_the_key_that_its_tools_know() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    // An alias leads to a registry that can be asked; what is kept is for what is meant.
    sandbox.configure(&format!("[aliases]\n\"hub.example\" = \"{}\"\n", registry.host()));
    let ran = login(&sandbox, "hub.example", "p", &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("asks for no login, so this one was not checked"),
        "{}",
        ran.stderr
    );
    assert!(docker_config(&sandbox)["auths"][registry.host()].is_object());
}

#[test]
fn another_file_and_what_shadows_a_login() {
    let (sandbox, registry) = (Sandbox::new(), private());
    let host = registry.host();
    let ran = login(
        &sandbox,
        &host,
        "hunter2",
        &["--authfile", "own.json", "--format", "json"],
    );
    let object: Value = ran.stdout.parse().unwrap();
    assert_eq!(
        (&object["checked"], &object["username"]),
        (&true.into(), &"alice".into())
    );
    assert!(sandbox.path("own.json").is_file() && !sandbox.path("home/.docker").exists());
    sandbox.ok(&format!("tags {host}/x --authfile own.json"));
    assert_eq!(sandbox.run(&format!("tags {host}/x")).code, Some(4));
    assert_eq!(
        sandbox.run(&format!("tags {host}/x --authfile missing.json")).code,
        Some(6)
    );

    // A file that goes before the one that is written to.
    let config = sandbox.path("home/.config/containers");
    fs::create_dir_all(&config).unwrap();
    fs::copy(sandbox.path("own.json"), config.join("auth.json")).unwrap();
    let ran = login(&sandbox, &host, "hunter2", &[]);
    assert!(ran.stderr.contains("the login is not used, since"), "{}", ran.stderr);
    let ran = sandbox.run(&format!("logout {host}"));
    assert!(ran.stderr.contains("is still logged in to by"), "{}", ran.stderr);
    let ran = sandbox.run("logout --all --authfile own.json --format json");
    let object: Value = ran.stdout.parse().unwrap();
    assert_eq!(object["removed"].as_array().unwrap().len(), 1);
    assert_eq!(object["registry"], Value::Null);
}

#[test]
fn a_login_of_the_command_line_goes_before_all_and_no_further() {
    let (sandbox, registry) = (Sandbox::new(), private());
    let host = registry.host();
    assert_eq!(login(&sandbox, &host, "hunter2", &[]).code, Some(0));
    let reference = registry.reference("x", "1");
    let given = |password: &str, reference: &str| {
        piped(
            sandbox.command(["resolve", reference, "--username", "alice", "--password-stdin"]),
            password,
        )
    };
    assert_eq!(given("hunter2\r\n", &reference).code, Some(0));
    let ran = given("wrong", &reference);
    assert_eq!(ran.code, Some(4));
    assert!(
        ran.stderr
            .contains("the password from --username and --password-stdin was sent"),
        "{}",
        ran.stderr
    );
    assert_eq!(given("", &reference).code, Some(2));
    assert_eq!(sandbox.run(&format!("resolve {reference} --no-creds")).code, Some(4));
    assert_eq!(
        sandbox.run(&format!("resolve {reference} --username alice")).code,
        Some(2)
    );

    let variables = |line: &str, password: Option<&str>| {
        let mut command = sandbox.command(line.split(' '));
        command.env("UNLADE_USERNAME", "alice");
        password.map(|password| command.env("UNLADE_PASSWORD", password));
        Ran::of(&mut command)
    };
    assert_eq!(
        variables(&format!("resolve {reference}"), Some("hunter2")).code,
        Some(0)
    );
    let ran = variables(&format!("resolve {reference}"), Some("wrong"));
    assert_eq!(ran.code, Some(4));
    assert!(
        ran.stderr
            .contains("from the variables UNLADE_USERNAME and UNLADE_PASSWORD"),
        "{}",
        ran.stderr
    );
    let ran = variables(&format!("pull {reference} other.example/x:1"), Some("hunter2"));
    assert_eq!(ran.code, Some(6));
    assert!(ran.stderr.contains("is for one registry"), "{}", ran.stderr);
    let ran = variables(&format!("resolve {reference}"), None);
    assert_eq!(ran.code, Some(6));
    assert!(ran.stderr.contains("UNLADE_PASSWORD is not"), "{}", ran.stderr);
}

#[test]
fn a_helper_keeps_the_login() {
    let (sandbox, registry) = (Sandbox::new(), private());
    let kept = sandbox.path("kept");
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in\nstore) cat > '{0}';;\nget) cat '{0}' 2>/dev/null || {{ echo 'credentials not found in native keychain'; exit 1; }};;\nerase) rm -f '{0}';;\nlist) echo '{{}}';;\nesac\n",
        kept.display()
    );
    let helper = sandbox.path("docker-credential-test");
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(
        sandbox.path("config.json"),
        r#"{"credsStore": "test", "detachKeys": "ctrl-e"}"#,
    )
    .unwrap();
    let host = registry.host();
    let run = |line: &[&str], input: &str| {
        let mut command = sandbox.command(line);
        command
            .env("DOCKER_CONFIG", sandbox.path(""))
            .env("PATH", format!("{}:/usr/bin:/bin", sandbox.path("").display()));
        piped(command, input)
    };
    let ran = run(&["login", &host, "-u", "alice", "--password-stdin"], "hunter2");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        ran.stdout.ends_with("kept by docker-credential-test\n"),
        "{}",
        ran.stdout
    );
    let config: Value = fs::read_to_string(sandbox.path("config.json"))
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(
        config,
        serde_json::json!({"credsStore": "test", "detachKeys": "ctrl-e", "auths": {&host: {}}})
    );
    assert!(fs::read_to_string(&kept).unwrap().contains("hunter2"));
    let reference = registry.reference("x", "1");
    assert_eq!(run(&["resolve", &reference], "").code, Some(0));
    let ran = run(&["logout", &host], "");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!kept.exists());
    assert_eq!(run(&["resolve", &reference], "").code, Some(4));
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    let sandbox = Sandbox::new();
    let ran = sandbox.run("login r.example");
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("no terminal") && ran.stderr.contains("--password-stdin"),
        "{}",
        ran.stderr
    );
    assert_eq!(sandbox.run("login r.example --password-stdin").code, Some(2));
    assert_eq!(sandbox.run("logout r.example --all").code, Some(2));
    assert_eq!(sandbox.run("login r.example/team").code, Some(6));
    let ran = Ran::of(
        sandbox
            .command(["login", "-u", "u", "--password-stdin"])
            .env_remove("HOME"),
    );
    assert_eq!(ran.code, Some(6));
    assert!(
        ran.stderr.contains("it is not known where logins are kept"),
        "{}",
        ran.stderr
    );
}

#[test]
fn at_a_terminal_the_password_is_not_shown() {
    let (sandbox, registry) = (Sandbox::new(), private());
    for (typed, code) in [
        // A typing error, taken back; a line begun anew.
        (&b"alice\nwrong\x15hunterr\x7f2\n"[..], Some(0)),
        (b"alice\nhunter2\x03", Some(130)),
        (b"alice\n\n", Some(2)),
    ] {
        let (mut ours, theirs) = terminal();
        let mut command = sandbox.command(["login", &registry.host()]);
        let mut child = command
            .stdin(theirs.try_clone().unwrap())
            .stdout(Stdio::null())
            .stderr(theirs)
            .spawn()
            .unwrap();
        drop(command);
        let mut shown = String::new();
        let mut wait_for = |text: &str| {
            let mut buffer = [0; 1024];
            while !shown.contains(text) {
                let count = std::io::Read::read(&mut ours, &mut buffer).unwrap();
                shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        };
        wait_for("Username for");
        let (name, password) = typed.split_at(6);
        ours.write_all(name).unwrap();
        let mut wait_for = |text: &str| {
            let mut buffer = [0; 1024];
            while !shown.contains(text) {
                let count = std::io::Read::read(&mut ours, &mut buffer).unwrap();
                shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        };
        wait_for("Password for alice");
        ours.write_all(password).unwrap();
        assert_eq!(child.wait().unwrap().code(), code, "{shown}");
        let mut rest = [0; 4096];
        if let Ok(count) = std::io::Read::read(&mut ours, &mut rest) {
            shown.push_str(&String::from_utf8_lossy(&rest[..count]));
        }
        assert!(shown.contains("alice") && !shown.contains("hunter"), "{shown}");
    }
}
