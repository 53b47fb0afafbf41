//! Documents: manifests, indexes and configurations, each with the very bytes it was parsed from.

use std::collections::BTreeMap;
use std::ops::Deref;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::descriptor::WireDescriptor;
use crate::error::DocumentError;
use crate::lenient::{self, Object};
use crate::{Algorithm, Descriptor, Digest, ImageConfig, MediaType};

/// The largest manifest or index that is read, in bytes: 4 MiB, what registries at least accept
/// (distribution-spec, *Pushing Manifests*).
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// The largest image configuration that is read, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// How many indexes may stand between a reference and a manifest.
pub const MAX_INDEX_DEPTH: usize = 4;

const MANIFEST_OR_INDEX: &str = "manifest or index";
const CONFIG: &str = "image configuration";

/// Where a type stands that the document does not state itself.
const TRANSPORT: &str = "Content-Type (or descriptor)";

/// A parsed document with the bytes it came from.
///
/// The bytes are never written anew from the parsed form, so they keep the digest they came under. The parsed form is
/// reached by dereferencing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document<T> {
    bytes: Bytes,
    digest: Digest,
    media_type: MediaType,
    value: T,
}

impl<T> Document<T> {
    /// Returns the bytes, exactly as they were received.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the digest, computed from the bytes.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the media type: what the document, its transport or its shape say, in this order.
    pub const fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// Returns the size in bytes.
    pub const fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Returns a descriptor of the document.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest.clone(), self.size())
    }

    /// Returns the parsed form.
    pub const fn get(&self) -> &T {
        &self.value
    }
}

impl<T> Deref for Document<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// An image index or manifest list (image-spec, `image-index.md`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// The entries; an entry may be an index again.
    pub manifests: Vec<Descriptor>,
    /// Free-form notes.
    pub annotations: BTreeMap<String, String>,
    /// The type of the artifact, if the index is one.
    pub artifact_type: Option<String>,
    /// What the index describes, if it describes something.
    pub subject: Option<Descriptor>,
}

/// An image manifest, OCI's or docker's schema 2 (image-spec, `manifest.md`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Free-form notes.
    pub annotations: BTreeMap<String, String>,
    /// The type of the artifact, if the manifest is one.
    pub artifact_type: Option<String>,
    /// What the manifest describes, if it describes something.
    pub subject: Option<Descriptor>,
}

/// What a registry answers when asked for a manifest.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each request, and it is taken apart at once"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// An index: one of its entries has to be chosen.
    Index(Document<Index>),
    /// A manifest.
    Manifest(Document<Manifest>),
}

impl Parsed {
    /// Returns the bytes, exactly as they were received.
    pub const fn bytes(&self) -> &Bytes {
        match self {
            Self::Index(document) => document.bytes(),
            Self::Manifest(document) => document.bytes(),
        }
    }

    /// Returns the digest, computed from the bytes.
    pub const fn digest(&self) -> &Digest {
        match self {
            Self::Index(document) => document.digest(),
            Self::Manifest(document) => document.digest(),
        }
    }

    /// Returns the media type.
    pub const fn media_type(&self) -> &MediaType {
        match self {
            Self::Index(document) => document.media_type(),
            Self::Manifest(document) => document.media_type(),
        }
    }

    /// Returns a descriptor of the document.
    pub fn descriptor(&self) -> Descriptor {
        match self {
            Self::Index(document) => document.descriptor(),
            Self::Manifest(document) => document.descriptor(),
        }
    }
}

/// Parses a manifest or an index, whichever the bytes are.
///
/// `content_type` is what the transport said (a header, a descriptor); a generic type (`application/json`,
/// `text/plain`) counts as nothing said. `expected` is the digest asked for, and the bytes must have it; without one
/// the digest is SHA-256.
///
/// What the transport says, the document's `mediaType` and its shape must agree where they are given: a document that
/// one client takes for an index and another for a manifest would show them two images under one digest
/// (CVE-2021-41190). For the same reason a document with the members of both is refused, and so is one that gives a
/// member twice.
pub fn parse_manifest(
    bytes: Bytes,
    content_type: Option<&MediaType>,
    expected: Option<&Digest>,
) -> Result<Parsed, DocumentError> {
    let digest = check_bytes(&bytes, MANIFEST_OR_INDEX, MAX_MANIFEST_BYTES, expected)?;
    let outline: Outline = read(&bytes, MANIFEST_OR_INDEX)?;
    let transport = content_type.filter(|media_type| !media_type.is_generic());
    let (kind, media_type) = outline.classify(transport)?;
    Ok(match kind {
        Kind::Index => {
            let value = read::<WireIndex>(&bytes, "index")?.check()?;
            Parsed::Index(Document {
                bytes,
                digest,
                media_type: media_type.unwrap_or(MediaType::OCI_INDEX),
                value,
            })
        }
        Kind::Manifest => {
            let value = read::<WireManifest>(&bytes, "manifest")?.check()?;
            let media_type = media_type.unwrap_or_else(|| value.likely_type());
            Parsed::Manifest(Document {
                bytes,
                digest,
                media_type,
                value,
            })
        }
    })
}

/// Parses the image configuration that `descriptor` names; size and digest must be the descriptor's.
pub fn parse_config(bytes: Bytes, descriptor: &Descriptor) -> Result<Document<ImageConfig>, DocumentError> {
    let digest = check_bytes(&bytes, CONFIG, MAX_CONFIG_BYTES, Some(&descriptor.digest))?;
    if bytes.len() as u64 != descriptor.size {
        let actual = bytes.len() as u64;
        return Err(DocumentError::SizeMismatch {
            document: CONFIG,
            expected: descriptor.size,
            actual,
        });
    }
    let value = ImageConfig::from_wire(read(&bytes, CONFIG)?)?;
    Ok(Document {
        bytes,
        digest,
        media_type: descriptor.media_type.clone(),
        value,
    })
}

impl Document<Manifest> {
    /// Checks that the manifest is that of a container image that can be unpacked.
    ///
    /// An artifact is refused with what it says it is. Attestations and signatures that pass themselves off as images
    /// by the type of their configuration are known by the types of their layers.
    pub fn is_image(&self) -> Result<(), DocumentError> {
        let config_type = &self.config.media_type;
        // Registries and clients of docker's early days wrote these for configurations, and docker still takes them.
        let is_old_config = config_type.is_generic() || config_type.as_str() == "text/html";
        if !config_type.is_config() && !is_old_config {
            let artifact_type = self.artifact_type.clone().unwrap_or_else(|| config_type.to_string());
            return Err(DocumentError::NotAnImage { artifact_type });
        }
        for (position, layer) in self.layers.iter().enumerate() {
            if layer.media_type.is_encrypted() {
                return Err(DocumentError::Encrypted {
                    position,
                    media_type: layer.media_type.clone(),
                });
            }
            if !layer.media_type.is_layer() {
                let artifact_type = self
                    .artifact_type
                    .clone()
                    .unwrap_or_else(|| layer.media_type.to_string());
                return Err(DocumentError::NotAnImage { artifact_type });
            }
        }
        Ok(())
    }

    /// Checks that the manifest has one layer for each diff ID of its configuration.
    pub fn check_against_config(&self, config: &ImageConfig) -> Result<(), DocumentError> {
        let (layers, diff_ids) = (self.layers.len(), config.diff_ids.len());
        if layers == diff_ids {
            Ok(())
        } else {
            Err(DocumentError::LayerCount { layers, diff_ids })
        }
    }
}

impl Manifest {
    /// Returns the type of a manifest that nobody named: docker's configurations stand in docker's manifests.
    fn likely_type(&self) -> MediaType {
        if self.config.media_type == MediaType::DOCKER_CONFIG {
            MediaType::DOCKER_MANIFEST
        } else {
            MediaType::OCI_MANIFEST
        }
    }
}

/// Checks what can be checked without parsing, and returns the digest.
fn check_bytes(
    bytes: &[u8],
    document: &'static str,
    limit: u64,
    expected: Option<&Digest>,
) -> Result<Digest, DocumentError> {
    let size = bytes.len() as u64;
    if size > limit {
        return Err(DocumentError::TooLarge { document, size, limit });
    }
    // Before the digest: that a proxy answered says more than that its page has another digest.
    if bytes.trim_ascii_start().starts_with(b"<") {
        return Err(DocumentError::Html { document });
    }
    let actual = Digest::of(expected.map_or(Algorithm::Sha256, Digest::algorithm), bytes);
    match expected {
        Some(expected) if *expected != actual => Err(DocumentError::DigestMismatch {
            document,
            expected: expected.clone(),
            actual,
        }),
        _ => Ok(actual),
    }
}

/// Reads a JSON object.
fn read<'bytes, T: Deserialize<'bytes>>(bytes: &'bytes [u8], document: &'static str) -> Result<T, DocumentError> {
    match serde_json::from_slice(bytes) {
        Ok(Object(value)) => Ok(value),
        Err(source) => Err(DocumentError::Json { document, source }),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Index,
    Manifest,
}

impl Kind {
    /// Returns what a stated type stands for; a type that stands for neither is an error.
    fn of_type(media_type: &MediaType) -> Result<Self, DocumentError> {
        if media_type.is_index() {
            Ok(Self::Index)
        } else if media_type.is_manifest() {
            Ok(Self::Manifest)
        } else if media_type.is_schema1() {
            Err(DocumentError::Schema1)
        } else {
            Err(DocumentError::UnsupportedType {
                media_type: media_type.clone(),
            })
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Manifest => "manifest",
        }
    }
}

/// Which members a document has, to tell its kind before its parts are read. A `null` member counts as missing, as in
/// every Go client.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: MediaType,
    manifests: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
}

impl Outline {
    /// Returns the kind, and the type if anyone stated it.
    fn classify(&self, transport: Option<&MediaType>) -> Result<(Kind, Option<MediaType>), DocumentError> {
        let own = Some(&self.media_type).filter(|media_type| !media_type.is_generic());
        let shape = self.shape()?;
        let stated = own
            .map(|own| ("mediaType", own))
            .or_else(|| transport.map(|said| (TRANSPORT, said)));
        if let (Some(own), Some(transport)) = (own, transport)
            && own != transport
        {
            return Err(DocumentError::TypeMismatch {
                first: TRANSPORT,
                says: transport.to_string(),
                second: "document's mediaType",
                contradicts: own.to_string(),
            });
        }
        match (stated, shape) {
            (Some((place, media_type)), shape) => {
                let kind = Kind::of_type(media_type)?;
                match shape {
                    Some(shape) if shape != kind => Err(DocumentError::TypeMismatch {
                        first: place,
                        says: media_type.to_string(),
                        second: "document's shape",
                        contradicts: shape.as_str().to_owned(),
                    }),
                    // An index of nothing: Go writes an empty list as null.
                    None if kind == Kind::Manifest => Err(DocumentError::UnknownShape),
                    _ => Ok((kind, Some(media_type.clone()))),
                }
            }
            (None, Some(shape)) => Ok((shape, None)),
            (None, None) => Err(DocumentError::UnknownShape),
        }
    }

    fn shape(&self) -> Result<Option<Kind>, DocumentError> {
        let manifest_member = [("layers", &self.layers), ("config", &self.config)];
        let manifest_member = manifest_member
            .iter()
            .find(|(_, member)| member.is_some())
            .map(|(name, _)| *name);
        if self.fs_layers.is_some() {
            return match manifest_member.or(self.manifests.as_ref().map(|_| "manifests")) {
                Some(second) => Err(DocumentError::Ambiguous {
                    first: "fsLayers",
                    second,
                }),
                None => Err(DocumentError::Schema1),
            };
        }
        match self.schema_version {
            Some(1) => return Err(DocumentError::Schema1),
            // A missing version is let pass, as by docker and containerd.
            None | Some(2) => {}
            Some(version) => return Err(DocumentError::SchemaVersion { version }),
        }
        match (manifest_member, &self.manifests) {
            (Some(first), Some(_)) => Err(DocumentError::Ambiguous {
                first,
                second: "manifests",
            }),
            (Some(_), None) => Ok(Some(Kind::Manifest)),
            (None, Some(_)) => Ok(Some(Kind::Index)),
            (None, None) => Ok(None),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireIndex {
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    manifests: Vec<Object<WireDescriptor>>,
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    annotations: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "lenient::text")]
    artifact_type: Option<String>,
    subject: Option<Object<WireDescriptor>>,
}

impl WireIndex {
    fn check(self) -> Result<Index, DocumentError> {
        Ok(Index {
            manifests: check_list(self.manifests, "manifests")?,
            annotations: self.annotations,
            artifact_type: self.artifact_type,
            subject: self
                .subject
                .map(|Object(subject)| subject.check(|| "subject".to_owned()))
                .transpose()?,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireManifest {
    config: Option<Object<WireDescriptor>>,
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    layers: Vec<Object<WireDescriptor>>,
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    annotations: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "lenient::text")]
    artifact_type: Option<String>,
    subject: Option<Object<WireDescriptor>>,
}

impl WireManifest {
    fn check(self) -> Result<Manifest, DocumentError> {
        let Object(config) = self.config.ok_or(DocumentError::NoConfig)?;
        Ok(Manifest {
            config: config.check(|| "config".to_owned())?,
            layers: check_list(self.layers, "layers")?,
            annotations: self.annotations,
            artifact_type: self.artifact_type,
            subject: self
                .subject
                .map(|Object(subject)| subject.check(|| "subject".to_owned()))
                .transpose()?,
        })
    }
}

fn check_list(list: Vec<Object<WireDescriptor>>, member: &str) -> Result<Vec<Descriptor>, DocumentError> {
    list.into_iter()
        .enumerate()
        .map(|(position, Object(descriptor))| descriptor.check(|| format!("{member}[{position}]")))
        .collect()
}
