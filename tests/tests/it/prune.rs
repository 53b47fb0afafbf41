//! Removing what nothing needs: what is reported, what that gives back, and what is left.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use unlade_test_support::{Image, ImageBuilder};
use unlade_tests::{Filesystem, Home, Kind};

use crate::support::{blob_requests, fat_layer, serve};

const MIB: usize = 1 << 20;

fn image(name: &str, shared: &str) -> Image {
    ImageBuilder::new()
        .layer(fat_layer(shared, 4 * MIB))
        .layer(fat_layer(name, 8 * MIB))
        .build()
}

fn files(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Fails the test unless of the content of the store nothing is left.
fn assert_empty(home: &Home) {
    home.leftovers().assert_nothing();
    let locks = files(&home.store().join("locks"));
    assert!(locks.iter().all(|lock| !lock.starts_with("layer-")), "{locks:?}");
    assert!(home.images().is_empty());
}

/// What is free, and what the database takes: that is no image's, and it grows and shrinks by itself.
fn free(filesystem: &Filesystem, home: &Home) -> u64 {
    let files = ["metadata.db", "metadata.db-wal"].map(|name| fs::metadata(home.store().join(name)).unwrap());
    filesystem.free() + files.iter().map(|file| file.blocks() * 512).sum::<u64>()
}

/// What is reported as freed is what the filesystem has gained, within a hundredth.
fn assert_gives_back_what_it_says(filesystem: &Filesystem, home: &Home, options: &[&str]) {
    let before = free(filesystem, home);
    let pruned = home
        .unlade(["--format", "json", "prune"])
        .args(options)
        .run()
        .success()
        .json();
    let after = free(filesystem, home);
    assert!(
        after > before,
        "{options:?}: {before} bytes were free, then {after}; {pruned}"
    );
    let gained = after - before;
    let told = pruned["bytes"].as_u64().unwrap();
    assert!(told > 4 * MIB as u64, "{pruned}");
    assert!(
        told.abs_diff(gained) * 100 <= gained,
        "{options:?} told of {told} bytes, and there are {gained} more"
    );
}

#[test]
fn privileged_real_a_prune_gives_back_what_it_says() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        let filesystem = Filesystem::new(kind, 512 * MIB as u64);
        let home = Home::with_store(filesystem.path().join("store"));
        let (registry, one) = serve(&image("one", "shared"));
        registry.push("two", "latest", &image("two", "shared"));
        let two = registry.reference("two", "latest");
        home.pull(&one);
        home.pull(&two);
        registry.push("app", "latest", &image("new", "shared"));
        home.pull_with(&one, &["--policy", "always"]);

        let dry = home
            .unlade(["--format", "json", "prune", "--dry-run"])
            .run()
            .success()
            .json();
        let before = home.leftovers();
        assert_gives_back_what_it_says(&filesystem, &home, &[]);
        assert_eq!(
            (
                dry["blobs"].as_array().unwrap().len(),
                dry["directories"].as_array().unwrap().len()
            ),
            (3, 1)
        );
        assert_eq!(before.layers.len() - home.leftovers().layers.len(), 1);
        assert_gives_back_what_it_says(&filesystem, &home, &["--blobs"]);

        let usage = home.unlade(["--format", "json", "df"]).run().success().json();
        let own = usage["images"][0]["own"].as_u64().unwrap();
        let before = free(&filesystem, &home);
        let removed = home.unlade(["--format", "json", "rm", &one]).run().success().json();
        assert_eq!(removed[0]["bytes"], own);
        let gained = free(&filesystem, &home) - before;
        assert!(own.abs_diff(gained) * 100 <= gained, "{own} {gained}");
        assert_gives_back_what_it_says(&filesystem, &home, &["--all"]);
        assert_empty(&home);
    }
}

#[test]
fn privileged_an_ordinary_user_removes_all_that_was_made() {
    let (_registry, reference) = serve(&unlade_test_support::fixtures::all_entry_types());
    let home = Home::of_nobody();
    home.pull(&reference);
    assert!(!home.leftovers().layers.is_empty());
    let text = home.unlade(["prune", "--all"]).run().success().stdout;
    assert!(text.contains("removed ") && text.contains("freed "), "{text}");
    assert_empty(&home);
    home.pull(&reference);
    home.unlade(["rm", &reference]).run().success();
    assert_empty(&home);
}

#[test]
fn without_blobs_an_image_is_complete_and_what_shares_its_layers_fetches_the_rest() {
    let (registry, one) = serve(&image("one", "shared"));
    let home = Home::new();
    let pulled = home.pull(&one);
    let before = home.unlade(["--format", "json", "df"]).run().success().json();
    home.unlade(["prune", "--blobs"]).run().success();
    assert_eq!(home.leftovers().blobs.len(), 2, "the documents");
    let after = home.unlade(["--format", "json", "df"]).run().success().json();
    assert!(after["total"].as_u64().unwrap() + 11 * (MIB as u64) < before["total"].as_u64().unwrap());

    registry.clear();
    assert_eq!(
        home.pull_with(&one, &["--policy", "never"]).directories,
        pulled.directories
    );
    assert!(registry.requests().is_empty());
    registry.push("app", "latest", &image("two", "shared"));
    home.pull_with(&one, &["--policy", "always"]);
    assert_eq!(blob_requests(&registry).len(), 2, "{:?}", registry.requests());
    home.unlade(["verify", "--deep"]).run().success();

    // Who wants the blobs gets them.
    registry.clear();
    home.pull_with(&one, &["--no-extract"]);
    assert_eq!(blob_requests(&registry).len(), 1, "{:?}", registry.requests());
}

#[test]
fn nothing_stays_where_layer_directories_were_elsewhere() {
    let (_registry, reference) = serve(&image("one", "shared"));
    let home = Home::new();
    let layers = home.path("layers");
    let elsewhere = ["-L", layers.to_str().unwrap()];
    for _ in 0..2 {
        home.pull_with(&reference, &elsewhere);
        assert_eq!(files(&layers).len(), 3, "{:?}", files(&layers));
        home.unlade(["prune", "--all"]).run().success();
        assert!(files(&layers).is_empty(), "{:?}", files(&layers));
    }
}
