//! More threads that make files: nobody can tell from the tree or the report.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use unlade_extract::{Error, Helpers, LayerReport, Note, Options, Ownership, Progress, extract_layer};
use unlade_oci::{Algorithm, ErrorClass};
use unlade_sys::Dir;
use unlade_test_support::{Compression, Entry, LayerBuilder};

use crate::sandbox::{Sandbox, Tree, chain, is_root};

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
fn nobody_can_tell_who_made_the_files() {
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
    for limit in [1, 1, 3] {
        let (helped, same) = extract(&layer, &options(Helpers::new(limit).eager()));
        assert_eq!(helped.unwrap(), alone);
        assert_eq!(same.paths(), tree.paths());
        for path in tree.paths() {
            assert_eq!(same.node(&path), tree.node(&path), "{path}");
        }
    }
}

/// Extracts `layer`, into a directory in which `before` has made something, with one thread and with more. Both must give the
/// same, and report the same.
fn same_with_helpers(name: &str, before: impl Fn(&Path), layer: &LayerBuilder) -> (LayerReport, Tree) {
    let extract = |helpers| {
        let sandbox = Sandbox::new();
        before(&sandbox.target());
        let bytes = layer.build(Compression::None).bytes;
        let outcome = sandbox.extract_beside_others(&bytes, &options(helpers));
        (
            outcome.unwrap_or_else(|error| panic!("{name}: {}", chain(&error))),
            sandbox.tree(),
        )
    };
    let (report, tree) = extract(Helpers::new(0));
    let (helped, same) = extract(Helpers::new(1).eager());
    assert_eq!(helped, report, "{name}");
    assert_eq!(same.paths(), tree.paths(), "{name}");
    for path in tree.paths() {
        // Those that were there before have times of their own.
        let (mut node, mut same) = (tree.node(&path).clone(), same.node(&path).clone());
        if node.mtime.0 > NOW {
            (node.mtime, same.mtime) = Default::default();
        }
        assert_eq!(same, node, "{name}: {path}");
    }
    (report, tree)
}

/// No entry has a time as late as this, and nothing is made before it.
const NOW: i64 = 1_000_000_000;

/// In so small a layer a file that is handed over is not made before somebody waits for it, so each of these is wrong
/// where nobody does.
#[test]
fn a_name_that_is_under_way_is_waited_for() {
    let file = || LayerBuilder::new().dir("d", 0o755).dir("e", 0o755).file("d/f", "first");
    let cases: [(&str, LayerBuilder, &str); 13] = [
        ("a file", file().file("d/f", "second"), "d/f"),
        ("a large file", file().file("d/f", vec![b'y'; 400_000]), "d/f"),
        ("a directory", file().dir("d/f", 0o700), "d/f"),
        ("a symbolic link", file().symlink("d/f", "../e"), "d/f"),
        ("a hard link", file().file("other", "x").hardlink("d/f", "other"), "d/f"),
        ("a FIFO", file().entry(&Entry::fifo("d/f")), "d/f"),
        ("a whiteout", file().whiteout("d/f"), "d/f"),
        ("a file below it", file().file("d/f/below", "x"), "d/f/below"),
        (
            "a directory below it",
            file().dir("d/f/below/it", 0o755),
            "d/f/below/it",
        ),
        (
            "a file below a link to it",
            file().symlink("l", "d/f").file("l/below", "x"),
            "d/f/below",
        ),
        ("a link to it", file().hardlink("e/link", "d/f"), "e/link"),
        (
            "a link to it by another way",
            file().symlink("l", "d").hardlink("e/link", "l/f"),
            "e/link",
        ),
        ("its parent", file().file("d", "now a file"), "d"),
    ];
    for (name, layer, path) in cases {
        let (_, tree) = same_with_helpers(name, |_| (), &layer.file("e/last", "x"));
        assert!(tree.has(path), "{name}");
    }
}

#[test]
fn a_name_that_a_thread_is_at_is_waited_for() {
    let mut layer = LayerBuilder::new();
    for batch in 0..100 {
        // As many as are handed over at once, so that the last is with the thread, which begins with the first.
        for number in 0..16 {
            layer = layer.file(format!("{batch}/{number}"), "first");
        }
        layer = layer.file(format!("{batch}/15"), "the last");
    }
    let (report, tree) = same_with_helpers("the last of a batch", |_| (), &layer);
    assert_eq!(report.summary.count(Note::Duplicate), 100);
    for batch in 0..100 {
        assert_eq!(tree.node(format!("{batch}/15")).size, 8, "{batch}");
    }
}

#[test]
fn a_link_to_what_was_replaced_is_one_to_the_new_file() {
    let before = |target: &Path| {
        for number in 0..400 {
            fs::write(target.join(format!("f{number}")), "what was there before").unwrap();
        }
    };
    let mut layer = LayerBuilder::new();
    for number in 0..400 {
        layer = layer.file(format!("f{number}"), "new");
        // Threads have found by then that something is in the way.
        if number % 100 == 99 {
            layer = layer.hardlink(format!("link{number}"), format!("f{}", number - 90));
        }
    }
    let (report, tree) = same_with_helpers("a link", before, &layer);
    assert_eq!(report.summary.count(Note::Duplicate), 400);
    assert_eq!(tree.paths().len(), 404);
    for (path, number) in [("link99", 9), ("link199", 109), ("link299", 209), ("link399", 309)] {
        assert_eq!(tree.node(path).size, 3);
        assert_eq!(tree.node(path).content, tree.node(format!("f{number}")).content);
    }
}

/// What a layer finds in its way without having made it: no descriptor of it may be used when it is gone.
#[test]
fn what_was_there_before_is_replaced_in_the_order_of_the_archive() {
    let before = |target: &Path| {
        fs::create_dir_all(target.join("d/old")).unwrap();
        fs::create_dir(target.join("elsewhere")).unwrap();
        fs::write(target.join("d/file"), "old").unwrap();
        symlink("elsewhere", target.join("l")).unwrap();
    };
    let file = |path: &str| LayerBuilder::new().file("first", "x").file(path, "new");
    let cases: [(&str, LayerBuilder, &[&str]); 8] = [
        ("a file", file("d/file"), &["d/file", "d/old"]),
        ("a link", file("l"), &["l", "elsewhere"]),
        ("a directory", file("d"), &["d"]),
        ("a directory that comes again", file("d").file("d/f", "x"), &["d/f"]),
        (
            "a directory that comes again by its name",
            file("d").dir("d", 0o755).file("d/f", "x"),
            &["d/f"],
        ),
        (
            "a directory that was used",
            file("d/before").file("d", "x").file("d/after", "x"),
            &["d/after"],
        ),
        (
            "a link that was used",
            file("l/before").file("l", "x").file("l/after", "x"),
            &["elsewhere/before", "l/after"],
        ),
        (
            "a directory behind a link that was used",
            file("l/before").file("elsewhere", "x").file("l/after", "x"),
            &["elsewhere/after"],
        ),
    ];
    for (name, layer, paths) in cases {
        let (report, tree) = same_with_helpers(name, before, &layer.file("last", "x"));
        for path in paths {
            assert!(tree.has(path), "{name}: {path}");
        }
        let replaced = report.summary.count(Note::Duplicate) + report.summary.count(Note::TreeReplaced);
        assert!(replaced > 0, "{name}");
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
    assert!((1..=3).contains(&most), "{most}");
    let (none, outcome) = watched(&Helpers::new(0), false);
    outcome.unwrap();
    assert_eq!(none, 0);
}

#[test]
fn a_helper_is_gone_when_the_extraction_was_cancelled() {
    let (most, outcome) = watched(&Helpers::new(1), true);
    assert!(most == 1 && matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
}
