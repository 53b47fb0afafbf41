//! Single stacks, written out: what makes a layer depend on those below it, and what becomes of its directory.

use std::fs;
use std::path::Path;

use unlade_extract::{Limits, Progress};
use unlade_images::{Image, Stack, UnpackOptions};
use unlade_oci::ErrorClass;
use unlade_test_support::{Compression, Layer, LayerBuilder, NodeKind, TreeSnapshot};

use crate::support::{Fixture, bring_in, bring_in_layer, image, manifest_of};

fn pack(layer: &LayerBuilder) -> Layer {
    layer.build(Compression::Gzip)
}

fn base() -> LayerBuilder {
    LayerBuilder::new()
        .dir("./", 0o755)
        .dir("usr", 0o755)
        .dir("usr/lib", 0o755)
        .file("usr/lib/old", "old")
        .symlink("lib", "usr/lib")
}

/// Brings in an image of these layers and returns it; says of each layer whether it has a directory for the stack.
fn stacked(fixture: &Fixture, layers: &[LayerBuilder]) -> (Image, Vec<bool>) {
    let layers: Vec<_> = layers.iter().map(pack).collect();
    let image = bring_in(&fixture.store, "stack:1", &image(&layers), true);
    let chained = image.layers.iter().map(|layer| layer.chain_id.is_some()).collect();
    (image, chained)
}

/// Returns the image as one that was pulled without extraction.
pub(super) fn without_directories(image: &Image) -> Image {
    let mut image = image.clone();
    for layer in &mut image.layers {
        layer.is_stacked = false;
    }
    image
}

fn merged(image: &Image) -> TreeSnapshot {
    let mut directories = image.overlay_directories().unwrap();
    directories.reverse();
    TreeSnapshot::merged(&directories)
}

#[test]
fn a_layer_that_declares_its_parents_is_on_its_own() {
    let fixture = Fixture::new();
    let top = LayerBuilder::new()
        .dir("./", 0o755)
        .dir("usr", 0o755)
        .dir("usr/lib", 0o755)
        .file("usr/lib/new", "new")
        .whiteout("usr/lib/old");
    let (image, chained) = stacked(&fixture, &[base(), top]);
    assert_eq!(chained, [false, false]);
    let tree = merged(&image);
    assert!(tree.get("usr/lib/new").is_some() && tree.get("usr/lib/old").is_none());
}

#[test]
fn an_implied_parent_that_is_a_link_below_is_followed() {
    let fixture = Fixture::new();
    let top = LayerBuilder::new().file("lib/new", "new").whiteout("lib/old");
    let (image, chained) = stacked(&fixture, &[base(), top]);
    assert_eq!(chained, [false, true]);
    let tree = merged(&image);
    assert!(tree.get("usr/lib/new").is_some() && tree.get("usr/lib/old").is_none());
    assert_eq!(tree.get("lib").unwrap().link_target.as_deref(), Some(&b"usr/lib"[..]));
    let name = image.layers[1].directory.as_deref().and_then(Path::file_name).unwrap();
    assert!(name.to_string_lossy().ends_with(".chain.extracted"), "{name:?}");
}

#[test]
fn a_directory_in_the_place_of_a_link_does_not_clear_where_that_led() {
    let declared = LayerBuilder::new().dir("./", 0o755);
    for top in [
        declared.clone().opaque("lib").dir("lib", 0o755).file("lib/new", "new"),
        declared.clone().dir("lib", 0o755).file("lib/new", "new").opaque("lib"),
        // The same of a removal below it, which hides nothing.
        declared.dir("lib", 0o755).file("lib/new", "new").whiteout("lib/old"),
    ] {
        let fixture = Fixture::new();
        let (image, _) = stacked(&fixture, &[base(), top]);
        let target = fixture.directory().join("unpacked");
        let from_blobs = without_directories(&image);
        for image in [&image, &from_blobs] {
            let options = UnpackOptions {
                replace: true,
                ..UnpackOptions::default()
            };
            fixture
                .store
                .unpack(image, &target, &options, &Progress::new())
                .unwrap();
            let tree = TreeSnapshot::of(&target);
            assert_eq!(tree.get("lib").unwrap().kind, NodeKind::Directory);
            assert!(tree.get("usr/lib/old").is_some() && tree.get("usr/lib/new").is_none());
            assert_eq!(fs::read_dir(target.join("lib")).unwrap().count(), 1);
        }
        let tree = merged(&image);
        assert!(tree.get("usr/lib/old").is_some() && tree.get("lib/new").is_some() && tree.get("lib/old").is_none());
    }
}

#[test]
fn nothing_is_removed_below_what_was_replaced() {
    let base = LayerBuilder::new().file("a/b/c", "").file("f", "");
    for top in [
        LayerBuilder::new().file("a", "").dir("a", 0o755).opaque("a/b"),
        LayerBuilder::new().file("a", "").dir("a", 0o755).whiteout("a/b/c"),
        LayerBuilder::new().file("a", "").file("a/f", "").opaque("a/b"),
        // A hard link into the layer below makes the layer one that depends on it.
        LayerBuilder::new()
            .hardlink("h", "f")
            .file("a", "")
            .dir("a", 0o755)
            .opaque("a/b"),
    ] {
        let fixture = Fixture::new();
        let (image, _) = stacked(&fixture, &[base.clone(), top]);
        let tree = merged(&image);
        assert!(tree.get("a").is_some() && tree.get("a/b").is_none());
    }
}

#[test]
fn nothing_is_removed_through_what_a_directory_made_anew_had_below() {
    let base = LayerBuilder::new().file("a/c", "").symlink("c/b", "/a");
    let top = LayerBuilder::new().symlink("c", "a").whiteout("c/b/c").dir("c", 0o755);
    let fixture = Fixture::new();
    let (image, _) = stacked(&fixture, &[base, top]);
    let tree = merged(&image);
    assert!(tree.get("a/c").is_some() && tree.get("c/b").is_none());
    for image in [image.clone(), without_directories(&image)] {
        let target = fixture.directory().join("unpacked");
        let options = UnpackOptions {
            replace: true,
            ..UnpackOptions::default()
        };
        let unpacked = fixture
            .store
            .unpack(&image, &target, &options, &Progress::new())
            .unwrap();
        let tree = TreeSnapshot::of(&target);
        let (a, c) = (tree.get("a/c").is_some(), tree.get("c/b").is_some());
        assert_eq!((a, c), (true, false), "{:?}", unpacked.source);
    }
}

#[test]
fn attributes_of_implied_parents_are_those_below() {
    let modes = base()
        .dir("opt", 0o700)
        .dir_with("etc", 0o755, |entry| entry.xattr("user.x", "1"));
    for (top, depends) in [
        (LayerBuilder::new().file("opt/f", ""), true),
        (LayerBuilder::new().file("etc/f", ""), true),
        (LayerBuilder::new().file("usr/f", ""), false),
        (LayerBuilder::new().dir("opt", 0o755).file("opt/f", ""), false),
    ] {
        let fixture = Fixture::new();
        let (image, chained) = stacked(&fixture, &[modes.clone(), top]);
        assert_eq!(chained, [false, depends]);
        let tree = merged(&image);
        assert_eq!(
            tree.get("opt").unwrap().mode,
            if chained[1] {
                0o700
            } else {
                tree.get("opt").unwrap().mode
            }
        );
        assert!(tree.get("etc").unwrap().xattrs.contains_key(&b"user.x"[..]));
    }
}

#[test]
fn a_root_that_only_a_lower_layer_declares_counts() {
    let fixture = Fixture::new();
    let bottom = LayerBuilder::new().dir("./", 0o711).file("a", "");
    let (image, chained) = stacked(&fixture, &[bottom, LayerBuilder::new().file("b", "")]);
    assert_eq!(chained, [false, true]);
    assert_eq!(merged(&image).get(".").unwrap().mode, 0o711);
}

#[test]
fn a_hard_link_into_a_lower_layer_is_a_copy() {
    let fixture = Fixture::new();
    let (image, chained) = stacked(&fixture, &[base(), LayerBuilder::new().hardlink("second", "lib/old")]);
    assert_eq!(chained, [false, true]);
    let tree = merged(&image);
    assert_eq!(
        tree.get("second").unwrap().content,
        tree.get("usr/lib/old").unwrap().content
    );
    assert_eq!(
        tree.get("usr/lib/old").unwrap().same_inode_as.as_deref(),
        Some(&b"second"[..])
    );
}

#[test]
fn a_whiteout_of_nothing_leaves_no_ghost() {
    let fixture = Fixture::new();
    let ghosts = LayerBuilder::new()
        .dir("./", 0o755)
        .dir("new", 0o755)
        .whiteout("new/ghost")
        .whiteout("no/ghost");
    for layers in [vec![base(), ghosts.clone()], vec![ghosts]] {
        let (image, chained) = stacked(&fixture, &layers);
        assert_eq!(chained.last(), Some(&true));
        let top = image.layers.last().unwrap().directory.as_deref().unwrap();
        assert_eq!(fs::read_dir(top).unwrap().count(), 1, "there is only `new`");
        assert_eq!(fs::read_dir(top.join("new")).unwrap().count(), 0);
    }
}

#[test]
fn a_hard_link_to_nothing_is_refused() {
    let fixture = Fixture::new();
    let layers = [pack(&base()), pack(&LayerBuilder::new().hardlink("a", "nowhere"))];
    let error = stack(&fixture, &layers).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Rejected);
    assert!(
        format!("{error:?}").contains("which neither this layer nor one below has"),
        "{error:?}"
    );
}

#[test]
fn a_blob_that_is_needed_once_more_and_missing_is_said_so() {
    let fixture = Fixture::new();
    let layers = [pack(&base()), pack(&LayerBuilder::new().file("lib/x", ""))];
    let blob = layers[1].digest.clone();
    let needed = image(&layers);
    for descriptor in &manifest_of(&needed).get().layers {
        let at = layers
            .iter()
            .position(|layer| layer.digest == descriptor.digest)
            .unwrap();
        bring_in_layer(&fixture.store, descriptor, &layers[at].diff_id, &layers[at].bytes, true);
    }
    fs::remove_file(fixture.store.blobs().path(&blob)).unwrap();
    let error = stack(&fixture, &layers).unwrap_err();
    assert_eq!(error.class(), ErrorClass::NotFound);
    assert!(error.to_string().contains(&blob.to_string()), "{error}");
}

/// Brings in layers and stacks them, without recording an image.
fn stack(fixture: &Fixture, layers: &[Layer]) -> Result<Stack, unlade_images::Error> {
    let packed = image(layers);
    let manifest = manifest_of(&packed);
    let pairs: Vec<_> = manifest.get().layers.iter().zip(&packed.diff_ids).collect();
    for ((descriptor, diff_id), layer) in pairs.iter().zip(layers) {
        if !fixture.layer_directory(layer).exists() {
            bring_in_layer(&fixture.store, descriptor, diff_id, &layer.bytes, true);
        }
    }
    fixture.store.stack(&pairs, &Limits::default(), &Progress::new())
}

#[test]
fn the_same_layer_on_other_ground_has_another_directory() {
    let fixture = Fixture::new();
    let top = LayerBuilder::new().file("lib/new", "new");
    let other = base().file("more", "");
    let first = bring_in(&fixture.store, "one:1", &image(&[pack(&base()), pack(&top)]), true);
    let second = bring_in(&fixture.store, "two:1", &image(&[pack(&other), pack(&top)]), true);
    let directory = |image: &Image| image.layers[1].directory.clone().unwrap();
    assert_ne!(directory(&first), directory(&second));
    // Each goes with its image; the layer's own directory goes with the last.
    fixture.store.remove(&first.reference, None).unwrap();
    assert!(!directory(&first).exists() && directory(&second).exists());
    fixture.store.remove(&second.reference, None).unwrap();
    assert_eq!(fs::read_dir(fixture.store.layer_root()).unwrap().count(), 0);
}

#[test]
fn a_layer_that_comes_twice_is_mounted_once() {
    let fixture = Fixture::new();
    let top = LayerBuilder::new().dir("./", 0o755).file("f", "");
    let (image, chained) = stacked(&fixture, &[top.clone(), base(), top]);
    assert_eq!(chained, [false, false, false]);
    let directories = image.overlay_directories().unwrap();
    assert_eq!(directories.len(), 2);
    assert_eq!(Some(directories[0]), image.layers[2].directory.as_deref());
}

#[test]
fn a_marker_at_the_root_clears_all_layers_below() {
    let fixture = Fixture::new();
    let top = LayerBuilder::new().dir("./", 0o755).opaque("").file("new", "");
    let (image, chained) = stacked(&fixture, &[base(), top]);
    assert_eq!(chained, [false, true]);
    let tree = merged(&image);
    assert_eq!(
        tree.iter().map(|(path, _)| path).collect::<Vec<_>>(),
        [&b"."[..], b"new"]
    );
}
