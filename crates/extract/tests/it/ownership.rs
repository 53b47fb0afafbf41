//! Whom files belong to: preserved, recorded, squashed.

use unlade_extract::{Error, LayerReport, Note, Options, Ownership};
use unlade_oci::ErrorClass;
use unlade_test_support::{Compression, Entry, LayerBuilder, NodeKind};

use crate::sandbox::{Sandbox, Tree, is_root};

const OVERRIDE_STAT: &[u8] = b"user.containers.override_stat";

/// What is hard to do for whoever is not root.
fn layer() -> LayerBuilder {
    LayerBuilder::new()
        .dir_with("./", 0o711, |entry| entry.owner(9, 9))
        .dir_with("closed/", 0o555, |entry| entry.owner(1000, 1001))
        .file_with("closed/set-id", "x", |entry| entry.owner(1000, 1001).mode(0o6755))
        .file_with("closed/unreadable", "x", |entry| {
            entry.owner(1_516_583_083, 4_294_967_294).mode(0)
        })
        .file_with("lies", "x", |entry| {
            entry.owner(5, 5).xattr("user.containers.override_stat", "0:0:4755")
        })
        .entry(&Entry::symlink("link", "lies").owner(5, 6))
        .entry(&Entry::fifo("pipe").mode(0o620).owner(7, 8))
        .entry(&Entry::char_device("null", 1, 3).mode(0o666).owner(0, 5))
        .file("implied/file", "x")
}

fn extract(ownership: Ownership) -> Result<(LayerReport, Tree), Error> {
    let sandbox = Sandbox::new();
    let options = Options {
        ownership,
        ..Options::default()
    };
    let report = sandbox.extract_with(&layer().build(Compression::Gzip).bytes, &options)?;
    let tree = sandbox.tree();
    // Modes are the layer's whatever becomes of the owners.
    for (path, mode) in [
        (".", 0o711),
        ("closed", 0o555),
        ("closed/set-id", 0o6755),
        ("closed/unreadable", 0),
        ("pipe", 0o620),
        ("null", 0o666),
        ("implied", 0o755),
    ] {
        assert_eq!(tree.node(path).mode, mode, "{path}");
    }
    Ok((report, tree))
}

fn assert_all_are_the_callers(tree: &Tree) {
    let caller = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    for path in tree.paths().iter().map(String::as_str).chain(["."]) {
        assert_eq!((tree.node(path).uid, tree.node(path).gid), caller, "{path}");
    }
}

#[test]
fn recorded_owners_are_in_an_attribute_of_every_file_and_directory() {
    let (report, tree) = extract(Ownership::Record).unwrap();
    assert_all_are_the_callers(&tree);
    for (path, value) in [
        (".", "9:9:0711"),
        ("closed", "1000:1001:0555"),
        ("closed/set-id", "1000:1001:6755"),
        ("closed/unreadable", "1516583083:4294967294:0000"),
        ("lies", "5:5:0644"),
        ("pipe", "7:8:0620:pipe"),
        ("null", "0:5:0666:char-1-3"),
        ("implied", "0:0:0755"),
        ("implied/file", "0:0:0644"),
    ] {
        match tree.node(path).xattrs.get(OVERRIDE_STAT) {
            Some(found) => assert_eq!(found.escape_ascii().to_string(), value, "{path}"),
            // Its owner may not read the attributes either.
            None => assert!(path == "closed/unreadable" && !is_root(), "{path}"),
        }
    }
    for path in ["pipe", "null"] {
        assert_eq!(
            (tree.node(path).kind, tree.node(path).size),
            (NodeKind::File, 0),
            "{path}"
        );
    }
    let count = |note| report.summary.count(note);
    assert_eq!((count(Note::DeviceAsFile), count(Note::FifoAsFile)), (1, 1));
    assert_eq!(
        (count(Note::OwnerLost), count(Note::XattrDropped)),
        (1, 1),
        "the link, the lie"
    );
    // What root's own files are meant to be does not differ from what they are.
    assert_eq!(count(Note::OwnerRecorded), if is_root() { 7 } else { 9 });
    assert_eq!(count(Note::OwnerSquashed), 0);
}

#[test]
fn squashed_owners_are_forgotten_and_counted() {
    let (report, tree) = extract(Ownership::Squash).unwrap();
    assert_all_are_the_callers(&tree);
    for path in tree.paths() {
        assert!(!tree.node(&path).xattrs.contains_key(OVERRIDE_STAT), "{path}");
    }
    assert_eq!(tree.node("pipe").kind, NodeKind::Fifo);
    let count = |note| report.summary.count(note);
    assert_eq!(count(Note::OwnerSquashed), if is_root() { 8 } else { 10 });
    assert_eq!((count(Note::OwnerRecorded), count(Note::OwnerLost)), (0, 0));
    let is_device = tree.node("null").kind == NodeKind::CharDevice;
    assert_eq!(count(Note::DeviceAsFile), u64::from(!is_device));
}

#[test]
fn preserved_owners_take_root() {
    match extract(Ownership::Preserve) {
        Ok((report, tree)) => {
            assert!(is_root());
            assert_eq!(
                (tree.node(".").uid, tree.node("closed/unreadable").uid),
                (9, 1_516_583_083)
            );
            assert_eq!((tree.node("link").uid, tree.node("link").gid), (5, 6));
            // A layer may bring it, and says nothing by it.
            assert_eq!(tree.node("lies").xattrs[OVERRIDE_STAT], b"0:0:4755");
            assert_eq!(report.summary.count(Note::OwnerLost), 0);
        }
        Err(error) => {
            assert!(!is_root(), "{error}");
            assert_eq!(error.class(), ErrorClass::Storage);
            assert_eq!(
                error.to_string(),
                "the entry closed/set-id cannot be given to its owner 1000:1001, which takes root"
            );
        }
    }
}

#[test]
fn what_is_the_callers_already_is_preserved_by_anybody() {
    let uid = u64::from(rustix::process::geteuid().as_raw());
    let gid = u64::from(rustix::process::getegid().as_raw());
    let layer = LayerBuilder::new()
        .dir_with("./", 0o755, |entry| entry.owner(uid, gid))
        .file_with("own", "x", |entry| entry.owner(uid, gid).mode(0o4711));
    let sandbox = Sandbox::new();
    let options = Options {
        ownership: Ownership::Preserve,
        ..Options::default()
    };
    let report = sandbox
        .extract_with(&layer.build(Compression::Gzip).bytes, &options)
        .unwrap();
    assert!(report.summary.notes.is_empty(), "{:?}", report.summary);
    let tree = sandbox.tree();
    assert_eq!(tree.node("own").mode, 0o4711);
    assert!(tree.node("own").xattrs.is_empty());
}
