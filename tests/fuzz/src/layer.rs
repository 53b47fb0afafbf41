//! An archive as a layer: read, and extracted beside a canary.

use std::fs;
use std::path::Path;

use unlade_extract::{
    Entry, EntryContent, EntrySink, Error, Helpers, Kind, Limits, Options, Ownership, Privilege, Progress, Whiteouts,
    extract_layer, read_layer,
};
use unlade_oci::{Algorithm, ErrorClass};
use unlade_sys::Dir;

use crate::archive::with_checksums;

const CANARY: &str = "untouched";

/// Reads `data`, behind a byte that chooses options, as a tar archive, and extracts it into a directory in memory.
///
/// # Panics
/// If an entry breaks what [`Entry`] promises, if anything beside the target changes, or if what the archive is at fault
/// for is said to be something else.
pub fn layer(data: &[u8]) {
    let Some((choice, archive)) = data.split_first() else {
        return;
    };
    let archive = with_checksums(archive);
    let limits = Limits {
        raw_bytes: Some(4 << 20),
        file_bytes: Some(1 << 30),
        entries: 500,
        ..Limits::default()
    };
    let (sha, progress) = (Algorithm::Sha256, Progress::new());
    let read = read_layer(&archive[..], &mut Checker, sha, sha, &limits, &progress);

    // In memory where that is possible: a fuzzer makes thousands of trees a second.
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let temp = tempfile::tempdir_in(parent).expect("a temporary directory");
    let at = |name: &str| temp.path().join(name);
    fs::create_dir(at("target")).expect("a target");
    fs::create_dir(at("canary")).expect("a canary");
    fs::write(at("canary/file"), CANARY).expect("a canary's file");
    let options = Options {
        whiteouts: if choice & 1 == 0 {
            Whiteouts::Overlay
        } else {
            Whiteouts::Oci
        },
        ownership: if choice & 2 == 0 {
            Privilege::of_process().ownership()
        } else {
            Ownership::Record
        },
        privilege: if choice & 2 == 0 {
            Privilege::of_process()
        } else {
            Privilege::User
        },
        limits,
        // A second wall would hide a hole in the first.
        confine: false,
        helpers: if choice & 4 == 0 {
            Helpers::new(0)
        } else {
            Helpers::new(1).eager()
        },
    };
    let target = Dir::open(&at("target")).expect("the target");
    let extracted = extract_layer(&archive[..], &target, sha, sha, &options, &Progress::new());
    let names = |path: &Path| {
        let entries = fs::read_dir(path).expect("a directory of ours");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(temp.path()), ["canary", "target"]);
    assert_eq!(names(&at("canary")), ["file"]);
    assert_eq!(fs::read_to_string(at("canary/file")).expect("the canary"), CANARY);
    unlade_sys::remove_tree(&at("target")).expect("what was extracted can be removed");

    match (read, extracted) {
        (Ok(read), Ok(extracted)) => assert_eq!((read.raw, read.entries), (extracted.raw, extracted.entries)),
        (Err(error), Ok(_)) => panic!("it can be extracted and not be read: {error:?}"),
        (_, Err(error)) => assert!(
            matches!(error.class(), ErrorClass::Rejected | ErrorClass::Storage),
            "{error:?}"
        ),
    }
}

/// Checks what [`Entry`] promises to writers.
struct Checker;

impl EntrySink for Checker {
    fn entry(&mut self, entry: &Entry<'_>, content: &mut dyn EntryContent) -> Result<(), Error> {
        check_path(entry.path);
        assert!(entry.mode <= 0o7777 && entry.uid != u32::MAX && entry.gid != u32::MAX);
        assert!(entry.mtime.nanoseconds < 1_000_000_000);
        for (number, xattr) in entry.xattrs.iter().enumerate() {
            assert!(!xattr.name.contains(&0));
            assert!(entry.xattrs[..number].iter().all(|other| other.name != xattr.name));
        }
        if let Kind::HardLink { target } = entry.kind {
            check_path(target);
        }
        if let Kind::File { size } = entry.kind {
            let mut end = 0;
            while let Some(extent) = content.next()? {
                assert!(extent.offset >= end && !extent.data.is_empty());
                end = extent.offset + extent.data.len() as u64;
                assert!(end <= size);
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

fn check_path(path: &[u8]) {
    let sound = |component: &[u8]| {
        !component.is_empty()
            && component.len() <= 255
            && component != b"."
            && component != b".."
            && !component.contains(&0)
    };
    assert!(
        path.is_empty() || path.split(|byte| *byte == b'/').all(sound),
        "{}",
        path.escape_ascii()
    );
}
