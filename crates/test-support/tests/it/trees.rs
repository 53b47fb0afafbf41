//! Layers made of directory trees, and the large layer's stream.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use tar::{Archive, EntryType};
use unlade_oci::{Compression, Digest};
use unlade_test_support::fixtures::{layer_of_changes, layer_of_tree, write_large};
use unlade_test_support::{FakeRegistry, LayerBuilder, TreeSnapshot};

fn write(dir: &Path, path: &str, content: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Returns the types of the entries by path.
fn entries(layer: &LayerBuilder) -> BTreeMap<String, EntryType> {
    let archive = layer.tar();
    let mut archive = Archive::new(archive.as_ref());
    archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (
                String::from_utf8(entry.path_bytes().into_owned()).unwrap(),
                entry.header().entry_type(),
            )
        })
        .collect()
}

#[test]
fn a_tree_comes_back_from_its_layer() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(from.path(), "dir/file", "content");
    fs::set_permissions(from.path().join("dir/file"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::hard_link(from.path().join("dir/file"), from.path().join("also")).unwrap();
    symlink("dir/file", from.path().join("link")).unwrap();
    let tar = layer_of_tree(from.path()).unwrap().tar();
    let mut archive = Archive::new(tar.as_ref());
    archive.set_preserve_permissions(true);
    archive.unpack(to.path()).unwrap();
    let [from, to] = [from, to].map(|dir| TreeSnapshot::of(dir.path()).without_mtimes().without_owners());
    from.assert_same(&to);
}

#[test]
fn changes_are_entries_and_whiteouts() {
    let (lower, upper) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in [lower.path(), upper.path()] {
        write(dir, "same", "s");
        write(dir, "first-of-pair", "pair");
        fs::hard_link(dir.join("first-of-pair"), dir.join("second-of-pair")).unwrap();
    }
    write(lower.path(), "gone/with/all", "");
    write(lower.path(), "dir-to-file/inside", "");
    write(lower.path(), "changed", "1");
    write(upper.path(), "dir-to-file", "");
    write(upper.path(), "changed", "2");
    write(upper.path(), "new/file", "");
    // A third name for an old inode: the layer has to bring all three.
    fs::hard_link(upper.path().join("first-of-pair"), upper.path().join("third-of-pair")).unwrap();
    for dir in [lower.path(), upper.path()] {
        for file in ["same", "first-of-pair", "changed"] {
            let file = fs::File::open(dir.join(file)).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        }
    }

    let mut seen = entries(&layer_of_changes(lower.path(), upper.path()).unwrap());
    seen.remove("./");
    let expected = [
        (".wh.gone", EntryType::Regular),
        ("changed", EntryType::Regular),
        ("dir-to-file", EntryType::Regular),
        ("first-of-pair", EntryType::Regular),
        ("new/", EntryType::Directory),
        ("new/file", EntryType::Regular),
        ("second-of-pair", EntryType::Link),
        ("third-of-pair", EntryType::Link),
    ];
    assert_eq!(seen, expected.map(|(path, kind)| (path.to_owned(), kind)).into());
}

#[test]
fn a_large_layer_is_a_layer() {
    let dir = tempfile::tempdir().unwrap();
    let digest = write_large(dir.path(), 1 << 20).unwrap();
    let again = tempfile::tempdir().unwrap();
    assert_eq!(write_large(again.path(), 1 << 20).unwrap(), digest);

    let registry = FakeRegistry::start();
    registry.serve_layout(dir.path(), "large").unwrap();
    let manifest = crate::client::get(&registry.host(), "/v2/large/manifests/latest").json();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let blob = crate::client::get(&registry.host(), &format!("/v2/large/blobs/{layer}")).body;
    assert_eq!(Digest::sha256(&blob).to_string(), layer);
    let mut archive = Archive::new(flate2::read::GzDecoder::new(blob.as_slice()));
    let sizes: Vec<_> = archive.entries().unwrap().map(|entry| entry.unwrap().size()).collect();
    assert_eq!(sizes, [1 << 17; 8]);
    assert_eq!(Compression::of_magic(&blob), Compression::Gzip);
}
