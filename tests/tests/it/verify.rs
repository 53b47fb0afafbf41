//! The command that looks at a store and makes it good: exit codes, what it prints, and what it fetches.

use std::fs;

use serde_json::Value;
use unlade_test_support::{Image, ImageBuilder};
use unlade_tests::Home;

use crate::support::{blob_requests, fat_layer, serve};

fn two_layers() -> Image {
    ["one", "two"]
        .into_iter()
        .fold(ImageBuilder::new(), |image, name| image.layer(fat_layer(name, 20_000)))
        .build()
}

fn verify(home: &Home, options: &[&str]) -> Value {
    let command = home.unlade(["--format", "json", "verify"]).args(options);
    command.run().success().json()
}

#[test]
fn damage_is_12_and_repaired_from_the_blob() {
    let (registry, reference) = serve(&two_layers());
    let home = Home::new();
    let pulled = home.pull(&reference);
    assert_eq!(verify(&home, &[])["damage"], serde_json::json!([]));
    let deep = verify(&home, &["--deep"]);
    assert_eq!(
        (&deep["blobs"], &deep["directories"], &deep["entries"]),
        (&4.into(), &2.into(), &2.into())
    );

    fs::write(pulled.directories[0].join("one"), "other").unwrap();
    registry.clear();
    let report = home.unlade(["verify", "--deep"]).run();
    assert!(report.stdout.starts_with("damaged: the layer directory "), "{report}");
    assert!(report.stdout.contains("one has other content"), "{report}");
    assert!(report.stderr.contains("--repair"), "{report}");
    assert_eq!(report.code(), Some(12), "{report}");

    let repaired = verify(&home, &["--deep", "--repair"]);
    assert_eq!(repaired["damage"][0]["repaired"], true);
    assert_eq!(repaired["damage"][0]["kind"], "directory");
    assert_eq!(repaired["damage"][0]["images"], serde_json::json!([reference]));
    assert_eq!(fs::metadata(pulled.directories[0].join("one")).unwrap().len(), 20_000);
    assert!(registry.requests().is_empty());
    assert_eq!(verify(&home, &["--deep"])["damage"], serde_json::json!([]));
    home.leftovers().assert_nothing_half_done();
}

#[test]
fn only_a_damaged_blob_is_fetched() {
    let image = two_layers();
    let (registry, reference) = serve(&image);
    let home = Home::new();
    home.pull(&reference);
    let blob = home.store().join("blobs/sha256").join(image.layers[1].hex());
    fs::remove_file(&blob).unwrap();
    registry.clear();
    let repaired = verify(&home, &["--repair"]);
    assert_eq!(repaired["damage"][0]["repaired"], true);
    assert_eq!(repaired["damage"][0]["digest"], image.layers[1].to_string());
    assert_eq!(blob_requests(&registry).len(), 1, "{:?}", registry.requests());
    assert!(blob.is_file());

    fs::remove_file(&blob).unwrap();
    registry.remove_blob("app", &image.layers[1]);
    let report = home.unlade(["verify", "--repair"]).run();
    assert_eq!(report.code(), Some(3), "{report}");
    assert!(report.stdout.starts_with("not repaired: the blob "), "{report}");
}
