//! The second wall: what extracts cannot write beside the target even if it tries to.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::PathBuf;

use unlade_extract::{Error, Options, Progress, extract_layer};
use unlade_oci::Algorithm;
use unlade_sys::Dir;
use unlade_test_support::{Compression, LayerBuilder};

/// A reader that writes a file each time it is read: what a flaw in a decompressor might do.
struct Taken<'a> {
    bytes: &'a [u8],
    writes: PathBuf,
}

impl Read for Taken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        fs::write(&self.writes, "owned")?;
        self.bytes.read(buffer)
    }
}

fn extract_while_writing(to: &str, confine: bool) -> (tempfile::TempDir, Result<(), Error>) {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("target")).unwrap();
    let layer = LayerBuilder::new().file("file", "x").build(Compression::Gzip);
    let reader = Taken {
        bytes: &layer.bytes,
        writes: temp.path().join(to),
    };
    let target = Dir::open(&temp.path().join("target")).unwrap();
    let options = Options {
        confine,
        ..Options::default()
    };
    let sha = Algorithm::Sha256;
    let outcome = extract_layer(reader, &target, sha, sha, &options, &Progress::new()).map(|_| ());
    (temp, outcome)
}

#[test]
fn what_extracts_cannot_write_beside_the_target() {
    let (temp, outcome) = extract_while_writing("beside", true);
    let Err(Error::Input { source, .. }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(source.kind(), ErrorKind::PermissionDenied, "{source}");
    assert!(!temp.path().join("beside").exists());
    let (temp, outcome) = extract_while_writing("target/inside", true);
    outcome.unwrap();
    assert!(temp.path().join("target/inside").exists() && temp.path().join("target/file").exists());
    // Nothing else stands in the way, and the thread that asked for it is not confined afterwards.
    let (temp, outcome) = extract_while_writing("beside", false);
    outcome.unwrap();
    assert!(temp.path().join("beside").exists());
}
