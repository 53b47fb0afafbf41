//! OCI image layouts on disk.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use unlade_oci::Digest;

use crate::image::Artifact;
use crate::json;

/// Writes an OCI image layout (image-spec, `image-layout.md`) with one entry in `index.json` for each tag.
///
/// Blobs that are there already are left alone, so that several layouts or a large layer made beforehand can share
/// `dir`. The same input gives the same files.
pub fn write_layout(dir: &Path, entries: &[(&str, &dyn Artifact)]) -> io::Result<()> {
    let mut descriptors = Vec::new();
    for (tag, artifact) in entries {
        let manifests = artifact
            .manifests()
            .into_iter()
            .map(|(digest, stored)| (digest, stored.bytes));
        for (digest, bytes) in manifests.chain(artifact.blobs().clone()) {
            let path = blob_path(dir, &digest);
            if !path.exists() {
                write_new(&path, &bytes)?;
            }
        }
        let mut descriptor = artifact.descriptor();
        descriptor["annotations"]["org.opencontainers.image.ref.name"] = json!(tag);
        descriptors.push(descriptor);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": descriptors,
    });
    write_new(&dir.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    write_new(&dir.join("index.json"), &json::to_bytes(&index))
}

/// Returns where a layout keeps a blob.
pub(crate) fn blob_path(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
}

/// What a layout's `index.json` names.
#[derive(Debug)]
pub(crate) struct LayoutContent {
    /// Tags and the digests of their manifests.
    pub(crate) tags: BTreeMap<String, Digest>,
    /// Every manifest and index reached from the tags, with its media type.
    pub(crate) manifests: BTreeMap<Digest, String>,
    /// Every blob file.
    pub(crate) blobs: BTreeMap<Digest, PathBuf>,
}

/// Reads a layout: its tags, the documents they lead to, and its blob files.
pub(crate) fn read_layout(dir: &Path) -> io::Result<LayoutContent> {
    let mut content = LayoutContent {
        tags: BTreeMap::new(),
        manifests: BTreeMap::new(),
        blobs: BTreeMap::new(),
    };
    let mut todo: Vec<Value> = members(&read_json(&dir.join("index.json"))?);
    for descriptor in &todo {
        if let Some(tag) = descriptor["annotations"]["org.opencontainers.image.ref.name"].as_str() {
            content.tags.insert(tag.to_owned(), digest_of(descriptor)?);
        }
    }
    while let Some(descriptor) = todo.pop() {
        let digest = digest_of(&descriptor)?;
        let document = read_json(&blob_path(dir, &digest))?;
        todo.extend(members(&document));
        let media_type = descriptor["mediaType"]
            .as_str()
            .unwrap_or("application/vnd.oci.image.manifest.v1+json");
        content.manifests.insert(digest, media_type.to_owned());
    }
    for algorithm in fs::read_dir(dir.join("blobs"))? {
        let algorithm = algorithm?;
        for blob in fs::read_dir(algorithm.path())? {
            let blob = blob?;
            let name = format!("{}:{}", algorithm.file_name().display(), blob.file_name().display());
            if let Ok(digest) = name.parse() {
                content.blobs.insert(digest, blob.path());
            }
        }
    }
    Ok(content)
}

fn members(index: &Value) -> Vec<Value> {
    index["manifests"].as_array().cloned().unwrap_or_default()
}

fn digest_of(descriptor: &Value) -> io::Result<Digest> {
    let text = descriptor["digest"].as_str().unwrap_or_default();
    text.parse()
        .map_err(|error| invalid(format!("descriptor digest {text:?}: {error}")))
}

fn read_json(path: &Path) -> io::Result<Value> {
    let bytes = fs::read(path).map_err(|error| with_path(path, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| invalid(format!("{}: {error}", path.display())))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .map_err(|error| with_path(path, &error))?;
    fs::write(path, bytes).map_err(|error| with_path(path, &error))
}

/// Adds the path to an I/O error, which by itself does not say what it was about.
pub(crate) fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
