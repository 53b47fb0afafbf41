//! A second thread that fills files: nobody can tell from the tree or the report.

use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};

use unlade_extract::{Error, Helpers, LayerReport, Note, Options, Ownership, Progress, extract_layer};
use unlade_oci::{Algorithm, ErrorClass};
use unlade_sys::Dir;
use unlade_test_support::{Compression, Entry, LayerBuilder};

use crate::sandbox::{Sandbox, Tree, is_root};

fn options(helpers: Helpers) -> Options {
    Options {
        helpers,
        ..Options::default()
    }
}

/// Extracts `layer` as the options say; the sandbox checks what is there and what is beside it.
fn extract(layer: &LayerBuilder, options: &Options) -> (Result<LayerReport, Error>, Tree) {
    let sandbox = Sandbox::new();
    let outcome = sandbox.extract_with(&layer.build(Compression::None).bytes, options);
    assert_eq!(options.helpers.used(), 0, "a thread is left");
    let tree = sandbox.tree();
    (outcome, tree)
}

/// Small files of all sorts, most of which there is something to note of, and between them whatever touches a file that was
/// just made.
fn mixture() -> LayerBuilder {
    let mut layer = LayerBuilder::new().dir("d", 0o755);
    for number in 0..500_u32 {
        let path = format!("d/{}/file{number}", number / 50);
        let content = "x".repeat(number as usize * 7 % 3000);
        layer = layer.file_with(&path, &content, |entry| {
            let entry = entry
                .mode([0o644, 0o4755, 0o400, 0][number as usize % 4])
                .mtime(number.into());
            match number % 9 {
                0 => entry.owner(1000, 1000),
                1 => entry.xattr("user.comment", "x").xattr("security.selinux", "x"),
                2 => entry.xattr("user.overlay.opaque", "y"),
                3 => entry.pax("mtime", "99999999999999"),
                _ => entry,
            }
        });
        layer = match number % 25 {
            0 => layer.file(&path, "the same name"),
            1 => layer.hardlink(format!("{path}.link"), &path),
            2 => layer.dir(&path, 0o700).file(format!("{path}/below"), "x"),
            3 => layer.symlink(&path, "elsewhere"),
            4 => layer.whiteout(&path),
            5 => layer.file(format!("{path}/parent"), "x"),
            6 => layer.file(format!("{path}.large"), vec![b'y'; 300_000]),
            7 if number % 100 == 7 => layer.file(format!("d/{}", number / 50), "in the place of all of them"),
            8 => layer.gnu_sparse(format!("{path}.sparse"), 9000, &[(0, b"a"), (5000, b"b")]),
            _ => layer,
        };
    }
    layer
}

#[test]
fn nobody_can_tell_who_filled_the_files() {
    let layer = mixture();
    let (alone, tree) = extract(&layer, &options(Helpers::new(0)));
    let alone = alone.unwrap();
    let notes = [
        Note::Duplicate,
        Note::TreeReplaced,
        Note::XattrDropped,
        Note::XattrEscaped,
        Note::WhiteoutWithoutEffect,
    ];
    for note in notes {
        assert!(alone.summary.count(note) > 0, "{note}");
    }
    for _ in 0..2 {
        let (helped, same) = extract(&layer, &options(Helpers::new(1).eager()));
        assert_eq!(helped.unwrap(), alone);
        assert_eq!(same.paths(), tree.paths());
        for path in tree.paths() {
            assert_eq!(same.node(&path), tree.node(&path), "{path}");
        }
    }
}

#[test]
fn the_last_of_many_files_of_one_name_wins() {
    let mut layer = LayerBuilder::new();
    for number in 0..600 {
        layer = layer.file_with("f", format!("{number} {}", "x".repeat(2000)), |entry| {
            entry.mode(if number % 2 == 0 { 0o777 } else { 0o600 }).mtime(number)
        });
    }
    let layer = layer.hardlink("link", "f");
    let (report, tree) = extract(&layer, &options(Helpers::new(1).eager()));
    assert_eq!(report.unwrap().summary.count(Note::Duplicate), 599);
    let node = tree.node("f");
    assert_eq!((node.size, node.mode, node.mtime), (2004, 0o600, (599, 0)));
    assert_eq!(tree.node("link").content, node.content);
}

#[test]
fn what_fails_first_in_the_archive_is_what_is_reported() {
    let mut layer = LayerBuilder::new();
    for number in 0..600 {
        layer = layer.file_with(format!("f{number}"), "x".repeat(2000), |entry| {
            let uid = u64::from(rustix::process::geteuid().as_raw());
            let gid = u64::from(rustix::process::getegid().as_raw());
            let is_other = [333, 334, 350, 599].contains(&number);
            entry.owner(if is_other { 12_345 } else { uid }, gid)
        });
    }
    // The writer itself fails here, perhaps before the helper has got to the first of the others.
    let layer = layer.entry(&Entry::char_device("null", 0, 0));
    for helpers in [Helpers::new(0), Helpers::new(1).eager()] {
        let options = Options {
            ownership: Ownership::Preserve,
            ..options(helpers)
        };
        let error = extract(&layer, &options).0.unwrap_err();
        if is_root() {
            assert_eq!(error.class(), ErrorClass::Rejected, "{error}");
        } else {
            assert_eq!(error.class(), ErrorClass::Storage);
            assert_eq!(
                error.to_string(),
                "the entry f333 cannot be given to its owner 12345:65534, which takes root"
            );
        }
    }
}

/// A reader that looks how many helpers there are, and may stop the extraction.
struct Watching<'a> {
    bytes: &'a [u8],
    helpers: Helpers,
    most: &'a AtomicUsize,
    cancel: Option<&'a Progress>,
}

impl Read for Watching<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let used = self.helpers.used();
        self.most.fetch_max(used, Ordering::Relaxed);
        if used > 0
            && let Some(progress) = self.cancel
        {
            progress.cancel();
        }
        self.bytes.read(buffer)
    }
}

/// Extracts a layer of many small files. Returns how many helpers there were at the most.
fn watched(helpers: &Helpers, cancel: bool) -> (usize, Result<LayerReport, Error>) {
    let mut layer = LayerBuilder::new();
    for number in 0..4000 {
        layer = layer.file(format!("f{number}"), "x".repeat(1500));
    }
    let layer = layer.build(Compression::None);
    let sandbox = Sandbox::new();
    let target = Dir::open(&sandbox.target()).unwrap();
    let (progress, most, sha) = (Progress::new(), AtomicUsize::new(0), Algorithm::Sha256);
    let reader = Watching {
        bytes: &layer.bytes,
        helpers: helpers.clone(),
        most: &most,
        cancel: cancel.then_some(&progress),
    };
    let outcome = extract_layer(reader, &target, sha, sha, &options(helpers.clone()), &progress);
    assert_eq!(helpers.used(), 0, "a thread is left");
    (most.into_inner(), outcome)
}

#[test]
fn a_layer_gets_a_helper_when_its_files_are_waited_for() {
    let helpers = Helpers::new(4);
    let (most, outcome) = watched(&helpers, false);
    outcome.unwrap();
    assert_eq!(most, 1);
    let (none, outcome) = watched(&Helpers::new(0), false);
    outcome.unwrap();
    assert_eq!(none, 0);
}

#[test]
fn a_helper_is_gone_when_the_extraction_was_cancelled() {
    let (most, outcome) = watched(&Helpers::new(1), true);
    assert!(most == 1 && matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
}
