//! One system call that fails: the pull says so and ends with 9, or does without, and the next one works.
//!
//! Debian's `strace` lets the call fail. How many calls of each kind are chosen is set by `UNLADE_TEST_CALLS`.

use std::fs;
use std::path::Path;

use unlade_test_support::{Image, ImageBuilder};
use unlade_tests::{Home, count};

use crate::crashes::assert_whole;
use crate::support::{fat_layer, serve};

const CALLS: u32 = 6;
/// Each thread counts its own calls, so the first of a kind is that of several threads.
const KINDS: [&str; 12] = [
    "pwrite64",
    "rename",
    "renameat2",
    "mkdir,mkdirat",
    "ftruncate",
    "unlink,unlinkat",
    "fchmod",
    "utimensat",
    "flock",
    "statfs,fstatfs",
    "getdents64",
    "fchown,fchownat",
];

fn image() -> Image {
    ["one", "two"]
        .into_iter()
        .fold(ImageBuilder::new(), |image, name| image.layer(fat_layer(name, 300_000)))
        .build()
}

/// Returns the lines of the trace that tell of a call that was made to fail.
fn failed_calls(trace: &Path) -> Vec<String> {
    let text = fs::read(trace).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines()
        .filter(|line| line.contains("(INJECTED)"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn real_any_call_may_fail_once() {
    let (_registry, reference) = serve(&image());
    let calls = count("UNLADE_TEST_CALLS", CALLS);
    let (mut runs, mut failures) = (0, 0);
    for kind in KINDS {
        let mut number = 1;
        for _ in 0..calls {
            let home = Home::new();
            let trace = home.path("trace");
            let pull = home.unlade(["--format", "json", "pull", &reference]).under_strace(&[
                "-y",
                "-o",
                trace.to_str().unwrap(),
                "-e",
                &format!("trace={kind}"),
                "-e",
                &format!("inject={kind}:error=EIO:when={number}"),
            ]);
            let pull = pull.run();
            let failed = failed_calls(&trace);
            if failed.is_empty() {
                break;
            }
            let what = format!("{kind}, number {number} of each thread failed: {failed:#?}\n{pull}");
            runs += 1;
            match pull.code() {
                Some(0) => {}
                Some(9) => {
                    failures += 1;
                    assert_eq!(pull.error()["class"], "storage", "{what}");
                    let causes = format!("{} {}", pull.error()["message"], pull.error()["causes"]);
                    assert!(causes.contains("os error 5") || causes.contains("I/O error"), "{what}");
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
