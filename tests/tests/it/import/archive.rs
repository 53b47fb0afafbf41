//! Archives to import, made and changed by hand.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};
use unlade_test_support::{Compression, Layer};

/// The entries of an archive, to be changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Archive {
    pub(super) entries: Vec<Entry>,
}

/// A file or a link.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) kind: EntryType,
    pub(super) target: String,
    pub(super) content: Vec<u8>,
}

impl Archive {
    /// Reads the files of an archive; directories say nothing.
    pub(super) fn read(path: &Path) -> Self {
        let mut archive = tar::Archive::new(File::open(path).unwrap());
        let mut entries = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let kind = entry.header().entry_type();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if kind == EntryType::Regular {
                entries.push(Entry::file(&name, &content));
            }
        }
        Self { entries }
    }

    /// Adds a file.
    pub(super) fn file(&mut self, name: &str, content: &[u8]) {
        self.entries.push(Entry::file(name, content));
    }

    /// Adds a link.
    pub(super) fn link(&mut self, name: &str, kind: EntryType, target: &str) {
        self.entries.push(Entry {
            name: name.to_owned(),
            kind,
            target: target.to_owned(),
            content: Vec::new(),
        });
    }

    /// Writes the names as they are, whatever they are.
    pub(super) fn write(&self, path: &Path) {
        let mut builder = Builder::new(File::create(path).unwrap());
        for entry in &self.entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(entry.kind);
            header.set_size(entry.content.len() as u64);
            header.set_mode(0o644);
            put(&mut header.as_old_mut().name, &entry.name);
            put(&mut header.as_old_mut().linkname, &entry.target);
            header.set_cksum();
            builder.append(&header, entry.content.as_slice()).unwrap();
        }
        builder.finish().unwrap();
    }
}

impl Entry {
    fn file(name: &str, content: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            kind: EntryType::Regular,
            target: String::new(),
            content: content.to_vec(),
        }
    }
}

fn put(field: &mut [u8; 100], text: &str) {
    field[..text.len()].copy_from_slice(text.as_bytes());
}

/// Compresses a file. Returns the new one, which is beside it.
pub(super) fn compressed(path: &Path, compression: Compression) -> PathBuf {
    let target = path.with_extension(compression.as_str());
    let bytes = Layer::from_tar(fs::read(path).unwrap(), compression).bytes;
    fs::write(&target, bytes).unwrap();
    target
}
