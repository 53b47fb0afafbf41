//! Root filesystems: where they go, what they are made from, and what is left when that fails.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use unlade_extract::{Limits, Progress};
use unlade_images::{Image, UnpackOptions, UnpackSource, Unpacked};
use unlade_oci::ErrorClass;
use unlade_test_support::{Compression, LayerBuilder, TreeSnapshot};

use crate::support::{Fixture, bring_in, image};

/// Two layers: the upper one removes a file and adds one.
fn two_layers() -> Vec<LayerBuilder> {
    vec![
        LayerBuilder::new()
            .dir("./", 0o755)
            .dir("etc", 0o755)
            .file("etc/old", "old")
            .file("etc/kept", vec![b'k'; 100_000]),
        LayerBuilder::new()
            .dir("./", 0o755)
            .dir("etc", 0o755)
            .whiteout("etc/old")
            .file("etc/new", "new"),
    ]
}

fn brought(fixture: &Fixture, layers: &[LayerBuilder], extract: bool) -> Image {
    let layers: Vec<_> = layers.iter().map(|layer| layer.build(Compression::Gzip)).collect();
    bring_in(&fixture.store, "rootfs:1", &image(&layers), extract)
}

fn unpack(
    fixture: &Fixture,
    image: &Image,
    target: &Path,
    options: &UnpackOptions,
) -> Result<Unpacked, unlade_images::Error> {
    fixture.store.unpack(image, target, options, &Progress::new())
}

/// Fails the test if a tree that is not finished lies about.
fn assert_no_stage(fixture: &Fixture) {
    let names = fs::read_dir(fixture.directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let stages: Vec<_> = names
        .filter(|name| name.to_string_lossy().starts_with(".unlade"))
        .collect();
    assert!(stages.is_empty(), "{stages:?}");
}

#[test]
fn it_goes_to_a_place_that_is_free() {
    let fixture = Fixture::new();
    let image = brought(&fixture, &two_layers(), true);
    let options = UnpackOptions::default();
    let target = fixture.directory().join("rootfs");
    let unpacked = unpack(&fixture, &image, &target, &options).unwrap();
    assert_eq!(unpacked.source, UnpackSource::Directories);
    assert_eq!(unpacked.path, target.canonicalize().unwrap());
    assert_eq!(unpacked.entries, 4, "the root, a directory and two files");
    assert!(target.join("etc/new").exists() && !target.join("etc/old").exists());

    let error = unpack(&fixture, &image, &target, &options).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Storage);
    assert!(error.to_string().contains("is not an empty directory"), "{error}");

    let empty = fixture.directory().join("empty");
    fs::create_dir(&empty).unwrap();
    unpack(&fixture, &image, &empty, &options).unwrap();
    assert!(empty.join("etc/new").exists());

    let file = fixture.directory().join("file");
    fs::write(&file, "precious").unwrap();
    let replace = UnpackOptions {
        replace: true,
        ..UnpackOptions::default()
    };
    for options in [&options, &replace] {
        assert!(unpack(&fixture, &image, &file, options).is_err());
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }
    assert_no_stage(&fixture);
}

#[test]
fn a_tree_is_replaced_as_a_whole() {
    let fixture = Fixture::new();
    let image = brought(&fixture, &two_layers(), true);
    let target = fixture.directory().join("rootfs");
    fs::create_dir_all(target.join("mine/deep")).unwrap();
    let before = fs::File::open(&target).unwrap().metadata().unwrap().ino();
    // Through a link it is the directory that is replaced, and the link stays.
    let link = fixture.directory().join("link");
    std::os::unix::fs::symlink("rootfs", &link).unwrap();
    let options = UnpackOptions {
        replace: true,
        ..UnpackOptions::default()
    };
    unpack(&fixture, &image, &link, &options).unwrap();
    assert!(link.is_symlink());
    assert_ne!(target.metadata().unwrap().ino(), before);
    assert!(target.join("etc/new").exists() && !target.join("mine").exists());
    assert_no_stage(&fixture);
}

/// The two trees change places in one step: whoever opens the directory meanwhile gets the old one or the new one.
#[test]
fn there_is_a_tree_at_every_moment_of_a_replacement() {
    let fixture = Fixture::new();
    let image = brought(&fixture, &two_layers(), true);
    let target = fixture.directory().join("rootfs");
    let options = UnpackOptions {
        replace: true,
        ..UnpackOptions::default()
    };
    unpack(&fixture, &image, &target, &options).unwrap();
    let (done, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| -> std::io::Result<()> {
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                let inode = fs::File::open(&target)?.metadata()?.ino();
                changes.fetch_add(u64::from(inode != last), Ordering::Relaxed);
                last = inode;
            }
            Ok(())
        });
        let mut times = 0;
        while !reader.is_finished() && (times < 20 || changes.load(Ordering::Relaxed) < 5) {
            unpack(&fixture, &image, &target, &options).unwrap();
            times += 1;
        }
        done.store(true, Ordering::Relaxed);
        let outcome = reader.join().unwrap();
        assert!(outcome.is_ok(), "after {times} times: {outcome:?}");
    });
    assert_no_stage(&fixture);
}

#[test]
fn blobs_and_directories_give_the_same_tree() {
    let (extracted, kept) = (Fixture::new(), Fixture::new());
    let mut trees = Vec::new();
    for (fixture, extract, source) in [
        (&extracted, true, UnpackSource::Directories),
        (&kept, false, UnpackSource::Blobs),
    ] {
        let image = brought(fixture, &two_layers(), extract);
        let target = fixture.directory().join("rootfs");
        let unpacked = unpack(fixture, &image, &target, &UnpackOptions::default()).unwrap();
        assert_eq!(unpacked.source, source);
        trees.push(TreeSnapshot::of(&target));
    }
    trees[0].assert_same(&trees[1]);
    assert_eq!(fs::read_dir(kept.store.layer_root()).unwrap().count(), 0);
}

#[test]
fn files_are_copies_unless_links_are_wanted() {
    let fixture = Fixture::new();
    let image = brought(&fixture, &two_layers(), true);
    let inode = |path: &Path| path.join("etc/kept").metadata().unwrap().ino();
    let in_store = inode(image.layers[0].directory.as_deref().unwrap());
    let copied = fixture.directory().join("copied");
    unpack(&fixture, &image, &copied, &UnpackOptions::default()).unwrap();
    assert_ne!(inode(&copied), in_store);
    let linked = fixture.directory().join("linked");
    let options = UnpackOptions {
        link_files: true,
        ..UnpackOptions::default()
    };
    unpack(&fixture, &image, &linked, &options).unwrap();
    assert_eq!(inode(&linked), in_store);
    TreeSnapshot::of(&linked).assert_same(&TreeSnapshot::of(&copied));
}

#[test]
fn links_to_directories_are_kept_if_wanted() {
    let layers = [
        LayerBuilder::new()
            .dir("usr", 0o755)
            .dir("usr/lib", 0o700)
            .symlink("lib", "usr/lib"),
        LayerBuilder::new().dir("lib", 0o755).file("lib/new", "new"),
    ];
    let fixture = Fixture::new();
    let image = brought(&fixture, &layers, true);
    let target = fixture.directory().join("plain");
    unpack(&fixture, &image, &target, &UnpackOptions::default()).unwrap();
    assert!(!target.join("lib").is_symlink() && !target.join("usr/lib/new").exists());

    let target = fixture.directory().join("kept");
    let options = UnpackOptions {
        keep_directory_links: true,
        ..UnpackOptions::default()
    };
    let unpacked = unpack(&fixture, &image, &target, &options).unwrap();
    assert_eq!(unpacked.source, UnpackSource::Blobs);
    assert!(target.join("lib").is_symlink() && target.join("usr/lib/new").exists());
    assert_eq!(target.join("usr/lib").metadata().unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn limits_count_for_each_layer_and_for_all() {
    let fixture = Fixture::new();
    let image = brought(&fixture, &two_layers(), false);
    let largest = image.layers.iter().map(|layer| layer.raw_size).max().unwrap();
    let total = image.layers.iter().map(|layer| layer.raw_size).sum::<u64>();
    let limited = |raw_bytes, total_raw_bytes| UnpackOptions {
        replace: true,
        limits: Limits {
            raw_bytes,
            total_raw_bytes,
            ..Limits::default()
        },
        ..UnpackOptions::default()
    };
    let target = fixture.directory().join("rootfs");
    unpack(&fixture, &image, &target, &limited(Some(largest), Some(total))).unwrap();
    for options in [limited(Some(largest - 1), None), limited(None, Some(total - 1))] {
        let error = unpack(&fixture, &image, &target, &options).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Rejected, "{error:?}");
    }
    assert!(target.join("etc/new").exists(), "what was there stays");
    assert_no_stage(&fixture);
}

#[test]
fn nothing_is_left_of_what_fails_or_is_stopped_or_was_killed() {
    let fixture = Fixture::new();
    let image = brought(&fixture, &two_layers(), true);
    // What a killed process leaves, with a directory that its owner may not write.
    let dead = fixture.directory().join(".unlade-unpack-other-1-1");
    fs::create_dir_all(dead.join("locked/inside")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o555);
    fs::set_permissions(dead.join("locked"), mode).unwrap();

    let target = fixture.directory().join("rootfs");
    let stopped = Progress::new();
    stopped.cancel();
    let options = UnpackOptions::default();
    assert!(fixture.store.unpack(&image, &target, &options, &stopped).is_err());
    assert!(!target.exists());
    assert_no_stage(&fixture);

    // A blob that is not what it should be is found before the tree gets its name.
    let path = fixture.store.blobs().path(&image.layers[1].blob);
    let other = fs::read(fixture.store.blobs().path(&image.layers[0].blob)).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, other).unwrap();
    let mut from_blobs = image;
    for layer in &mut from_blobs.layers {
        layer.is_stacked = false;
    }
    let error = unpack(&fixture, &from_blobs, &target, &options).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity, "{error:?}");
    fs::remove_file(&path).unwrap();
    let error = unpack(&fixture, &from_blobs, &target, &options).unwrap_err();
    assert_eq!(error.class(), ErrorClass::NotFound, "{error:?}");
    assert!(!target.exists());
    assert_no_stage(&fixture);
}
