//! Indexes of images, docker's manifest lists, and indexes of indexes.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use unlade_oci::Digest;

use crate::image::{Artifact, Image, StoredManifest, descriptor_of};
use crate::json;

/// Builds an index (or docker's manifest list).
#[derive(Clone, Debug, Default)]
pub struct IndexBuilder {
    entries: Vec<Value>,
    manifests: BTreeMap<Digest, StoredManifest>,
    blobs: BTreeMap<Digest, Bytes>,
    annotations: BTreeMap<String, String>,
    docker: bool,
    edit: Option<fn(&mut Value)>,
}

impl IndexBuilder {
    /// Starts an index without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an image.
    #[must_use]
    pub fn image(self, image: &Image) -> Self {
        self.artifact(image)
    }

    /// Adds a nested index.
    #[must_use]
    pub fn index(self, index: &Index) -> Self {
        self.artifact(index)
    }

    /// Adds an attestation of `subject`: platform `unknown/unknown`, with the annotations that `BuildKit` writes.
    #[must_use]
    pub fn attestation(self, attestation: &Image, subject: &Image) -> Self {
        let entry = attestation
            .clone()
            .with_descriptor_platform("unknown/unknown")
            .with_descriptor_annotation("vnd.docker.reference.type", "attestation-manifest")
            .with_descriptor_annotation("vnd.docker.reference.digest", &subject.digest.to_string());
        self.artifact(&entry)
    }

    /// Adds a descriptor as it is, such as of a manifest that no registry has.
    #[must_use]
    pub fn descriptor(mut self, descriptor: Value) -> Self {
        self.entries.push(descriptor);
        self
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Writes docker's manifest list media type.
    #[must_use]
    pub fn docker_list(mut self, docker: bool) -> Self {
        self.docker = docker;
        self
    }

    /// Changes the document before it is written.
    #[must_use]
    pub fn edit(mut self, edit: fn(&mut Value)) -> Self {
        self.edit = Some(edit);
        self
    }

    /// Writes the document.
    pub fn build(&self) -> Index {
        let media_type = if self.docker {
            "application/vnd.docker.distribution.manifest.list.v2+json"
        } else {
            "application/vnd.oci.image.index.v1+json"
        };
        let mut document = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": self.entries});
        if !self.annotations.is_empty() {
            document["annotations"] = json!(self.annotations);
        }
        if let Some(edit) = self.edit {
            edit(&mut document);
        }
        let bytes = json::to_bytes(&document);
        let digest = Digest::sha256(&bytes);
        let mut manifests = self.manifests.clone();
        manifests.insert(
            digest.clone(),
            StoredManifest {
                media_type: media_type.to_owned(),
                bytes: bytes.clone(),
            },
        );
        Index {
            digest,
            media_type: media_type.to_owned(),
            bytes,
            manifests,
            blobs: self.blobs.clone(),
        }
    }

    fn artifact(mut self, artifact: &impl Artifact) -> Self {
        self.entries.push(artifact.descriptor());
        self.manifests.extend(artifact.manifests());
        self.blobs.extend(artifact.blobs().clone());
        self
    }
}

/// An index and everything it names.
#[derive(Clone, Debug)]
pub struct Index {
    /// The digest of [`Self::bytes`].
    pub digest: Digest,
    /// The document's media type.
    pub media_type: String,
    /// The document.
    pub bytes: Bytes,
    /// Every manifest and index, this one included.
    pub manifests: BTreeMap<Digest, StoredManifest>,
    /// Every config and layer.
    pub blobs: BTreeMap<Digest, Bytes>,
}

impl Artifact for Index {
    fn digest(&self) -> &Digest {
        &self.digest
    }

    fn manifests(&self) -> BTreeMap<Digest, StoredManifest> {
        self.manifests.clone()
    }

    fn blobs(&self) -> &BTreeMap<Digest, Bytes> {
        &self.blobs
    }

    fn descriptor(&self) -> Value {
        descriptor_of(&self.media_type, &self.digest, self.bytes.len())
    }
}
