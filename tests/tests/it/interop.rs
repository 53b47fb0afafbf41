//! The store as an OCI image layout that other tools read in place.

use unlade_test_support::{Artifact as _, fixtures};
use unlade_tests::{Home, real};

use crate::support::serve;

#[test]
fn real_tools_read_the_store_in_place() {
    let image = fixtures::web();
    let (registry, reference) = serve(&image);
    registry.push("other", "v1", &fixtures::many());
    let other = registry.reference("other", "v1");
    let home = Home::new();
    home.pull(&reference);
    home.pull(&other);

    let mut names = real::umoci_names(&home);
    names.sort();
    assert_eq!(names, [reference.clone(), other.clone()]);
    let inspected = real::skopeo_inspect(&home, &reference);
    assert_eq!(inspected["Digest"], image.digest().to_string());
    let layers: Vec<_> = image.layers.iter().map(ToString::to_string).collect();
    assert_eq!(inspected["Layers"], serde_json::json!(layers));

    home.unlade(["rm", &other]).run().success();
    assert_eq!(real::umoci_names(&home), std::slice::from_ref(&reference));
    assert_eq!(
        real::skopeo_inspect(&home, &reference)["Digest"],
        image.digest().to_string()
    );
}

#[test]
fn real_copy_out_of_the_store_is_the_image() {
    let image = fixtures::web();
    let (_registry, reference) = serve(&image);
    let home = Home::new();
    home.pull(&reference);
    let layout = real::skopeo_copy(&home, &reference);
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], image.digest().to_string());
    for (digest, bytes) in image.blobs() {
        let path = layout.join("blobs/sha256").join(digest.hex());
        assert_eq!(std::fs::read(path).unwrap(), bytes.as_ref(), "{digest}");
    }
}

#[test]
fn real_image_of_an_index_is_found_by_its_name() {
    let index = fixtures::platforms();
    let (_registry, reference) = serve(&index);
    let home = Home::new();
    let amd64 = home.pull_with(&reference, &["--platform", "linux/amd64"]);
    let arm64 = home.pull_with(&reference, &["--platform", "linux/arm64"]);
    // A name is found once: what it means is this machine's platform.
    let here = if cfg!(target_arch = "aarch64") { arm64 } else { amd64 };
    assert_eq!(real::umoci_names(&home), std::slice::from_ref(&reference));
    assert_eq!(real::skopeo_inspect(&home, &reference)["Digest"], here.manifest);
}
