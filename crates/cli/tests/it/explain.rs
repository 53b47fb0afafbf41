//! `unlade explain`: what is told for different configurations.

use std::fs;

use unlade_test_support::{FakeRegistry, Fault, Image, ImageBuilder, IndexBuilder};

use crate::sandbox::{Sandbox, layer, platform};

/// The same on every machine that runs the tests.
const PLATFORM: &str = "linux/riscv64";

fn image() -> Image {
    let image = ImageBuilder::new().platform(PLATFORM);
    image
        .layer(layer("lower", "below"))
        .layer(layer("upper", "above"))
        .build()
}

/// A registry that has the image as `x:1`.
fn registry() -> FakeRegistry {
    let registry = FakeRegistry::start();
    registry.push("x", "1", &image());
    registry
}

fn write(sandbox: &Sandbox, name: &str, text: &str) {
    let path = sandbox.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Runs `explain` and returns its text without what differs from run to run.
fn explain(sandbox: &Sandbox, servers: &[(&str, &FakeRegistry)], line: &str) -> (Option<i32>, String) {
    let line = if line.contains("--platform") {
        line.to_owned()
    } else {
        format!("{line} --platform {PLATFORM}")
    };
    let ran = sandbox.run(&format!("explain {line}"));
    let mut text = sandbox.steady_path(&ran.stdout);
    for (name, server) in servers {
        text = text.replace(&server.host(), name);
    }
    (ran.code, text)
}

#[test]
fn without_configuration() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let (code, text) = explain(&sandbox, &[("REGISTRY", &registry)], &registry.reference("x", "1"));
    assert_eq!(code, Some(0));
    insta::assert_snapshot!("default", text);
    assert!(sandbox.entries("blobs/sha256").is_empty(), "nothing is kept");
    assert_eq!(sandbox.json("--format json images"), serde_json::json!([]));
}

#[test]
fn with_hosts_toml_and_a_login() {
    let (sandbox, mirror) = (Sandbox::new(), registry());
    let hosts = format!(
        "# of the fleet\n\
         [host.'{}']\n  capabilities = ['pull', 'resolve']\n  dial_timeout = '2s'\n  header = {{ x-token = 'hunter2' }}\n\
         [host.'https://second.example/v2/hub']\n  override_path = true\n  capabilities = 'pull'\n  ca = 'second.pem'\n\
         \x20 client = [['c.pem', 'c.key']]\n",
        mirror.url()
    );
    write(&sandbox, "certs.d/docker.io/hosts.toml", &hosts);
    let login = r#"{"auths": {"docker.io": {"auth": "YWxpY2U6aHVudGVyMg=="}}}"#;
    write(&sandbox, "home/.docker/config.json", login);
    mirror.push("library/x", "1", &image());
    let (code, text) = explain(&sandbox, &[("MIRROR", &mirror)], "sandboxes.io/x:1");
    assert_eq!(code, Some(0));
    assert!(!text.contains("hunter2"));
    insta::assert_snapshot!("hosts_toml", text);
}

#[test]
fn with_registries_conf() {
    let (sandbox, mirror) = (Sandbox::new(), FakeRegistry::start());
    mirror.push("cache/team/x", "1", &image());
    let conf = format!(
        "[[registry]]\nprefix = 'registry.example/team'\nlocation = 'other.example/group'\n\
         [[registry.mirror]]\nlocation = '{}/cache/team'\n\
         [[registry.mirror]]\nlocation = 'second.example'\npull-from-mirror = 'digest-only'\ninsecure = true\n",
        mirror.host()
    );
    write(&sandbox, "registries.conf", &conf);
    sandbox.configure("[proxy]\nhttps = \"http://me:hunter2@proxy.example:3128\"\n");
    let (code, text) = explain(&sandbox, &[("MIRROR", &mirror)], "registry.example/team/x:1");
    assert_eq!(code, Some(0));
    assert!(!text.contains("hunter2"));
    insta::assert_snapshot!("registries_conf", text);
}

#[test]
fn with_options_and_a_choice_of_platforms() {
    let (sandbox, registry) = (Sandbox::new(), FakeRegistry::start());
    let variant = |platform: &str| {
        let built = ImageBuilder::new().platform(platform).layer(layer("file", platform));
        built.build().with_descriptor_platform(platform)
    };
    let index = IndexBuilder::new()
        .image(&variant("linux/amd64"))
        .image(&variant("linux/arm/v6"))
        .build();
    registry.push("x", "1", &index);
    let host = registry.host();
    let line =
        format!("{host}/x:1 --platform linux/arm/v7 --insecure-skip-verify --ca-file ca.pem --plain-http={host}");
    let (code, text) = explain(&sandbox, &[("REGISTRY", &registry)], &line);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!("options", text);
}

#[test]
fn with_a_part_of_it_in_the_store() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    sandbox.ok(&format!("pull {} --platform {PLATFORM}", registry.reference("x", "1")));
    let (code, text) = explain(&sandbox, &[("REGISTRY", &registry)], &registry.reference("x", "1"));
    assert_eq!(code, Some(0));
    insta::assert_snapshot!("complete", text);

    let next = ImageBuilder::new()
        .platform(&platform())
        .layer(layer("lower", "below"))
        .layer(layer("upper", "changed"));
    registry.push("x", "2", &next.build());
    let line = format!("--format json {} --no-extract", registry.reference("x", "2"));
    let explained = sandbox.json(&format!("explain {line}"));
    assert_eq!(explained["v"], 1);
    assert_eq!(explained["recorded"]["state"], "absent");
    let image = &explained["image"];
    assert_eq!(image["layers"][0]["blob"], true);
    assert_eq!(image["layers"][1]["blob"], false);
    assert_eq!(image["layers_present"], 1);
    assert_eq!(image["bytes_to_fetch"], image["layers"][1]["size"]);
    assert_eq!(image["bytes_local"], image["layers"][0]["size"]);
    assert_eq!(explained["endpoints"][0]["role"], "registry");
    assert_eq!(explained["platform"]["by"], "this machine");
}

#[test]
fn what_can_be_told_is_told_though_the_image_cannot_be_had() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    registry.fault(Fault::on_anything().status(404));
    let (code, text) = explain(&sandbox, &[("REGISTRY", &registry)], &registry.reference("x", "1"));
    assert_eq!(code, Some(3));
    insta::assert_snapshot!("not_found", text);
    let ran = sandbox.run(&format!("--format json explain {}", registry.reference("x", "1")));
    let explained: serde_json::Value = ran.stdout.parse().unwrap();
    assert_eq!(explained["error"]["class"], "not-found");
    assert_eq!(explained["image"], serde_json::Value::Null);

    registry.clear_faults();
    let (code, text) = explain(
        &sandbox,
        &[("REGISTRY", &registry)],
        &format!("{} --policy never", registry.reference("x", "1")),
    );
    assert_eq!(code, Some(3));
    assert!(text.contains("the network is not to be used"), "{text}");
}
