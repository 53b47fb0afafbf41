//! An archive as it streams by: recognised, read with the checks of a layer, and staged file by file.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::PathBuf;
use std::sync::Mutex;

use unlade_extract::{Entry, EntryContent, EntrySink, Kind, Limits, Progress};
use unlade_metadata::Lease;
use unlade_oci::{Algorithm, Compression, Digest, Hasher};

use super::{Contents, Staged, StagedFile, Supply, SupplyForm, docker, layout, read_described};
use crate::layers::LayerRoot;
use crate::{Error, Needed, StagedLayer, Store};

/// How many files and links an archive may have: each of them takes memory until its end.
const MAX_ENTRIES: u64 = 100_000;
/// How many links are followed from one name to a file.
const MAX_LINKS: usize = 16;
/// The largest `index.json` or `manifest.json`, in bytes.
pub(super) const MAX_DESCRIPTION_BYTES: u64 = 4 << 20;

/// What the files of an archive are known by.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<Vec<u8>, Item>);

#[derive(Clone, Debug)]
enum Item {
    File(StagedFile),
    /// Another name of what this path names.
    Link(Vec<u8>),
}

impl Names {
    /// Finds the file of a name, by way of links if need be.
    pub(super) fn file(&self, name: &str) -> Option<&StagedFile> {
        let mut path = clean(name.as_bytes());
        for _ in 0..=MAX_LINKS {
            match self.0.get(&path)? {
                Item::File(file) => return Some(file),
                Item::Link(target) => path.clone_from(target),
            }
        }
        None
    }
}

impl Store {
    /// Reads an archive to its end: of an OCI image layout, or docker's; plain, or compressed with gzip or zstd. Where it is
    /// both, as docker writes it since version 25, it is taken for the layout.
    ///
    /// What it holds lies in a stage of this store until the result is dropped. `limits` are held to as by a layer:
    /// `total_raw_bytes` and `ratio` bound what a compressed archive can grow to.
    ///
    /// # Errors
    /// The input is no such archive, is malformed, or cannot be read; or the store cannot be written.
    pub fn receive_archive<R: Read + Send>(
        &self,
        mut input: R,
        limits: &Limits,
        progress: &Progress,
    ) -> Result<Supply, Error> {
        let head = read_head(&mut input)?;
        refuse_other_compression(&head)?;
        let input = io::Cursor::new(head).chain(input);
        let mut receiver = Receiver {
            store: self,
            stage: LayerRoot::stages_of_store(&self.root)?.stage()?,
            names: Names::default(),
            leases: Vec::new(),
            count: 0,
            failure: None,
        };
        let limits = Limits {
            raw_bytes: limits.total_raw_bytes,
            file_bytes: None,
            entries: MAX_ENTRIES,
            ..limits.clone()
        };
        let sha256 = Algorithm::Sha256;
        let read = unlade_extract::read_layer(input, &mut receiver, sha256, sha256, &limits, progress);
        if let Some(failure) = receiver.failure {
            return Err(failure);
        }
        read.map_err(|source| Error::Archive {
            source: Box::new(source),
        })?;
        let Receiver {
            stage, names, leases, ..
        } = receiver;
        supply(stage, names, leases)
    }
}

fn supply(stage: StagedLayer, names: Names, leases: Vec<Lease>) -> Result<Supply, Error> {
    let (form, images, made) = if let Some(index) = names.file("index.json") {
        let bytes = read_described(index, MAX_DESCRIPTION_BYTES, "index.json")?;
        (SupplyForm::OciArchive, layout::images(bytes)?, HashMap::new())
    } else if let Some(manifest) = names.file("manifest.json") {
        let bytes = read_described(manifest, MAX_DESCRIPTION_BYTES, "manifest.json")?;
        let (images, made) = docker::images(&bytes, &names)?;
        (SupplyForm::DockerArchive, images, made)
    } else {
        let problem =
            "it has neither an index.json, as an OCI image layout has, nor a manifest.json, as docker's archive has";
        return Err(Error::NotImportable {
            problem: problem.to_owned(),
        });
    };
    let mut files = HashMap::new();
    let mut wrong = HashMap::new();
    for (name, item) in names.0 {
        let Item::File(file) = item else { continue };
        if let Some(digest) = blob_of(&name).filter(|digest| *digest != file.digest) {
            wrong.insert(digest, file.clone());
        }
        files.insert(file.digest.clone(), file);
    }
    Ok(Supply {
        form,
        images,
        contents: Contents::Archive(Box::new(Staged {
            files: Mutex::new(files),
            made,
            wrong,
            _stage: stage,
        })),
        _leases: leases,
    })
}

/// Stages the files of an archive.
struct Receiver<'a> {
    store: &'a Store,
    stage: StagedLayer,
    names: Names,
    leases: Vec<Lease>,
    count: u64,
    /// What has failed that is not the archive's fault.
    failure: Option<Error>,
}

impl EntrySink for Receiver<'_> {
    fn entry(&mut self, entry: &Entry<'_>, content: &mut dyn EntryContent) -> Result<(), unlade_extract::Error> {
        let taken = match entry.kind {
            Kind::File { size } => self.file(entry.path, size, content),
            Kind::HardLink { target } => {
                self.link(entry.path, target.to_vec());
                Ok(())
            }
            Kind::Symlink { target } => {
                self.link(entry.path, beside(entry.path, target));
                Ok(())
            }
            // Directories say nothing, and nothing else belongs here.
            _ => Ok(()),
        };
        taken.map_err(|failed| match failed {
            Failed::Archive(error) => error,
            Failed::Store(error) => {
                self.failure = Some(error);
                unlade_extract::Error::Cancelled
            }
        })
    }

    fn finish(&mut self) -> Result<(), unlade_extract::Error> {
        Ok(())
    }
}

/// Whose fault it is.
enum Failed {
    Archive(unlade_extract::Error),
    Store(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Receiver<'_> {
    fn link(&mut self, path: &[u8], target: Vec<u8>) {
        self.names.0.insert(path.to_vec(), Item::Link(target));
    }

    fn file(&mut self, path: &[u8], size: u64, content: &mut dyn EntryContent) -> Result<(), Failed> {
        let named = blob_of(path);
        if let Some(digest) = &named
            && self.is_in_store(digest, size)?
        {
            return Ok(());
        }
        let algorithm = named.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let (file, staged) = self.make()?;
        let file = copy(file, &staged, size, algorithm, content)?;
        self.names.0.insert(path.to_vec(), Item::File(file));
        Ok(())
    }

    /// Tells whether the store has the blob, and if so protects it until the import is over.
    fn is_in_store(&mut self, digest: &Digest, size: u64) -> Result<bool, Error> {
        let descriptor = unlade_oci::Descriptor::new("".into(), digest.clone(), size);
        if !self.store.has_blob(&descriptor)? {
            return Ok(false);
        }
        let mut needed = Needed::default();
        needed.blobs.insert(digest.clone());
        let lease = self.store.lease(&needed)?;
        // It may have been removed before the lease was there.
        let is_there = self.store.has_blob(&descriptor)?;
        if is_there {
            self.leases.push(lease);
        }
        Ok(is_there)
    }

    fn make(&mut self) -> Result<(File, PathBuf), Error> {
        let name = self.count.to_string();
        self.count += 1;
        let directory = self.stage.directory();
        let file = directory.create_file(OsStr::new(&name), 0o600)?;
        Ok((file, directory.path().join(name)))
    }
}

/// Writes the content of an entry to a file, and hashes it.
fn copy(
    mut file: File,
    path: &std::path::Path,
    size: u64,
    algorithm: Algorithm,
    content: &mut dyn EntryContent,
) -> Result<StagedFile, Failed> {
    let mut hasher = Hasher::new(algorithm);
    let mut head = Vec::with_capacity(Compression::MAGIC_LEN);
    let sparse = |path: &std::path::Path| {
        Failed::Store(Error::NotImportable {
            problem: format!("the file {} of it has holes", path.display()),
        })
    };
    while let Some(extent) = content.next().map_err(Failed::Archive)? {
        // No tool writes these files with holes; to fill them would let a few bytes ask for any amount of work.
        if extent.offset != hasher.length() {
            return Err(sparse(path));
        }
        let missing = Compression::MAGIC_LEN - head.len();
        head.extend_from_slice(&extent.data[..missing.min(extent.data.len())]);
        hasher.update(extent.data);
        file.write_all(extent.data)
            .map_err(|source| Error::from(unlade_sys::Error::new("write", path, source)))?;
    }
    if hasher.length() != size {
        return Err(sparse(path));
    }
    Ok(StagedFile {
        path: path.to_owned(),
        size,
        digest: hasher.finish(),
        compression: Compression::of_magic(&head),
    })
}

/// Returns the digest that a name in an archive of a layout promises.
fn blob_of(path: &[u8]) -> Option<Digest> {
    let rest = std::str::from_utf8(path).ok()?.strip_prefix("blobs/")?;
    let (algorithm, hex) = rest.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// Returns what a symbolic link at `path` leads to, as a name in the archive.
fn beside(path: &[u8], target: &[u8]) -> Vec<u8> {
    let parent = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    if target.starts_with(b"/") {
        return clean(target);
    }
    clean(&[&path[..parent], target].concat())
}

/// Cleans a name: no leading slash, no `.`, and each `..` takes away what is before it, or nothing at the root.
fn clean(name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// Reads the first bytes, by which a form is known.
fn read_head(input: &mut impl Read) -> Result<Vec<u8>, Error> {
    let mut head = Vec::new();
    let read = input.take(6).read_to_end(&mut head);
    read.map_err(|source| Error::Archive {
        source: Box::new(unlade_extract::Error::Input { offset: 0, source }),
    })?;
    if head.is_empty() {
        return Err(Error::NotImportable {
            problem: "it is empty".to_owned(),
        });
    }
    Ok(head)
}

fn refuse_other_compression(head: &[u8]) -> Result<(), Error> {
    let compression = if head.starts_with(b"\xfd7zXZ\0") {
        "xz"
    } else if head.starts_with(b"BZh") {
        "bzip2"
    } else if head.starts_with(&[0x04, 0x22, 0x4d, 0x18]) {
        "lz4"
    } else {
        return Ok(());
    };
    Err(Error::NotImportable {
        problem: format!("it is compressed with {compression}; decompress it first, or compress it with gzip or zstd"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_names_in_the_archive_and_nothing_else() {
        for (path, target, expected) in [
            ("a/layer.tar", "../b/layer.tar", "b/layer.tar"),
            ("a/layer.tar", "../../../etc/shadow", "etc/shadow"),
            ("layer.tar", "./x", "x"),
            ("a/b/c", "/x//y/", "x/y"),
            ("a", "..", ""),
        ] {
            let found = beside(path.as_bytes(), target.as_bytes());
            assert_eq!(found, expected.as_bytes(), "{path} -> {target}");
        }
    }

    #[test]
    fn a_circle_of_links_names_nothing() {
        let link = |target: &str| Item::Link(target.as_bytes().to_vec());
        let names = Names(HashMap::from([
            (b"a".to_vec(), link("b")),
            (b"b".to_vec(), link("a")),
            (b"c".to_vec(), link("nothing")),
        ]));
        for name in ["a", "b", "c", "d", ""] {
            assert!(names.file(name).is_none(), "{name}");
        }
    }

    #[test]
    fn blobs_are_known_by_their_names() {
        let digest = Digest::sha256("x");
        let path = format!("blobs/sha256/{}", digest.hex());
        assert_eq!(blob_of(path.as_bytes()), Some(digest));
        for other in [
            "blobs/sha256/..",
            "blobs/md5/00",
            "blobs/sha256",
            "x/blobs/sha256/00",
            "",
        ] {
            assert_eq!(blob_of(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn other_compressions_are_told_by_name() {
        for (head, name) in [
            (&b"\xfd7zXZ\0"[..], "xz"),
            (b"BZh91A", "bzip2"),
            (b"\x04\x22\x4d\x18aa", "lz4"),
        ] {
            let error = refuse_other_compression(head).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("decompress it first"), "{error}");
        }
        assert!(refuse_other_compression(b"\x1f\x8b\x08").is_ok());
    }
}
