//! Overlay mounts of images: many layers, changes, and what a removal leaves alone. All take root.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use unlade_images::{Image, MountOptions, PruneOptions};
use unlade_test_support::{Compression, LayerBuilder, TreeSnapshot};

use crate::support::{Fixture, bring_in, image};

fn brought(fixture: &Fixture, layers: &[LayerBuilder]) -> Image {
    let layers: Vec<_> = layers.iter().map(|layer| layer.build(Compression::Gzip)).collect();
    bring_in(&fixture.store, "mounted:1", &image(&layers), true)
}

/// A mount that ends with the test, also if that fails.
struct Ended<'a>(&'a Fixture, &'a Path);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let _ended = self.0.store.unmount(self.1);
    }
}

fn layer(number: usize) -> LayerBuilder {
    LayerBuilder::new()
        .dir("./", 0o755)
        .file(format!("file{number}"), format!("{number}"))
        .file("last", format!("{number}"))
}

#[test]
fn privileged_seventy_layers_are_mounted() {
    // Their names alone are longer than the page that a list of options may be.
    let fixture = Fixture::new();
    let layers: Vec<_> = (0..70).map(layer).collect();
    let image = brought(&fixture, &layers);
    let target = fixture.directory().join("target");
    fixture.store.mount(&image, &target, &MountOptions::default()).unwrap();
    let _ended = Ended(&fixture, &target);
    assert_eq!(fs::read_dir(&target).unwrap().count(), 71);
    assert_eq!(fs::read(target.join("last")).unwrap(), b"69");
    assert!(fs::write(target.join("new"), "").is_err(), "it is read-only");
    let mut directories = image.overlay_directories().unwrap();
    directories.reverse();
    TreeSnapshot::of(&target).assert_same(&TreeSnapshot::merged(&directories));
}

#[test]
fn privileged_changes_go_to_the_upper_directory() {
    let fixture = Fixture::new();
    let image = brought(&fixture, &[layer(0).dir("./", 0o711)]);
    let (target, upper) = (fixture.directory().join("target"), fixture.directory().join("upper"));
    let options = MountOptions {
        upper: Some(upper.clone()),
    };
    for round in 0..2 {
        fixture.store.mount(&image, &target, &options).unwrap();
        let ended = Ended(&fixture, &target);
        assert_eq!(target.metadata().unwrap().permissions().mode() & 0o7777, 0o711);
        assert_eq!(target.join("new").exists(), round == 1, "what was changed stays");
        fs::write(target.join("new"), "").unwrap();
        fs::write(target.join("last"), "changed").unwrap();
        drop(ended);
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    }
    assert_eq!(fs::read(upper.join("last")).unwrap(), b"changed");
    let below = image.layers[0].directory.as_deref().unwrap();
    assert_eq!(fs::read(below.join("last")).unwrap(), b"0");
}

#[test]
fn privileged_what_is_mounted_is_not_removed() {
    let fixture = Fixture::new();
    let image = brought(&fixture, &[layer(0), LayerBuilder::new().hardlink("more", "last")]);
    let directories = image.overlay_directories().unwrap();
    let target = fixture.directory().join("target");
    fixture.store.mount(&image, &target, &MountOptions::default()).unwrap();
    let ended = Ended(&fixture, &target);
    let before = TreeSnapshot::of(&target);
    assert!(before.get("more").is_some());

    let removal = fixture.store.remove(&image.reference, None).unwrap();
    assert_eq!((removal.names.len(), removal.directories.len()), (1, 0));
    let all = PruneOptions {
        all: true,
        ..PruneOptions::default()
    };
    fixture.store.prune(&all).unwrap();
    TreeSnapshot::of(&target).assert_same(&before);
    assert!(directories.iter().all(|directory| directory.is_dir()));

    drop(ended);
    fixture.store.prune(&all).unwrap();
    assert!(directories.iter().all(|directory| !directory.exists()));
    assert_eq!(fs::read_dir(fixture.store.root().join("mounts")).unwrap().count(), 0);
}

#[test]
fn privileged_a_mount_that_ended_by_other_means_or_with_the_machine_counts_no_more() {
    let fixture = Fixture::new();
    let image = brought(&fixture, &[layer(0), layer(1)]);
    let target = fixture.directory().join("target");
    let all = PruneOptions {
        all: true,
        ..PruneOptions::default()
    };
    fixture.store.mount(&image, &target, &MountOptions::default()).unwrap();
    assert!(Command::new("umount").arg(&target).status().unwrap().success());
    fixture.store.prune(&all).unwrap();
    assert_eq!(fs::read_dir(fixture.store.layer_root()).unwrap().count(), 0);

    let image = brought(&fixture, &[layer(0), layer(1)]);
    fixture.store.mount(&image, &target, &MountOptions::default()).unwrap();
    let _ended = Ended(&fixture, &target);
    fixture.under_boot("the second boot").prune(&all).unwrap();
    assert_eq!(fs::read_dir(fixture.store.layer_root()).unwrap().count(), 0);
}

#[test]
fn privileged_a_command_alone_sees_its_mount() {
    let fixture = Fixture::new();
    let image = brought(&fixture, &[layer(0), layer(1)]);
    let target = fixture.directory().join("target");
    let options = MountOptions::default();
    let mut command = Command::new("cat");
    command.arg(target.join("last")).stdout(std::process::Stdio::piped());
    let mounted = fixture
        .store
        .mount_for(&image, &target, &options, &mut command)
        .unwrap();
    let output = mounted.child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"1");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);

    let missing = fixture
        .store
        .mount_for(&image, &target, &options, &mut Command::new("no-such-program"));
    let error = missing.unwrap_err().to_string();
    assert_eq!(error, "cannot run no-such-program");
}
