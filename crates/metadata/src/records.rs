//! What goes in and out of the database: plain values, one for each kind of row.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use unlade_oci::{Compression, Descriptor, Digest, Document, Index, Manifest, MediaType, Platform};

use crate::ConfigRecord;

/// The form of a layer directory: how it says that something below it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerForm {
    /// As overlayfs has it: devices 0:0, opaque attributes.
    Overlay,
    /// As the layer has it: `.wh.` files.
    Oci,
}

impl LayerForm {
    /// Returns the form's name, as it is kept.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Oci => "oci",
        }
    }
}

impl fmt::Display for LayerForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whom the files of a layer directory belong to, and where what the layer says of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerOwnership {
    /// To whom the layer says.
    Preserve,
    /// To whoever extracted it; an extended attribute has what the layer says.
    Record,
    /// To whoever extracted it.
    Squash,
    /// To whom the layer says, in the user namespace of whoever extracted it.
    Userns,
}

impl LayerOwnership {
    /// Returns its name, as it is kept.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preserve => "preserve",
            Self::Record => "record",
            Self::Squash => "squash",
            Self::Userns => "userns",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Preserve, Self::Record, Self::Squash, Self::Userns]
            .into_iter()
            .find(|ownership| ownership.as_str() == text)
    }
}

impl fmt::Display for LayerOwnership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where layer directories of one kind are: the directory that holds them, their form, and how owners are kept.
///
/// Roots are compared as text once they are absolute; whoever lets people type one resolves links first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerPlace {
    /// The directory that holds the layer directories.
    pub root: PathBuf,
    /// Their form.
    pub form: LayerForm,
    /// How owners are kept.
    pub ownership: LayerOwnership,
}

/// Whether a file or directory has reached the disk, as far as is known.
///
/// Under the boot that wrote it, the page cache has it whole. Under another one, only what was flushed may be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durability {
    /// Whether it was flushed.
    pub synced: bool,
    /// The boot it was written under.
    pub boot_id: String,
}

impl Durability {
    /// Returns whether the content may be used without a check, under the boot `boot_id`.
    pub fn is_trusted(&self, boot_id: &str) -> bool {
        self.synced || self.boot_id == boot_id
    }
}

/// A blob file of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRecord {
    /// The blob's digest.
    pub digest: Digest,
    /// Its media type, as the descriptor said that led to it.
    pub media_type: MediaType,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it has reached the disk.
    pub durability: Durability,
}

/// An index or manifest list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexRecord {
    /// The digest of `raw`.
    pub digest: Digest,
    /// Its media type.
    pub media_type: MediaType,
    /// What kind of artifact it lists, if it says so.
    pub artifact_type: Option<String>,
    /// The manifest that it belongs to, if it says so.
    pub subject: Option<Digest>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its entries in order.
    pub entries: Vec<Descriptor>,
    /// The very bytes received.
    pub raw: Vec<u8>,
}

impl From<&Document<Index>> for IndexRecord {
    fn from(document: &Document<Index>) -> Self {
        let index = document.get();
        Self {
            digest: document.digest().clone(),
            media_type: document.media_type().clone(),
            artifact_type: index.artifact_type.as_ref().map(ToString::to_string),
            subject: index.subject.as_ref().map(|subject| subject.digest.clone()),
            annotations: index.annotations.clone(),
            entries: index.manifests.clone(),
            raw: document.bytes().to_vec(),
        }
    }
}

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestRecord {
    /// The digest of `raw`.
    pub digest: Digest,
    /// Its media type.
    pub media_type: MediaType,
    /// The configuration's digest.
    pub config: Digest,
    /// The configuration's media type.
    pub config_media_type: MediaType,
    /// The configuration's size in bytes.
    pub config_size: u64,
    /// What kind of artifact it is, if it says so.
    pub artifact_type: Option<String>,
    /// The manifest that it belongs to, if it says so.
    pub subject: Option<Digest>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The very bytes received.
    pub raw: Vec<u8>,
}

impl From<&Document<Manifest>> for ManifestRecord {
    fn from(document: &Document<Manifest>) -> Self {
        let manifest = document.get();
        Self {
            digest: document.digest().clone(),
            media_type: document.media_type().clone(),
            config: manifest.config.digest.clone(),
            config_media_type: manifest.config.media_type.clone(),
            config_size: manifest.config.size,
            artifact_type: manifest.artifact_type.as_ref().map(ToString::to_string),
            subject: manifest.subject.as_ref().map(|subject| subject.digest.clone()),
            annotations: manifest.annotations.clone(),
            raw: document.bytes().to_vec(),
        }
    }
}

/// A layer, by what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRecord {
    /// The digest of the raw tar stream.
    pub diff_id: Digest,
    /// The size of the raw tar stream in bytes.
    pub raw_size: u64,
    /// How many entries it has.
    pub entries: u64,
    /// Whether it changes nothing, so that an empty directory is all there is to it.
    pub is_empty: bool,
    /// What reading or extracting it found, skipped or altered: a JSON object. A directory of the layer has its own.
    pub summary: serde_json::Value,
}

/// One blob that a layer comes as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerBlobRecord {
    /// The digest of the blob.
    pub blob: Digest,
    /// The diff ID of the layer in it.
    pub diff_id: Digest,
    /// How it is compressed, as its bytes say.
    pub compression: Compression,
    /// Its media type, as the manifest said.
    pub media_type: MediaType,
    /// Its size in bytes, compressed.
    pub size: u64,
}

/// An extracted layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerDirectoryRecord {
    /// The layer's diff ID.
    pub diff_id: Digest,
    /// The chain ID of the stack it was extracted against; none for the layer alone, which is what nearly all are.
    pub chain_id: Option<Digest>,
    /// Where it is, and its form.
    pub place: LayerPlace,
    /// The directory's name below the root.
    pub name: String,
    /// How many entries were extracted.
    pub entries: u64,
    /// Whether it has reached the disk.
    pub durability: Durability,
}

impl LayerDirectoryRecord {
    /// Returns the directory's path.
    pub fn path(&self) -> PathBuf {
        self.place.root.join(&self.name)
    }
}

/// All that one finished layer adds to the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerCommit {
    /// The layer.
    pub layer: LayerRecord,
    /// The blob it came as.
    pub source: LayerBlobRecord,
    /// The blob file, if it is kept in the store.
    pub blob: Option<BlobRecord>,
    /// The directory, if it was extracted.
    pub directory: Option<LayerDirectoryRecord>,
}

/// An image's name: what a person asked for, in full.
///
/// It has a tag or a digest. With both, the digest decides and the tag is kept to be shown, so a name with tag and
/// digest is another name than the one with the tag alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    /// The registry, such as `docker.io`.
    pub registry: String,
    /// The repository's path, such as `library/alpine`.
    pub repository: String,
    /// The tag.
    pub tag: Option<String>,
    /// The digest that was asked for.
    pub digest: Option<Digest>,
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// What to look an image up by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageKey {
    /// The name.
    pub name: ImageName,
    /// The platform as asked for, or none for whatever there is.
    pub platform: Option<Platform>,
}

/// A complete image, to be recorded under a name.
#[derive(Clone, Debug)]
pub struct ImageCommit {
    /// The name.
    pub name: ImageName,
    /// The platform as asked for; the one that was found is in the configuration.
    pub platform: Platform,
    /// The indexes on the way from the name to the manifest, outermost first; none if the name is a manifest's.
    pub indexes: Vec<IndexRecord>,
    /// The manifest.
    pub manifest: ManifestRecord,
    /// The configuration.
    pub config: ConfigRecord,
    /// The layers in order, lowest first. Each is recorded already ([`crate::Database::record_layer`]).
    pub layers: Vec<ImageLayer>,
}

/// One layer's place in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageLayer {
    /// The digest of the blob that the manifest lists.
    pub blob: Digest,
    /// The diff ID that the configuration lists.
    pub diff_id: Digest,
    /// The media type that the manifest gives.
    pub media_type: MediaType,
    /// The blob's size in bytes.
    pub size: u64,
    /// Set if the layer's files depend on those below it: its directory is the one of this chain ID.
    pub chain_id: Option<Digest>,
    /// Whether the layer was held against those below it, so that `chain_id` says which directory it needs. Without
    /// extraction it is not.
    pub is_stacked: bool,
}

/// What recording an image did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The image's row.
    pub id: i64,
    /// The manifest that the name had before, if it had another one.
    pub replaced: Option<Digest>,
}

/// An image as it is recorded, with its layers in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredImage {
    /// The image's row, for [`crate::Database::touch`].
    pub id: i64,
    /// The name it is recorded under. It differs from the one looked up if a digest led here.
    pub name: ImageName,
    /// The platform that was asked for.
    pub platform: Platform,
    /// The index that the name led to, if it did.
    pub index: Option<Digest>,
    /// The manifest.
    pub manifest: Digest,
    /// The manifest's media type.
    pub manifest_media_type: MediaType,
    /// The manifest's size in bytes.
    pub manifest_size: u64,
    /// The configuration.
    pub config: Digest,
    /// When the name last led here.
    pub pulled_at: SystemTime,
    /// When the image was last used.
    pub last_used_at: SystemTime,
    /// Its layers, lowest first.
    pub layers: Vec<StoredLayer>,
}

impl StoredImage {
    /// Returns whether there are layers, and each has a directory at the place that was looked at.
    ///
    /// That is what is recorded; whether the directories are still there is for the caller to see.
    pub fn is_extracted(&self) -> bool {
        !self.layers.is_empty() && self.layers.iter().all(|layer| layer.directory.is_some())
    }
}

/// One layer of a stored image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLayer {
    /// What the manifest and the configuration say of it.
    pub layer: ImageLayer,
    /// The size of the raw tar stream in bytes.
    pub raw_size: u64,
    /// Whether it changes nothing.
    pub is_empty: bool,
    /// Whether its blob has reached the disk; none if the store does not keep the blob.
    pub blob_file: Option<Durability>,
    /// Its directory at the place that was looked at.
    pub directory: Option<StoredDirectory>,
}

/// A recorded layer directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDirectory {
    /// The row, for [`crate::Database::forget_layer_directory`].
    pub id: i64,
    /// Its absolute path.
    pub path: PathBuf,
    /// How many entries were extracted.
    pub entries: u64,
    /// Whether it has reached the disk.
    pub durability: Durability,
}

/// What is known of one layer before it is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerState {
    /// The layer's record, if its diff ID is known.
    pub layer: Option<LayerRecord>,
    /// Its directory at the place that was looked at, of the layer alone.
    pub directory: Option<StoredDirectory>,
    /// The blob file, if the store keeps it.
    pub blob: Option<BlobRecord>,
    /// Whether the blob was read once and found to hold this layer, be it there or not.
    pub is_linked: bool,
}

/// What is known of one layer of an image that is about to be stacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackLayer {
    /// Whether its tar stream has no entries.
    pub has_no_entries: bool,
    /// The summary of the extraction that made its directory, of the layer alone, at the place that was looked at.
    pub summary: Option<serde_json::Value>,
    /// Whether an image needs it on top of this stack, in whatever form or ownership that was found out.
    pub is_needed: bool,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// The image's row.
    pub id: i64,
    /// Its name.
    pub name: ImageName,
    /// The platform that was asked for.
    pub platform: Platform,
    /// The platform that the configuration names.
    pub actual_platform: Platform,
    /// The index that the name led to, if it did.
    pub index: Option<Digest>,
    /// The manifest.
    pub manifest: Digest,
    /// The configuration; docker calls this the image ID.
    pub config: Digest,
    /// When the image was made, as its configuration says.
    pub created: Option<String>,
    /// When the name last led here.
    pub pulled_at: SystemTime,
    /// When the image was last used.
    pub last_used_at: SystemTime,
    /// How many layers it has.
    pub layers: u64,
    /// The size of its layers as blobs, in bytes.
    pub compressed_size: u64,
    /// The size of its layers as raw tar streams, in bytes.
    pub raw_size: u64,
}

/// A document that a name may point at in an image layout's `index.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: MediaType,
    /// Its size in bytes.
    pub size: u64,
}

/// A name with what it points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRecord {
    /// The name.
    pub name: ImageName,
    /// The platform that was asked for.
    pub platform: Platform,
    /// The platform that the configuration names.
    pub actual_platform: Platform,
    /// The manifest.
    pub manifest: Target,
    /// The index that the name led to, if it did.
    pub index: Option<Target>,
    /// Whether the index is kept whole, and all of it is recorded.
    pub is_whole: bool,
}

/// Everything that is known of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// The name and the layers; directories are not looked at.
    pub image: StoredImage,
    /// Every name that leads to the same manifest, this one included.
    pub names: Vec<ImageName>,
    /// The indexes on the way that are recorded, outermost first.
    pub indexes: Vec<IndexRecord>,
    /// The manifest.
    pub manifest: ManifestRecord,
    /// The configuration.
    pub config: ConfigRecord,
    /// The layers' records, lowest first.
    pub layers: Vec<LayerRecord>,
    /// All recorded directories of the layers, wherever they are.
    pub directories: Vec<LayerDirectoryRecord>,
}

/// What a removed image leaves that nothing else needs. The rows are gone; the files are for the caller to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The names that were removed, with their platforms.
    pub names: Vec<(ImageName, Platform)>,
    /// The names of artifacts that were removed.
    pub artifacts: Vec<ImageName>,
    /// The blobs that nothing refers to any more: documents and layers. Not all may be in the store.
    pub blobs: Vec<Digest>,
    /// The layers that nothing refers to any more.
    pub diff_ids: Vec<Digest>,
    /// The layer directories that nothing refers to any more.
    pub directories: Vec<LayerDirectoryRecord>,
}

/// What was not flushed yet, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsynced {
    /// Blobs.
    pub blobs: Vec<BlobRecord>,
    /// Layer directories, with their rows.
    pub directories: Vec<(i64, LayerDirectoryRecord)>,
    /// When the first of them was written.
    pub since: Option<SystemTime>,
    /// When the latest of them was written, in milliseconds since 1970: what is written again later is not among them.
    pub(crate) latest: i64,
}

impl Unsynced {
    /// Returns whether everything was flushed.
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.directories.is_empty()
    }

    /// Returns the roots of the layer directories, each once.
    pub fn roots(&self) -> Vec<&Path> {
        let mut roots: Vec<&Path> = self
            .directories
            .iter()
            .map(|(_, record)| record.place.root.as_path())
            .collect();
        roots.sort_unstable();
        roots.dedup();
        roots
    }
}
