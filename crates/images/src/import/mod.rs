//! Images from files: an OCI image layout, an archive of one, or docker's archive.
//!
//! What was found is a [`Supply`]: the images with their names, and a source of documents and blobs that stands where
//! otherwise a registry stands. Nothing of it is visible in the store until a pull's own stages have brought it in.
//!
//! **A directory** is read in place, and only what an image needs is read at all.
//!
//! **An archive** is a stream, and what describes its content may come last. So each file goes into a stage as it passes by,
//! and is hashed on the way; what no image needs goes with the stage, which a sweep removes if this process dies. What an
//! image needs is renamed into the ingest of its blob: no byte is written twice. Blobs that the store has are not written at
//! all.
//!
//! Names in an archive are keys of a map and nothing else. Neither they nor the targets of links are ever paths on a disk.

mod archive;
mod docker;
mod layout;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use unlade_blobs::Ingest;
use unlade_metadata::Lease;
use unlade_oci::{Compression, Descriptor, Digest};
use unlade_sys::Dir;

use crate::{Error, StagedLayer};

/// How many bytes of a blob are read at a time.
const COPY_BYTES: usize = 256 * 1024;

/// The annotations by which an image layout names an entry: the specification's, and the one that containerd and docker read.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const IMAGE_NAME: &str = "io.containerd.image.name";

/// The form in which images came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupplyForm {
    /// An OCI image layout, a directory.
    OciLayout,
    /// An OCI image layout in a tar archive.
    OciArchive,
    /// What `docker save` wrote for ten years.
    DockerArchive,
}

/// Images that lie outside of the store and of any registry, with all that belongs to them.
#[derive(Debug)]
pub struct Supply {
    form: SupplyForm,
    images: Vec<SuppliedImage>,
    contents: Contents,
    /// On the blobs that are in the store already and were not taken from the archive.
    _leases: Vec<Lease>,
}

/// An image of a [`Supply`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SuppliedImage {
    /// What the archive calls it.
    pub names: Vec<SuppliedName>,
    /// The manifest or index.
    pub document: Descriptor,
}

impl SuppliedImage {
    /// Puts an image together.
    pub fn new(names: Vec<SuppliedName>, document: Descriptor) -> Self {
        Self { names, document }
    }
}

/// A name as it stands in an archive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SuppliedName {
    /// A reference, as a person would write it.
    Reference(String),
    /// A tag alone: what it is a tag of is not said.
    Tag(String),
}

impl SuppliedName {
    /// Tells a tag from a reference. A lone word is a tag: so it is used in image layouts.
    fn of_annotation(text: &str) -> Self {
        if text.contains(['/', ':', '@']) {
            Self::Reference(text.to_owned())
        } else {
            Self::Tag(text.to_owned())
        }
    }
}

impl std::fmt::Display for SuppliedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reference(text) | Self::Tag(text) => f.write_str(text),
        }
    }
}

#[derive(Debug)]
enum Contents {
    Layout(Dir),
    Archive(Box<Staged>),
}

/// Documents by their digests.
type Made = HashMap<Digest, Vec<u8>>;

/// The files of an archive.
#[derive(Debug)]
struct Staged {
    /// By content. One is gone once it is in the store.
    files: Mutex<HashMap<Digest, StagedFile>>,
    /// What the archive lacks and was made from what it has.
    made: Made,
    /// What has the name of a blob and another content, by the name.
    wrong: HashMap<Digest, StagedFile>,
    _stage: StagedLayer,
}

impl Staged {
    fn files(&self) -> MutexGuard<'_, HashMap<Digest, StagedFile>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file of an archive, with what was found while it passed by.
#[derive(Clone, Debug)]
struct StagedFile {
    path: PathBuf,
    size: u64,
    digest: Digest,
    compression: Compression,
}

impl Supply {
    /// Returns the form.
    pub fn form(&self) -> SupplyForm {
        self.form
    }

    /// Tells whether the blobs are on the disk of the store already and have only to be given their names.
    pub fn is_staged(&self) -> bool {
        matches!(self.contents, Contents::Archive(_))
    }

    /// Returns the images, in the order in which they are listed.
    pub fn images(&self) -> &[SuppliedImage] {
        &self.images
    }

    /// Returns a document, unchecked; `None` if it is not among what was supplied.
    ///
    /// # Errors
    /// It is larger than `limit`, in bytes, or cannot be read.
    pub fn document(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        if let Contents::Archive(staged) = &self.contents
            && let Some(bytes) = staged.made.get(digest)
        {
            return Ok(Some(bytes.clone()));
        }
        let Some((file, path)) = self.open(digest)? else {
            self.refuse_wrong(digest)?;
            return Ok(None);
        };
        read_limited(file, &path, digest, limit).map(Some)
    }

    /// Puts all of a blob into its ingest, which must be nobody's else and without followers if there is nothing in it yet.
    ///
    /// Counts in `received`, and gives up soon after `stop` is set. The content is not checked: the ingest's follower does
    /// that. Tells whether the blob was there.
    ///
    /// # Errors
    /// The source cannot be read or has another size, or the store cannot be written.
    pub fn fill(&self, ingest: &mut Ingest, received: &AtomicU64, stop: &AtomicBool) -> Result<bool, Error> {
        if let Contents::Archive(staged) = &self.contents {
            let found = staged.files().remove(ingest.digest());
            let Some(found) = found else {
                self.refuse_wrong(ingest.digest())?;
                return Ok(false);
            };
            ingest.take_file(&found.path)?;
            received.store(ingest.arrived(), Ordering::Relaxed);
            return Ok(true);
        }
        let Some((mut file, path)) = self.open(ingest.digest())? else {
            return Ok(false);
        };
        let failed = |source| unlade_sys::Error::new("read", &path, source);
        file.seek(SeekFrom::Start(ingest.offset())).map_err(failed)?;
        let mut buffer = vec![0; COPY_BYTES];
        while !stop.load(Ordering::Relaxed) {
            let read = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(failed(source).into()),
            };
            ingest.append(&buffer[..read])?;
            received.store(ingest.arrived(), Ordering::Relaxed);
        }
        Ok(true)
    }

    /// Fails if something else has the name of a blob that is not there.
    fn refuse_wrong(&self, digest: &Digest) -> Result<(), Error> {
        if let Contents::Archive(staged) = &self.contents
            && let Some(file) = staged.wrong.get(digest)
        {
            return Err(Error::WrongBlob {
                expected: digest.clone(),
                expected_size: file.size,
                actual: file.digest.clone(),
                actual_size: file.size,
            });
        }
        Ok(())
    }

    fn open(&self, digest: &Digest) -> Result<Option<(File, PathBuf)>, Error> {
        match &self.contents {
            Contents::Layout(root) => layout::open_blob(root, digest),
            Contents::Archive(staged) => {
                let files = staged.files();
                let Some(found) = files.get(digest) else {
                    return Ok(None);
                };
                let file =
                    File::open(&found.path).map_err(|source| unlade_sys::Error::new("open", &found.path, source))?;
                Ok(Some((file, found.path.clone())))
            }
        }
    }
}

/// Reads a small file.
fn read_limited(file: File, path: &std::path::Path, digest: &Digest, limit: u64) -> Result<Vec<u8>, Error> {
    let failed = |source| unlade_sys::Error::new("read", path, source);
    let size = file.metadata().map_err(failed)?.len();
    if size > limit {
        return Err(unlade_blobs::Error::TooLarge {
            digest: digest.clone(),
            size,
            limit,
        }
        .into());
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Reads a file of the stage that describes the others, of at most `limit` bytes.
fn read_described(file: &StagedFile, limit: u64, name: &'static str) -> Result<Vec<u8>, Error> {
    if file.size > limit {
        let problem = format!("its {name} has {} bytes, and the limit is {limit}", file.size);
        return Err(Error::NotImportable { problem });
    }
    fs::read(&file.path).map_err(|source| unlade_sys::Error::new("read", &file.path, source).into())
}
