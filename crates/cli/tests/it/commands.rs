//! The commands around the pull.

use std::io::Read as _;
use std::process::Stdio;

use serde_json::json;
use unlade_test_support::{Compression, ImageBuilder, IndexBuilder, LayerBuilder};

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
fn what_was_done_other_than_the_layers_say_is_shown() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    // Whoever runs the test owns all of it, so that nothing depends on who that is.
    let uid = u64::from(rustix::process::geteuid().as_raw());
    let gid = u64::from(rustix::process::getegid().as_raw());
    let odd = LayerBuilder::new()
        .dir_with("./", 0o755, |entry| entry.owner(uid, gid))
        .file_with("/absolute", "12345", |entry| entry.owner(uid, gid))
        .file_with(b"not-utf8-\xff\n", "1", |entry| entry.owner(uid, gid))
        .file_with(b"not-utf8-\xff\n", "123", |entry| entry.owner(uid, gid))
        .file_with("absolute", "", |entry| entry.owner(uid, gid));
    let plain = LayerBuilder::new().dir_with("./", 0o755, |entry| entry.owner(uid, gid));
    let layers = [odd, plain].map(|layer| layer.build(Compression::Gzip));
    let image = ImageBuilder::new().platform(&platform()).layers(layers).build();
    registry.push("odd", "1", &image);
    let reference = registry.reference("odd", "1");

    let expected = json!({
        "entries": 5,
        "bytes": 9,
        "notes": {
            "name-absolute": {"count": 1, "first": "/absolute"},
            "duplicate": {"count": 2, "first": r"not-utf8-\xff\x0a"},
        },
    });
    let pull = format!("pull --format json {reference}");
    for (time, asked) in [("cold", true), ("warm", false)] {
        let pulled = sandbox.json(&pull);
        assert_eq!(pulled[0]["asked_registry"], asked);
        let summaries = [0, 1].map(|at| pulled[0]["layers"][at]["summary"].clone());
        for (member, value) in expected.as_object().unwrap() {
            assert_eq!(&summaries[0][member], value, "{time}: {member}");
        }
        assert_eq!(
            (&summaries[1]["entries"], &summaries[1]["notes"]),
            (&json!(1), &json!({})),
            "{time}"
        );
        let inspected = sandbox.json(&format!("inspect --format json {reference}"));
        let layers = &inspected[0]["Unlade"]["Layers"];
        assert_eq!(
            [&layers[0]["Summary"], &layers[1]["Summary"]],
            summaries.each_ref(),
            "{time}"
        );
    }

    let text = sandbox.ok(&format!("inspect --format text {reference}"));
    let text = sandbox.steady(&text, &registry).replace(&platform(), "PLATFORM");
    insta::assert_snapshot!(without_digests_and_times(&text), @r"
    REGISTRY/odd:1@sha256:HEX
      PLATFORM, pulled TIME
      HOME/store/layers/sha256-HEX.extracted
        5 entries, 9 B
        absolute name without its slash: 1, first /absolute
        entry replaced an earlier one: 2, first not-utf8-\xff\x0a
      HOME/store/layers/sha256-HEX.extracted
        1 entry, 0 B
    ");

    sandbox.ok(&format!("rm {reference}"));
    sandbox.ok(&format!("pull --no-extract {reference}"));
    let text = sandbox.ok(&format!("inspect --format=text {reference}"));
    assert!(
        text.contains(&format!("{}, not extracted here", image.layers[0])),
        "{text}"
    );
    assert!(
        text.contains("absolute name without its slash: 1, first /absolute"),
        "{text}"
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

/// Replaces digests, which depend on the machine's platform and user, and the time of the pull.
fn without_digests_and_times(text: &str) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        let line = match line.split_once(", pulled ") {
            Some((platform, _)) => format!("{platform}, pulled TIME"),
            None => line.to_owned(),
        };
        let is_hex = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut words = line.split_inclusive([':', '-', '.']);
        let replaced: String = words
            .by_ref()
            .map(|word| {
                let end = word.trim_end_matches([':', '-', '.']).len();
                if is_hex(&word[..end]) {
                    format!("HEX{}", &word[end..])
                } else {
                    word.to_owned()
                }
            })
            .collect();
        lines.push_str(&replaced);
        lines.push('\n');
    }
    lines
}
