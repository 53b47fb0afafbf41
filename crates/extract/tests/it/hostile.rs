//! Archives that try to get out, to get in the way, or to use up the machine. None may touch the canary.
#![expect(
    clippy::too_many_lines,
    reason = "the tables are long and have no structure to split by"
)]

use tar::{EntryType, Header};
use unlade_extract::{Limits, Note, Options, Progress, Total, digest_layer};
use unlade_oci::{Algorithm, ErrorClass};
use unlade_test_support::{Compression, Entry, LayerBuilder, NodeKind};

use crate::sandbox::{Sandbox, chain, extracted, is_root, refused};

fn layer() -> LayerBuilder {
    LayerBuilder::new()
}

fn long(character: char, length: usize) -> String {
    character.to_string().repeat(length)
}

fn header(kind: EntryType, name: &[u8], size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_cksum();
    header
}

/// What is refused, with a part of the message that says why.
fn refusals() -> Vec<(&'static str, LayerBuilder, &'static str)> {
    let file = |name: &str| Entry::file(name, "x");
    vec![
        ("a whiteout of nothing", layer().file(".wh.", ""), "whiteout of no name"),
        (
            "a whiteout of the directory",
            layer().file("a/.wh..", ""),
            "whiteout of no name",
        ),
        (
            "a whiteout of the parent",
            layer().file("a/.wh...", ""),
            "whiteout of no name",
        ),
        (
            "a whiteout of the parent with a slash",
            layer().dir(".wh.../", 0o755),
            "whiteout of no name",
        ),
        (
            "a file below a whiteout",
            layer().file("a/.wh.b/c", ""),
            "below a whiteout",
        ),
        ("the root as a file", layer().file(".", "x"), "would replace the root"),
        (
            "the root as a file, by its parent",
            layer().file("..", "x"),
            "would replace the root",
        ),
        (
            "the root as a link",
            layer().symlink("./", "/etc"),
            "would replace the root",
        ),
        (
            "the root as a hard link",
            layer().file("a", "").hardlink("/", "a"),
            "would replace the root",
        ),
        (
            "the root as a device",
            layer().char_device("a/..", 1, 3),
            "would replace the root",
        ),
        ("the root as a FIFO", layer().fifo("//"), "would replace the root"),
        (
            "a NUL in a name",
            layer().entry(&file("a").pax("path", "a\0/../../etc/passwd")),
            "NUL",
        ),
        (
            "a NUL in a link target",
            layer().entry(&Entry::symlink("a", "b").pax("linkpath", "b\0c")),
            "NUL",
        ),
        ("no name", layer().file("", "x"), "no name"),
        (
            "a link to nothing",
            layer().symlink("a", ""),
            "symbolic link to nothing",
        ),
        (
            "a hard link to nothing",
            layer().hardlink("a", ""),
            "hard link to what cannot be",
        ),
        (
            "a hard link to the root",
            layer().hardlink("a", ".."),
            "which is the root",
        ),
        (
            "a hard link to a directory",
            layer().dir("d", 0o755).hardlink("a", "d"),
            "which is a directory",
        ),
        (
            "a hard link over its own target",
            layer().dir("d", 0o755).file("d/f", "x").hardlink("d", "d/f"),
            "which it would remove",
        ),
        (
            "a hard link below its own target",
            layer().file("a", "x").hardlink("a/b", "a"),
            "its own parent replaces",
        ),
        ("a whiteout device", layer().char_device("a", 0, 0), "act as a whiteout"),
        (
            "a component of 256 bytes",
            layer().entry(&file(&long('x', 256))),
            "component of 256 bytes",
        ),
        (
            "a path of 4097 bytes",
            layer().file("a/".repeat(2048) + "b", "x"),
            "`path_bytes` of 4096",
        ),
        (
            "a link target of 5000 bytes",
            layer().symlink("a", long('x', 5000)),
            "`path_bytes` of 4096",
        ),
        (
            "an extension record over a MiB",
            layer().entry(&file("a").xattr("user.x", long('x', 1 << 20))),
            "`extension_bytes` of 1048576",
        ),
        (
            "a long name over a MiB",
            layer().entry(&file(&long('x', 1 << 20)).gnu_long_names()),
            "`extension_bytes` of 1048576",
        ),
        (
            "extension records that add up to more than a MiB",
            (0..3).fold(layer(), |layer, _| {
                let data = vec![0; 400 << 10];
                layer.raw_entry(&header(EntryType::GNULongName, b"x", data.len() as u64), &data)
            }),
            "`extension_bytes` of 1048576",
        ),
        (
            "an extension record that says it is huge",
            layer().raw_bytes(header(EntryType::XHeader, b"x", 1 << 40).as_bytes()),
            "`extension_bytes`",
        ),
        (
            "a file that says it is huge",
            layer().raw_bytes(header(EntryType::Regular, b"x", 1 << 50).as_bytes()),
            "ends at byte",
        ),
        (
            "a negative size",
            layer().raw_bytes({
                let mut header = header(EntryType::Regular, b"x", 0);
                header.as_old_mut().size = [0xff; 12];
                header.set_cksum();
                *header.as_bytes()
            }),
            "size of a header is negative",
        ),
        (
            "a size beyond 63 bits",
            layer().entry(&file("a").pax("size", "18446744073709551615")),
            "larger than a file",
        ),
        (
            "a size beyond 64 bits",
            layer().entry(&file("a").pax("size", "99999999999999999999999")),
            "decimal",
        ),
        (
            "an owner that means nobody",
            layer().entry(&file("a").owner(u32::MAX.into(), 0)),
            "out of range",
        ),
        (
            "an owner beyond 32 bits",
            layer().entry(&file("a").owner(0, 1 << 32)),
            "out of range",
        ),
        (
            "a device number out of range",
            layer().char_device("a", 4096, 0),
            "out of range",
        ),
        (
            "a minor number out of range",
            layer().block_device("a", 8, 1 << 20),
            "out of range",
        ),
        (
            "an unknown type",
            layer().entry(&Entry::new("a", EntryType::new(b'V'))),
            "type 'V' is unknown",
        ),
        (
            "a wrong checksum",
            layer().file("a", "x").raw_bytes({
                let mut header = header(EntryType::Regular, b"x", 0);
                header.as_old_mut().name[0] = b'y';
                *header.as_bytes()
            }),
            "checksum of a header",
        ),
        ("no tar at all", layer().raw_bytes([b'x'; 1024]), "no tar archive"),
        (
            "a single zero block in the middle",
            layer().file("a", "x").raw_bytes([0; 512]).file("b", "x"),
            "single block of zeros",
        ),
        (
            "an extended header before nothing",
            layer().raw_entry(&header(EntryType::XHeader, b"x", 6), b"6 a=b\n"),
            "not followed by an entry",
        ),
        (
            "a record without an end",
            layer().raw_entry(&header(EntryType::XHeader, b"x", 6), b"9 a=b\n"),
            "well-formed record",
        ),
        (
            "a global path",
            layer().pax_global(&[("path", "etc/passwd")]).file("a", "x"),
            "sets path",
        ),
        (
            "a global size",
            layer().pax_global(&[("size", "0")]).file("a", "x"),
            "sets size",
        ),
        (
            "links in a circle",
            layer().symlink("a", "b").symlink("b", "a").file("a/c", "x"),
            "round in a circle",
        ),
        (
            "a link to itself",
            layer().symlink("a", "a").file("a/c", "x"),
            "round in a circle",
        ),
        (
            "a sparse map that leaves the file",
            layer().entry(&file("a").pax("GNU.sparse.map", "0,1").pax("GNU.sparse.size", "0")),
            "leave the file",
        ),
        (
            "a sparse map that covers less than is there",
            layer().entry(&file("a").pax("GNU.sparse.map", "0,0").pax("GNU.sparse.size", "9")),
            "covers 0 bytes",
        ),
        (
            "a sparse map without an end",
            layer().entry(
                &Entry::file("a", long('1', 512))
                    .pax("GNU.sparse.major", "1")
                    .pax("GNU.sparse.minor", "0")
                    .pax("GNU.sparse.realsize", "9"),
            ),
            "map",
        ),
        (
            "a sparse format of the future",
            layer().entry(&file("a").pax("GNU.sparse.major", "2").pax("GNU.sparse.size", "1")),
            "sparse format 2.0",
        ),
        (
            "a sparse directory",
            layer().entry(
                &Entry::dir("a", 0o755)
                    .pax("GNU.sparse.map", "")
                    .pax("GNU.sparse.size", "1"),
            ),
            "other than a regular file is sparse",
        ),
    ]
}

#[test]
fn what_is_refused_is_refused_by_name() {
    for (name, layer, expected) in refusals() {
        let sandbox = Sandbox::new();
        let error = sandbox.extract(&layer).expect_err(name);
        assert_eq!(error.class(), ErrorClass::Rejected, "{name}: {}", chain(&error));
        assert!(chain(&error).contains(expected), "{name}: {}", chain(&error));
    }
}

/// What is extracted, but stays inside: each makes `inside` files below the target.
fn contained() -> Vec<(&'static str, LayerBuilder, Vec<&'static str>)> {
    let deep = "d/".repeat(1000);
    vec![
        (
            "a name with ..",
            layer().file("../../etc/passwd", "x"),
            vec!["etc/passwd"],
        ),
        (
            "a name with .. in the middle",
            layer().file("a/../../canary/file", "x"),
            vec!["canary/file"],
        ),
        ("an absolute name", layer().file("/etc/passwd", "x"), vec!["etc/passwd"]),
        (
            "a name with many slashes",
            layer().file("///etc//passwd", "x"),
            vec!["etc/passwd"],
        ),
        (
            "a link out, then a file through it",
            layer().symlink("out", "../canary").file("out/file", "x"),
            vec!["canary/file"],
        ),
        (
            "an absolute link, then a file through it",
            layer().symlink("out", "/etc").file("out/passwd", "x"),
            vec!["etc/passwd"],
        ),
        (
            "a chain of links",
            layer()
                .symlink("a", "b/c")
                .symlink("b", "../../..")
                .symlink("c", "/canary")
                .file("a/file", "x"),
            vec!["canary/file"],
        ),
        (
            "a link with .. behind a link",
            layer()
                .dir("x/y", 0o755)
                .symlink("l", "x/y")
                .symlink("m", "l/../../../canary")
                .file("m/file", "x"),
            vec!["canary/file"],
        ),
        (
            "a file over a link out",
            layer().symlink("passwd", "../passwd").file("passwd", "x"),
            vec!["passwd"],
        ),
        (
            "a file over an absolute link",
            layer().symlink("f", "/etc/passwd").file("f", "x"),
            vec!["f"],
        ),
        (
            "a directory over a link out",
            layer()
                .symlink("canary", "../canary")
                .dir("canary", 0o700)
                .file("canary/file", "x"),
            vec!["canary/file"],
        ),
        (
            "a hard link to a link out, then a file over it",
            layer().symlink("a", "../passwd").hardlink("b", "a").file("b", "x"),
            vec!["b"],
        ),
        (
            "a directory's attributes through a link",
            layer().symlink("out", "../canary").dir("out/deep", 0o777),
            vec!["canary/deep"],
        ),
        (
            "a directory replaced by a link before its attributes are set",
            layer()
                .dir("canary", 0o777)
                .symlink("canary", "../canary")
                .file("x", "x"),
            vec!["x"],
        ),
        (
            "a parent replaced by a link",
            layer()
                .dir("a/b", 0o755)
                .file("a/b/one", "x")
                .symlink("a", "../canary")
                .file("a/b/file", "x"),
            vec!["canary/b/file"],
        ),
        ("a FIFO replaced by a file", layer().fifo("f").file("f", "x"), vec!["f"]),
        (
            "a FIFO as a parent",
            layer().fifo("f").file("f/file", "x"),
            vec!["f/file"],
        ),
        (
            "a FIFO as a target",
            layer().fifo("f").hardlink("g", "f").file("g", "x"),
            vec!["g"],
        ),
        (
            "a device replaced by a file",
            layer().char_device("null", 1, 3).file("null", "x"),
            vec!["null"],
        ),
        ("a name of three dots", layer().file(".../file", "x"), vec![".../file"]),
        ("a name with a newline", layer().file("a\nb", "x"), vec!["a\\nb"]),
        (
            "a path of 2000 components",
            layer().file(format!("{deep}{deep}file"), "x"),
            vec![],
        ),
        (
            "a magic link",
            layer()
                .symlink("magic", "/proc/self/root")
                .file("magic/etc/passwd", "x"),
            vec!["proc/self/root/etc/passwd"],
        ),
    ]
}

#[test]
fn what_is_extracted_stays_inside() {
    for (name, layer, inside) in contained() {
        let sandbox = Sandbox::new();
        sandbox
            .extract(&layer)
            .unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        for path in inside {
            let tree = sandbox.tree();
            assert!(
                tree.paths().iter().any(|found| found == path),
                "{name}: no {path} in {:?}",
                tree.paths()
            );
            assert_eq!(
                tree.node(path.replace("\\n", "\n")).kind == NodeKind::Directory,
                path.ends_with("deep"),
                "{name}"
            );
        }
    }
}

#[test]
fn there_are_more_than_seventy_archives_in_the_tables() {
    let names: std::collections::BTreeSet<_> = refusals()
        .iter()
        .map(|(name, ..)| *name)
        .chain(contained().iter().map(|(name, ..)| *name))
        .collect();
    assert!(names.len() > 70, "{} with a name of their own", names.len());
}

#[test]
fn a_hard_link_to_a_file_outside_is_a_link_to_a_lower_layer() {
    for target in ["../passwd", "/etc/passwd", "../../../../etc/passwd"] {
        let (report, tree) = extracted(&layer().hardlink("stolen", target));
        assert!(!tree.has("stolen"), "{target}");
        assert_eq!(report.summary.count(Note::HardLinkToLower), 1);
    }
    let (report, tree) = extracted(&layer().symlink("out", "..").hardlink("stolen", "out/passwd"));
    assert!(!tree.has("stolen"));
    assert_eq!(report.summary.lower_hard_links[0].target.as_bytes(), b"out/passwd");
}

#[test]
fn a_whiteout_through_a_link_stays_inside() {
    let (_, tree) = extracted(
        &layer()
            .symlink("out", "../canary")
            .whiteout("out/file")
            .opaque("out/deep"),
    );
    assert!(tree.is_whiteout("canary/file"));
    assert!(tree.is_opaque("canary/deep"));
}

#[test]
fn attributes_of_a_layer_never_act_as_overlay_attributes() {
    let entry = Entry::dir("d", 0o755)
        .xattr("trusted.overlay.opaque", "y")
        .xattr("user.overlay.opaque", "y")
        .xattr("trusted.overlay.redirect", "/etc");
    let (report, tree) = extracted(&layer().entry(&entry));
    for name in tree.node("d").xattrs.keys() {
        let name = String::from_utf8_lossy(name);
        let escaped = ["trusted.overlay.overlay.", "user.overlay.overlay."]
            .iter()
            .any(|p| name.starts_with(p));
        assert!(escaped || name == "user.containers.override_stat", "{name}");
    }
    assert_eq!(report.summary.count(Note::XattrEscaped), 3);
}

#[test]
fn a_layer_cannot_say_what_override_stat_is_without_root() {
    let entry = Entry::file("f", "")
        .owner(7, 8)
        .xattr("user.containers.override_stat", "0:0:4777");
    let (_, tree) = extracted(&layer().entry(&entry));
    let value = tree.node("f").xattrs.get(&b"user.containers.override_stat"[..]);
    if is_root() {
        assert_eq!(value.unwrap(), b"0:0:4777");
    } else {
        assert_eq!(value.unwrap(), b"7:8:0644");
    }
}

#[test]
fn limits_are_named_and_hold() {
    let many = (0..50).fold(layer(), |layer, number| {
        layer.file(format!("f{number}"), vec![0; 10_000])
    });
    let dirs = (0..50).fold(layer(), |layer, number| layer.dir(format!("d{number}"), 0o755));
    for (limits, layer, limit) in [
        (
            Limits {
                raw_bytes: Some(100_000),
                ..Limits::default()
            },
            &many,
            "`raw_bytes` of 100000",
        ),
        (
            Limits {
                entries: 10,
                ..Limits::default()
            },
            &many,
            "`entries` of 10 is exceeded at the entry f10",
        ),
        (
            Limits {
                path_bytes: 2,
                ..Limits::default()
            },
            &many,
            "`path_bytes` of 2 is exceeded at the entry f10",
        ),
        (
            Limits {
                deferred_bytes: 2000,
                ..Limits::default()
            },
            &dirs,
            "`deferred_bytes` of 2000",
        ),
        (
            Limits {
                total_raw_bytes: Some(100_000),
                ..Limits::default()
            },
            &many,
            "`total_raw_bytes` of 100000",
        ),
        (
            Limits {
                file_bytes: Some(9_999),
                ..Limits::default()
            },
            &many,
            "`file_bytes` of 9999 is exceeded at the entry f0",
        ),
        (
            Limits {
                file_bytes: Some(1 << 20),
                ..Limits::default()
            },
            &layer().pax_sparse("hole", 1 << 40, &[]),
            "`file_bytes` of 1048576 is exceeded at the entry hole",
        ),
        (
            Limits {
                depth: 3,
                ..Limits::default()
            },
            &layer().file("a/b/c", "x").file("a/b/c/d", "x"),
            "`depth` of 3 is exceeded at the entry a/b/c/d",
        ),
        (
            Limits {
                xattr_bytes: 12,
                ..Limits::default()
            },
            &layer()
                .entry(&Entry::file("a", "x").xattr("user.a", "123456"))
                .entry(&Entry::file("b", "x").xattr("user.a", "").xattr("user.b", "1")),
            "`xattr_bytes` of 12 is exceeded at the entry b",
        ),
    ] {
        let sandbox = Sandbox::new();
        let options = Options {
            limits,
            ..Options::default()
        };
        let error = sandbox
            .extract_with(&layer.build(Compression::Gzip).bytes, &options)
            .unwrap_err();
        assert!(chain(&error).contains(limit), "{}", chain(&error));
        assert_eq!(error.class(), ErrorClass::Rejected);
    }
}

#[test]
fn the_ratio_counts_from_16_mib_on() {
    let limits = Limits {
        ratio: Some(100),
        ..Limits::default()
    };
    let options = Options {
        limits,
        ..Options::default()
    };
    let zeros = |bytes: usize| layer().file("zeros", vec![0; bytes]).build(Compression::Gzip).bytes;
    Sandbox::new().extract_with(&zeros(15 << 20), &options).unwrap();
    let error = Sandbox::new().extract_with(&zeros(32 << 20), &options).unwrap_err();
    assert!(chain(&error).contains("`ratio` of 100"), "{}", chain(&error));
    // What was not compressed has the ratio 1, however much it is.
    let plain = layer().file("zeros", vec![0; 32 << 20]).build(Compression::None).bytes;
    Sandbox::new().extract_with(&plain, &options).unwrap();
}

#[test]
fn layers_with_a_total_count_together() {
    let blob = layer().file("f", vec![0; 10_000]).build(Compression::Gzip).bytes;
    let (total, sha) = (Total::new(), Algorithm::Sha256);
    let limits = Limits {
        total_raw_bytes: Some(30_000),
        ..Limits::default()
    };
    let read = |progress: &Progress| digest_layer(&blob[..], sha, sha, &limits, progress);
    let first = Progress::within(&total);
    read(&first).unwrap();
    read(&Progress::within(&total)).unwrap();
    let third = Progress::within(&total);
    let error = read(&third).unwrap_err();
    assert!(
        chain(&error).contains("`total_raw_bytes` of 30000"),
        "{}",
        chain(&error)
    );
    // Others do not count, and what is begun again counts once.
    read(&Progress::new()).unwrap();
    total.give_back(&third);
    total.give_back(&first);
    read(&Progress::within(&total)).unwrap();
    assert_eq!(total.raw(), 2 * first.raw());
}

#[test]
fn a_bomb_of_2_gib_writes_no_more_than_the_limit_and_a_buffer() {
    // Zeros shrink to a thousandth in gzip and to a 30,000th in zstd.
    let mut tar = header(EntryType::Regular, b"bomb", 2 << 30).as_bytes().to_vec();
    tar.resize(1 << 20, 0);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let head = LayerBuilder::new()
            .raw_bytes(&tar)
            .no_end_marker()
            .build(compression)
            .bytes;
        let zeros = LayerBuilder::new()
            .raw_bytes(vec![0; 1 << 20])
            .no_end_marker()
            .build(compression)
            .bytes;
        // Members and frames follow one another.
        let mut blob = head.to_vec();
        (0..2048).for_each(|_| blob.extend_from_slice(&zeros));
        let sandbox = Sandbox::new();
        let limits = Limits {
            raw_bytes: Some(8 << 20),
            ..Limits::default()
        };
        let options = Options {
            limits,
            ..Options::default()
        };
        let error = sandbox.extract_with(&blob, &options).unwrap_err();
        assert!(chain(&error).contains("`raw_bytes` of 8388608"), "{}", chain(&error));
        let size = std::fs::metadata(sandbox.target().join("bomb")).unwrap().len();
        assert!(size <= (8 << 20) + (256 << 10), "{compression}: {size}");
    }
}

#[test]
fn a_bomb_writes_no_more_than_the_limit_and_a_buffer() {
    let bomb = layer().file("bomb", vec![0; 64 << 20]);
    let sandbox = Sandbox::new();
    let limits = Limits {
        raw_bytes: Some(1 << 20),
        ..Limits::default()
    };
    let options = Options {
        limits,
        ..Options::default()
    };
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
        sandbox
            .extract_with(&bomb.build(compression).bytes, &options)
            .unwrap_err();
        let size = std::fs::metadata(sandbox.target().join("bomb")).unwrap().len();
        assert!(size <= (1 << 20) + (256 << 10), "{compression}: {size}");
    }
}

#[test]
fn truncation_at_any_block_is_an_error_or_the_missing_end_marker() {
    let tar = layer()
        .file("a", vec![1; 700])
        .symlink("b", "a")
        .entry(&Entry::file("c", "x").xattr("user.x", "y"))
        .tar();
    // Behind the 700 bytes, and behind the one byte of the last file, only padding is missing.
    let padding = [512 + 768, tar.len() - 1024 - 256];
    for length in (0..tar.len()).step_by(256) {
        let sandbox = Sandbox::new();
        match sandbox.extract_with(&tar[..length], &Options::default()) {
            Ok(report) => assert!(
                report.summary.count(Note::EndMarkerMissing) == 1 && (length % 512 == 0 || padding.contains(&length)),
                "{length} of {}",
                tar.len()
            ),
            Err(error) => assert_eq!(error.class(), ErrorClass::Rejected, "{length}: {}", chain(&error)),
        }
    }
}

#[test]
fn the_message_says_where() {
    assert_eq!(
        refused(&layer().dir("dir", 0o755).hardlink("dir/link", "dir")),
        "the entry dir/link is refused: it is a hard link to dir, which is a directory"
    );
}

/// Moves directories about in the target while a layer is extracted into it through links.
#[test]
fn renames_by_another_process_let_nothing_out() {
    use std::sync::atomic::{AtomicBool, Ordering};

    let mut layer = layer()
        .dir("a/b/c", 0o755)
        .dir("x", 0o755)
        .symlink("up", "../../..")
        .symlink("a/b/up", "../../../..");
    for number in 0..300 {
        for parent in [
            "a/b/c",
            "a/b/up/canary",
            "up/canary",
            "x/../up/etc",
            "a/b/c/d/../../up/etc",
        ] {
            layer = layer.file(format!("{parent}/f{number}"), "x");
        }
    }
    let sandbox = Sandbox::new();
    let (target, done) = (sandbox.target(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Whether any of these works depends on what is there at the moment.
                let _ = std::fs::rename(target.join("a/b/c"), target.join("x/c")).is_ok();
                let _ = std::fs::rename(target.join("a/b"), target.join("b")).is_ok();
                let _ = std::fs::rename(target.join("b"), target.join("a/b")).is_ok();
                let _ = std::fs::rename(target.join("x/c"), target.join("a/b/c")).is_ok();
            }
        });
        for _ in 0..10 {
            // An error is as good as a tree; the canary is looked at.
            let blob = layer.build(Compression::None).bytes;
            let _ = sandbox.extract_beside_others(&blob, &Options::default()).is_ok();
        }
        done.store(true, Ordering::Relaxed);
    });
}
