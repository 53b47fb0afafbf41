//! The reading of archives against GNU tar and Python's `tarfile`: the same archives, read by all three.
//!
//! Python gives what it understood of each entry, GNU tar what it makes of the archive on disk. Archives come from GNU tar
//! in each of its formats, from a table of the odd ones, and from a generator that mixes dialects.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde::{Deserialize, Serialize};
use tar::{EntryType, Header};
use unlade_extract::{Entry, EntryContent, EntrySink, Error, Kind, Limits, Options, Progress, read_layer};
use unlade_oci::{Algorithm, Digest};
use unlade_test_support::{Compression, Entry as Spec, LayerBuilder, NodeKind, TreeSnapshot};

use crate::sandbox::{Sandbox, chain, is_root};

/// How many generated archives are compared, and every which one on disk, too.
const GENERATED: usize = 400;
const ON_DISK: usize = 5;

/// What a reader understood of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Understood {
    /// The name in hexadecimal digits.
    name: String,
    kind: String,
    mode: u32,
    uid: u32,
    gid: u32,
    /// Seconds and nanoseconds.
    mtime: (i64, u32),
    /// Target of a link in hexadecimal digits.
    link: String,
    size: u64,
    /// SHA-256 of the content.
    content: Option<String>,
    /// Names and values of extended attributes in hexadecimal digits, in order of the names.
    xattrs: Vec<(String, String)>,
}

const PYTHON: &str = r#"
import hashlib, json, math, os, sys, tarfile
from decimal import Decimal

def hexed(text):
    return os.fsencode(text).hex()

def cleaned(name):
    return "/".join(part for part in name.split("/") if part not in ("", "."))

def kind(member):
    for test, word in (("isreg", "file"), ("isdir", "directory"), ("issym", "symlink"), ("islnk", "hard link"),
                       ("ischr", "character device"), ("isblk", "block device"), ("isfifo", "fifo")):
        if getattr(member, test)():
            return word
    return "unknown"

for path in sys.argv[1:]:
    entries = []
    with tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape") as archive:
        for member in archive:
            time = Decimal(member.pax_headers.get("mtime", str(member.mtime)))
            seconds = math.floor(time)
            what = kind(member)
            content = None
            if what == "file":
                content = hashlib.sha256(archive.extractfile(member).read()).hexdigest()
            xattrs = sorted((hexed(key[13:]), hexed(value)) for key, value in member.pax_headers.items()
                            if key.startswith("SCHILY.xattr."))
            link = member.linkname
            entries.append({
                "name": hexed(cleaned(member.name)), "kind": what, "mode": member.mode & 0o7777,
                "uid": member.uid, "gid": member.gid,
                "mtime": [seconds, int((time - seconds) * 1000000000)],
                "link": hexed(cleaned(link) if what == "hard link" else link if what == "symlink" else ""),
                "size": member.size if what == "file" else 0, "content": content, "xattrs": xattrs,
            })
    print(json.dumps(entries))
"#;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// Collects what our reader understands.
#[derive(Default)]
struct Collector(Vec<Understood>);

impl EntrySink for Collector {
    fn entry(&mut self, entry: &Entry<'_>, content: &mut dyn EntryContent) -> Result<(), Error> {
        let (kind, link, size) = match entry.kind {
            Kind::File { size } => ("file", &b""[..], size),
            Kind::Directory => ("directory", &b""[..], 0),
            Kind::Symlink { target } => ("symlink", target, 0),
            Kind::HardLink { target } => ("hard link", target, 0),
            Kind::CharDevice { .. } => ("character device", &b""[..], 0),
            Kind::BlockDevice { .. } => ("block device", &b""[..], 0),
            Kind::Fifo => ("fifo", &b""[..], 0),
            Kind::Whiteout | Kind::Opaque => panic!("there are no whiteouts here"),
        };
        let content = if kind == "file" {
            let mut bytes = vec![0; usize::try_from(size).unwrap()];
            while let Some(extent) = content.next()? {
                let at = usize::try_from(extent.offset).unwrap();
                bytes[at..at + extent.data.len()].copy_from_slice(extent.data);
            }
            Some(Digest::sha256(&bytes).hex().to_owned())
        } else {
            None
        };
        let mut xattrs: Vec<_> = entry
            .xattrs
            .iter()
            .map(|xattr| (hex(&xattr.name), hex(&xattr.value)))
            .collect();
        xattrs.sort();
        self.0.push(Understood {
            name: hex(entry.path),
            kind: kind.to_owned(),
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: (entry.mtime.seconds, entry.mtime.nanoseconds),
            link: hex(link),
            size,
            content,
            xattrs,
        });
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

fn ours(archive: &[u8]) -> Vec<Understood> {
    let mut collector = Collector::default();
    let sha = Algorithm::Sha256;
    read_layer(archive, &mut collector, sha, sha, &Limits::default(), &Progress::new())
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    collector.0
}

fn output(command: &mut Command) -> Vec<u8> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {name} ({error}); `cargo xtask test` installs it as root"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Returns what Python understands of each archive.
fn pythons(archives: &[PathBuf]) -> Vec<Vec<Understood>> {
    let printed = output(Command::new("python3").arg("-c").arg(PYTHON).args(archives));
    let lines = printed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// Returns the tree that GNU tar makes of an archive.
fn gnus(archive: &Path) -> TreeSnapshot {
    let temp = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar");
    tar.args([
        "--extract",
        "--preserve-permissions",
        "--numeric-owner",
        "--delay-directory-restore",
    ]);
    tar.args(["--xattrs", "--xattrs-include=*", "--warning=none"]);
    output(tar.arg("--file").arg(archive).arg("--directory").arg(temp.path()));
    comparable(&TreeSnapshot::of(temp.path()))
}

/// Leaves out what only root can do and what without root stands in its place.
fn comparable(tree: &TreeSnapshot) -> TreeSnapshot {
    let tree = tree.clone().without_root();
    if is_root() {
        tree
    } else {
        let tree = tree.map(|_, node| {
            if node.kind == NodeKind::Fifo {
                node.kind = NodeKind::File;
                node.content = Some(Digest::sha256(b""));
            }
        });
        tree.without_owners().without_xattrs("user.containers.")
    }
}

/// Compares the three readings of each archive, that of GNU tar for one in `on_disk`.
#[track_caller]
fn compare_some(archives: &[(String, Vec<u8>)], on_disk: usize) {
    let temp = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..archives.len())
        .map(|number| temp.path().join(format!("{number}.tar")))
        .collect();
    for (path, (_, bytes)) in paths.iter().zip(archives) {
        fs::write(path, bytes).unwrap();
    }
    let pythons = pythons(&paths);
    assert_eq!(pythons.len(), archives.len());
    for (number, ((name, bytes), python)) in archives.iter().zip(pythons).enumerate() {
        assert_eq!(ours(bytes), python, "{name}: Python's reading is on the right");
        if number % on_disk != 0 {
            continue;
        }
        let sandbox = Sandbox::new();
        sandbox
            .extract_with(bytes, &Options::default())
            .unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        let differences = comparable(&TreeSnapshot::of(sandbox.target())).diff(&gnus(&paths[number]));
        assert!(differences.is_empty(), "{name}: {differences:#?}");
    }
}

/// Compares the three readings of each archive.
#[track_caller]
fn compare(archives: &[(String, Vec<u8>)]) {
    compare_some(archives, 1);
}

/// Makes a tree with what the formats of tar have ever had trouble with. `plain` leaves out what V7 and ustar cannot hold.
fn make_tree(root: &Path, plain: bool) {
    let at = |path: &str| root.join(path);
    fs::create_dir_all(at("dir/with/children")).unwrap();
    fs::write(at("dir/with/children/file"), "content").unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::write(at("block"), [1; 512]).unwrap();
    fs::write(at("more than a block"), [2; 513]).unwrap();
    fs::write(at("set-id"), "x").unwrap();
    fs::set_permissions(at("set-id"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::write(at("secret"), "x").unwrap();
    fs::set_permissions(at("secret"), fs::Permissions::from_mode(0o400)).unwrap();
    symlink("dir/with/children/file", at("link")).unwrap();
    symlink("/nowhere/at/all", at("dangling")).unwrap();
    fs::hard_link(at("block"), at("block-again")).unwrap();
    fs::write(at(&"n".repeat(97)), "a name of 99 bytes with its ./").unwrap();
    let touch = |path: &str, time: &str| output(Command::new("touch").args(["-h", "-d", time]).arg(at(path)));
    touch("empty", "@0");
    touch("link", "@1000000000");
    touch("block", "@1500000000");
    fs::set_permissions(at("dir/with"), fs::Permissions::from_mode(0o1777)).unwrap();
    if plain {
        return;
    }
    output(Command::new("mkfifo").arg(at("fifo")));
    fs::write(at(&"m".repeat(101)), "a name of 101 bytes").unwrap();
    fs::write(at(&"c".repeat(255)), "a name of 255 bytes").unwrap();
    let deep = format!("{}/{}/{}", "d".repeat(120), "e".repeat(200), "f".repeat(80));
    fs::create_dir_all(at(&deep)).unwrap();
    fs::write(at(&format!("{deep}/file")), "a long path").unwrap();
    symlink("t".repeat(300), at("long link")).unwrap();
    fs::hard_link(at(&format!("{deep}/file")), at("long hard link")).unwrap();
    fs::write(at("ünïcödé \u{1f980}"), "a name in UTF-8").unwrap();
    fs::write(at("new\nline and \\ and \""), "a name that lists quote").unwrap();
    touch("secret", "@-86400");
    touch("set-id", "@8589934592");
}

/// What GNU tar writes from [`make_tree`] with `options`.
fn written(options: &[&str], plain: bool) -> Vec<u8> {
    let temp = tempfile::tempdir().unwrap();
    make_tree(temp.path(), plain);
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--numeric-owner"]).args(options);
    output(tar.arg("--directory").arg(temp.path()).arg("."))
}

#[test]
fn real_archives_of_gnu_tar_in_every_format() {
    let mut archives = vec![
        ("v7".to_owned(), written(&["--format=v7"], true)),
        ("ustar".to_owned(), written(&["--format=ustar"], true)),
        ("oldgnu".to_owned(), written(&["--format=oldgnu"], false)),
        ("gnu".to_owned(), written(&["--format=gnu"], false)),
        ("posix".to_owned(), written(&["--format=posix"], false)),
    ];
    // Owners that octal digits do not hold: base 256, and PAX records.
    let owner = ["--owner=:3000000000", "--group=:2500000000"];
    for format in ["--format=gnu", "--format=posix"] {
        let options = [&owner[..], &[format]].concat();
        archives.push((format!("{format} with large owners"), written(&options, false)));
    }
    let global = [
        "--format=posix",
        "--pax-option=globexthdr.name=global,comment=nothing to see",
    ];
    archives.push(("a comment for every entry".to_owned(), written(&global, false)));
    compare(&archives);
}

#[test]
fn real_attributes_of_gnu_tar() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    fs::write(&file, "x").unwrap();
    for (name, value) in [("user.plain", "value"), ("user.empty", ""), ("user.binary", "a=b\nc")] {
        output(Command::new("setfattr").args(["-n", name, "-v", value]).arg(&file));
    }
    let tar = output(
        Command::new("tar")
            .args(["--create", "--format=posix", "--xattrs", "--xattrs-include=*"])
            .arg("--directory")
            .arg(temp.path())
            .arg("file"),
    );
    let understood = ours(&tar);
    assert_eq!(understood[0].xattrs.len(), 3, "{understood:?}");
    compare(&[("attributes".to_owned(), tar)]);
}

/// Sparse files in all formats that GNU tar writes: their bytes and their holes.
#[test]
fn real_sparse_files_of_gnu_tar() {
    let temp = tempfile::tempdir().unwrap();
    let write = |name: &str, size: u64, pieces: &[(u64, usize)]| {
        use std::os::unix::fs::FileExt as _;
        let file = fs::File::create(temp.path().join(name)).unwrap();
        file.set_len(size).unwrap();
        for (at, length) in pieces {
            file.write_all_at(&vec![0xa5; *length], *at).unwrap();
        }
    };
    write("hole at both ends", 4 << 20, &[(1 << 20, 70_000)]);
    write("nothing but a hole", 3 << 20, &[]);
    write("data at both ends", 2 << 20, &[(0, 4096), ((2 << 20) - 4096, 4096)]);
    // More pieces than fit the header, and than one block of the old format holds.
    let pieces: Vec<_> = (0..60).map(|number| (number << 17, 4096)).collect();
    write("many pieces", 8 << 20, &pieces);
    for options in [
        &["--format=gnu"][..],
        &["--format=oldgnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let mut tar = Command::new("tar");
        tar.args(["--create", "--sparse", "--sort=name"]).args(options);
        let archive = output(tar.arg("--directory").arg(temp.path()).arg("."));
        assert!(archive.len() < 1 << 20, "{options:?} is not sparse");
        compare(&[(format!("{options:?}"), archive.clone())]);
        let sandbox = Sandbox::new();
        sandbox.extract_with(&archive, &Options::default()).unwrap();
        for entry in fs::read_dir(temp.path()).unwrap() {
            let (name, original) = (entry.as_ref().unwrap().file_name(), entry.unwrap().metadata().unwrap());
            let copy = fs::metadata(sandbox.target().join(&name)).unwrap();
            assert!(
                copy.blocks() <= original.blocks() + 8,
                "{options:?}: {} has {} blocks, the original {}",
                name.as_bytes().escape_ascii(),
                copy.blocks(),
                original.blocks()
            );
        }
    }
}

fn ustar(name: &str, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    header
}

fn records(text: &str) -> (Header, Vec<u8>) {
    let mut header = ustar("records", text.len() as u64);
    header.set_entry_type(EntryType::XHeader);
    header.set_cksum();
    (header, text.as_bytes().to_vec())
}

/// What other programs rarely write, and readers have to agree upon all the same.
#[expect(clippy::too_many_lines, reason = "a table has no structure to split by")]
fn odd_archives() -> Vec<(&'static str, Vec<u8>)> {
    let layer = LayerBuilder::new;
    let (size, size_record) = records("13 size=1000\n");
    let (both, both_records) = records("15 path=by-pax\n");
    let (far, far_record) = records("23 mtime=12345678901.5\n");
    let long = |character: char, length: usize| character.to_string().repeat(length);
    let mut long_name = ustar("././@LongLink", 150);
    long_name.set_entry_type(EntryType::GNULongName);
    long_name.set_cksum();
    vec![
        (
            "a size in PAX records that the header contradicts",
            layer()
                .raw_entry(&size, &size_record)
                .raw_entry(&ustar("file", 0), &[7; 1000])
                .file("after", "x")
                .tar()
                .to_vec(),
        ),
        (
            "a size in PAX records that is less than the header's",
            layer()
                .raw_entry(&size, &size_record)
                .raw_entry(&ustar("file", 9000), &[7; 1000])
                .file("after", "x")
                .tar()
                .to_vec(),
        ),
        (
            "a size and a time in PAX records before a GNU long name",
            layer()
                .raw_entry(&size, &size_record)
                .raw_entry(&long_name, &long('g', 150).into_bytes())
                .raw_entry(&ustar("file", 0), &[7; 1000])
                .raw_entry(&far, &far_record)
                .raw_entry(&long_name, &long('h', 150).into_bytes())
                .raw_entry(&ustar("file", 1), b"x")
                .tar()
                .to_vec(),
        ),
        (
            "a GNU long name before PAX records",
            layer()
                .raw_entry(&long_name, &long('g', 150).into_bytes())
                .raw_entry(&far, &far_record)
                .raw_entry(&ustar("file", 1), b"x")
                .file("after", "x")
                .tar()
                .to_vec(),
        ),
        (
            "a PAX path before a GNU long name",
            layer()
                .raw_entry(&both, &both_records)
                .entry(&Spec::file(long('g', 150), "x").gnu_long_names())
                .tar()
                .to_vec(),
        ),
        (
            "names of 99 to 101, 155 to 157 and 255 to 257 bytes",
            [99, 100, 101, 154, 155, 156, 157, 254, 255]
                .into_iter()
                .fold(layer(), |layer, length| layer.file(long('n', length), "x"))
                .dir(long('p', 155), 0o755)
                .dir(long('r', 156), 0o755)
                .dir(long('t', 100), 0o755)
                .dir(format!("{}/{}", long('t', 100), long('u', 100)), 0o755)
                .file(format!("{}/{}", long('p', 155), long('q', 100)), "x")
                .file(format!("{}/{}", long('r', 156), long('s', 100)), "x")
                .file(format!("{}/{}/{}", long('t', 100), long('u', 100), long('v', 57)), "x")
                .tar()
                .to_vec(),
        ),
        (
            "the same in GNU's way",
            [99, 100, 101, 255]
                .into_iter()
                .fold(layer(), |layer, length| {
                    layer
                        .entry(&Spec::file(long('n', length), "x").gnu_long_names())
                        .entry(&Spec::symlink(format!("l{length}"), long('t', length)).gnu_long_names())
                })
                .tar()
                .to_vec(),
        ),
        (
            "a time in PAX records",
            layer()
                .raw_entry(&far, &far_record)
                .raw_entry(&ustar("file", 1), b"x")
                .tar()
                .to_vec(),
        ),
        ("no end marker", layer().file("a", "x").no_end_marker().tar().to_vec()),
        (
            "half an end marker",
            layer()
                .file("a", "x")
                .no_end_marker()
                .raw_bytes([0; 512])
                .tar()
                .to_vec(),
        ),
        (
            "garbage after the end",
            layer().file("a", "x").after_end([b'x'; 5000]).tar().to_vec(),
        ),
        (
            "an archive after the end",
            layer()
                .file("a", "x")
                .after_end(layer().file("b", "y").tar())
                .tar()
                .to_vec(),
        ),
        ("nothing but the end", layer().tar().to_vec()),
        (
            "numbers in base 256",
            layer()
                .entry(&Spec::file("f", "x").base256().owner(1 << 31, 1 << 30).mtime(1 << 34))
                .entry(&Spec::file("g", "x").base256().mtime(-1))
                .tar()
                .to_vec(),
        ),
        (
            "a contiguous file",
            layer()
                .entry(&Spec::new("contiguous", EntryType::Continuous).content("xyz"))
                .tar()
                .to_vec(),
        ),
    ]
}

#[test]
fn real_odd_archives() {
    let archives: Vec<_> = odd_archives()
        .into_iter()
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .collect();
    compare(&archives);
}

/// A generated entry; what refers to another entry does so by number.
#[derive(Clone, Debug)]
struct Generated {
    kind: u8,
    tail: String,
    content: Vec<u8>,
    link: String,
    mode: u32,
    owner: (u64, u64),
    mtime: (i64, u32),
    xattrs: Vec<(String, Vec<u8>)>,
    dialect: u8,
}

fn generated() -> impl Strategy<Value = Generated> {
    let tail = prop_oneof![
        "[a-z]{0,8}",
        "[a-zA-Z0-9 ._+-]{80,110}",
        "[a-zé\u{1f980}]{20,60}",
        "([a-z]{90,140}/){1,3}[a-z]{1,120}",
        "([a-z]{1,9}/){1,12}[a-z]{1,9}",
    ];
    let link = prop_oneof!["[a-z/.]{1,30}", "[a-z]{95,105}", "[a-z/]{200,400}"];
    let owner = || {
        prop_oneof![
            0..10_u64,
            Just(0o777_7777),
            Just(0o1000_0000),
            Just(u64::from(u32::MAX) - 1)
        ]
    };
    let mtime = (
        prop_oneof![
            Just(0),
            -1_000_000_000..0_i64,
            0..4_000_000_000_i64,
            Just(8_589_934_592)
        ],
        prop_oneof![Just(0_u32), 1..1_000_000_000_u32],
    );
    let xattrs = prop::collection::vec(("user\\.[a-z=]{1,20}", prop::collection::vec(1..128_u8, 0..30)), 0..3);
    (
        0..6_u8,
        tail,
        prop::collection::vec(any::<u8>(), 0..1500),
        link,
        0..0o10000_u32,
        (owner(), owner()),
        mtime,
        xattrs,
        0..4_u8,
    )
        .prop_map(
            |(kind, tail, content, link, mode, owner, mtime, xattrs, dialect)| Generated {
                kind,
                tail,
                content,
                link,
                mode,
                owner,
                mtime,
                xattrs,
                dialect,
            },
        )
}

/// Builds an archive whose entries all have different names, since what three tars do with names that meet differs.
fn build(entries: &[Generated]) -> Vec<u8> {
    let mut layer = LayerBuilder::new();
    let mut files = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let name = format!("{number}{}", entry.tail);
        // GNU tar makes undeclared parents with the time of the extraction and by the umask.
        let slashes = name.match_indices('/').map(|(at, _)| at);
        for end in slashes {
            layer = layer.dir(&name[..end], 0o755);
        }
        let kind = if entry.kind == 2 && files.is_empty() {
            0
        } else {
            entry.kind
        };
        let spec = match kind {
            0 | 1 => Spec::file(&name, &entry.content),
            2 => Spec::hardlink(&name, &files[entry.content.len() % files.len()]),
            3 => Spec::dir(format!("{name}/"), 0o755),
            4 => Spec::symlink(&name, &entry.link),
            _ => Spec::fifo(&name),
        };
        let mut spec = spec.owner(entry.owner.0, entry.owner.1);
        // A hard link has no attributes of its own, and GNU tar would set them on the file.
        if kind != 2 && kind != 4 {
            // Without root GNU tar opens files again for their attributes, and the comparison reads directories.
            spec = spec.mode(entry.mode | if kind == 3 { 0o700 } else { 0o600 });
        }
        spec = match entry.dialect {
            0 => spec.gnu_long_names().base256().mtime(entry.mtime.0),
            1 => spec.base256().mtime(entry.mtime.0),
            _ => spec.mtime_nanos(entry.mtime.0, entry.mtime.1),
        };
        if kind <= 1 {
            files.push(name.clone());
            let mut seen = Vec::new();
            for (key, value) in &entry.xattrs {
                if entry.dialect >= 2 && !seen.contains(key) {
                    seen.push(key.clone());
                    spec = spec.xattr(key, value);
                }
            }
        }
        layer = layer.entry(&spec);
    }
    layer.build(Compression::None).bytes.to_vec()
}

#[test]
fn real_generated_archives() {
    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(generated(), 1..12);
    let archives: Vec<_> = (0..GENERATED)
        .map(|number| {
            let entries = strategy.new_tree(&mut runner).unwrap().current();
            (format!("archive {number}: {entries:?}"), build(&entries))
        })
        .collect();
    compare_some(&archives, ON_DISK);
}
