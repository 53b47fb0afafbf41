//! `unlade pull`, from nothing to a warm store.

use std::fs;
use std::path::Path;

use unlade_test_support::{ImageBuilder, IndexBuilder};

use crate::sandbox::{Sandbox, files, image, layer, platform, registry};

#[test]
fn the_result_names_the_image_and_its_layer_directories() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let ran = sandbox.run(&format!("pull {}/x:1", registry.host()));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], format!("{}/x:1@{}", registry.host(), image().digest));
    let directories: Vec<&Path> = lines[1..]
        .iter()
        .map(|line| Path::new(line.strip_prefix("  ").unwrap()))
        .collect();
    assert_eq!(directories.len(), 2);
    assert!(
        directories
            .iter()
            .all(|directory| directory.starts_with(sandbox.path("store/layers")))
    );
    assert_eq!(
        (files(directories[0]), files(directories[1])),
        (vec!["lower: below".into()], vec!["upper: above".into()])
    );
    assert!(ran.stderr.contains("pulling 2 of 2 layers"), "{}", ran.stderr);
    assert!(sandbox.entries("staging").is_empty() && sandbox.entries("ingest").is_empty());
}

#[test]
fn a_warm_pull_asks_nobody_and_reads_no_login() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let line = format!("pull {}/x:1", registry.host());
    let cold = sandbox.ok(&line);
    registry.clear();
    fs::create_dir_all(sandbox.path("home/.docker")).unwrap();
    fs::write(sandbox.path("home/.docker/config.json"), "{ nonsense").unwrap();

    let warm = sandbox.run(&line);
    assert_eq!(
        (warm.code, warm.stdout.as_str(), warm.stderr.as_str()),
        (Some(0), cold.as_str(), "")
    );
    assert_eq!(sandbox.ok(&format!("{line} --policy never")), cold);
    assert!(registry.requests().is_empty() && registry.connections() == 0);

    let asked = sandbox.run(&format!("{line} --policy always"));
    assert_eq!(asked.code, Some(6), "{}", asked.stderr);
    assert!(
        asked.stderr.contains("config.json is malformed at line 1"),
        "{}",
        asked.stderr
    );
}

#[test]
fn json_is_one_document() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let line = format!("pull --format json {}/x:1", registry.host());
    let pulled = sandbox.json(&line);
    let image = image();
    assert_eq!(pulled.as_array().unwrap().len(), 1);
    let object = &pulled[0];
    assert_eq!(object["reference"], registry.reference("x", "1"));
    assert_eq!(object["digest"], image.digest.to_string());
    assert_eq!(object["manifest"], object["digest"]);
    assert_eq!(object["asked_registry"], true);
    let layers = object["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    assert_eq!(layers[0]["media_type"], "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(
        files(Path::new(layers[0]["directory"].as_str().unwrap())),
        ["lower: below"]
    );
    assert_eq!(sandbox.json(&line)[0]["asked_registry"], false);
}

#[test]
fn several_images_share_what_they_have_in_common() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let other = ImageBuilder::new()
        .platform(&platform())
        .layer(layer("lower", "below"))
        .build();
    registry.push("y", "1", &other);
    let host = registry.host();
    let shown = sandbox.ok(&format!("pull -i {host}/x:1 {host}/y:1"));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[1], lines[4]);
    let blobs = registry
        .requests()
        .iter()
        .filter(|request| request.path.contains("/blobs/"))
        .count();
    assert_eq!(blobs, 2 + 2, "two layers and two configurations");
}

#[test]
fn a_group_is_all_of_its_images() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let host = registry.host();
    sandbox.configure(&format!(
        "[image-groups]\nweb = [\"{host}/x:1\"]\nbad = [\"{host}/x:1\", \"a b\"]\n"
    ));
    let shown = sandbox.ok("pull -G web");
    assert!(shown.starts_with(&format!("{host}/x:1@sha256:")), "{shown}");

    let unknown = sandbox.run("pull -G nope");
    assert_eq!(unknown.code, Some(6));
    insta::assert_snapshot!(unknown.stderr, @r#"
    error: there is no image group "nope", there are: bad, web
    hint: groups are set in the table `image-groups` of the configuration file; without -G the names are images
    "#);
    let invalid = sandbox.run("pull -G bad");
    assert_eq!(invalid.code, Some(6));
    insta::assert_snapshot!(sandbox.steady(&invalid.stderr, &registry), @r#"
    error: the image group "bad" in HOME/config.toml:3 has an invalid reference
      caused by: invalid reference "a b": the repository has ' ' at position 1; a repository is made of lower-case letters, digits, '.', '_', '-' and '/'
    hint: a b
           ^
    "#);
}

#[test]
fn layers_go_where_they_are_wanted() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let line = format!("pull {}/x:1", registry.host());
    let shown = sandbox.ok(&format!("{line} -L layers/here"));
    assert!(
        shown
            .lines()
            .skip(1)
            .all(|line| Path::new(line.trim()).starts_with(sandbox.path("layers/here"))),
        "{shown}"
    );
    assert!(sandbox.entries("layers").is_empty());
}

#[test]
fn without_extraction_there_are_only_blobs() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let line = format!("pull --no-extract {}/x:1", registry.host());
    assert_eq!(
        sandbox.ok(&line),
        format!("{}/x:1@{}\n", registry.host(), image().digest)
    );
    assert!(sandbox.entries("layers").is_empty());
    assert_eq!(sandbox.entries("blobs/sha256").len(), 4);
    registry.clear();
    assert_eq!(sandbox.ok(&line).lines().count(), 1);
    assert!(registry.requests().is_empty());
}

#[test]
fn the_form_of_whiteouts_is_chosen() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let removal = unlade_test_support::LayerBuilder::new()
        .whiteout("gone")
        .build(unlade_test_support::Compression::Gzip);
    registry.push(
        "w",
        "1",
        &ImageBuilder::new().platform(&platform()).layer(removal).build(),
    );
    let shown = sandbox.ok(&format!("pull --whiteouts oci {}/w:1", registry.host()));
    let directory = shown.lines().nth(1).unwrap().trim();
    assert!(Path::new(directory).join(".wh.gone").is_file(), "{directory}");
}

#[test]
fn the_platform_is_chosen() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let image = |platform: &str| {
        ImageBuilder::new()
            .platform(platform)
            .layer(layer("which", platform))
            .build()
    };
    let index = IndexBuilder::new()
        .image(&image("linux/s390x"))
        .image(&image("linux/arm/v7"))
        .build();
    registry.push("many", "1", &index);
    let line = format!("pull --policy always {}/many:1", registry.host());
    let shown = sandbox.ok(&format!("{line} --platform linux/arm/v7"));
    assert!(
        shown.starts_with(&format!("{}/many:1@{}", registry.host(), index.digest)),
        "{shown}"
    );
    assert_eq!(
        files(Path::new(shown.lines().nth(1).unwrap().trim())),
        ["which: linux/arm/v7"]
    );

    let missing = sandbox.run(&format!("{line} --platform linux/riscv64"));
    assert_eq!(missing.code, Some(3));
    insta::assert_snapshot!(sandbox.steady(&missing.stderr, &registry), @r#"
    error: REGISTRY/many:1 has no image for linux/riscv64, it has linux/s390x, linux/arm/v7
    hint: choose one that there is with --platform
    "#);
}

#[test]
fn a_login_is_found_and_used() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    registry.require_basic("user", "secret");
    fs::create_dir_all(sandbox.path("docker")).unwrap();
    let config = format!(
        r#"{{"auths": {{"{}": {{"auth": "dXNlcjpzZWNyZXQ="}}}}}}"#,
        registry.host()
    );
    fs::write(sandbox.path("docker/config.json"), config).unwrap();
    let mut command = sandbox.command(["pull", &registry.reference("x", "1")]);
    let ran = crate::sandbox::Ran::of(command.env("DOCKER_CONFIG", sandbox.path("docker")));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn an_alias_is_told() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    registry.push("team/x", "1", &image());
    sandbox.configure(&format!("[aliases]\n\"short.example\" = \"{}\"\n", registry.host()));
    let text = sandbox.run("pull --progress none short.example/team/x:1");
    assert_eq!(text.code, Some(0));
    assert!(
        text.stdout.starts_with(&format!("{}/team/x:1@", registry.host())),
        "{}",
        text.stdout
    );
    insta::assert_snapshot!(sandbox.steady(&text.stderr, &registry), @"warning: short.example is an alias of REGISTRY: this image is REGISTRY/team/x:1");

    let json = sandbox.run("pull --format json --policy always short.example/team/x:1");
    let line: serde_json::Value = json.stderr.trim().parse().unwrap();
    assert_eq!((&line["v"], &line["event"]), (&1.into(), &"warning".into()));
    assert_eq!(sandbox.run("pull -q --policy always short.example/team/x:1").stderr, "");
}
