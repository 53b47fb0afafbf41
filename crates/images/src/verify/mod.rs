//! Is everything there that the database names, and is it what it should be?

mod compare;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use unlade_extract::Difference;
use unlade_metadata::{BlobRecord, ImageContent, ImageLayer, LayerDirectoryRecord};
use unlade_oci::Digest;
use unlade_reference::Reference;

use crate::image;
use crate::listing::summary;
use crate::store::is_in_place;
use crate::{Artifact, Error, Store};

/// How closely a store is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Whether everything is there and has the right size. Reads no content.
    Quick,
    /// Every blob's digest, and every layer directory against its blob, entry by entry. Reads everything.
    Deep,
}

/// What looking at a store has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// How closely it was looked at.
    pub depth: Depth,
    /// How many blobs were looked at.
    pub blobs: u64,
    /// Their size in bytes.
    pub blob_bytes: u64,
    /// How many layer directories were looked at.
    pub directories: u64,
    /// How many entries of layer directories were held against their layers.
    pub entries: u64,
    /// Layer directories that could not be held against anything: the store does not keep their blobs, or they lie on top of
    /// something that is damaged itself.
    pub not_compared: u64,
    /// Files and directories in layer directories that this user may not read.
    pub unreadable: u64,
    /// Blobs and layer directories that a power loss may have taken, and that are read again before they are used. None
    /// after a deep look: what was found whole is noted.
    pub doubtful: u64,
    /// What is not as it should be.
    pub damage: Vec<Damage>,
}

/// Something in a store that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// What it is, and what is wrong with it.
    pub kind: DamageKind,
    /// The images and artifacts that need it.
    pub images: Vec<Reference>,
}

/// What is damaged, and how. `Display` is one sentence without its full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DamageKind {
    /// The database contradicts itself.
    Database {
        /// What SQLite, or a digest, says.
        fault: String,
    },
    /// `index.json` is not what the database gives.
    Index,
    /// A document: an index, a manifest or a configuration.
    Document {
        /// The document.
        digest: Digest,
        /// What is wrong.
        problem: BlobProblem,
    },
    /// The blob of a layer or of an artifact.
    Blob {
        /// The blob.
        digest: Digest,
        /// What is wrong.
        problem: BlobProblem,
    },
    /// A layer directory.
    Directory {
        /// Where it is.
        path: PathBuf,
        /// Its layer.
        diff_id: Digest,
        /// What is wrong.
        problem: DirectoryProblem,
        /// The database's row.
        row: i64,
    },
    /// A layer of which the store has neither a blob nor a directory.
    Layer {
        /// The layer.
        diff_id: Digest,
    },
}

/// What is wrong with a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlobProblem {
    /// It is not there.
    Missing,
    /// It has another size.
    Size {
        /// The size it should have, in bytes.
        expected: u64,
        /// The size it has, in bytes.
        actual: u64,
    },
    /// Its content is not that of its digest.
    Content {
        /// The digest of its content.
        actual: Digest,
    },
    /// It cannot be read.
    Unreadable {
        /// Why not.
        reason: String,
    },
}

/// What is wrong with a layer directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirectoryProblem {
    /// It is not there, or empty.
    Missing,
    /// It is not what the layer says.
    Differs {
        /// The first differences.
        differences: Vec<Difference>,
        /// How many there are.
        count: u64,
    },
    /// It cannot be read.
    Unreadable {
        /// Why not.
        reason: String,
    },
    /// A power loss may have taken it, and its blob is not there, or damaged: nothing tells what it should be.
    Doubtful,
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database { fault } => write!(f, "the database is damaged: {fault}"),
            Self::Index => f.write_str("index.json is not what the database gives"),
            Self::Document { digest, problem } => write!(f, "the document {digest} {problem}"),
            Self::Blob { digest, problem } => write!(f, "the blob {digest} {problem}"),
            Self::Directory { path, problem, .. } => write!(f, "the layer directory {} {problem}", path.display()),
            Self::Layer { diff_id } => write!(f, "of the layer {diff_id} there is neither a blob nor a directory"),
        }
    }
}

impl fmt::Display for BlobProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::Size { expected, actual } => write!(f, "has {actual} bytes instead of {expected}"),
            Self::Content { actual } => write!(f, "has content with the digest {actual}"),
            Self::Unreadable { reason } => write!(f, "cannot be read: {reason}"),
        }
    }
}

impl fmt::Display for DirectoryProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing or empty"),
            Self::Differs { differences, count } => {
                f.write_str("is not what its layer says: ")?;
                match differences.first() {
                    Some(first) => write!(f, "{first}")?,
                    None => f.write_str("it differs")?,
                }
                match count.saturating_sub(1) {
                    0 => Ok(()),
                    1 => f.write_str(", and 1 more difference"),
                    more => write!(f, ", and {more} more differences"),
                }
            }
            Self::Unreadable { reason } => write!(f, "cannot be read: {reason}"),
            Self::Doubtful => f.write_str(
                "was not on the disk yet when the machine was last started, and no blob is there to compare it with",
            ),
        }
    }
}

impl Store {
    /// Looks at everything that the database names. Changes nothing but the notes of what was found whole after a power
    /// loss, takes no lock for longer than a moment, and may run beside anything.
    ///
    /// What is removed or replaced by others meanwhile is no damage.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn verify(&self, depth: Depth) -> Result<Verification, Error> {
        let mut check = Check::new(self, depth)?;
        check.database()?;
        check.index()?;
        check.blobs()?;
        check.directories()?;
        check.layers()?;
        check.finish()
    }
}

/// What holding a layer directory against its layer has shown.
enum Compared {
    /// It is what its layer says.
    Whole,
    /// There is nothing that it could be held against.
    NotAtAll,
    /// It is not what it should be.
    Problem(DirectoryProblem),
}

/// One look at a store.
struct Check<'a> {
    store: &'a Store,
    contents: Vec<ImageContent>,
    artifacts: Vec<Artifact>,
    documents: BTreeSet<Digest>,
    blobs: BTreeMap<Digest, BlobRecord>,
    /// Blobs that are not to be read again: their digests were computed, and were right or wrong.
    hashed: BTreeMap<Digest, bool>,
    verified_blobs: Vec<Digest>,
    verified_directories: Vec<i64>,
    /// Those that what lies on top of them cannot be held against.
    damaged_directories: BTreeSet<PathBuf>,
    result: Verification,
}

impl<'a> Check<'a> {
    fn new(store: &'a Store, depth: Depth) -> Result<Self, Error> {
        let contents = store.database.contents()?;
        let documents = contents.iter().flat_map(|image| image.documents.iter().cloned());
        let blobs = store.database.blobs()?;
        Ok(Self {
            store,
            documents: documents.collect(),
            blobs: blobs.into_iter().map(|blob| (blob.digest.clone(), blob)).collect(),
            contents,
            artifacts: store.artifacts()?,
            hashed: BTreeMap::new(),
            verified_blobs: Vec::new(),
            verified_directories: Vec::new(),
            damaged_directories: BTreeSet::new(),
            result: Verification {
                depth,
                blobs: 0,
                blob_bytes: 0,
                directories: 0,
                entries: 0,
                not_compared: 0,
                unreadable: 0,
                doubtful: 0,
                damage: Vec::new(),
            },
        })
    }

    fn is_deep(&self) -> bool {
        self.result.depth == Depth::Deep
    }

    fn found(&mut self, kind: DamageKind, needs: impl Fn(&ImageContent) -> bool) {
        let images = self.contents.iter().filter(|image| needs(image));
        let mut images: Vec<Reference> = images.filter_map(|image| image::reference(&image.name)).collect();
        images.dedup();
        self.result.damage.push(Damage { kind, images });
    }

    fn found_in_blob(&mut self, kind: DamageKind, digest: &Digest) {
        self.found(kind, |image| {
            image.documents.contains(digest) || image.layers.iter().any(|(blob, _)| blob == digest)
        });
        let artifacts = self.artifacts.iter().filter(|artifact| artifact.needs(digest));
        if let Some(found) = self.result.damage.last_mut() {
            found
                .images
                .extend(artifacts.map(|artifact| artifact.reference.clone()));
        }
    }

    fn database(&mut self) -> Result<(), Error> {
        if !self.is_deep() {
            return Ok(());
        }
        for fault in self.store.database.check()? {
            self.found(DamageKind::Database { fault }, |_| false);
        }
        for digest in self.documents.clone() {
            let Some(bytes) = self.store.database.document(&digest)? else {
                continue;
            };
            if Digest::of(digest.algorithm(), &bytes) != digest {
                let fault = format!("the bytes of the document {digest} have another digest");
                self.found(DamageKind::Database { fault }, |image| {
                    image.documents.contains(&digest)
                });
            }
        }
        Ok(())
    }

    fn index(&mut self) -> Result<(), Error> {
        if !self.store.index_is_current()? {
            self.found(DamageKind::Index, |_| false);
        }
        Ok(())
    }

    /// Looks at every blob that is recorded, and at what is always kept: documents, and what artifacts are made of.
    fn blobs(&mut self) -> Result<(), Error> {
        for record in self.blobs.values().cloned().collect::<Vec<_>>() {
            self.result.blobs += 1;
            self.result.blob_bytes += record.size;
            let trusted = self.store.trusts(&record.durability);
            if self.is_deep() && !trusted {
                self.verified_blobs.push(record.digest.clone());
            }
            self.result.doubtful += u64::from(!trusted && !self.is_deep());
            // The blobs of layers are hashed when a directory is held against them.
            let hash = self.is_deep() && self.documents.contains(&record.digest);
            if let Some(problem) = self.blob_problem(&record.digest, record.size, hash)? {
                self.blob_damage(&record.digest, problem)?;
            }
        }
        let of_artifacts = self.artifacts.iter().flat_map(Artifact::digests);
        let needed: BTreeSet<_> = self.documents.iter().chain(of_artifacts).cloned().collect();
        for digest in needed {
            if !self.blobs.contains_key(&digest) {
                self.blob_damage(&digest, BlobProblem::Missing)?;
            }
        }
        Ok(())
    }

    fn blob_problem(&mut self, digest: &Digest, size: u64, hash: bool) -> Result<Option<BlobProblem>, Error> {
        let blobs = self.store.blobs();
        match blobs.size(digest)? {
            None => return Ok(Some(BlobProblem::Missing)),
            Some(actual) if actual != size => return Ok(Some(BlobProblem::Size { expected: size, actual })),
            Some(_) if !hash => return Ok(None),
            Some(_) => {}
        }
        let problem = match blobs.verify(digest) {
            Ok(()) => None,
            Err(unlade_blobs::Error::Damaged { actual, .. }) => Some(BlobProblem::Content { actual }),
            Err(unlade_blobs::Error::NotFound { .. }) => Some(BlobProblem::Missing),
            Err(unlade_blobs::Error::Io { source, .. }) => Some(BlobProblem::Unreadable {
                reason: source.to_string(),
            }),
            Err(error) => return Err(error.into()),
        };
        self.hashed.insert(digest.clone(), problem.is_none());
        Ok(problem)
    }

    fn blob_damage(&mut self, digest: &Digest, problem: BlobProblem) -> Result<(), Error> {
        self.hashed.insert(digest.clone(), false);
        self.verified_blobs.retain(|blob| blob != digest);
        let is_document = self.documents.contains(digest);
        // Who removes a blob removes its row first, or with it what needs it; so what has no row any more was removed meanwhile.
        let is_needed =
            (is_document && self.store.database.document(digest)?.is_some()) || self.store.is_of_artifact(digest)?;
        if self.store.database.blob(digest)?.is_none() && !is_needed {
            return Ok(());
        }
        let digest = digest.clone();
        let needed = digest.clone();
        let kind = if is_document {
            DamageKind::Document { digest, problem }
        } else {
            DamageKind::Blob { digest, problem }
        };
        self.found_in_blob(kind, &needed);
        Ok(())
    }

    fn directories(&mut self) -> Result<(), Error> {
        let directories = self.store.database.layer_directories()?;
        // What lies on top of others is held against them, so they come first.
        let (chained, own): (Vec<_>, Vec<_>) = directories
            .into_iter()
            .partition(|(_, record)| record.chain_id.is_some());
        for (row, record) in own {
            self.directory(row, &record, None)?;
        }
        let mut stacks = Vec::with_capacity(chained.len());
        for (row, record) in chained {
            let layers = match &record.chain_id {
                Some(chain_id) if self.is_deep() => self.store.database.stack(&record.diff_id, chain_id)?,
                _ => Vec::new(),
            };
            stacks.push((layers, row, record));
        }
        stacks.sort_by_key(|(layers, ..)| layers.len());
        for (layers, row, record) in stacks {
            self.directory(row, &record, Some(&layers))?;
        }
        // Blobs that no directory was held against.
        if self.is_deep() {
            for record in self.blobs.values().cloned().collect::<Vec<_>>() {
                if !self.hashed.contains_key(&record.digest)
                    && let Some(problem) = self.blob_problem(&record.digest, record.size, true)?
                {
                    self.blob_damage(&record.digest, problem)?;
                }
            }
        }
        Ok(())
    }

    /// Looks at one directory; `stack` are the layers up to its own, if it was extracted on top of others.
    fn directory(
        &mut self,
        row: i64,
        record: &LayerDirectoryRecord,
        stack: Option<&[ImageLayer]>,
    ) -> Result<(), Error> {
        self.result.directories += 1;
        let trusted = self.store.trusts(&record.durability);
        let layer = self.store.database.layer(&record.diff_id)?;
        let is_empty = match record.chain_id {
            Some(_) => record.entries == 0,
            None => layer.as_ref().is_some_and(|layer| layer.is_empty),
        };
        let path = record.path();
        let compared = if !is_in_place(&path, is_empty) {
            Compared::Problem(DirectoryProblem::Missing)
        } else if self.is_deep() {
            let summary = self.store.database.directory_summary(row)?.map(summary);
            self.compare(record, &path, &summary.unwrap_or_default(), stack)?
        } else {
            Compared::NotAtAll
        };
        match compared {
            Compared::Whole if !trusted => self.verified_directories.push(row),
            Compared::Whole => {}
            // Whatever a power loss has left of it, nothing here tells.
            Compared::NotAtAll if self.is_deep() && !trusted && record.chain_id.is_none() => {
                self.directory_damage(row, record, path, DirectoryProblem::Doubtful)?;
            }
            Compared::NotAtAll => self.result.doubtful += u64::from(!trusted),
            Compared::Problem(problem) => self.directory_damage(row, record, path, problem)?,
        }
        Ok(())
    }

    fn directory_damage(
        &mut self,
        row: i64,
        record: &LayerDirectoryRecord,
        path: PathBuf,
        problem: DirectoryProblem,
    ) -> Result<(), Error> {
        let still = self.store.database.layer_directories()?;
        if !still.iter().any(|(other, same)| *other == row && same == record) {
            return Ok(());
        }
        self.damaged_directories.insert(path.clone());
        let needed = path.clone();
        let kind = DamageKind::Directory {
            path,
            diff_id: record.diff_id.clone(),
            problem,
            row,
        };
        self.found(kind, |image| image.directories.contains(&needed));
        Ok(())
    }

    /// Looks for layers of which nothing is left at all.
    fn layers(&mut self) -> Result<(), Error> {
        let mut wanted: BTreeSet<(Digest, Digest)> = BTreeSet::new();
        for image in &self.contents {
            wanted.extend(image.layers.iter().cloned());
        }
        let directories = self.store.database.layer_directories()?;
        let extracted: BTreeSet<&Digest> = directories.iter().map(|(_, record)| &record.diff_id).collect();
        for (blob, diff_id) in wanted {
            if self.store.database.blob(&blob)?.is_none() && !extracted.contains(&diff_id) {
                let layer = (blob, diff_id.clone());
                self.found(DamageKind::Layer { diff_id }, |image| image.layers.contains(&layer));
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Verification, Error> {
        if !self.verified_blobs.is_empty() || !self.verified_directories.is_empty() {
            let (blobs, directories) = (&self.verified_blobs, &self.verified_directories);
            let database = &self.store.database;
            if !database.is_read_only() {
                database.mark_verified(blobs, directories, &self.store.boot_id)?;
            }
        }
        Ok(self.result)
    }
}
