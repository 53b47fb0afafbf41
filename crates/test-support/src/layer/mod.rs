//! Layers written in a small tar language.

mod compress;
mod entry;

use std::fmt;

use bytes::Bytes;
use tar::{EntryType, Header};
use unlade_oci::{Algorithm, Descriptor, Digest, MediaType};

use crate::Compression;
pub(crate) use compress::gzip_writer;
pub use entry::Entry;

/// Builds one layer, entry by entry, in the order of the calls.
///
/// The same calls give the same bytes on every machine: owners, times and modes are 0:0, 1970 and the usual ones
/// unless set. Nothing is checked, so that hostile archives can be written as easily as sane ones.
///
/// ```
/// use unlade_test_support::{Compression, LayerBuilder};
///
/// let layer = LayerBuilder::new()
///     .dir("etc", 0o755)
///     .file_with("etc/shadow", "root:*:\n", |entry| entry.mode(0o640).owner(0, 42))
///     .whiteout("etc/motd")
///     .build(Compression::Gzip);
/// assert_eq!(layer.media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
/// ```
#[derive(Clone, Default)]
pub struct LayerBuilder {
    archive: Vec<u8>,
    after_end: Vec<u8>,
    no_end_marker: bool,
}

impl fmt::Debug for LayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerBuilder")
            .field("archive_bytes", &self.archive.len())
            .finish_non_exhaustive()
    }
}

impl LayerBuilder {
    /// Starts a layer without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry described in full.
    #[must_use]
    pub fn entry(mut self, entry: &Entry) -> Self {
        self.push(entry);
        self
    }

    /// Adds an entry described in full, for loops.
    pub fn push(&mut self, entry: &Entry) {
        entry.write_to(&mut self.archive);
    }

    /// Adds a directory.
    #[must_use]
    pub fn dir(self, path: impl AsRef<[u8]>, mode: u32) -> Self {
        self.entry(&Entry::dir(path, mode))
    }

    /// Adds a directory whose details `details` fills in.
    #[must_use]
    pub fn dir_with(self, path: impl AsRef<[u8]>, mode: u32, details: impl FnOnce(Entry) -> Entry) -> Self {
        self.entry(&details(Entry::dir(path, mode)))
    }

    /// Adds a regular file, mode 0644.
    #[must_use]
    pub fn file(self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.entry(&Entry::file(path, content))
    }

    /// Adds a regular file whose details `details` fills in.
    #[must_use]
    pub fn file_with(
        self,
        path: impl AsRef<[u8]>,
        content: impl AsRef<[u8]>,
        details: impl FnOnce(Entry) -> Entry,
    ) -> Self {
        self.entry(&details(Entry::file(path, content)))
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(&Entry::symlink(path, target))
    }

    /// Adds a hard link.
    #[must_use]
    pub fn hardlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(&Entry::hardlink(path, target))
    }

    /// Adds a character device.
    #[must_use]
    pub fn char_device(self, path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        self.entry(&Entry::char_device(path, major, minor))
    }

    /// Adds a block device.
    #[must_use]
    pub fn block_device(self, path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        self.entry(&Entry::block_device(path, major, minor))
    }

    /// Adds a FIFO.
    #[must_use]
    pub fn fifo(self, path: impl AsRef<[u8]>) -> Self {
        self.entry(&Entry::fifo(path))
    }

    /// Adds the whiteout of `path`: an empty file named `.wh.` and the last component.
    #[must_use]
    pub fn whiteout(self, path: impl AsRef<[u8]>) -> Self {
        let path = path.as_ref();
        let name_at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        self.file([&path[..name_at], b".wh.", &path[name_at..]].concat(), "")
    }

    /// Adds the marker that makes `dir` opaque (`.wh..wh..opq`); `""` is the root.
    #[must_use]
    pub fn opaque(self, dir: impl AsRef<[u8]>) -> Self {
        let dir = dir.as_ref();
        let slash: &[u8] = if dir.is_empty() || dir.ends_with(b"/") {
            b""
        } else {
            b"/"
        };
        self.file([dir, slash, b".wh..wh..opq"].concat(), "")
    }

    /// Adds a sparse file in the old GNU form: `pieces` of data at offsets, holes between and behind.
    ///
    /// The format stores whole blocks: every piece but the last is a multiple of 512 bytes long.
    #[must_use]
    pub fn gnu_sparse(mut self, path: impl AsRef<[u8]>, real_size: u64, pieces: &[(u64, &[u8])]) -> Self {
        entry::write_gnu_sparse(&mut self.archive, path.as_ref(), real_size, pieces);
        self
    }

    /// Adds a sparse file in the PAX 1.0 form.
    #[must_use]
    pub fn pax_sparse(mut self, path: impl AsRef<[u8]>, real_size: u64, pieces: &[(u64, &[u8])]) -> Self {
        entry::write_pax_sparse(&mut self.archive, path.as_ref(), real_size, pieces);
        self
    }

    /// Adds a global PAX header: records for all entries that follow.
    #[must_use]
    pub fn pax_global(mut self, records: &[(&str, &str)]) -> Self {
        let records: Vec<_> = records
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect();
        entry::write_pax(&mut self.archive, EntryType::XGlobalHeader, &records);
        self
    }

    /// Adds a header as it is (the caller sets size and checksum) and `content`, padded to a block.
    #[must_use]
    pub fn raw_entry(mut self, header: &Header, content: &[u8]) -> Self {
        self.archive.extend_from_slice(header.as_bytes());
        entry::write_padded(&mut self.archive, content);
        self
    }

    /// Adds bytes as they are, without padding.
    #[must_use]
    pub fn raw_bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.archive.extend_from_slice(bytes.as_ref());
        self
    }

    /// Leaves out the two zero blocks that end an archive.
    #[must_use]
    pub fn no_end_marker(mut self) -> Self {
        self.no_end_marker = true;
        self
    }

    /// Appends bytes behind the end marker: part of the diff ID, not of any entry.
    #[must_use]
    pub fn after_end(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.after_end.extend_from_slice(bytes.as_ref());
        self
    }

    /// Returns the uncompressed archive.
    pub fn tar(&self) -> Bytes {
        let mut archive = self.archive.clone();
        if !self.no_end_marker {
            archive.resize(archive.len() + 1024, 0);
        }
        archive.extend_from_slice(&self.after_end);
        archive.into()
    }

    /// Returns the layer, compressed as one gzip member or one zstd frame.
    pub fn build(&self, compression: Compression) -> Layer {
        Layer::from_tar(self.tar(), compression)
    }

    /// Returns the layer as `members` gzip members, one behind the other.
    pub fn multi_member_gzip(&self, members: usize) -> Layer {
        let raw = self.tar();
        Layer::new(compress::gzip_members(&raw, members), Compression::Gzip, raw)
    }

    /// Returns the layer as `frames` zstd frames with skippable frames between them.
    pub fn multi_frame_zstd(&self, frames: usize) -> Layer {
        let raw = self.tar();
        Layer::new(compress::zstd_frames(&raw, frames), Compression::Zstd, raw)
    }
}

/// A layer as a registry serves it.
#[derive(Clone)]
pub struct Layer {
    /// The blob: compressed bytes.
    pub bytes: Bytes,
    /// The uncompressed archive.
    pub raw: Bytes,
    /// The digest of [`Self::bytes`].
    pub digest: Digest,
    /// The digest of [`Self::raw`].
    pub diff_id: Digest,
    /// The OCI media type; an image in docker's form writes docker's name for it.
    pub media_type: String,
    /// The compression of [`Self::bytes`].
    pub compression: Compression,
    /// URLs for the descriptor, as foreign layers have.
    pub urls: Vec<String>,
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer")
            .field("digest", &self.digest)
            .field("diff_id", &self.diff_id)
            .field("media_type", &self.media_type)
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

impl Layer {
    /// Makes a layer of any archive bytes.
    pub fn from_tar(raw: impl Into<Bytes>, compression: Compression) -> Self {
        let raw = raw.into();
        Self::new(compress::whole(&raw, compression), compression, raw)
    }

    /// Makes a layer of a blob and the archive that it claims to hold; neither is checked against the other.
    pub fn new(bytes: Bytes, compression: Compression, raw: Bytes) -> Self {
        let media_type = match compression {
            Compression::None => "application/vnd.oci.image.layer.v1.tar",
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        };
        Self {
            digest: Digest::sha256(&bytes),
            diff_id: Digest::sha256(&raw),
            bytes,
            raw,
            media_type: media_type.to_owned(),
            compression,
            urls: Vec::new(),
        }
    }

    /// Returns the size of the blob in bytes.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Returns the descriptor as an OCI manifest holds it.
    pub fn descriptor(&self) -> Descriptor {
        let media_type = MediaType::new(&self.media_type);
        Descriptor {
            urls: self.urls.clone(),
            ..Descriptor::new(media_type, self.digest.clone(), self.size())
        }
    }

    /// Gives the descriptor this media type instead of the one that fits the bytes.
    #[must_use]
    pub fn with_media_type(mut self, media_type: &str) -> Self {
        media_type.clone_into(&mut self.media_type);
        self
    }

    /// Names blob and diff ID by another algorithm.
    #[must_use]
    pub fn with_algorithm(mut self, algorithm: Algorithm) -> Self {
        self.digest = Digest::of(algorithm, &self.bytes);
        self.diff_id = Digest::of(algorithm, &self.raw);
        self
    }

    /// Gives the descriptor `urls`, as foreign layers have.
    #[must_use]
    pub fn with_urls(mut self, urls: &[&str]) -> Self {
        self.urls = urls.iter().map(|url| (*url).to_owned()).collect();
        self
    }
}
