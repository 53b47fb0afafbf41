//! `--ownership`: whom the files of layers belong to, from the pull to the removal.

use std::os::unix::fs::chown;

use serde_json::Value;
use unlade_test_support::{Compression, LayerBuilder, NodeKind, TreeSnapshot, fixtures};
use unlade_tests::{Filesystem, Home, Kind, NOBODY};

use crate::support::{image_of, serve};

const OVERRIDE_STAT: &[u8] = b"user.containers.override_stat";

/// Takes a tree without what a filesystem without attributes cannot have, and without the times of whiteouts, which mean
/// nothing.
fn bare(directory: &std::path::Path) -> TreeSnapshot {
    TreeSnapshot::of(directory).map(|_, node| {
        node.xattrs.clear();
        if node.kind == NodeKind::CharDevice && node.device == Some((0, 0)) {
            node.mtime = (0, 0);
        }
    })
}

#[test]
fn privileged_a_filesystem_without_attributes_is_no_error() {
    let (_registry, reference) = serve(&fixtures::all_entry_types());
    let filesystem = Filesystem::new(Kind::Ramfs, 0);
    std::fs::set_permissions(
        filesystem.path().parent().expect("a directory around it"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("the way to it can be opened to the user");
    for (home, user) in [(Home::new(), 0), (Home::of_nobody(), NOBODY)] {
        let usual = home.pull(&reference);
        let place = filesystem.path().join(user.to_string());
        std::fs::create_dir(&place).expect("a directory for the layers");
        chown(&place, Some(user), Some(user)).expect("root can give it away");
        let options = ["-L", place.to_str().expect("a path in UTF-8")];
        let pulled = home.pull_with(&reference, &options);
        // Overlayfs would not know an opaque directory here; who reads the layer's own form does.
        let mark = pulled.directories[1].join("dir/sticky/.wh..wh..opq");
        assert!(mark.is_file(), "{}", mark.display());
        let expected = bare(&usual.directories[0]);
        bare(&pulled.directories[0]).assert_same(&expected);

        let verified = home.unlade(["verify", "--deep"]).run().success();
        assert!(verified.stderr.is_empty(), "{verified}");
        let shown = home
            .unlade(["--format", "json", "pull", &reference])
            .args(options)
            .run();
        let shown = shown.success().json();
        let notes = |at: usize| shown[0]["layers"][at]["summary"]["notes"].clone();
        assert!(notes(0)["xattr-unsupported"]["count"].as_u64() > Some(3), "{shown}");
        assert_eq!(notes(1)["opaque-as-file"]["count"], 1, "{shown}");
        assert_eq!(notes(0)["owner-lost"].is_object(), user == NOBODY, "{shown}");
        home.unlade(["rm", &reference]).run().success();
        let left = std::fs::read_dir(&place).expect("the directory stays").count();
        assert_eq!(left, 1, "only what belongs to the place itself");
    }
}

/// An old filesystem keeps attributes while they fit, and times in whole seconds; the rest is counted.
#[test]
fn privileged_real_what_an_old_filesystem_cannot_hold_is_counted() {
    let layer = LayerBuilder::new()
        .dir_with("d", 0o755, |entry| entry.mtime_nanos(1_600_000_000, 5))
        .file_with("d/far", "x", |entry| entry.mtime_nanos(7_258_118_400, 0))
        .file_with("d/fine", "x", |entry| entry.mtime_nanos(1_600_000_000, 0))
        .file_with("d/nanoseconds", "x", |entry| {
            entry.mtime_nanos(1_600_000_000, 999_999_999)
        })
        .file_with("d/large", "x", |entry| {
            entry.xattr("user.large", [b'x'; 3000]).xattr("user.small", "kept")
        });
    let (_registry, reference) = serve(&image_of(&layer.build(Compression::Gzip)));
    let filesystem = Filesystem::new(Kind::Ext2, 16 << 20);
    let home = Home::new();
    let expected = TreeSnapshot::of(&home.pull(&reference).directories[0]).map(|_, node| {
        node.mtime = (node.mtime.0.min(i64::from(i32::MAX)), 0);
        node.xattrs.remove(b"user.large".as_slice());
    });
    let place = filesystem.path().join("layers");
    let options = ["-L", place.to_str().expect("a path in UTF-8")];
    let pulled = home.pull_with(&reference, &options);
    TreeSnapshot::of(&pulled.directories[0]).assert_same(&expected);
    let shown = home.unlade(["--format", "json", "pull", &reference]).args(options);
    let shown = shown.run().success().json();
    let notes = &shown[0]["layers"][0]["summary"]["notes"];
    // The root has the time of the first entry.
    assert_eq!(notes["time-clamped"]["count"], 4, "{shown}");
    assert_eq!(notes["xattr-too-large"]["count"], 1, "{shown}");
    let verified = home.unlade(["verify", "--deep"]).run().success();
    assert!(verified.stderr.is_empty(), "{verified}");
}

#[test]
fn privileged_every_ownership_is_pulled_verified_and_removed() {
    let (_registry, reference) = serve(&fixtures::all_entry_types());
    for home in [Home::new(), Home::of_nobody()] {
        for ownership in ["record", "squash"] {
            let pulled = home.pull_with(&reference, &["--ownership", ownership]);
            let tree = TreeSnapshot::of(&pulled.directories[0]);
            let owner = tree.get(".").expect("a root").uid;
            assert!(tree.iter().all(|(_, node)| node.uid == owner), "{ownership}");
            let records = tree.iter().filter(|(_, node)| node.xattrs.contains_key(OVERRIDE_STAT));
            assert_eq!(records.count() > 0, ownership == "record");
        }
        let verified = home.unlade(["verify", "--deep"]).run().success();
        assert!(verified.stderr.is_empty(), "{verified}");
        assert_eq!(home.leftovers().layers.len(), 4);
        home.unlade(["rm", &reference]).run().success();
        home.leftovers().assert_nothing();
    }
}

#[test]
fn unprivileged_owners_cannot_be_preserved() {
    let (_registry, reference) = serve(&fixtures::all_entry_types());
    let home = Home::new();
    let pull = ["--format", "json", "pull", "--ownership", "preserve", &reference];
    let error: Value = home.unlade(pull).run().failure(9).error();
    assert_eq!(error["class"], "storage", "{error}");
    let hint = error["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("--ownership record"), "{error}");
    let left = home.leftovers();
    assert!(left.staging.is_empty() && left.layers.is_empty(), "{left:?}");
}

#[test]
fn unprivileged_every_ownership_is_pulled_and_removed() {
    let (_registry, reference) = serve(&fixtures::all_entry_types());
    let home = Home::new();
    for ownership in ["record", "squash"] {
        home.pull_with(&reference, &["--ownership", ownership]);
    }
    home.unlade(["verify", "--deep"]).run().success();
    home.unlade(["rm", &reference]).run().success();
    home.leftovers().assert_nothing();
}
