//! Images: configs, manifests and their blobs, in OCI's form and in docker's.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use unlade_oci::{Algorithm, Descriptor, Digest, MediaType};

use crate::json;
use crate::layer::Layer;

/// A manifest or index as a registry stores it.
#[derive(Clone, Debug)]
pub struct StoredManifest {
    /// The document's media type.
    pub media_type: String,
    /// The document.
    pub bytes: Bytes,
}

/// Something that can be pushed under a tag: an image or an index.
pub trait Artifact {
    /// Returns the digest of the top document.
    fn digest(&self) -> &Digest;

    /// Returns every manifest and index, the top one included.
    fn manifests(&self) -> BTreeMap<Digest, StoredManifest>;

    /// Returns every config and layer.
    fn blobs(&self) -> &BTreeMap<Digest, Bytes>;

    /// Returns the descriptor of the top document, as an index holds it.
    fn descriptor(&self) -> Value;
}

/// Builds an image.
///
/// ```
/// use unlade_test_support::{Compression, ImageBuilder, LayerBuilder};
///
/// let layer = LayerBuilder::new().file("hello", "world").build(Compression::Gzip);
/// let image = ImageBuilder::new().platform("linux/arm64/v8").layer(layer).cmd(&["/hello"]).build();
/// assert_eq!(image.media_type, "application/vnd.oci.image.manifest.v1+json");
/// ```
#[derive(Clone, Debug)]
pub struct ImageBuilder {
    platform: Platform,
    layers: Vec<LayerEntry>,
    config: Value,
    config_extra: BTreeMap<String, Value>,
    annotations: BTreeMap<String, String>,
    artifact_type: Option<String>,
    docker: bool,
    algorithm: Algorithm,
    diff_ids: Option<Vec<Digest>>,
    edit_manifest: Option<fn(&mut Value)>,
    edit_config: Option<fn(&mut Value)>,
}

#[derive(Clone, Debug)]
struct LayerEntry {
    digest: Digest,
    diff_id: Digest,
    size: u64,
    media_type: String,
    urls: Vec<String>,
    bytes: Option<Bytes>,
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ImageBuilder {
    /// Starts an image for linux/amd64 without layers.
    pub fn new() -> Self {
        Self {
            platform: Platform::parse("linux/amd64"),
            layers: Vec::new(),
            config: json!({}),
            config_extra: BTreeMap::new(),
            annotations: BTreeMap::new(),
            artifact_type: None,
            docker: false,
            algorithm: Algorithm::Sha256,
            diff_ids: None,
            edit_manifest: None,
            edit_config: None,
        }
    }

    /// Sets the platform, `os/architecture[/variant]`.
    #[must_use]
    pub fn platform(mut self, platform: &str) -> Self {
        self.platform = Platform::parse(platform);
        self
    }

    /// Adds a layer on top.
    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(LayerEntry {
            digest: layer.digest,
            diff_id: layer.diff_id,
            size: layer.bytes.len() as u64,
            media_type: layer.media_type,
            urls: layer.urls,
            bytes: Some(layer.bytes),
        });
        self
    }

    /// Adds layers, the lowest first.
    #[must_use]
    pub fn layers(self, layers: impl IntoIterator<Item = Layer>) -> Self {
        layers.into_iter().fold(self, Self::layer)
    }

    /// Adds a layer whose blob is elsewhere, such as in a file too large for memory.
    #[must_use]
    pub fn layer_elsewhere(mut self, digest: Digest, size: u64, diff_id: Digest, media_type: &str) -> Self {
        self.layers.push(LayerEntry {
            digest,
            diff_id,
            size,
            media_type: media_type.to_owned(),
            urls: Vec::new(),
            bytes: None,
        });
        self
    }

    /// Adds an environment variable, `NAME=value`.
    #[must_use]
    pub fn env(mut self, variable: &str) -> Self {
        match &mut self.config["Env"] {
            Value::Array(variables) => variables.push(json!(variable)),
            empty => *empty = json!([variable]),
        }
        self
    }

    /// Sets the command.
    #[must_use]
    pub fn cmd(self, arguments: &[&str]) -> Self {
        self.config("Cmd", json!(arguments))
    }

    /// Sets the entry point.
    #[must_use]
    pub fn entrypoint(self, arguments: &[&str]) -> Self {
        self.config("Entrypoint", json!(arguments))
    }

    /// Sets the working directory.
    #[must_use]
    pub fn working_dir(self, path: &str) -> Self {
        self.config("WorkingDir", json!(path))
    }

    /// Sets the user.
    #[must_use]
    pub fn user(self, user: &str) -> Self {
        self.config("User", json!(user))
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.config["Labels"][name] = json!(value);
        self
    }

    /// Adds an exposed port, `80/tcp`.
    #[must_use]
    pub fn expose(mut self, port: &str) -> Self {
        self.config["ExposedPorts"][port] = json!({});
        self
    }

    /// Sets any member of the config's `config` object.
    #[must_use]
    pub fn config(mut self, name: &str, value: Value) -> Self {
        self.config[name] = value;
        self
    }

    /// Sets any member of the config itself (`author`, `created`, …).
    #[must_use]
    pub fn config_member(mut self, name: &str, value: Value) -> Self {
        self.config_extra.insert(name.to_owned(), value);
        self
    }

    /// Adds an annotation to the manifest.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Makes it an artifact of this type: the config is the empty JSON blob.
    #[must_use]
    pub fn artifact_type(mut self, artifact_type: &str) -> Self {
        self.artifact_type = Some(artifact_type.to_owned());
        self
    }

    /// Writes docker's schema 2 media types.
    #[must_use]
    pub fn docker_schema2(mut self, docker: bool) -> Self {
        self.docker = docker;
        self
    }

    /// Names config and manifest by this algorithm; layers say their own.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Writes these diff IDs into the config instead of the layers' own.
    #[must_use]
    pub fn diff_ids(mut self, diff_ids: &[Digest]) -> Self {
        self.diff_ids = Some(diff_ids.to_vec());
        self
    }

    /// Changes the manifest before it is written, for documents that no tool would make.
    #[must_use]
    pub fn edit_manifest(mut self, edit: fn(&mut Value)) -> Self {
        self.edit_manifest = Some(edit);
        self
    }

    /// Changes the config before it is written.
    #[must_use]
    pub fn edit_config(mut self, edit: fn(&mut Value)) -> Self {
        self.edit_config = Some(edit);
        self
    }

    /// Writes the documents.
    pub fn build(&self) -> Image {
        let config = json::to_bytes(&self.config_document());
        let config_digest = Digest::of(self.algorithm, &config);
        let mut blobs: BTreeMap<_, _> = self
            .layers
            .iter()
            .filter_map(|layer| Some((layer.digest.clone(), layer.bytes.clone()?)))
            .collect();
        blobs.insert(config_digest.clone(), config.clone());
        let manifest = json::to_bytes(&self.manifest_document(&config_digest, config.len()));
        Image {
            digest: Digest::of(self.algorithm, &manifest),
            media_type: self.manifest_media_type().to_owned(),
            manifest,
            config_digest,
            config,
            layers: self.layers.iter().map(|layer| layer.digest.clone()).collect(),
            diff_ids: self.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
            blobs,
            platform: self.platform.to_json(),
            descriptor_annotations: BTreeMap::new(),
        }
    }

    fn config_document(&self) -> Value {
        if self.artifact_type.is_some() {
            return json!({});
        }
        let own: Vec<_> = self.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let diff_ids = self
            .diff_ids
            .as_ref()
            .map_or(own, |ids| ids.iter().map(ToString::to_string).collect::<Vec<_>>());
        let history: Vec<_> = self
            .layers
            .iter()
            .enumerate()
            .map(|(number, _)| json!({"created": "1970-01-01T00:00:00Z", "created_by": format!("layer {number}")}))
            .collect();
        let mut document = self.platform.to_json();
        document["created"] = json!("1970-01-01T00:00:00Z");
        document["config"] = self.config.clone();
        document["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        document["history"] = json!(history);
        for (name, value) in &self.config_extra {
            document[name] = value.clone();
        }
        if let Some(edit) = self.edit_config {
            edit(&mut document);
        }
        document
    }

    fn manifest_document(&self, config_digest: &Digest, config_size: usize) -> Value {
        let config_type = match (&self.artifact_type, self.docker) {
            (Some(_), _) => "application/vnd.oci.empty.v1+json",
            (None, true) => "application/vnd.docker.container.image.v1+json",
            (None, false) => "application/vnd.oci.image.config.v1+json",
        };
        let layers: Vec<_> = self.layers.iter().map(|layer| self.layer_descriptor(layer)).collect();
        let mut document = json!({
            "schemaVersion": 2,
            "mediaType": self.manifest_media_type(),
            "config": {"mediaType": config_type, "digest": config_digest.to_string(), "size": config_size},
            "layers": layers,
        });
        if !self.annotations.is_empty() {
            document["annotations"] = json!(self.annotations);
        }
        if let Some(artifact_type) = &self.artifact_type {
            document["artifactType"] = json!(artifact_type);
        }
        if let Some(edit) = self.edit_manifest {
            edit(&mut document);
        }
        document
    }

    fn layer_descriptor(&self, layer: &LayerEntry) -> Value {
        let media_type = match (self.docker, layer.media_type.as_str()) {
            (true, "application/vnd.oci.image.layer.v1.tar") => "application/vnd.docker.image.rootfs.diff.tar",
            (true, "application/vnd.oci.image.layer.v1.tar+gzip") => {
                "application/vnd.docker.image.rootfs.diff.tar.gzip"
            }
            (true, "application/vnd.oci.image.layer.v1.tar+zstd") => {
                "application/vnd.docker.image.rootfs.diff.tar.zstd"
            }
            (_, own) => own,
        };
        let mut descriptor = json!({"mediaType": media_type, "digest": layer.digest.to_string(), "size": layer.size});
        if !layer.urls.is_empty() {
            descriptor["urls"] = json!(layer.urls);
        }
        descriptor
    }

    fn manifest_media_type(&self) -> &'static str {
        if self.docker {
            "application/vnd.docker.distribution.manifest.v2+json"
        } else {
            "application/vnd.oci.image.manifest.v1+json"
        }
    }
}

/// An image: manifest, config and layers.
#[derive(Clone, Debug)]
pub struct Image {
    /// The digest of [`Self::manifest`].
    pub digest: Digest,
    /// The manifest's media type.
    pub media_type: String,
    /// The manifest.
    pub manifest: Bytes,
    /// The digest of [`Self::config`].
    pub config_digest: Digest,
    /// The config.
    pub config: Bytes,
    /// The digests of the layers, the lowest first.
    pub layers: Vec<Digest>,
    /// The layers' true diff IDs, the lowest first.
    pub diff_ids: Vec<Digest>,
    /// The config and the layers.
    pub blobs: BTreeMap<Digest, Bytes>,
    platform: Value,
    descriptor_annotations: BTreeMap<String, String>,
}

impl Image {
    /// Returns the descriptor of the config as the manifest holds it.
    pub fn config_descriptor(&self) -> Descriptor {
        let media_type = if self.media_type.contains("docker") {
            MediaType::DOCKER_CONFIG
        } else {
            MediaType::OCI_CONFIG
        };
        Descriptor::new(media_type, self.config_digest.clone(), self.config.len() as u64)
    }

    /// Adds an annotation to the descriptor that an index will hold.
    #[must_use]
    pub fn with_descriptor_annotation(mut self, name: &str, value: &str) -> Self {
        self.descriptor_annotations.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Gives the descriptor that an index will hold another platform, or none for `""`.
    #[must_use]
    pub fn with_descriptor_platform(mut self, platform: &str) -> Self {
        self.platform = if platform.is_empty() {
            Value::Null
        } else {
            Platform::parse(platform).to_json()
        };
        self
    }
}

impl Artifact for Image {
    fn digest(&self) -> &Digest {
        &self.digest
    }

    fn manifests(&self) -> BTreeMap<Digest, StoredManifest> {
        let stored = StoredManifest {
            media_type: self.media_type.clone(),
            bytes: self.manifest.clone(),
        };
        BTreeMap::from([(self.digest.clone(), stored)])
    }

    fn blobs(&self) -> &BTreeMap<Digest, Bytes> {
        &self.blobs
    }

    fn descriptor(&self) -> Value {
        let mut descriptor = descriptor_of(&self.media_type, &self.digest, self.manifest.len());
        if !self.platform.is_null() {
            descriptor["platform"] = self.platform.clone();
        }
        if !self.descriptor_annotations.is_empty() {
            descriptor["annotations"] = json!(self.descriptor_annotations);
        }
        descriptor
    }
}

/// Returns a descriptor with the three members that every one has.
pub(crate) fn descriptor_of(media_type: &str, digest: &Digest, size: usize) -> Value {
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
}

#[derive(Clone, Debug)]
struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        let (Some(os), Some(architecture)) = (parts.next(), parts.next()) else {
            panic!("a platform is os/architecture[/variant], not {text:?}");
        };
        Self {
            os,
            architecture,
            variant: parts.next(),
        }
    }

    fn to_json(&self) -> Value {
        let mut platform = json!({"os": self.os, "architecture": self.architecture});
        if let Some(variant) = &self.variant {
            platform["variant"] = json!(variant);
        }
        platform
    }
}
