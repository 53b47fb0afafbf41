//! The commands around the pull.

use std::io::Read as _;
use std::process::Stdio;

use serde_json::json;
use unlade_test_support::{ImageBuilder, IndexBuilder};

use crate::sandbox::{Sandbox, image, layer, platform, registry};

#[test]
fn images_are_listed() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    assert_eq!(sandbox.ok("images").lines().count(), 1, "the head alone");
    assert_eq!(sandbox.json("images --format json"), json!([]));
    sandbox.ok(&format!("pull {}/x:1", registry.host()));

    let shown = sandbox.ok("ls");
    let cells: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(
        cells[..4],
        [
            &format!("{}/x", registry.host()),
            "1",
            &image().digest.hex()[..12],
            &platform()
        ]
    );
    let listed = sandbox.json("images --format json");
    assert_eq!(listed[0]["reference"], registry.reference("x", "1"));
    assert_eq!(listed[0]["layers"], 2);
    assert_eq!(listed[0]["digest"], image().digest.to_string());
}

#[test]
fn an_inspection_has_the_shape_of_dockers() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let image = image();
    registry.push("x", "same", &image);
    let host = registry.host();
    sandbox.ok(&format!("pull {host}/x:1 {host}/x:same"));
    let inspected = sandbox.json(&format!("inspect {host}/x:1"));
    assert_eq!(inspected.as_array().unwrap().len(), 1);
    let object = &inspected[0];
    let config: serde_json::Value = serde_json::from_slice(&image.config).unwrap();
    assert_eq!(object["Id"], unlade_oci::Digest::sha256(&image.config).to_string());
    assert_eq!(
        object["RepoTags"],
        json!([format!("{host}/x:1"), format!("{host}/x:same")])
    );
    assert_eq!(object["RepoDigests"], json!([format!("{host}/x@{}", image.digest)]));
    assert_eq!(object["Config"], config["config"]);
    assert_eq!(object["Architecture"], config["architecture"]);
    assert_eq!(object["Os"], "linux");
    assert_eq!(
        object["RootFS"],
        json!({"Type": "layers", "Layers": config["rootfs"]["diff_ids"]})
    );
    assert!(object["Size"].as_u64().unwrap() > 0);
    let layers = object["Unlade"]["Layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    assert!(std::path::Path::new(layers[0]["Directory"].as_str().unwrap()).is_dir());
    assert!(layers[0]["Summary"].is_object());
    assert_eq!(
        sandbox
            .json(&format!("inspect {host}/x:1 {host}/x:same"))
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn a_removal_tells_what_is_gone() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let host = registry.host();
    let other = ImageBuilder::new()
        .platform(&platform())
        .layer(layer("lower", "below"))
        .build();
    registry.push("y", "1", &other);
    sandbox.ok(&format!("pull {host}/x:1 {host}/y:1"));
    let shown = sandbox.ok(&format!("rm {host}/x:1"));
    assert!(shown.starts_with(&format!("removed {host}/x:1 for linux/")), "{shown}");
    assert_eq!(sandbox.entries("layers").len(), 1, "the other image's layer stays");

    let removed = sandbox.json(&format!("rm --format json {host}/y:1"));
    assert_eq!(removed[0]["images"][0]["reference"], format!("{host}/y:1"));
    assert_eq!(removed[0]["directories"].as_array().unwrap().len(), 1);
    assert!(sandbox.entries("layers").is_empty() && sandbox.entries("blobs/sha256").is_empty());

    let again = sandbox.run(&format!("rm {host}/y:1"));
    assert_eq!((again.code, again.stdout.as_str()), (Some(3), ""));
}

#[test]
fn a_removal_of_several_tells_how_far_it_came() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let host = registry.host();
    sandbox.ok(&format!("pull {host}/x:1"));
    let ran = sandbox.run(&format!("rm {host}/x:1 {host}/nope"));
    assert_eq!(ran.code, Some(3));
    assert!(ran.stdout.starts_with(&format!("removed {host}/x:1")), "{}", ran.stdout);
    assert!(ran.stderr.contains("nope"), "{}", ran.stderr);
}

#[test]
fn a_name_is_resolved_without_pulling() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let image = image();
    let index = IndexBuilder::new().image(&image).build();
    registry.push("many", "1", &index);
    let host = registry.host();
    assert_eq!(
        sandbox.ok(&format!("resolve {host}/many:1")),
        format!("{host}/many:1@{}\n", index.digest)
    );
    let object = sandbox.json(&format!("resolve --format json {host}/many:1"));
    assert_eq!(object["digest"], index.digest.to_string());
    assert_eq!(object["indexes"][0]["digest"], index.digest.to_string());
    assert_eq!(object["manifest"]["digest"], image.digest.to_string());
    assert_eq!(
        object["manifest"]["media_type"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    assert_eq!(object["platform"], platform());
    assert_eq!(object["layers"].as_array().unwrap().len(), 2);
    assert!(sandbox.entries("layers").is_empty());
    assert!(
        registry
            .requests()
            .iter()
            .all(|request| !request.path.contains(&image.layers[0].to_string()))
    );
}

#[test]
fn tags_come_one_a_line() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    for tag in ["2", "3"] {
        registry.push("x", tag, &image());
    }
    registry.tags_page_size(2);
    let repository = format!("{}/x", registry.host());
    assert_eq!(sandbox.ok(&format!("tags {repository}")), "1\n2\n3\n");
    let expected = json!({"repository": repository, "tags": ["1", "2", "3"]});
    assert_eq!(sandbox.json(&format!("tags --format json {repository}")), expected);
    let wrong = sandbox.run(&format!("tags {repository}:1"));
    assert_eq!(wrong.code, Some(6), "{}", wrong.stderr);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let sandbox = Sandbox::new();
    let mut child = sandbox
        .command(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // More than a pipe holds would block; nobody reads, so closing it is what the command meets.
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn referrers_of_a_tag_and_of_one_type() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let image = image();
    let subject = format!(
        r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":1}}"#,
        image.digest
    );
    let sbom = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/spdx+json","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{}","size":2}},"layers":[],"subject":{subject}}}"#,
        unlade_oci::Digest::sha256("{}")
    );
    let size = sbom.len();
    let digest = registry.push_manifest("x", "application/vnd.oci.image.manifest.v1+json", sbom);
    let reference = registry.reference("x", "1");
    let text = sandbox.ok(&format!("referrers {reference}"));
    let row = text.lines().nth(1).unwrap();
    assert!(
        row.starts_with(&digest.to_string()) && row.ends_with("application/spdx+json"),
        "{text}"
    );
    let object = sandbox.json(&format!(
        "referrers {reference} --artifact-type application/spdx+json --format json"
    ));
    assert_eq!(object["digest"], image.digest.to_string());
    assert_eq!(
        (&object["origin"], &object["referrers"][0]["size"]),
        (&"api".into(), &size.into())
    );
    for rest in ["--artifact-type a/b", "--platform linux/amd64"] {
        if rest.starts_with("--platform") && crate::sandbox::platform() != "linux/amd64" {
            continue;
        }
        let rows = sandbox.ok(&format!("referrers {reference} {rest}")).lines().count();
        assert_eq!(rows, if rest.starts_with("--platform") { 2 } else { 1 }, "{rest}");
    }
    assert_eq!(
        sandbox.run(&format!("referrers {}/x:nope", registry.host())).code,
        Some(3)
    );
}
