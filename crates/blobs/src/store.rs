//! The store: what is published, what is arriving, and how one becomes the other.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use unlade_oci::{Algorithm, Digest};
use unlade_sys::{Durability, FileLock, LockRank};

use crate::ingest::{BLOB_MODE, Begin, Ingest, remove_if_there, remove_ingest};
use crate::layout::{self, BLOBS, INDEX_FILE, INGEST, PUBLIC_DIR_MODE};
use crate::{Error, Result, hash, scattered};

/// The lock of a blob that is arriving, in the order that the image store has for its locks.
pub(crate) const INGEST_LOCK: LockRank = LockRank::tried(3, "ingest");

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

/// A directory of blobs that is an OCI image layout; cheap to clone, shared by any number of threads and processes.
#[derive(Clone, Debug)]
pub struct BlobStore {
    root: Arc<Path>,
    durability: Durability,
    made_index: bool,
}

/// A blob that is arriving, or was when its holder went away.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IngestInfo {
    /// The blob.
    pub digest: Digest,
    /// How many bytes there are.
    pub bytes: u64,
    /// Whether somebody holds it.
    pub busy: bool,
    /// The process that holds it, where that can be found out; for messages only.
    pub holder: Option<u32>,
}

impl BlobStore {
    /// Opens the store in the directory `root`, and makes what is missing of it: the directory (mode 0700), the
    /// documents of the layout, the directories for blobs and ingests.
    ///
    /// A layout that another tool has made is fine. A directory that is not a layout and holds anything foreign is
    /// [`Error::NotALayout`], and stays as it is. A document of the layout that is empty, as a power loss may leave it,
    /// is written anew.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, Durability::Lazy)
    }

    /// Does as [`open`](Self::open) does, and decides whether publishing waits for the disk.
    pub fn open_with(root: &Path, durability: Durability) -> Result<Self> {
        unlade_sys::create_private_dir(root)?;
        let made_index = layout::prepare(root, durability)?;
        Ok(Self {
            root: root.into(),
            durability,
            made_index,
        })
    }

    /// Opens the store in the directory `root` for reading, if all of it is there; makes and removes nothing.
    ///
    /// What is made in a later step, such as the directory for ingests, is not looked at.
    pub fn existing(root: &Path, durability: Durability) -> Result<Option<Self>> {
        Ok(layout::is_complete(root)?.then(|| Self {
            root: root.into(),
            durability,
            made_index: false,
        }))
    }

    /// Returns the directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns whether publishing waits for the disk.
    pub const fn durability(&self) -> Durability {
        self.durability
    }

    /// Returns whether `index.json` was missing, or lost in a crash of the machine, when the store was opened. The one that
    /// is there now names nothing.
    pub const fn made_index(&self) -> bool {
        self.made_index
    }

    /// Returns where the blob is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.algorithm_dir(digest.algorithm()).join(digest.hex())
    }

    /// Returns where the blob is, or would be, while it arrives.
    pub fn ingest_path(&self, digest: &Digest) -> PathBuf {
        self.root
            .join(INGEST)
            .join(format!("{}-{}", digest.algorithm(), digest.hex()))
    }

    /// Returns the size of a published blob in bytes, `None` if there is none.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.path(digest);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            // Something else of that name is no blob. Publishing will say what is in the way.
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("look at", &path)(error)),
        }
    }

    /// Says whether the blob is published. Its content is not looked at.
    pub fn contains(&self, digest: &Digest) -> Result<bool> {
        Ok(self.size(digest)?.is_some())
    }

    /// Opens a published blob for reading; [`Error::NotFound`] if there is none.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.path(digest);
        File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NotFound { digest: digest.clone() },
            _ => Error::io("open", &path)(error),
        })
    }

    /// Reads a published blob of at most `limit` bytes, and checks it against its digest.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let path = self.path(digest);
        let file = self.open_blob(digest)?;
        let size = file.metadata().map_err(Error::io("look at", &path))?.len();
        if size > limit {
            return Err(Error::TooLarge {
                digest: digest.clone(),
                size,
                limit,
            });
        }
        let mut bytes = Vec::new();
        file.take(limit)
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", &path))?;
        let actual = Digest::of(digest.algorithm(), &bytes);
        if actual == *digest {
            Ok(bytes)
        } else {
            Err(Error::Damaged {
                digest: digest.clone(),
                actual,
                actual_size: bytes.len() as u64,
            })
        }
    }

    /// Publishes a small document that is in memory. That it is published already is fine; if what is there is damaged,
    /// it is replaced.
    ///
    /// If the bytes do not have the digest, the error is [`Error::Mismatch`].
    pub fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let actual = Digest::of(digest.algorithm(), bytes);
        let size = bytes.len() as u64;
        if actual != *digest {
            return Err(Error::Mismatch {
                expected: digest.clone(),
                expected_size: size,
                actual,
                actual_size: size,
            });
        }
        match self.read(digest, size) {
            Ok(_) => return Ok(()),
            Err(Error::NotFound { .. } | Error::Damaged { .. } | Error::TooLarge { .. }) => {}
            Err(error) => return Err(error),
        }
        let target = self.prepare_path(digest)?;
        Ok(unlade_sys::write_atomic_in(
            &self.root.join(INGEST),
            &target,
            bytes,
            BLOB_MODE,
            self.durability,
        )?)
    }

    /// Begins, or continues, the ingest of a blob of `size` bytes. Never waits.
    ///
    /// Bytes that an earlier holder has left are kept: [`Ingest::offset`] tells how many. If there are more of them
    /// than the blob has, they are dropped.
    ///
    /// If the blob is published with another size, its content decides. If that is damaged, the blob is removed and
    /// the ingest begins; if it is sound, the size asked for is wrong, which is [`Error::Mismatch`].
    pub fn begin(&self, digest: &Digest, size: u64) -> Result<Begin> {
        let _order = unlade_sys::enter(INGEST_LOCK);
        if self.size(digest)? == Some(size) {
            self.remove_leftover(digest)?;
            return Ok(Begin::Present);
        }
        let path = self.ingest_path(digest);
        let Some(lock) = FileLock::try_exclusive(&path)? else {
            return Ok(Begin::Busy);
        };
        // The holder before may have published it while we were on the way to the lock.
        match self.is_sound(digest, size) {
            Ok(false) => {}
            settled => {
                remove_ingest(&path)?;
                return settled.map(|_| Begin::Present);
            }
        }
        Ingest::resume(self.clone(), digest.clone(), size, lock).map(Begin::Owned)
    }

    /// Hashes a published blob; [`Error::Damaged`] if its content is not what its name says.
    pub fn verify(&self, digest: &Digest) -> Result<()> {
        let path = self.path(digest);
        let (actual, actual_size) =
            hash(self.open_blob(digest)?, digest.algorithm()).map_err(Error::io("read", &path))?;
        if actual == *digest {
            Ok(())
        } else {
            Err(Error::Damaged {
                digest: digest.clone(),
                actual,
                actual_size,
            })
        }
    }

    /// Removes a published blob. Returns its size in bytes, `None` if there was none.
    ///
    /// Whoever has it open can read on. That nobody needs it is for the caller to know.
    pub fn remove(&self, digest: &Digest) -> Result<Option<u64>> {
        let size = self.size(digest)?;
        if size.is_some() && remove_if_there(&self.path(digest))? {
            Ok(size)
        } else {
            Ok(None)
        }
    }

    /// Lists the published blobs and their sizes in bytes, in the order of their digests.
    ///
    /// Files whose names are not digests are not blobs, and are left out.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>> {
        let mut blobs = Vec::new();
        for algorithm in ALGORITHMS {
            for (name, metadata) in files_in(&self.algorithm_dir(algorithm))? {
                if let Ok(digest) = format!("{algorithm}:{name}").parse() {
                    blobs.push((digest, metadata.len()));
                }
            }
        }
        blobs.sort();
        Ok(blobs)
    }

    /// Lists the blobs that are arriving, or that a holder has left, in the order of their digests.
    ///
    /// To find out whether one is held, its lock is tried for a moment; a [`begin`](Self::begin) at that very moment
    /// finds it busy.
    pub fn ingests(&self) -> Result<Vec<IngestInfo>> {
        let mut ingests = Vec::new();
        for (name, _) in files_in(&self.root.join(INGEST))? {
            let digest = name
                .split_once('-')
                .and_then(|(name, hex)| format!("{name}:{hex}").parse().ok());
            if let Some(digest) = digest
                && let Some(info) = self.ingest(&digest)?
            {
                ingests.push(info);
            }
        }
        ingests.sort_by(|a, b| a.digest.cmp(&b.digest));
        Ok(ingests)
    }

    /// Tells about one blob that is arriving; `None` if it is not. As [`ingests`](Self::ingests).
    pub fn ingest(&self, digest: &Digest) -> Result<Option<IngestInfo>> {
        let path = self.ingest_path(digest);
        let bytes = match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.len() == 0 => scattered::bytes(&path),
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("look at", &path)(error)),
        };
        let busy = match FileLock::try_shared_existing(&path) {
            Ok(lock) => lock.is_none(),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let holder = if busy { unlade_sys::lock_holder(&path) } else { None };
        Ok(Some(IngestInfo {
            digest: digest.clone(),
            bytes,
            busy,
            holder,
        }))
    }

    /// Removes what a holder has left of a blob. Returns how many bytes, `None` if there was nothing.
    ///
    /// [`Error::Busy`] if somebody holds it.
    pub fn discard_ingest(&self, digest: &Digest) -> Result<Option<u64>> {
        let _order = unlade_sys::enter(INGEST_LOCK);
        let path = self.ingest_path(digest);
        let locked = match FileLock::try_exclusive_existing(&path) {
            // An older version that has published the blob leaves what it does not know.
            Err(error) if error.is_not_found() && scattered::is_there(&path) => FileLock::try_exclusive(&path),
            locked => locked,
        };
        match locked {
            Ok(Some(lock)) => {
                let bytes = lock.file().metadata().map_err(Error::io("look at", &path))?.len();
                let bytes = bytes.max(scattered::bytes(&path));
                Ok(remove_ingest(&path)?.then_some(bytes))
            }
            Ok(None) => Err(Error::Busy { digest: digest.clone() }),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what is wrong of a blob: the published one if its content is not what its name says, and what a holder has
    /// left. Returns false, and changes nothing, if somebody is at work on it.
    pub fn discard(&self, digest: &Digest) -> Result<bool> {
        let _order = unlade_sys::enter(INGEST_LOCK);
        let path = self.ingest_path(digest);
        // Nobody publishes without this lock, so what is looked at is what is removed.
        let Some(_lock) = FileLock::try_exclusive(&path)? else {
            return Ok(false);
        };
        let looked_at = match self.verify(digest) {
            Err(Error::Damaged { .. }) => self.remove(digest).map(drop),
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        };
        remove_ingest(&path)?;
        looked_at.map(|()| true)
    }

    /// Replaces `index.json` in one step.
    ///
    /// [`Error::InvalidIndex`] if the bytes are not an image index (image-spec, `image-index.md`); whether the blobs it
    /// names are there is not checked.
    pub fn write_index(&self, bytes: &[u8]) -> Result<()> {
        layout::write_index(&self.root, bytes, self.durability)
    }

    /// Returns the bytes of `index.json`.
    pub fn read_index(&self) -> Result<Vec<u8>> {
        let path = self.root.join(INDEX_FILE);
        fs::read(&path).map_err(Error::io("read", &path))
    }

    /// Returns where the blob is to be, and makes the directory of its algorithm.
    pub(crate) fn prepare_path(&self, digest: &Digest) -> Result<PathBuf> {
        unlade_sys::create_dir(&self.algorithm_dir(digest.algorithm()), PUBLIC_DIR_MODE)?;
        Ok(self.path(digest))
    }

    fn algorithm_dir(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join(BLOBS).join(algorithm.as_str())
    }

    /// Says whether the blob is published with this size. One of another size is looked into, and removed if damaged.
    fn is_sound(&self, digest: &Digest, size: u64) -> Result<bool> {
        let actual_size = match self.size(digest)? {
            None => return Ok(false),
            Some(actual) if actual == size => return Ok(true),
            Some(actual) => actual,
        };
        match self.verify(digest) {
            Ok(()) => Err(Error::Mismatch {
                expected: digest.clone(),
                expected_size: size,
                actual: digest.clone(),
                actual_size,
            }),
            Err(Error::Damaged { .. }) => {
                tracing::warn!(%digest, size, actual_size, "removing a damaged blob, to be fetched again");
                self.remove(digest)?;
                Ok(false)
            }
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the partial file of a published blob, unless somebody holds it.
    fn remove_leftover(&self, digest: &Digest) -> Result<()> {
        match self.discard_ingest(digest) {
            Ok(_) | Err(Error::Busy { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Returns the regular files of a directory that have names in UTF-8; none if there is no such directory.
fn files_in(directory: &Path) -> Result<Vec<(String, fs::Metadata)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", directory)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("read", directory))?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        // It may have been removed or renamed since it was listed.
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() => files.push((name, metadata)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("look at", &entry.path())(error)),
        }
    }
    Ok(files)
}
