//! Pulls that keep no blobs: what stays, what that is good for, and how much room it takes at most.

use unlade_test_support::{Compression, ImageBuilder, LayerBuilder};
use unlade_tests::{Filesystem, Home, Kind};

use crate::support::{blob_requests, fat_layer, serve};

const MIB: usize = 1 << 20;

#[test]
fn only_documents_and_layer_directories_stay() {
    let image = ImageBuilder::new()
        .layer(fat_layer("one", MIB))
        .layer(fat_layer("two", MIB))
        .build();
    let (registry, reference) = serve(&image);
    let home = Home::new();
    let pulled = home.pull_with(&reference, &["--discard-blobs"]);
    assert!(pulled.directories.iter().all(|directory| directory.is_dir()));
    let left = home.leftovers();
    left.assert_nothing_half_done();
    assert_eq!((left.blobs.len(), left.layers.len()), (2, 2));
    home.unlade(["verify", "--deep"]).run().success();

    registry.clear();
    for policy in ["missing", "never", "always"] {
        home.pull_with(&reference, &["--policy", policy]);
    }
    assert!(blob_requests(&registry).is_empty(), "{:?}", registry.requests());
    let usage = home
        .unlade(["pull", &reference, "--discard-blobs", "--no-extract"])
        .run();
    assert_eq!(usage.code(), Some(2), "{usage}");
    home.unlade(["rm", &reference]).run().success();
    home.leftovers().assert_nothing();
}

/// Where a layer has to be extracted once more, its blob is fetched once more; where that may not be, the error says so.
#[test]
fn what_is_extracted_once_more_is_fetched_once_more() {
    // The second layer goes through a link of the first: it is extracted on top of that, for each image.
    let top = LayerBuilder::new().file("lib/new", "new").build(Compression::Gzip);
    let on = |place: &str| {
        let ground = LayerBuilder::new().dir(place, 0o755).symlink("lib", place);
        let layers = ImageBuilder::new().layer(ground.build(Compression::Gzip));
        layers.layer(top.clone()).build()
    };
    let (registry, reference) = serve(&on("usr"));
    registry.push("other", "latest", &on("opt"));
    let other = registry.reference("other", "latest");
    let home = Home::new();
    home.pull_with(&reference, &["--discard-blobs"]);
    registry.clear();

    // Other owners mean other directories, and a blob for those is gone.
    let squash = ["--ownership", "squash"];
    let never = ["--format", "json", "pull", "--policy", "never", &reference];
    let error = home.unlade(never).args(squash).run().failure(3).error();
    assert_eq!(error["class"], "not-found", "{error}");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("is not complete in the store: the blob sha256:"),
        "{error}"
    );
    assert_eq!(error["hint"], "without --policy never it is fetched", "{error}");
    assert!(registry.requests().is_empty(), "{:?}", registry.requests());
    home.pull_with(&reference, &[&squash[..], &["--discard-blobs"]].concat());
    // That of the second layer was needed a second time, and is there since.
    assert_eq!(blob_requests(&registry).len(), 1, "{:?}", registry.requests());
    registry.clear();

    // The second layer has its directories, but not one on top of this ground.
    let pulled = home.pull_with(&other, &["--discard-blobs"]);
    let on_top = &pulled.directories[1];
    let asked = blob_requests(&registry);
    assert!(
        asked.len() == 2 && asked.iter().all(|(path, _)| path.contains("/other/")),
        "{asked:?}"
    );
    home.leftovers().assert_nothing_half_done();
    let blob = home.store().join("blobs/sha256").join(top.digest.hex());
    assert!(blob.is_file(), "what a directory on top of others depends on stays");
    std::fs::remove_file(&blob).unwrap();
    std::fs::remove_dir_all(on_top).unwrap();
    let never = ["--format", "json", "pull", "--policy", "never", &other];
    let error = home.unlade(never).run().failure(3).error();
    assert_eq!(
        error["causes"][0],
        format!("the blob {} is not in the store", top.digest),
        "{error}"
    );
    assert_eq!(error["hint"], "without --policy never it is fetched again", "{error}");
    home.pull(&other);
    assert!(on_top.is_dir() && blob.is_file());

    let tree = home.path("rootfs");
    home.unlade(["unpack", "--policy", "never", &other])
        .args([&tree])
        .run()
        .success();
    assert_eq!(std::fs::read(tree.join("opt/new")).unwrap(), b"new");
    home.unlade(["unpack", "--replace", "--ownership", "squash", &reference])
        .args([&tree])
        .run()
        .success();
    assert_eq!(std::fs::read(tree.join("usr/new")).unwrap(), b"new");
    home.unlade(["verify", "--deep"]).run().success();
}

/// The blobs are five times as large as the filesystem that they pass through has room.
#[test]
fn privileged_the_blobs_take_no_more_room_than_the_largest() {
    const LARGEST: usize = 12 * MIB;
    let sizes = [
        LARGEST,
        9 * MIB,
        9 * MIB,
        8 * MIB,
        7 * MIB,
        6 * MIB,
        5 * MIB,
        2 * MIB,
        MIB,
        MIB,
    ];
    let image = sizes
        .iter()
        .enumerate()
        .fold(ImageBuilder::new(), |image, (at, size)| {
            image.layer(fat_layer(&format!("layer-{at}"), *size))
        })
        .build();
    let (_registry, reference) = serve(&image);
    // What is beside the blobs is the database, with its log.
    let small = Filesystem::new(Kind::Tmpfs, (LARGEST + 3 * MIB) as u64);
    let home = Home::with_store(small.path().join("store"));
    let layers = home.path("layers");
    let layers = layers.to_str().unwrap();
    let failed = home.unlade(["pull", &reference, "-L", layers]).run();
    assert_eq!(failed.code(), Some(9), "{failed}");
    let pulled = home.pull_with(&reference, &["-L", layers, "--discard-blobs"]);
    for (at, directory) in pulled.directories.iter().enumerate() {
        let file = directory.join(format!("layer-{at}"));
        assert_eq!(std::fs::metadata(&file).unwrap().len(), sizes[at] as u64);
    }
    home.leftovers().assert_nothing_half_done();
}
