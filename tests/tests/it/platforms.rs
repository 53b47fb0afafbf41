//! All platforms of a name: what a mirror keeps, and what becomes of it afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;
use unlade_oci::Digest;
use unlade_test_support::{Artifact as _, FakeRegistry, Fault, Index, fixtures};
use unlade_tests::{Home, real};

use crate::support::serve;

fn pull_all(home: &Home, reference: &str) -> Value {
    let command = home.unlade(["--format", "json", "pull", reference, "--platform", "all"]);
    command.run().success().json()
}

/// Everything that the index leads to: what a mirror has to have.
fn all_of(index: &Index) -> BTreeSet<String> {
    let documents = index.manifests().into_keys();
    documents
        .chain(index.blobs().keys().cloned())
        .map(|digest| digest.hex().to_owned())
        .collect()
}

fn blobs(home: &Home) -> BTreeSet<String> {
    home.leftovers().blobs.into_iter().collect()
}

/// Returns what `index.json` lists: media type, digest and name.
fn listed(home: &Home) -> Vec<(String, String, Option<String>)> {
    let index: Value = serde_json::from_slice(&fs::read(home.store().join("index.json")).unwrap()).unwrap();
    let entries = index["manifests"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    entries
        .map(|entry| {
            let name = text(&entry["annotations"]["org.opencontainers.image.ref.name"]);
            (
                text(&entry["mediaType"]).unwrap(),
                text(&entry["digest"]).unwrap(),
                name,
            )
        })
        .collect()
}

fn home_with_all() -> (FakeRegistry, Home, String) {
    let (registry, reference) = serve(&fixtures::platforms());
    let home = Home::new();
    pull_all(&home, &reference);
    (registry, home, reference)
}

#[test]
fn the_index_is_kept_whole_with_what_is_no_image() {
    let index = fixtures::platforms();
    let (registry, reference) = serve(&index);
    let home = Home::new();
    let pulled = pull_all(&home, &reference);
    let platforms: Vec<_> = pulled
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["platform"].clone())
        .collect();
    assert_eq!(platforms, ["linux/386", "linux/amd64", "linux/arm/v7", "linux/arm64"]);
    assert_eq!(blobs(&home), all_of(&index));
    assert!(home.leftovers().layers.is_empty(), "a mirror extracts nothing");
    let path = home.store().join("blobs/sha256").join(index.digest.hex());
    assert_eq!(fs::read(path).unwrap(), index.manifests()[&index.digest].bytes);
    assert_eq!(
        listed(&home),
        [(
            "application/vnd.oci.image.index.v1+json".to_owned(),
            index.digest.to_string(),
            Some(reference.clone())
        )]
    );

    // Again: nothing is asked, also where the network is not to be used.
    let asked = registry.requests().len();
    let again = pull_all(&home, &reference);
    assert_eq!(again.as_array().unwrap().len(), 4);
    assert_eq!(again[0]["asked_registry"], false);
    home.unlade(["pull", &reference, "--platform", "all", "--policy", "never"])
        .run()
        .success();
    // One of them is made into files from what is there.
    let one = home.pull_with(&reference, &["--platform", "linux/arm64", "--policy", "never"]);
    assert_eq!(
        fs::read_to_string(one.directories[1].join("platform")).unwrap(),
        "linux/arm64/v8"
    );
    assert_eq!(registry.requests().len(), asked);
    home.unlade(["verify", "--deep"]).run().success();
}

#[test]
fn one_name_can_be_looked_at_and_removed_by_platform() {
    let (_registry, home, reference) = home_with_all();
    assert_eq!(home.images().len(), 4);
    let inspect = home.unlade(["inspect", &reference, "--platform", "linux/386"]);
    assert_eq!(inspect.run().success().json()[0]["Architecture"], "386");
    let used = home.unlade(["--format", "json", "df"]).run().success().json();
    assert_eq!(used["images"].as_array().unwrap().len(), 4);

    // Without one of them it is no whole index any more, and the others stay.
    home.unlade(["rm", &reference, "--platform", "linux/386"])
        .run()
        .success();
    let left = listed(&home);
    assert_eq!(left.len(), 3);
    assert!(
        left.iter().all(|(media_type, ..)| media_type.contains("manifest")),
        "{left:?}"
    );
    let missing = home
        .unlade(["export", &reference, "--platform", "all", "-o"])
        .args([home.path("x")])
        .run();
    assert_eq!(missing.code(), Some(3), "{missing}");
    home.unlade(["verify", "--deep"]).run().success();
    // What is missing is fetched again, and only that.
    pull_all(&home, &reference);
    assert_eq!(blobs(&home), all_of(&fixtures::platforms()));

    home.unlade(["prune"]).run().success();
    assert_eq!(blobs(&home), all_of(&fixtures::platforms()), "all of it is needed");
    home.unlade(["rm", &reference]).run().success();
    home.leftovers().assert_nothing();
    assert!(listed(&home).is_empty());
}

#[test]
fn what_is_no_image_is_missed_and_fetched_again() {
    let index = fixtures::platforms();
    let (registry, home, reference) = home_with_all();
    let entries: Value = serde_json::from_slice(&index.manifests()[&index.digest].bytes).unwrap();
    let attestation: Digest = entries["manifests"][4]["digest"].as_str().unwrap().parse().unwrap();
    let manifest: Value = serde_json::from_slice(&index.manifests()[&attestation].bytes).unwrap();
    let statement: Digest = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    for lost in [&attestation, &statement] {
        fs::remove_file(home.store().join("blobs/sha256").join(lost.hex())).unwrap();
        let verified = home.unlade(["--format", "json", "verify"]).run();
        assert_eq!(verified.code(), Some(12), "{verified}");
        let offline = home
            .unlade(["pull", &reference, "--platform", "all", "--policy", "never"])
            .run();
        assert_eq!(offline.code(), Some(3), "{offline}");
        registry.clear();
        pull_all(&home, &reference);
        assert!(home.has_blob(lost));
        home.unlade(["verify", "--deep"]).run().success();
        let layers = registry
            .requests()
            .into_iter()
            .filter(|request| request.path.contains("/blobs/"));
        assert!(layers.count() <= 1, "what is there is not fetched again");

        // The repair fetches it as well, and nothing else.
        fs::remove_file(home.store().join("blobs/sha256").join(lost.hex())).unwrap();
        registry.clear();
        home.unlade(["verify", "--repair"]).run().success();
        assert_eq!(registry.requests().len(), 1, "{:?}", registry.requests());
        home.unlade(["verify", "--deep"]).run().success();
    }
}

#[test]
fn a_name_without_an_index_is_all_there_is() {
    let image = fixtures::empty_layers();
    let (_registry, reference) = serve(&image);
    let home = Home::new();
    let pulled = pull_all(&home, &reference);
    assert_eq!(pulled.as_array().unwrap().len(), 1);
    assert_eq!(pulled[0]["manifest"], image.digest.to_string());
    let path = home.path("one.tar");
    let export = home.unlade([
        "export",
        &reference,
        "--platform",
        "all",
        "--format",
        "docker-archive",
        "-o",
    ]);
    export.args([&path]).run().success();
}

#[test]
fn a_pull_that_fails_leaves_no_index_in_part() {
    let index = fixtures::platforms();
    let (registry, reference) = serve(&index);
    let layer = index.blobs().iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0;
    registry.fault(Fault::on_blob(layer).status(404));
    let home = Home::new();
    let failed = home.unlade(["pull", &reference, "--platform", "all"]).run();
    assert_eq!(failed.code(), Some(3), "{failed}");
    assert!(home.images().is_empty() && listed(&home).is_empty());
    registry.clear_faults();
    pull_all(&home, &reference);
    assert_eq!(blobs(&home), all_of(&index));
}

#[test]
fn what_cannot_be_is_told() {
    let (_registry, home, reference) = home_with_all();
    for options in [["--artifact"], ["--discard-blobs"]] {
        let command = home.unlade(["pull", &reference, "--platform", "all"]).args(options);
        assert_eq!(command.run().code(), Some(2));
    }
    let docker = home.unlade([
        "export",
        &reference,
        "--platform",
        "all",
        "--format",
        "docker-archive",
        "-o",
    ]);
    assert_eq!(docker.args([home.path("x")]).run().code(), Some(2));
    assert!(!home.path("x").exists());
}

#[test]
fn an_index_goes_out_and_comes_in_whole() {
    let index = fixtures::platforms();
    let (_registry, home, reference) = home_with_all();
    for form in ["oci-archive", "oci-layout"] {
        let path = home.path(form);
        let export = home.unlade(["export", &reference, "--platform", "all", "--format", form, "-o"]);
        export.args([&path]).run().success();
        let other = Home::new();
        let import = other
            .unlade(["--format", "json", "import", "--platform", "all"])
            .args([&path]);
        assert_eq!(import.run().success().json().as_array().unwrap().len(), 4);
        assert_eq!(blobs(&other), all_of(&index), "{form}");
        assert_eq!(listed(&other), listed(&home), "{form}");
        other.leftovers().assert_nothing_half_done();
        other.unlade(["verify", "--deep"]).run().success();
        // One of them alone is taken of the same archive, and extracted.
        let single = Home::new();
        let import = single
            .unlade(["--format", "json", "import", "--platform", "linux/arm64"])
            .args([&path]);
        assert_eq!(import.run().success().json()[0]["platform"], "linux/arm64");
        assert_eq!(single.leftovers().layers.len(), 2);
        assert!(blobs(&single).len() < all_of(&index).len());
    }
}

#[test]
fn real_others_read_all_platforms_of_the_store() {
    let index = fixtures::platforms();
    let (_registry, home, reference) = home_with_all();
    let exported = home.path("exported.tar");
    let export = home.unlade(["export", &reference, "--platform", "all", "-o"]);
    export.args([&exported]).run().success();
    let work = tempfile::tempdir().unwrap();
    for (at, source) in [
        format!("oci:{}:{reference}", home.store().display()),
        format!("oci-archive:{}:{reference}", exported.display()),
    ]
    .into_iter()
    .enumerate()
    {
        let copy = work.path().join(at.to_string());
        let target = format!("dir:{}", copy.display());
        real::output_of(real::skopeo_command(work.path()).args([
            "copy",
            "--all",
            "--preserve-digests",
            &source,
            &target,
        ]));
        assert_eq!(
            fs::read(copy.join("manifest.json")).unwrap(),
            index.manifests()[&index.digest].bytes,
            "{source}"
        );
        let mut raw = real::skopeo_command(work.path());
        let chosen =
            real::output_of(raw.args(["--override-os", "linux", "--override-arch", "arm64", "inspect", &source]));
        let chosen: Value = serde_json::from_str(&chosen).unwrap();
        assert_eq!(chosen["Architecture"], "arm64");
    }
    let listed = real::output_of(Command::new("umoci").arg("ls").arg("--layout").arg(home.store()));
    assert_eq!(listed.trim(), reference);
    // Theirs by us: skopeo writes the whole index into a layout, under a tag.
    let layout = work.path().join("layout");
    let source = format!("oci:{}:{reference}", home.store().display());
    let target = format!("oci:{}:copied", layout.display());
    real::output_of(real::skopeo_command(work.path()).args(["copy", "--all", "--preserve-digests", &source, &target]));
    let other = Home::new();
    let import = other
        .unlade(["import", "--platform", "all", "--name", &reference])
        .args([&layout]);
    import.run().success();
    assert_eq!(blobs(&other), all_of(&index));
}
