//! Images made of nothing but names, for a database that opens no blob.

use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;
use unlade_metadata::{
    BlobRecord, ConfigRecord, Database, Durability, ImageCommit, ImageKey, ImageLayer, ImageName, IndexRecord,
    LayerBlobRecord, LayerCommit, LayerDirectoryRecord, LayerForm, LayerOwnership, LayerPlace, LayerRecord,
    ManifestRecord,
};
use unlade_oci::{Compression, Descriptor, Digest, MediaType, Platform};

pub(crate) const BOOT: &str = "boot-1";

/// A database in a directory of its own.
pub(crate) struct Store {
    pub(crate) directory: TempDir,
    pub(crate) database: Database,
}

impl Store {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path().join("metadata.db")).unwrap();
        Self { directory, database }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("metadata.db")
    }

    pub(crate) fn place(&self) -> LayerPlace {
        LayerPlace {
            root: self.directory.path().join("layers"),
            form: LayerForm::Overlay,
            ownership: LayerOwnership::Preserve,
        }
    }

    /// Records layers of these contents, then the image.
    pub(crate) fn add(&self, commit: &ImageCommit) -> i64 {
        for layer in &commit.layers {
            self.database.record_layer(&layer_commit(layer, &self.place())).unwrap();
        }
        let documents = [(&commit.manifest.digest, 1), (&commit.config.digest, 2)];
        for (digest, size) in documents
            .into_iter()
            .chain(commit.indexes.iter().map(|index| (&index.digest, 3)))
        {
            self.database.record_blob(&blob(digest, size)).unwrap();
        }
        self.database.commit_image(commit).unwrap().id
    }
}

pub(crate) fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

/// `name:tag`, `name@text` (the digest of `text`) or `name:tag@text`, in the registry `r.test`.
pub(crate) fn name(text: &str) -> ImageName {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, text)) => (rest, Some(Digest::sha256(text))),
        None => (text, None),
    };
    let (repository, tag) = match rest.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag.to_owned())),
        None => (rest, None),
    };
    ImageName {
        registry: "r.test".to_owned(),
        repository: repository.to_owned(),
        tag,
        digest,
    }
}

pub(crate) fn key(text: &str, platform_text: &str) -> ImageKey {
    ImageKey {
        name: name(text),
        platform: Some(platform(platform_text)),
    }
}

pub(crate) fn any_platform(text: &str) -> ImageKey {
    ImageKey {
        name: name(text),
        platform: None,
    }
}

pub(crate) fn blob(digest: &Digest, size: u64) -> BlobRecord {
    BlobRecord {
        digest: digest.clone(),
        media_type: MediaType::new("application/octet-stream"),
        size,
        durability: Durability {
            synced: false,
            boot_id: BOOT.to_owned(),
        },
    }
}

pub(crate) fn diff_id(content: &str) -> Digest {
    Digest::sha256(content)
}

pub(crate) fn layer_blob(content: &str) -> Digest {
    Digest::sha256(format!("gzip of {content}"))
}

/// An image of these layers, by content; what it is depends on the layers and the platform, not on its name.
pub(crate) fn image(name_text: &str, platform_text: &str, contents: &[&str]) -> ImageCommit {
    let platform = platform(platform_text);
    let layers: Vec<ImageLayer> = contents
        .iter()
        .map(|content| ImageLayer {
            blob: layer_blob(content),
            diff_id: diff_id(content),
            media_type: MediaType::OCI_LAYER_GZIP,
            size: 100,
            chain_id: None,
            is_stacked: false,
        })
        .collect();
    let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.diff_id).collect();
    let raw = json!({
        "architecture": platform.architecture, "os": platform.os, "variant": platform.variant,
        "config": {"Env": ["A=b"], "Cmd": ["run"], "Labels": {"k": "v"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes();
    let config = ConfigRecord::parse(&Digest::sha256(&raw), &MediaType::OCI_CONFIG, &raw).unwrap();
    let raw = format!("manifest of {} with {contents:?}", config.digest).into_bytes();
    let manifest = ManifestRecord {
        digest: Digest::sha256(&raw),
        media_type: MediaType::OCI_MANIFEST,
        config: config.digest.clone(),
        config_media_type: MediaType::OCI_CONFIG,
        config_size: config.raw.len() as u64,
        artifact_type: None,
        subject: None,
        annotations: [("a".to_owned(), "b".to_owned())].into(),
        raw,
    };
    ImageCommit {
        name: name(name_text),
        platform,
        indexes: Vec::new(),
        manifest,
        config,
        layers,
    }
}

/// An index of entries: media type, digest, platform.
pub(crate) fn index(entries: &[(MediaType, &Digest, Option<&str>)]) -> IndexRecord {
    let entries: Vec<Descriptor> = entries
        .iter()
        .map(|(media_type, digest, platform_text)| Descriptor {
            platform: platform_text.map(platform),
            ..Descriptor::new(media_type.clone(), (*digest).clone(), 7)
        })
        .collect();
    let raw = serde_json::to_vec(&entries).unwrap();
    IndexRecord {
        digest: Digest::sha256(&raw),
        media_type: MediaType::OCI_INDEX,
        artifact_type: None,
        subject: None,
        annotations: [("i".to_owned(), "j".to_owned())].into(),
        entries,
        raw,
    }
}

pub(crate) fn layer_commit(layer: &ImageLayer, place: &LayerPlace) -> LayerCommit {
    LayerCommit {
        layer: LayerRecord {
            diff_id: layer.diff_id.clone(),
            raw_size: 1000,
            entries: 3,
            is_empty: false,
            summary: json!({"dropped": 1}),
        },
        source: LayerBlobRecord {
            blob: layer.blob.clone(),
            diff_id: layer.diff_id.clone(),
            compression: Compression::Gzip,
            media_type: layer.media_type.clone(),
            size: layer.size,
        },
        blob: Some(blob(&layer.blob, layer.size)),
        directory: Some(directory(&layer.diff_id, place)),
    }
}

pub(crate) fn directory(diff_id: &Digest, place: &LayerPlace) -> LayerDirectoryRecord {
    LayerDirectoryRecord {
        diff_id: diff_id.clone(),
        chain_id: None,
        place: place.clone(),
        name: format!("sha256-{}.extracted", diff_id.hex()),
        entries: 3,
        durability: Durability {
            synced: false,
            boot_id: BOOT.to_owned(),
        },
    }
}
