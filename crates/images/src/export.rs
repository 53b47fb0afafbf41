//! Images out of the store: as an OCI image layout, as an archive of one, as docker's archive, or as a root filesystem
//! ([`crate::flatten`]).
//!
//! Everything is streamed from the blobs, hashed on the way, and held against its digest. Nothing is staged. The documents and
//! layers of the OCI forms are the very bytes that the registry served, so all digests stay. Docker's archive has the
//! configuration and the uncompressed layers, so there the configuration's digest (the image ID) and the diff IDs stay.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use serde::Serialize;
use unlade_metadata::Inspection;
use unlade_oci::{Compression, Descriptor, Digest, Hasher, MAX_MANIFEST_BYTES, Parsed, Platform, parse_manifest};
use unlade_reference::Reference;

use crate::{Error, Needed, Store, image};

/// The annotations by which an image layout names an entry: the specification's, and the one that containerd and docker read.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const IMAGE_NAME: &str = "io.containerd.image.name";

const LAYOUT_FILE: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The form of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveForm {
    /// An OCI image layout in a tar archive.
    Oci,
    /// What `docker save` wrote for ten years, and every tool reads.
    Docker,
    /// The root filesystem that the layers make together, in the pax format; made of the layer directories.
    Rootfs,
}

/// Which of the images that have one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// The one that was pulled last.
    #[default]
    Last,
    /// The one for this platform.
    Platform(Platform),
    /// All of them, with the index that the name stands for, byte for byte. It must have been pulled or imported whole.
    All,
}

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// The name, as it stands in the result.
    pub reference: Reference,
    /// The platform in the configuration; `None` for all of an index.
    pub platform: Option<Platform>,
    /// The manifest, or the index; docker's archive has none.
    pub manifest: Digest,
    /// The configuration; docker calls this the image ID. `None` for all of an index.
    pub config: Option<Digest>,
}

/// What is to be written, with all that is needed for it.
struct Subject {
    reference: Reference,
    /// What the name leads to: a manifest, or an index.
    document: Descriptor,
    /// The document and all that it leads to.
    blobs: BTreeMap<Digest, u64>,
    /// The image, if it is one and not all of an index.
    image: Option<Inspection>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexFile {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

/// An entry of `manifest.json` in docker's archive.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

impl Store {
    /// Writes an image as an OCI image layout to the directory `target`, which is made, or is empty.
    ///
    /// What was written of it is removed after a failure.
    ///
    /// # Errors
    /// There is no such image, one of its blobs is not in the store or is damaged, or `target` cannot be written.
    pub fn export_layout(
        &self,
        reference: &Reference,
        selection: &Selection,
        target: &Path,
    ) -> Result<Exported, Error> {
        let subject = self.subject(reference, selection)?;
        let _lease = self.lease(&subject.needed())?;
        let mut layout = Layout::make(target)?;
        self.write_oci(&subject, &mut layout)?;
        layout.is_whole = true;
        Ok(subject.exported())
    }

    /// Writes an image as an archive to `out`, which is not flushed.
    ///
    /// # Errors
    /// There is no such image, one of its blobs is not in the store or is damaged (for a root filesystem: a layer is not
    /// extracted), or `out` cannot be written; then what was written is no archive.
    pub fn export_archive(
        &self,
        reference: &Reference,
        selection: &Selection,
        form: ArchiveForm,
        out: &mut dyn Write,
    ) -> Result<Exported, Error> {
        if form == ArchiveForm::Rootfs {
            return self.write_rootfs(reference, selection, out);
        }
        let subject = self.subject(reference, selection)?;
        let _lease = self.lease(&subject.needed())?;
        let mut archive = Archive(tar::Builder::new(out));
        match form {
            ArchiveForm::Docker => self.write_docker(&subject, &mut archive)?,
            _ => self.write_oci(&subject, &mut archive)?,
        }
        archive.0.finish().map_err(|source| Error::Export { source })?;
        Ok(subject.exported())
    }

    /// Writes an image as an archive to the file `target`, which gets its name when it is whole; one that is there is
    /// replaced.
    ///
    /// # Errors
    /// As [`export_archive`](Self::export_archive). After a failure nothing is left.
    pub fn export_file(
        &self,
        reference: &Reference,
        selection: &Selection,
        form: ArchiveForm,
        target: &Path,
    ) -> Result<Exported, Error> {
        let mut name = std::ffi::OsString::from(unlade_sys::TEMPORARY_PREFIX);
        name.push(format!("{}-", std::process::id()));
        name.push(target.file_name().unwrap_or_default());
        let temporary = target.with_file_name(name);
        let written = self
            .write_file(reference, selection, form, &temporary)
            .and_then(|exported| {
                fs::rename(&temporary, target).map_err(|source| unlade_sys::Error::new("rename to", target, source))?;
                Ok(exported)
            });
        if written.is_err()
            && let Err(error) = fs::remove_file(&temporary)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %temporary.display(), "an unfinished archive stays");
        }
        written
    }

    fn write_file(
        &self,
        reference: &Reference,
        selection: &Selection,
        form: ArchiveForm,
        path: &Path,
    ) -> Result<Exported, Error> {
        let file = File::create_new(path).map_err(|source| unlade_sys::Error::new("make", path, source))?;
        let mut out = io::BufWriter::with_capacity(1 << 20, file);
        let exported = self.export_archive(reference, selection, form, &mut out)?;
        out.flush()
            .map_err(|source| unlade_sys::Error::new("write", path, source))?;
        Ok(exported)
    }

    fn subject(&self, reference: &Reference, selection: &Selection) -> Result<Subject, Error> {
        let platform = match selection {
            Selection::Last => None,
            Selection::Platform(platform) => Some(platform.normalized()),
            Selection::All => {
                if let Some(index) = self.whole_index(reference)? {
                    return self.whole_subject(reference, index);
                }
                None
            }
        };
        let key = unlade_metadata::ImageKey {
            name: image::name(reference),
            platform,
        };
        let missing = || self.no_image(reference);
        let inspection = self.database.inspect(&key)?.ok_or_else(missing)?;
        let record = &inspection.image;
        if *selection == Selection::All && record.index.is_some() {
            return Err(Error::NotWhole {
                name: reference.to_string(),
            });
        }
        let mut document = Descriptor::new(
            record.manifest_media_type.clone(),
            record.manifest.clone(),
            record.manifest_size,
        );
        document.platform = Some(inspection.config.platform());
        let layers = record.layers.iter().map(|layer| (&layer.layer.blob, layer.layer.size));
        let blobs = layers
            .chain([
                (&record.manifest, record.manifest_size),
                (&record.config, inspection.manifest.config_size),
            ])
            .map(|(digest, size)| (digest.clone(), size));
        let subject = Subject {
            reference: image::reference(&record.name).ok_or_else(missing)?,
            document,
            blobs: blobs.collect(),
            image: Some(inspection),
        };
        self.check_blobs(&subject)?;
        Ok(subject)
    }

    /// Collects all that an index leads to.
    fn whole_subject(&self, reference: &Reference, index: Descriptor) -> Result<Subject, Error> {
        let mut blobs = BTreeMap::new();
        let mut ahead = vec![index.clone()];
        while let Some(document) = ahead.pop() {
            if blobs.insert(document.digest.clone(), document.size).is_some() {
                continue;
            }
            let bytes = self.blobs.read(&document.digest, MAX_MANIFEST_BYTES);
            let bytes = bytes.map_err(|error| match error {
                unlade_blobs::Error::NotFound { digest } => Error::BlobMissing { digest },
                error => error.into(),
            })?;
            let parsed = parse_manifest(bytes.into(), Some(&document.media_type), Some(&document.digest));
            match parsed.map_err(|source| Error::Index {
                source: Box::new(source),
            })? {
                Parsed::Index(found) => ahead.extend(found.get().manifests.iter().cloned()),
                Parsed::Manifest(found) => {
                    let found = found.get();
                    let parts = std::iter::once(&found.config).chain(&found.layers);
                    blobs.extend(parts.map(|part| (part.digest.clone(), part.size)));
                }
            }
        }
        let subject = Subject {
            reference: reference.clone(),
            document: index,
            blobs,
            image: None,
        };
        self.check_blobs(&subject)?;
        Ok(subject)
    }

    fn check_blobs(&self, subject: &Subject) -> Result<(), Error> {
        for digest in subject.blobs.keys() {
            if !self.blobs.contains(digest)? {
                let digest = digest.clone();
                return Err(Error::BlobMissing { digest });
            }
        }
        Ok(())
    }

    fn write_oci(&self, subject: &Subject, target: &mut dyn Target) -> Result<(), Error> {
        let mut entry = subject.document.clone();
        let name = subject.reference.to_string();
        entry.annotations = BTreeMap::from([(REF_NAME.to_owned(), name.clone()), (IMAGE_NAME.to_owned(), name)]);
        let index = IndexFile {
            schema_version: 2,
            media_type: MEDIA_TYPE_OF_INDEX,
            manifests: vec![entry],
        };
        target.put("oci-layout", LAYOUT_FILE.len() as u64, &mut &*LAYOUT_FILE)?;
        // A structure of strings and numbers always has a JSON form.
        let bytes = serde_json::to_vec(&index).unwrap_or_default();
        target.put("index.json", bytes.len() as u64, &mut &*bytes)?;
        target.directory("blobs")?;
        let mut algorithm = None;
        for (digest, size) in &subject.blobs {
            let (name, hex) = (digest.algorithm(), digest.hex());
            if algorithm.replace(name) != Some(name) {
                target.directory(&format!("blobs/{name}"))?;
            }
            let file = self.blobs.open_blob(digest)?;
            self.put_checked(target, &format!("blobs/{name}/{hex}"), file, *size, digest)?;
        }
        Ok(())
    }

    fn write_docker(&self, subject: &Subject, target: &mut dyn Target) -> Result<(), Error> {
        let Some(inspection) = &subject.image else {
            return Err(Error::OneImageOnly {
                name: subject.reference.to_string(),
            });
        };
        let (digest, size) = (&inspection.image.config, inspection.manifest.config_size);
        let config = format!("{}.json", digest.hex());
        let file = self.blobs.open_blob(digest)?;
        self.put_checked(target, &config, file, size, digest)?;
        let mut layers: Vec<String> = Vec::new();
        for layer in &inspection.image.layers {
            let diff_id = &layer.layer.diff_id;
            let name = format!("{}.tar", diff_id.hex());
            if !layers.contains(&name) {
                let raw = self.open_raw(&layer.layer.blob)?;
                self.put_checked(target, &name, raw, layer.raw_size, diff_id)?;
            }
            layers.push(name);
        }
        let tag = subject.reference.tag();
        let entry = DockerEntry {
            config,
            repo_tags: tag
                .map(|tag| format!("{}:{tag}", subject.reference.repository()))
                .into_iter()
                .collect(),
            layers,
        };
        let bytes = serde_json::to_vec(&[entry]).unwrap_or_default();
        target.put("manifest.json", bytes.len() as u64, &mut &*bytes)
    }

    /// Opens the uncompressed content of a layer's blob.
    fn open_raw(&self, blob: &Digest) -> Result<Box<dyn Read>, Error> {
        let path = self.blobs.path(blob);
        let failed = |source| unlade_sys::Error::new("read", &path, source);
        let mut file = self.blobs.open_blob(blob)?;
        let mut magic = [0; Compression::MAGIC_LEN];
        let mut length = 0;
        while length < magic.len() {
            match file.read(&mut magic[length..]).map_err(failed)? {
                0 => break,
                read => length += read,
            }
        }
        let whole = io::Cursor::new(magic[..length].to_vec()).chain(file);
        Ok(match Compression::of_magic(&magic[..length]) {
            Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(whole)),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::new(whole).map_err(failed)?;
                decoder.window_log_max(31).map_err(failed)?;
                Box::new(decoder)
            }
            Compression::None => Box::new(whole),
        })
    }

    /// Writes `size` bytes that must have the digest.
    fn put_checked(
        &self,
        target: &mut dyn Target,
        name: &str,
        content: impl Read,
        size: u64,
        digest: &Digest,
    ) -> Result<(), Error> {
        let mut checked = Checked {
            content,
            hasher: Hasher::new(digest.algorithm()),
            failure: None,
        };
        let put = target.put(name, size, &mut (&mut checked).take(size));
        if let Some(source) = checked.failure.take() {
            return Err(unlade_sys::Error::new("read the content of", self.blobs.path(digest), source).into());
        }
        put?;
        // One more byte would be too many.
        let more = io::copy(&mut checked, &mut io::sink()).unwrap_or_default();
        let actual_size = checked.hasher.length();
        let actual = checked.hasher.finish();
        if more > 0 || actual_size != size || actual != *digest {
            let digest = digest.clone();
            return Err(unlade_blobs::Error::Damaged {
                digest,
                actual,
                actual_size,
            }
            .into());
        }
        Ok(())
    }
}

const MEDIA_TYPE_OF_INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Subject {
    fn needed(&self) -> Needed {
        Needed {
            blobs: self.blobs.keys().cloned().collect(),
            ..Needed::default()
        }
    }

    fn exported(&self) -> Exported {
        Exported {
            reference: self.reference.clone(),
            platform: self.image.as_ref().map(|image| image.config.platform()),
            manifest: self.document.digest.clone(),
            config: self.image.as_ref().map(|image| image.image.config.clone()),
        }
    }
}

/// Hashes what is read, and remembers why it could not be read.
struct Checked<R> {
    content: R,
    hasher: Hasher,
    failure: Option<io::Error>,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.content.read(buffer) {
            Ok(read) => {
                self.hasher.update(&buffer[..read]);
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let told = io::Error::new(error.kind(), error.to_string());
                self.failure = Some(error);
                Err(told)
            }
        }
    }
}

/// Where the files of an export go.
trait Target {
    fn directory(&mut self, name: &str) -> Result<(), Error>;

    /// Writes a file of `size` bytes; if `content` has fewer, the export fails.
    fn put(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<(), Error>;
}

/// A directory that is being filled.
struct Layout<'a> {
    root: &'a Path,
    made_root: bool,
    is_whole: bool,
}

impl<'a> Layout<'a> {
    fn make(root: &'a Path) -> Result<Self, Error> {
        let made_root = unlade_sys::create_dir(root, 0o755)?;
        let mut entries = fs::read_dir(root).map_err(|source| unlade_sys::Error::new("list", root, source))?;
        if !made_root && entries.next().is_some() {
            return Err(unlade_sys::Error::new("export into", root, io::ErrorKind::DirectoryNotEmpty).into());
        }
        Ok(Self {
            root,
            made_root,
            is_whole: false,
        })
    }
}

impl Target for Layout<'_> {
    fn directory(&mut self, name: &str) -> Result<(), Error> {
        unlade_sys::create_dir(&self.root.join(name), 0o755)?;
        Ok(())
    }

    fn put(&mut self, name: &str, _size: u64, content: &mut dyn Read) -> Result<(), Error> {
        let path = self.root.join(name);
        let mut file = File::create_new(&path).map_err(|source| unlade_sys::Error::new("make", &path, source))?;
        io::copy(content, &mut file).map_err(|source| unlade_sys::Error::new("write", &path, source))?;
        Ok(())
    }
}

impl Drop for Layout<'_> {
    fn drop(&mut self) {
        if self.is_whole {
            return;
        }
        let removed = if self.made_root {
            unlade_sys::remove_tree(self.root)
        } else {
            ["oci-layout", "index.json", "blobs"]
                .iter()
                .map(|name| self.root.join(name))
                .filter(|path| path.exists())
                .try_for_each(|path| unlade_sys::remove_tree(&path))
        };
        if let Err(error) = removed {
            tracing::warn!(%error, "what was exported before the failure could not be removed");
        }
    }
}

/// A tar archive that is being written. Every file has the same attributes, so the same image gives the same archive.
struct Archive<'a>(tar::Builder<&'a mut dyn Write>);

impl Archive<'_> {
    fn append(
        &mut self,
        name: &str,
        kind: tar::EntryType,
        mode: u32,
        size: u64,
        content: impl Read,
    ) -> Result<(), Error> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        self.0
            .append_data(&mut header, name, content)
            .map_err(|source| Error::Export { source })
    }
}

impl Target for Archive<'_> {
    fn directory(&mut self, name: &str) -> Result<(), Error> {
        self.append(&format!("{name}/"), tar::EntryType::Directory, 0o755, 0, io::empty())
    }

    fn put(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<(), Error> {
        self.append(name, tar::EntryType::Regular, 0o644, size, content)
    }
}
