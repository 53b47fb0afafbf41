//! Docker's archive: `manifest.json`, which names a configuration and layers for each image.
//!
//! Such an archive has no manifest in the sense of a registry, so one is made. It lists the layers as they lie in the archive,
//! which is uncompressed but for those of a few tools: then their digests are their diff IDs. The configuration is kept byte
//! for byte, so the image ID stays. The same archive gives the same manifest, whoever reads it.

use serde::{Deserialize, Serialize};
use unlade_oci::{Compression, Descriptor, Digest, MAX_CONFIG_BYTES, MediaType};

use super::archive::Names;
use super::{Made, StagedFile, SuppliedImage, SuppliedName, read_described};
use crate::Error;

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    /// `null` where an image has no name.
    repo_tags: Option<Vec<String>>,
    /// `null` where an image has no layers.
    layers: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestFile {
    schema_version: u32,
    media_type: MediaType,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// Reads the images of a `manifest.json`. Also returns the manifests that were made.
pub(super) fn images(bytes: &[u8], names: &Names) -> Result<(Vec<SuppliedImage>, Made), Error> {
    let entries: Vec<DockerEntry> = serde_json::from_slice(bytes).map_err(|error| Error::NotImportable {
        problem: format!("its manifest.json is not as docker writes it: {error}"),
    })?;
    let mut images: Vec<SuppliedImage> = Vec::new();
    let mut made = Made::new();
    for entry in entries {
        let config = find(names, &entry.config)?;
        // Read here so that one that is too large is told as what it is.
        read_described(config, MAX_CONFIG_BYTES, "image configuration")?;
        let mut layers = Vec::new();
        for name in entry.layers.unwrap_or_default() {
            let layer = find(names, &name)?;
            layers.push(Descriptor::new(layer_type(layer), layer.digest.clone(), layer.size));
        }
        let manifest = ManifestFile {
            schema_version: 2,
            media_type: MediaType::OCI_MANIFEST,
            config: Descriptor::new(MediaType::OCI_CONFIG, config.digest.clone(), config.size),
            layers,
        };
        // A structure of strings and numbers always has a JSON form.
        let bytes = serde_json::to_vec(&manifest).unwrap_or_default();
        let digest = Digest::sha256(&bytes);
        let tags = entry.repo_tags.unwrap_or_default().into_iter();
        images.push(SuppliedImage {
            names: tags.map(SuppliedName::Reference).collect(),
            document: Descriptor::new(MediaType::OCI_MANIFEST, digest.clone(), bytes.len() as u64),
        });
        made.insert(digest, bytes);
    }
    Ok((images, made))
}

fn find<'a>(names: &'a Names, name: &str) -> Result<&'a StagedFile, Error> {
    names.file(name).ok_or_else(|| Error::NotImportable {
        problem: format!("its manifest.json names the file {name:?}, which it does not have"),
    })
}

fn layer_type(layer: &StagedFile) -> MediaType {
    match layer.compression {
        Compression::None => MediaType::OCI_LAYER,
        Compression::Gzip => MediaType::OCI_LAYER_GZIP,
        Compression::Zstd => MediaType::OCI_LAYER_ZSTD,
    }
}
