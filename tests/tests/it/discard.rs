//! Pulls that keep no blobs: what stays, what that is good for, and how much room it takes at most.

use unlade_test_support::ImageBuilder;
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
