//! Media types: the names of everything that images are made of.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Compression;

/// A media type without its parameters, in lower case.
///
/// Any text is taken, since a descriptor may name types nobody has heard of; [`is_manifest`](Self::is_manifest) and
/// its like tell what this project knows. The empty text means that no type was given.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MediaType(Cow<'static, str>);

impl MediaType {
    /// An OCI image index.
    pub const OCI_INDEX: Self = Self::known("application/vnd.oci.image.index.v1+json");
    /// An OCI image manifest.
    pub const OCI_MANIFEST: Self = Self::known("application/vnd.oci.image.manifest.v1+json");
    /// An OCI image configuration.
    pub const OCI_CONFIG: Self = Self::known("application/vnd.oci.image.config.v1+json");
    /// An uncompressed OCI layer.
    pub const OCI_LAYER: Self = Self::known("application/vnd.oci.image.layer.v1.tar");
    /// An OCI layer under gzip.
    pub const OCI_LAYER_GZIP: Self = Self::known("application/vnd.oci.image.layer.v1.tar+gzip");
    /// An OCI layer under zstd.
    pub const OCI_LAYER_ZSTD: Self = Self::known("application/vnd.oci.image.layer.v1.tar+zstd");
    /// An uncompressed OCI layer that registries other than its maker's should not hold.
    pub const OCI_FOREIGN_LAYER: Self = Self::known("application/vnd.oci.image.layer.nondistributable.v1.tar");
    /// The same under gzip.
    pub const OCI_FOREIGN_LAYER_GZIP: Self =
        Self::known("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
    /// The same under zstd.
    pub const OCI_FOREIGN_LAYER_ZSTD: Self =
        Self::known("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd");
    /// The empty JSON object that stands for the configuration of an artifact.
    pub const OCI_EMPTY: Self = Self::known("application/vnd.oci.empty.v1+json");
    /// The artifact manifest that a release candidate of the specification had, and no release.
    pub const OCI_ARTIFACT_MANIFEST: Self = Self::known("application/vnd.oci.artifact.manifest.v1+json");
    /// A docker manifest list, schema 2.
    pub const DOCKER_LIST: Self = Self::known("application/vnd.docker.distribution.manifest.list.v2+json");
    /// A docker manifest, schema 2.
    pub const DOCKER_MANIFEST: Self = Self::known("application/vnd.docker.distribution.manifest.v2+json");
    /// A docker manifest, schema 1; known only to say that it is not supported.
    pub const DOCKER_MANIFEST_V1: Self = Self::known("application/vnd.docker.distribution.manifest.v1+json");
    /// A signed docker manifest, schema 1; known only to say that it is not supported.
    pub const DOCKER_MANIFEST_V1_SIGNED: Self =
        Self::known("application/vnd.docker.distribution.manifest.v1+prettyjws");
    /// A docker image configuration.
    pub const DOCKER_CONFIG: Self = Self::known("application/vnd.docker.container.image.v1+json");
    /// An uncompressed docker layer.
    pub const DOCKER_LAYER: Self = Self::known("application/vnd.docker.image.rootfs.diff.tar");
    /// A docker layer under gzip.
    pub const DOCKER_LAYER_GZIP: Self = Self::known("application/vnd.docker.image.rootfs.diff.tar.gzip");
    /// A docker layer under zstd, which docker never defined and containerd writes.
    pub const DOCKER_LAYER_ZSTD: Self = Self::known("application/vnd.docker.image.rootfs.diff.tar.zstd");
    /// A docker layer to be had from its maker's servers only.
    pub const DOCKER_FOREIGN_LAYER: Self = Self::known("application/vnd.docker.image.rootfs.foreign.diff.tar");
    /// The same under gzip.
    pub const DOCKER_FOREIGN_LAYER_GZIP: Self =
        Self::known("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");

    /// The types to ask a registry for where a manifest or an index is wanted, best first.
    pub const ACCEPTED_MANIFESTS: [Self; 4] = [
        Self::OCI_INDEX,
        Self::OCI_MANIFEST,
        Self::DOCKER_LIST,
        Self::DOCKER_MANIFEST,
    ];

    const fn known(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// Returns the media type that `text` names, without its parameters (`; charset=utf-8`) and in lower case.
    pub fn new(text: &str) -> Self {
        let essence = text.split(';').next().unwrap_or_default().trim();
        Self(Cow::Owned(essence.to_ascii_lowercase()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether no type was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether this says nothing about a document: empty, or one of the types that servers fall back to.
    pub fn is_generic(&self) -> bool {
        matches!(
            self.as_str(),
            "" | "application/json" | "text/plain" | "text/json" | "application/octet-stream" | "binary/octet-stream"
        )
    }

    /// Returns whether this is an image index or a manifest list.
    pub fn is_index(&self) -> bool {
        *self == Self::OCI_INDEX || *self == Self::DOCKER_LIST
    }

    /// Returns whether this is an image manifest, OCI's or docker's schema 2.
    pub fn is_manifest(&self) -> bool {
        *self == Self::OCI_MANIFEST || *self == Self::DOCKER_MANIFEST
    }

    /// Returns whether this is a docker manifest of schema 1.
    pub fn is_schema1(&self) -> bool {
        *self == Self::DOCKER_MANIFEST_V1 || *self == Self::DOCKER_MANIFEST_V1_SIGNED
    }

    /// Returns whether this is an image configuration.
    pub fn is_config(&self) -> bool {
        *self == Self::OCI_CONFIG || *self == Self::DOCKER_CONFIG
    }

    /// Returns whether this is a layer of an image, whatever its compression; an encrypted layer is none.
    ///
    /// The families are open, as the specification lets new compressions come by suffix; the bytes tell in the end.
    pub fn is_layer(&self) -> bool {
        let oci = self.0.strip_prefix("application/vnd.oci.image.layer.");
        let oci = oci.map(|rest| rest.strip_prefix("nondistributable.").unwrap_or(rest));
        let docker = self.0.strip_prefix("application/vnd.docker.image.rootfs.");
        let docker = docker.map(|rest| rest.strip_prefix("foreign.").unwrap_or(rest));
        let is_tar = |rest: Option<&str>, base: &str| {
            rest.and_then(|rest| rest.strip_prefix(base))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', '.']))
        };
        (is_tar(oci, "v1.tar") || is_tar(docker, "diff.tar")) && !self.is_encrypted()
    }

    /// Returns whether this is a layer that may have to be fetched from the `urls` of its descriptor.
    pub fn is_foreign_layer(&self) -> bool {
        self.is_layer() && (self.0.contains(".nondistributable.") || self.0.contains(".foreign."))
    }

    /// Returns whether the content is encrypted (the suffix that ocicrypt gives).
    pub fn is_encrypted(&self) -> bool {
        self.0.ends_with("+encrypted")
    }

    /// Returns the compression that the type of a layer claims, [`None`] where it is no layer or claims one unknown.
    pub fn compression_hint(&self) -> Option<Compression> {
        if !self.is_layer() {
            return None;
        }
        let (_, suffix) = self.0.rsplit_once("tar")?;
        match suffix {
            "" => Some(Compression::None),
            "+gzip" | ".gzip" => Some(Compression::Gzip),
            "+zstd" | ".zstd" => Some(Compression::Zstd),
            _ => None,
        }
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl FromStr for MediaType {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text))
    }
}

impl AsRef<str> for MediaType {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(
            &Option::<String>::deserialize(deserializer)?.unwrap_or_default(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_case_do_not_matter() {
        for text in [
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.oci.image.index.v1+json; charset=utf-8",
            " Application/vnd.OCI.image.index.v1+JSON ;q=1",
        ] {
            assert_eq!(MediaType::new(text), MediaType::OCI_INDEX, "{text}");
        }
    }

    #[test]
    fn layers() {
        use Compression::{Gzip, None as Plain, Zstd};
        // type, layer, foreign, hint
        for (media_type, is_layer, is_foreign, hint) in [
            (MediaType::OCI_LAYER, true, false, Some(Plain)),
            (MediaType::OCI_LAYER_GZIP, true, false, Some(Gzip)),
            (MediaType::OCI_LAYER_ZSTD, true, false, Some(Zstd)),
            (MediaType::OCI_FOREIGN_LAYER, true, true, Some(Plain)),
            (MediaType::OCI_FOREIGN_LAYER_GZIP, true, true, Some(Gzip)),
            (MediaType::OCI_FOREIGN_LAYER_ZSTD, true, true, Some(Zstd)),
            (MediaType::DOCKER_LAYER, true, false, Some(Plain)),
            (MediaType::DOCKER_LAYER_GZIP, true, false, Some(Gzip)),
            (MediaType::DOCKER_LAYER_ZSTD, true, false, Some(Zstd)),
            (MediaType::DOCKER_FOREIGN_LAYER, true, true, Some(Plain)),
            (MediaType::DOCKER_FOREIGN_LAYER_GZIP, true, true, Some(Gzip)),
            (
                MediaType::new("application/vnd.oci.image.layer.v1.tar+xz"),
                true,
                false,
                None,
            ),
            (
                MediaType::new("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
                false,
                false,
                None,
            ),
            (
                MediaType::new("application/vnd.oci.image.layer.v1.tarball"),
                false,
                false,
                None,
            ),
            (
                MediaType::new("application/vnd.oci.image.layer.v1.erofs"),
                false,
                false,
                None,
            ),
            (MediaType::new("application/vnd.in-toto+json"), false, false, None),
            (MediaType::OCI_MANIFEST, false, false, None),
            (MediaType::default(), false, false, None),
        ] {
            assert_eq!(media_type.is_layer(), is_layer, "{media_type}");
            assert_eq!(media_type.is_foreign_layer(), is_foreign, "{media_type}");
            assert_eq!(media_type.compression_hint(), hint, "{media_type}");
        }
    }

    #[test]
    fn documents() {
        for media_type in MediaType::ACCEPTED_MANIFESTS {
            assert!(media_type.is_index() != media_type.is_manifest(), "{media_type}");
            assert!(
                !media_type.is_generic() && !media_type.is_config() && !media_type.is_schema1(),
                "{media_type}"
            );
        }
        assert!(MediaType::DOCKER_CONFIG.is_config() && MediaType::OCI_CONFIG.is_config());
        assert!(MediaType::DOCKER_MANIFEST_V1.is_schema1() && MediaType::DOCKER_MANIFEST_V1_SIGNED.is_schema1());
        assert!(MediaType::new("application/json; charset=utf-8").is_generic());
        assert!(!MediaType::new("text/html").is_generic());
    }

    #[test]
    fn null_is_no_type() {
        let media_type: MediaType = serde_json::from_str("null").expect("null stands for nothing");
        assert!(media_type.is_empty());
    }
}
