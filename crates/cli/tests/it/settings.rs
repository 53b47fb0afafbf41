//! Which setting wins, and what a wrong one is told.

use std::fs;

use unlade_test_support::FakeRegistry;

use crate::sandbox::{Ran, Sandbox, image, registry};

/// The repository that `x:1` is looked for at, with these variables.
fn looked_for(sandbox: &Sandbox, variables: &[(&str, &str)]) -> String {
    let mut command = sandbox.command(["pull", "--policy", "never", "x:1"]);
    let ran = Ran::of(command.envs(variables.iter().copied()));
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    ran.stderr.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn the_default_registry_is_the_variables_before_the_files() {
    let sandbox = Sandbox::new();
    assert_eq!(looked_for(&sandbox, &[]), "docker.io/library/x:1");
    sandbox.configure("default-registry = \"file.example\"");
    assert_eq!(looked_for(&sandbox, &[]), "file.example/library/x:1");
    assert_eq!(
        looked_for(&sandbox, &[("OCI_REGISTRY_DOMAIN", "variable.example")]),
        "variable.example/library/x:1"
    );
    assert_eq!(
        looked_for(&sandbox, &[("OCI_REGISTRY_DOMAIN", "")]),
        "file.example/library/x:1"
    );
    let ran = Ran::of(sandbox.command(["images"]).env("OCI_REGISTRY_DOMAIN", "a b"));
    assert_eq!(ran.code, Some(6));
    insta::assert_snapshot!(ran.stderr, @r#"
    error: the variable OCI_REGISTRY_DOMAIN names no registry
      caused by: invalid registry "a b": the registry has ' ' at position 1; a registry is made of letters, digits, '.' and '-', perhaps with a port
    hint: a b
           ^
    "#);
}

#[test]
fn the_store_is_the_flags_before_the_variables_before_the_files() {
    let sandbox = Sandbox::new();
    sandbox.configure(&format!("home = {:?}", sandbox.path("file")));
    let is_there = |name: &str| sandbox.path(name).join("oci-layout").is_file();
    let without = |arguments: &[&str]| {
        let ran = Ran::of(sandbox.command(arguments).env_remove("UNLADE_HOME"));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    };
    sandbox.ok("images --home flag");
    assert!(is_there("flag") && !is_there("store") && !is_there("file"));
    sandbox.ok("images");
    assert!(is_there("store") && !is_there("file"));
    without(&["images"]);
    assert!(is_there("file"));
}

#[test]
fn the_users_file_is_found_and_its_layer_path_used() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    fs::create_dir_all(sandbox.path("xdg/unlade")).unwrap();
    let text = format!("layer-path = {:?}\nwhiteouts = \"oci\"\n", sandbox.path("layers"));
    fs::write(sandbox.path("xdg/unlade/config.toml"), text).unwrap();
    let mut command = sandbox.command(["pull", &registry.reference("x", "1")]);
    let ran = Ran::of(
        command
            .env_remove("UNLADE_CONFIG")
            .env("XDG_CONFIG_HOME", sandbox.path("xdg")),
    );
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        ran.stdout.contains(sandbox.path("layers").to_str().unwrap()),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_wrong_file_is_told_with_its_line() {
    let sandbox = Sandbox::new();
    sandbox.configure("# the store\nhoem = \"/x\"\n");
    let ran = sandbox.run("images");
    assert_eq!(ran.code, Some(6));
    insta::assert_snapshot!(sandbox.steady_path(&ran.stderr), @r#"
    error: HOME/config.toml:2: unknown field `hoem`, expected one of `home`, `default-registry`, `layer-path`, `platform`, `whiteouts`, `ownership`, `durability`, `connections`, `workers`, `certs-dirs`, `registries-conf`, `aliases`, `image-groups`, `limits`, `network`, `proxy`
    "#);
    let ran = sandbox.run("images --config nowhere.toml");
    assert_eq!(ran.code, Some(6));
    insta::assert_snapshot!(ran.stderr, @r#"
    error: cannot read the configuration file nowhere.toml
      caused by: No such file or directory (os error 2)
    "#);
}

#[test]
fn a_home_is_needed_only_for_what_needs_it() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let bare = |arguments: &[&str]| {
        let mut command = sandbox.command(arguments);
        Ran::of(command.env_remove("HOME").env_remove("UNLADE_HOME"))
    };
    let store = sandbox.path("elsewhere");
    let ran = bare(&["pull", "--home", store.to_str().unwrap(), &registry.reference("x", "1")]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let ran = bare(&["tags", &format!("{}/x", registry.host())]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "1\n"), "{}", ran.stderr);
    // The default of root needs no home directory, and is not for a test to touch.
    if !rustix::process::geteuid().is_root() {
        let ran = bare(&["images"]);
        assert_eq!(ran.code, Some(6));
        assert!(ran.stderr.contains("hint: say where with --home"), "{}", ran.stderr);
    }
}

#[test]
fn a_path_need_not_be_text() {
    use std::os::unix::ffi::OsStrExt as _;
    let (sandbox, registry) = (Sandbox::new(), registry());
    let store = sandbox.path("").join(std::ffi::OsStr::from_bytes(b"st\xffore"));
    let reference = registry.reference("x", "1");
    let output = |arguments: &[&str]| {
        let output = sandbox.command(arguments).env("UNLADE_HOME", &store).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let text = output(&["pull", &reference]);
    let line = text.split(|byte| *byte == b'\n').nth(1).unwrap();
    let directory = std::path::Path::new(std::ffi::OsStr::from_bytes(&line[2..]));
    assert!(directory.starts_with(&store) && directory.is_dir());

    let json: serde_json::Value = serde_json::from_slice(&output(&["pull", "--format", "json", &reference])).unwrap();
    let written: unlade_extract::RawPath = json[0]["layers"][0]["directory"].as_str().unwrap().parse().unwrap();
    assert_eq!(written.as_bytes(), directory.as_os_str().as_bytes());
}

#[test]
fn a_log_is_there_when_it_is_asked_for() {
    let (sandbox, registry): (Sandbox, FakeRegistry) = (Sandbox::new(), registry());
    registry.push("x", "1", &image());
    let reference = registry.reference("x", "1");
    let quiet = Ran::of(&mut sandbox.command(["images"]));
    assert_eq!(quiet.stderr, "");
    let logged = Ran::of(sandbox.command(["images", "-vv"]).env("NO_COLOR", "1"));
    assert!(
        logged.stderr.contains("DEBUG unlade: the settings are resolved"),
        "{}",
        logged.stderr
    );
    let wrong = Ran::of(sandbox.command(["pull", &reference]).env("UNLADE_LOG", "unlade=loud"));
    assert_eq!(wrong.code, Some(6), "{}", wrong.stderr);
}
