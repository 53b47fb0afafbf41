//! A store with a history: images that are recorded and never looked at.
//!
//! Only the database is filled. A command that answers from the store reads rows of its own image and lists that image's
//! directories; the directories of others it never touches, so none are made.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use unlade_metadata::{
    ConfigRecord, Database, Durability, ImageCommit, ImageLayer, ImageName, LayerBlobRecord, LayerCommit,
    LayerDirectoryRecord, LayerForm, LayerOwnership, LayerPlace, LayerRecord, ManifestRecord,
};
use unlade_oci::{Compression, Digest, MediaType, Platform};

/// How many images are recorded.
pub(super) const IMAGES: usize = 500;
/// How many layers each of them has, none shared.
pub(super) const LAYERS: usize = 10;

/// Records the images in the store at `store`.
pub(super) fn fill(store: &Path) -> Result<()> {
    let database = Database::open(store.join("metadata.db"))?;
    let place = LayerPlace {
        root: store.join("layers"),
        form: LayerForm::Overlay,
        ownership: LayerOwnership::Preserve,
    };
    for number in 0..IMAGES {
        let layers: Vec<_> = (0..LAYERS)
            .map(|position| layer(&format!("{number} {position}")))
            .collect();
        for layer in &layers {
            database.record_layer(&layer_commit(layer, &place))?;
        }
        database.commit_image(&image(number, layers)?)?;
    }
    Ok(())
}

fn image(number: usize, layers: Vec<ImageLayer>) -> Result<ImageCommit> {
    let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.diff_id).collect();
    let raw = serde_json::to_vec(&serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/app"]},
        "history": vec![serde_json::json!({"created_by": "RUN make install"}); LAYERS],
    }))?;
    let config = ConfigRecord::parse(&Digest::sha256(&raw), &MediaType::OCI_CONFIG, &raw)?;
    let raw = serde_json::to_vec(&serde_json::json!({"number": number, "layers": diff_ids}))?;
    Ok(ImageCommit {
        name: ImageName {
            registry: "registry.test".to_owned(),
            repository: format!("team/app-{number}"),
            tag: Some("latest".to_owned()),
            digest: None,
        },
        platform: "linux/amd64".parse::<Platform>()?,
        indexes: Vec::new(),
        manifest: ManifestRecord {
            digest: Digest::sha256(&raw),
            media_type: MediaType::OCI_MANIFEST,
            config: config.digest.clone(),
            config_media_type: MediaType::OCI_CONFIG,
            config_size: config.raw.len() as u64,
            artifact_type: None,
            subject: None,
            annotations: BTreeMap::new(),
            raw,
        },
        config,
        layers,
    })
}

fn layer(content: &str) -> ImageLayer {
    ImageLayer {
        blob: Digest::sha256(format!("gzip of {content}")),
        diff_id: Digest::sha256(content),
        media_type: MediaType::OCI_LAYER_GZIP,
        size: 1 << 20,
        chain_id: None,
        is_stacked: true,
    }
}

fn layer_commit(layer: &ImageLayer, place: &LayerPlace) -> LayerCommit {
    LayerCommit {
        layer: LayerRecord {
            diff_id: layer.diff_id.clone(),
            raw_size: 1 << 22,
            entries: 100,
            is_empty: false,
            summary: serde_json::json!({}),
        },
        source: LayerBlobRecord {
            blob: layer.blob.clone(),
            diff_id: layer.diff_id.clone(),
            compression: Compression::Gzip,
            media_type: layer.media_type.clone(),
            size: layer.size,
        },
        blob: None,
        directory: Some(LayerDirectoryRecord {
            diff_id: layer.diff_id.clone(),
            chain_id: None,
            place: place.clone(),
            name: format!("sha256-{}.extracted", layer.diff_id.hex()),
            entries: 100,
            durability: Durability {
                synced: true,
                boot_id: String::new(),
            },
        }),
    }
}
