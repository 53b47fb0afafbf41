//! One system call that fails: the pull says so and ends with 9, or does without, and the next one works.
//!
//! Debian's `strace` lets the call fail. How many calls of each kind are chosen is set by `UNLADE_TEST_CALLS`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use unlade_test_support::{Compression, Image, ImageBuilder, LayerBuilder, TreeSnapshot, fixtures};
use unlade_tests::{Finished, Home, Pulled, count};

use crate::crashes::assert_whole;
use crate::full::assert_says_what_is_needed;
use crate::support::{fat_layer, image_of, noise, serve};

const CALLS: u32 = 6;
/// Calls, and the error that they end with. Each thread counts its own calls, so the first of a kind is that of several threads.
///
/// `pwrite64` writes what arrives of blobs, and the database. What `write` writes is in a test of its own.
const KINDS: [(&str, &str); 17] = [
    ("pwrite64", "EIO"),
    ("fsync,fdatasync,syncfs", "EIO"),
    ("rename", "EIO"),
    ("renameat2", "EIO"),
    ("mkdir,mkdirat", "EIO"),
    ("ftruncate", "EIO"),
    ("unlink,unlinkat", "EIO"),
    ("fchmod", "EIO"),
    ("utimensat", "EIO"),
    ("flock", "EIO"),
    ("statfs,fstatfs", "EIO"),
    ("getdents64", "EIO"),
    ("fchown,fchownat", "EIO"),
    // A quota, and a filesystem that is remounted because of an error of the disk.
    ("pwrite64", "EDQUOT"),
    ("mkdir,mkdirat", "EDQUOT"),
    ("mkdir,mkdirat", "EROFS"),
    ("renameat2", "EROFS"),
];
/// Writes of a thread that fail, each number in a run.
const WRITES: [u32; 3] = [400, 700, 1000];
/// Small files of a layer, each written at once by one of two threads, so that one of them makes at least half of the writes. No
/// other thread makes nearly as many, to wake another one for example, which must not fail.
const FILES: u32 = 2000;

fn image() -> Image {
    ["one", "two"]
        .into_iter()
        .fold(ImageBuilder::new(), |image, name| image.layer(fat_layer(name, 300_000)))
        .build()
}

/// Returns the lines of the trace that tell of a call that was made to fail.
///
/// A call during which another thread made one takes two lines, and only the first says on which file it is.
fn failed_calls(trace: &Path) -> Vec<String> {
    let text = fs::read(trace).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut begun = HashMap::new();
    let mut failed = Vec::new();
    for line in text.lines() {
        let thread = line.split(' ').next().unwrap_or_default();
        if let Some(call) = line.strip_suffix("<unfinished ...>") {
            begun.insert(thread, call);
            continue;
        }
        let call = if line.contains(" resumed>") {
            begun.remove(thread)
        } else {
            None
        };
        if line.contains("(INJECTED)") {
            failed.push(format!("{}{line}", call.unwrap_or_default()));
        }
    }
    failed
}

#[test]
fn real_any_call_may_fail_once() {
    let (_registry, reference) = serve(&image());
    let calls = count("UNLADE_TEST_CALLS", CALLS);
    let (mut runs, mut failures) = (0, 0);
    for (kind, error) in KINDS {
        // Nothing is flushed in the foreground otherwise.
        let durability = if kind.starts_with("fsync") { "sync" } else { "lazy" };
        let mut number = 1;
        for _ in 0..calls {
            let home = Home::new();
            let trace = home.path("trace");
            let pull = ["--format", "json", "pull", &reference, "--durability", durability];
            let pull = home.unlade(pull).under_strace(&[
                "-y",
                "-o",
                trace.to_str().unwrap(),
                "-e",
                &format!("trace={kind}"),
                "-e",
                &format!("inject={kind}:error={error}:when={number}"),
            ]);
            let pull = pull.run();
            let failed = failed_calls(&trace);
            if failed.is_empty() {
                break;
            }
            let what = format!("{kind}, number {number} of each thread failed with {error}: {failed:#?}\n{pull}");
            runs += 1;
            match pull.code() {
                Some(0) => {}
                Some(9) => {
                    failures += 1;
                    assert_tells(&pull, error, &what);
                    // The database tells of its own, and of a full disk as such.
                    let of_blobs = failed.iter().all(|line| line.contains("/ingest/"));
                    if error == "EDQUOT" && of_blobs {
                        assert_says_what_is_needed(pull, home.store());
                    }
                }
                code => panic!("{code:?}: {what}"),
            }
            let next = home.unlade(["pull", &reference]).run();
            assert_eq!(next.code(), Some(0), "{what}\n{next}");
            assert_whole(&home, &what);
            number += 1 + number / 2;
        }
    }
    println!("{runs} pulls with a call that failed, {failures} of them could not go on");
    assert!(runs > KINDS.len() && failures > 0, "{runs} {failures}");
}

/// Fails the test unless the pull tells of this error.
fn assert_tells(pull: &Finished, error: &str, what: &str) {
    assert_eq!(pull.error()["class"], "storage", "{what}");
    let causes = format!("{} {}", pull.error()["message"], pull.error()["causes"]);
    let words: &[&str] = match error {
        "EIO" => &["os error 5", "I/O error"],
        "EDQUOT" => &["os error 122", "I/O error", "full"],
        _ => &["os error 30", "I/O error", "readonly"],
    };
    assert!(words.iter().any(|word| causes.contains(word)), "{what}");
}

/// Files of a layer are written by `write`, as are other things that must not fail here.
#[test]
fn real_a_file_of_a_layer_may_fail_to_be_written() {
    let layer = (0..FILES).fold(LayerBuilder::new(), |layer, file| {
        layer.file(format!("{file}"), noise(&format!("{file}"), 200))
    });
    let (_registry, reference) = serve(&image_of(&layer.build(Compression::Gzip)));
    for (number, error) in WRITES.into_iter().zip(["EIO", "EDQUOT", "EIO"]) {
        let home = Home::new();
        let trace = home.path("trace");
        let pull = home.unlade(["--format", "json", "pull", &reference]).under_strace(&[
            "-y",
            "-o",
            trace.to_str().unwrap(),
            "-e",
            "trace=write",
            "-e",
            &format!("inject=write:error={error}:when={number}"),
        ]);
        let pull = pull.run();
        let failed = failed_calls(&trace);
        let what = format!("write {number} failed with {error}: {failed:#?}\n{pull}");
        // Both threads may have come that far.
        assert!(matches!(failed.len(), 1 | 2), "{what}");
        assert!(failed.iter().all(|line| line.contains("/staging/")), "{what}");
        assert_eq!(pull.code(), Some(9), "{what}");
        assert_tells(&pull, error, &what);
        if error == "EDQUOT" {
            assert_says_what_is_needed(pull, home.store());
        }
        assert!(home.leftovers().staging.is_empty(), "{what}");
        home.pull(&reference);
        assert_whole(&home, &what);
    }
}

/// What a command makes is in its store, or where it was told to: never in the directory for temporary files.
#[test]
fn real_nothing_is_written_elsewhere() {
    let (_registry, reference) = serve(&image());
    let home = Home::new();
    let archive = home.path("archive.tar");
    for (at, arguments) in [
        &["pull", &reference][..],
        &[
            "export",
            &reference,
            "-o",
            archive.to_str().unwrap(),
            "--format",
            "oci-archive",
        ],
        &["verify", "--deep", "--repair"],
        &["prune", "--blobs"],
        &["rm", &reference],
        &["import", archive.to_str().unwrap()],
        &["prune", "--all"],
    ]
    .into_iter()
    .enumerate()
    {
        let trace = home.path(&format!("trace-{at}"));
        let command = home
            .unlade(arguments.iter().copied())
            .env("TMPDIR", "/nonexistent/place")
            .under_strace(&[
                "-y",
                "-o",
                trace.to_str().unwrap(),
                "-e",
                "trace=open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat",
            ]);
        command.run().success();
        let text = fs::read(&trace).unwrap();
        let text = String::from_utf8_lossy(&text);
        let home_of_all = home.path("");
        let mut writes = 0;
        for line in text.lines() {
            let opens = ["open(", "openat("].iter().any(|call| line.contains(call));
            let is_call = line.contains('(') && line.contains(')') && !line.contains("resumed>");
            if !is_call || (opens && !line.contains("O_CREAT")) || line.contains("ENOENT") {
                continue;
            }
            writes += 1;
            assert!(line.contains(home_of_all.to_str().unwrap()), "{arguments:?}: {line}");
        }
        assert!(writes > 0, "{arguments:?}");
    }
}

/// The use of an image is noted, and only when the answer is out: until then the store is read, and not written.
#[test]
fn real_a_warm_pull_answers_before_it_writes() {
    let (_registry, reference) = serve(&image());
    let home = Home::new();
    home.pull(&reference);
    let database = rusqlite::Connection::open(home.store().join("metadata.db")).unwrap();
    let last_used = || {
        let used = database.query_row("SELECT last_used_at FROM images", [], |row| row.get(0));
        used.unwrap()
    };
    database.execute("UPDATE images SET last_used_at = 1", []).unwrap();
    let trace = home.path("trace");
    let calls = "trace=write,writev,pwrite64,pwritev,fsync,fdatasync,syncfs,ftruncate";
    let warm = home
        .unlade(["pull", &reference])
        .under_strace(&["-y", "-o", trace.to_str().unwrap(), "-e", calls]);
    warm.run().success();
    let used: i64 = last_used();
    assert!(used > 1, "the use is not noted");
    let text = fs::read_to_string(&trace).unwrap();
    let store = home.store();
    let first = |what: &dyn Fn(&str) -> bool| text.lines().position(what).unwrap_or_else(|| panic!("{text}"));
    let answer = first(&|line| line.contains("write(1<"));
    let note = first(&|line| line.contains(store.to_str().unwrap()));
    assert!(answer < note, "{text}");
}

/// Without Landlock, in the kernel or switched on, extraction is the same, and `-v` says what is missing, once.
#[test]
fn real_without_landlock_extraction_is_the_same_and_v_says_so() {
    const SAID: &str = "without Landlock";
    let (_registry, reference) = serve(&fixtures::all_entry_types());
    let home = Home::new();
    let usual = home
        .unlade(["-v", "--format", "json", "pull", &reference])
        .run()
        .success();
    assert!(!usual.stderr.contains(SAID), "{usual}");
    let usual = Pulled::of(&usual.json());
    // When a whiteout was made is no matter of the layer.
    let tree = |directory: &Path| {
        TreeSnapshot::of(directory).map(|_, node| {
            if node.device == Some((0, 0)) {
                node.mtime = (0, 0);
            }
        })
    };
    for (error, verbosity, times) in [
        ("ENOSYS", &["-v"][..], 1),
        ("EOPNOTSUPP", &["-v"], 1),
        ("ENOSYS", &[], 0),
    ] {
        let home = Home::new();
        let trace = home.path("trace");
        let inject = format!("inject=landlock_create_ruleset:error={error}");
        let pull = home
            .unlade(["--format", "json", "pull", &reference])
            .args(verbosity)
            .under_strace(&["-o", trace.to_str().unwrap(), "-e", &inject])
            .run()
            .success();
        assert!(!failed_calls(&trace).is_empty(), "nothing asked for Landlock: {pull}");
        assert_eq!(pull.stderr.matches(SAID).count(), times, "{error}: {pull}");
        let pulled = Pulled::of(&pull.json());
        for (found, expected) in pulled.directories.iter().zip(&usual.directories) {
            tree(found).assert_same(&tree(expected));
        }
    }
}

/// Where a link is found under its name in capitals, names that differ in case are one. No kernel has to have such a
/// filesystem, so the call that asks is made to say so.
#[test]
fn real_a_filesystem_that_does_not_tell_case_is_refused() {
    let (_registry, reference) = serve(&fixtures::all_entry_types());
    let home = Home::new();
    let pull = home.unlade(["--format", "json", "pull", &reference]);
    let pull = pull
        .under_strace(&["-e", "trace=readlinkat", "-e", "inject=readlinkat:retval=0"])
        .run();
    assert_eq!(pull.code(), Some(9), "{pull}");
    assert!(pull.stderr.contains("differ in case alone"), "{pull}");
    assert!(pull.stderr.contains("/staging/"), "{pull}");
    assert!(home.leftovers().staging.is_empty(), "{pull}");
    home.pull(&reference);
    assert_whole(&home, "refused, and pulled again");
}

/// What the pull of an image that is complete costs beyond `--version`: what a look takes, whatever was pulled before.
#[test]
fn real_a_warm_pull_takes_few_system_calls() {
    /// With the database at rest. There are some for each directory above the store, and five that an optimised build leaves out.
    const AT_REST: usize = 90;
    /// With what pulls have left in the log of the database: sixty layers take nine hundred pages of it if each is recorded alone.
    const AFTER_PULLS: usize = 600;
    let home = Home::new();
    let count = |arguments: &[&str]| {
        let trace = home.path("trace");
        let run = home.unlade(arguments.iter().copied());
        run.under_strace(&["-o", trace.to_str().unwrap()]).run().success();
        let text = fs::read(&trace).unwrap();
        String::from_utf8_lossy(&text)
            .lines()
            .filter(|line| line.contains(") "))
            .count()
    };
    let (_registry, reference) = serve(&fixtures::web());
    let (_other, many) = serve(&fixtures::many());
    home.pull(&many);
    home.pull(&reference);
    let start = count(&["--version"]);
    let pull = ["pull", reference.as_str()];
    let with_log = count(&pull);
    assert!(with_log <= start + AFTER_PULLS, "{start} and {with_log}");

    // A minute later.
    let log = fs::File::options()
        .write(true)
        .open(home.store().join("metadata.db-wal"))
        .unwrap();
    log.set_modified(std::time::SystemTime::now() - std::time::Duration::from_mins(2))
        .unwrap();
    drop(log);
    home.unlade(pull).run().success();
    let at_rest = count(&pull);
    assert!(at_rest <= start + AT_REST, "{start} and {at_rest}");
    println!("{start} for the version, {with_log} with a log, {at_rest} at rest");
}
