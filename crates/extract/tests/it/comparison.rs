//! A layer directory held against its layer: what was changed in it is found, and nothing else.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use unlade_extract::{Comparison, Options, Progress, Summary, compare_layer};
use unlade_oci::Algorithm;
use unlade_sys::Dir;
use unlade_test_support::{Compression, LayerBuilder};

use crate::sandbox::{Sandbox, is_root};

fn layer() -> LayerBuilder {
    LayerBuilder::new()
        .dir("etc", 0o755)
        .file("etc/passwd", "root")
        .file("etc/large", vec![7; 300_000])
        .hardlink("etc/again", "etc/passwd")
        .symlink("etc/link", "passwd")
        .dir("var", 0o700)
        .file("implied/parent/file", "x")
        .whiteout("gone")
        .opaque("var")
}

fn compare(target: &Path, options: &Options) -> Comparison {
    let blob = layer().build(Compression::Gzip).bytes;
    let (target, summary) = (Dir::open(target).unwrap(), Summary::default());
    let algorithm = Algorithm::Sha256;
    let progress = Progress::new();
    compare_layer(&blob[..], &target, algorithm, algorithm, options, &summary, &progress)
        .unwrap()
        .1
}

/// Changes something and puts the time of the directory back, which is not what is looked for.
fn change(target: &Path, directory: &str, change: impl FnOnce(&Path)) {
    let directory = target.join(directory);
    let before = fs::metadata(&directory).unwrap().modified().unwrap();
    change(&directory);
    File::open(&directory)
        .unwrap()
        .set_times(FileTimes::new().set_modified(before))
        .unwrap();
}

fn set_time(path: &Path, time: SystemTime) {
    File::open(path)
        .unwrap()
        .set_times(FileTimes::new().set_modified(time))
        .unwrap();
}

/// Makes a change that leaves the time as it was.
fn quietly(path: &Path, change: impl FnOnce(&File)) {
    let before = fs::metadata(path).unwrap().modified().unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    change(&file);
    set_time(path, before);
}

/// What is done, in which directory, how, and what is found.
type Change = (&'static str, &'static str, fn(&Path), &'static [&'static str]);

fn changes() -> Vec<Change> {
    vec![
        ("nothing", "", |_| {}, &[]),
        (
            "a file is gone",
            "etc",
            |etc| fs::remove_file(etc.join("large")).unwrap(),
            &["etc/large is missing"],
        ),
        (
            "a file is new",
            "etc",
            |etc| fs::write(etc.join("new"), "").unwrap(),
            &["etc/new is not in the layer"],
        ),
        (
            "a byte in the middle",
            "etc",
            |etc| quietly(&etc.join("large"), |file| file.write_all_at(b"x", 150_000).unwrap()),
            &["etc/large has other content"],
        ),
        (
            "a file is longer, with a hole",
            "etc",
            |etc| quietly(&etc.join("large"), |file| file.set_len(400_000).unwrap()),
            &["etc/large has other content"],
        ),
        (
            "a file is empty",
            "etc",
            |etc| quietly(&etc.join("passwd"), |file| file.set_len(0).unwrap()),
            &["etc/again has other content"],
        ),
        (
            "a link is a copy",
            "etc",
            |etc| {
                let time = fs::metadata(etc.join("again")).unwrap().modified().unwrap();
                fs::copy(etc.join("passwd"), etc.join("copy")).unwrap();
                fs::rename(etc.join("copy"), etc.join("again")).unwrap();
                set_time(&etc.join("again"), time);
            },
            if_root(&["etc/passwd has other names than the layer gives it"]),
        ),
        (
            "a link leads elsewhere",
            "etc",
            |etc| {
                fs::remove_file(etc.join("link")).unwrap();
                symlink("shadow", etc.join("link")).unwrap();
            },
            &["etc/link leads elsewhere"],
        ),
        (
            "a link is a file",
            "etc",
            |etc| {
                fs::remove_file(etc.join("link")).unwrap();
                fs::write(etc.join("link"), "passwd").unwrap();
            },
            &["etc/link is of another type"],
        ),
        (
            "a mode",
            "etc",
            |etc| fs::set_permissions(etc.join("large"), Permissions::from_mode(0o666)).unwrap(),
            &["etc/large has another mode"],
        ),
        (
            "a time",
            "etc",
            |etc| set_time(&etc.join("large"), SystemTime::UNIX_EPOCH + Duration::from_nanos(1)),
            &["etc/large has another time"],
        ),
        (
            "the time of a directory that the layer only implies",
            "implied",
            |implied| set_time(&implied.join("parent"), SystemTime::UNIX_EPOCH + Duration::from_secs(1)),
            &["implied/parent has another time"],
        ),
        (
            "a whiteout is gone",
            "",
            |root| fs::remove_file(root.join("gone")).unwrap(),
            &["gone is missing"],
        ),
        (
            "the mode of the root",
            "",
            |root| fs::set_permissions(root, Permissions::from_mode(0o700)).unwrap(),
            &["the root has another mode"],
        ),
    ]
}

#[test]
fn every_change_is_found_and_named() {
    for (what, directory, how, expected) in changes() {
        let sandbox = Sandbox::new();
        sandbox.extract(&layer()).unwrap();
        change(&sandbox.target(), directory, how);
        let comparison = compare(&sandbox.target(), &Options::default());
        let found: Vec<_> = comparison.differences.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{what}");
        assert_eq!(comparison.count, expected.len() as u64);
    }
}

/// A copy that an ordinary user makes also lacks the attribute that records the owner, which is found, too.
fn if_root(found: &'static [&'static str]) -> &'static [&'static str] {
    if is_root() {
        found
    } else {
        &[
            "etc/again differs in the attribute user.containers.override_stat",
            "etc/passwd has other names than the layer gives it",
        ]
    }
}

#[test]
fn an_opaque_mark_that_is_lost_is_found() {
    let sandbox = Sandbox::new();
    sandbox.extract(&layer()).unwrap();
    let var = Dir::open(&sandbox.target().join("var")).unwrap();
    for name in ["trusted.overlay.opaque", "user.overlay.opaque"] {
        // Users may not touch the one, and root has not set the other.
        var.remove_own_xattr(name.as_ref()).unwrap_or_default();
    }
    let found = compare(&sandbox.target(), &Options::default()).differences;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].to_string().starts_with("var differs in the attribute"),
        "{found:?}"
    );
}

#[test]
fn many_differences_are_counted_and_the_first_are_kept() {
    let sandbox = Sandbox::new();
    sandbox.extract(&layer()).unwrap();
    change(&sandbox.target(), "etc", |etc| {
        for number in 0..150 {
            fs::write(etc.join(format!("new-{number}")), "").unwrap();
        }
    });
    let comparison = compare(&sandbox.target(), &Options::default());
    assert_eq!((comparison.differences.len(), comparison.count), (100, 150));
}

#[test]
fn privileged_another_owner_is_found() {
    let sandbox = Sandbox::new();
    sandbox.extract(&layer()).unwrap();
    chown(sandbox.target().join("etc/passwd"), Some(7), Some(7)).unwrap();
    let found = compare(&sandbox.target(), &Options::default()).differences;
    assert_eq!(found[0].to_string(), "etc/again has another owner");
}
