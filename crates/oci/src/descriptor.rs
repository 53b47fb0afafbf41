//! Descriptors: what a document says about content that lies elsewhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::DocumentError;
use crate::lenient;
use crate::{Digest, MediaType, Platform};

/// The annotation by which an index marks entries that describe another entry, as attestations do.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// A content descriptor (image-spec, `descriptor.md`).
///
/// Deserialisation takes what Go clients take: `null` for whatever is empty, members nobody knows. Embedded `data` is
/// not kept: content always comes by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "WireDescriptor")]
pub struct Descriptor {
    /// The type of the content; empty where none is given.
    pub media_type: MediaType,
    /// The digest of the content.
    pub digest: Digest,
    /// The size of the content in bytes, at most [`i64::MAX`].
    pub size: u64,
    /// Where the content runs, in an entry of an index; [`None`] also for a platform that names nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free-form notes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The type of the artifact that the content is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Where the content may be had, apart from the registry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

impl Descriptor {
    /// Returns a descriptor with the three members that every one has.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
            artifact_type: None,
            urls: Vec::new(),
        }
    }

    /// Returns whether this entry of an index describes another entry (an attestation, a signature) and is no image.
    ///
    /// Such entries carry an annotation of their own or the platform `unknown/unknown`, which old clients skip.
    pub fn is_attestation(&self) -> bool {
        self.annotations.contains_key(REFERENCE_TYPE) || self.platform.as_ref().is_some_and(Platform::is_unknown)
    }
}

/// A descriptor as it stands in a document, before its digest and size are looked at.
///
/// The digest stays a text for so long, so that the error can say which descriptor of the document is wrong.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireDescriptor {
    #[serde(default)]
    media_type: MediaType,
    digest: String,
    size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    annotations: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "lenient::text")]
    artifact_type: Option<String>,
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    urls: Vec<String>,
}

impl WireDescriptor {
    /// Checks the descriptor that stands at `place` of its document.
    pub(crate) fn check(self, place: impl FnOnce() -> String) -> Result<Descriptor, DocumentError> {
        let digest = match self.digest.parse() {
            Ok(digest) => digest,
            Err(source) => return Err(DocumentError::Digest { place: place(), source }),
        };
        if i64::try_from(self.size).is_err() {
            return Err(DocumentError::Size {
                place: place(),
                size: self.size,
            });
        }
        Ok(Descriptor {
            media_type: self.media_type,
            digest,
            size: self.size,
            platform: self.platform.filter(|platform| !platform.is_empty()),
            annotations: self.annotations,
            artifact_type: self.artifact_type,
            urls: self.urls,
        })
    }
}

impl TryFrom<WireDescriptor> for Descriptor {
    type Error = String;

    fn try_from(wire: WireDescriptor) -> Result<Self, Self::Error> {
        // Serde takes the message alone, so the source has to be in it.
        wire.check(|| "a descriptor".to_owned()).map_err(|error| match &error {
            DocumentError::Digest { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nulls_and_unknown_members() {
        let digest = Digest::sha256("x");
        let descriptor: Descriptor = serde_json::from_value(json!({
            "mediaType": null, "digest": digest, "size": 1, "platform": {}, "annotations": null,
            "artifactType": "", "urls": null, "data": "eA==", "more": [1, 2],
        }))
        .unwrap();
        assert_eq!(descriptor, Descriptor::new(MediaType::default(), digest, 1));
    }

    #[test]
    fn written_and_read_back() {
        let descriptor = Descriptor {
            platform: Some("windows(10.0.17763.1)/arm64/v9".parse().unwrap()),
            annotations: BTreeMap::from([("a".into(), "b".into())]),
            artifact_type: Some("application/x".into()),
            urls: vec!["https://a.example/b".into()],
            ..Descriptor::new(MediaType::OCI_MANIFEST, Digest::sha256("x"), 7)
        };
        let value = serde_json::to_value(&descriptor).unwrap();
        assert_eq!(value["platform"]["os.version"], "10.0.17763.1");
        assert_eq!(serde_json::from_value::<Descriptor>(value).unwrap(), descriptor);

        let least = Descriptor::new(MediaType::OCI_LAYER, Digest::sha256("y"), 0);
        let members: Vec<_> = serde_json::to_value(&least)
            .unwrap()
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        assert_eq!(members, ["digest", "mediaType", "size"]);
    }

    #[test]
    fn refused() {
        let refused = |digest: &str, size: i128| {
            let text = format!(r#"{{"digest": "{digest}", "size": {size}}}"#);
            serde_json::from_str::<Descriptor>(&text).unwrap_err().to_string()
        };
        let good = Digest::sha256("x").to_string();
        assert!(refused("sha256:12", 1).contains("a descriptor has an invalid digest: a sha256 digest has 64"));
        assert!(refused(&good, -1).contains("invalid value"));
        assert!(refused(&good, i128::from(i64::MAX) + 1).contains("no file can be that large"));
    }

    #[test]
    fn attestations() {
        let image = Descriptor::new(MediaType::OCI_MANIFEST, Digest::sha256("x"), 1);
        assert!(!image.is_attestation());
        let unknown = Descriptor {
            platform: Some("unknown/unknown".parse().unwrap()),
            ..image.clone()
        };
        assert!(unknown.is_attestation());
        let marked = Descriptor {
            platform: Some("linux/amd64".parse().unwrap()),
            annotations: BTreeMap::from([(REFERENCE_TYPE.into(), "attestation-manifest".into())]),
            ..image
        };
        assert!(marked.is_attestation());
    }
}
