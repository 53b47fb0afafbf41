//! Times the way of a command that finds its image complete: open the database, look up, close.
//!
//! `cargo run --release -p unlade-metadata --example warm_lookup` makes a database of 500 images with 10 layers each
//! in a temporary directory and prints the median of 200 runs.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::error::Error;
use std::time::{Duration, Instant};

use unlade_metadata::{
    ConfigRecord, Database, Durability, ImageCommit, ImageKey, ImageLayer, ImageName, LayerBlobRecord, LayerCommit,
    LayerDirectoryRecord, LayerForm, LayerPlace, LayerRecord, ManifestRecord,
};
use unlade_oci::{Compression, Digest, MediaType, Platform};

const IMAGES: usize = 500;
const LAYERS: usize = 10;
const RUNS: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("metadata.db");
    let place = LayerPlace {
        root: directory.path().join("layers"),
        form: LayerForm::Overlay,
    };
    let platform: Platform = "linux/amd64".parse()?;
    fill(&Database::open(&path)?, &place, &platform)?;

    let key = ImageKey {
        name: name(IMAGES / 2),
        platform: Some(platform),
    };
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let started = Instant::now();
        let database = Database::open(&path)?;
        let image = database
            .find_image(&key, Some(&place))?
            .ok_or("the image is not there")?;
        if !image.is_extracted() || image.layers.len() != LAYERS {
            return Err("the image is not complete".into());
        }
        drop(database);
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let of = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or(Duration::MAX);
    println!("{IMAGES} images, {} layers: open, look up, close", IMAGES * LAYERS);
    println!("median {:?}, 99 of 100 within {:?}", of(50), of(99));
    let database = Database::open(&path)?;
    let started = Instant::now();
    let listed = database.images()?.len();
    println!("listing {listed} images {:?}", started.elapsed());
    Ok(())
}

fn name(number: usize) -> ImageName {
    ImageName {
        registry: "registry.test".to_owned(),
        repository: format!("team/app-{number}"),
        tag: Some("latest".to_owned()),
        digest: None,
    }
}

fn fill(database: &Database, place: &LayerPlace, platform: &Platform) -> Result<(), Box<dyn Error>> {
    for number in 0..IMAGES {
        let mut layers = Vec::new();
        for position in 0..LAYERS {
            let layer = layer(&format!("{number} {position}"));
            database.record_layer(&layer_commit(&layer, place))?;
            layers.push(layer);
        }
        let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.diff_id).collect();
        let raw = serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "config": {"Env": vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"; 10]},
        })
        .to_string()
        .into_bytes();
        let config = ConfigRecord::parse(&Digest::sha256(&raw), &MediaType::OCI_CONFIG, &raw)?;
        let raw = format!("{number}").repeat(500).into_bytes();
        let manifest = ManifestRecord {
            digest: Digest::sha256(&raw),
            media_type: MediaType::OCI_MANIFEST,
            config: config.digest.clone(),
            config_media_type: MediaType::OCI_CONFIG,
            config_size: config.raw.len() as u64,
            artifact_type: None,
            subject: None,
            annotations: [].into(),
            raw,
        };
        let (name, platform) = (name(number), platform.clone());
        database.commit_image(&ImageCommit {
            name,
            platform,
            indexes: Vec::new(),
            manifest,
            config,
            layers,
        })?;
    }
    Ok(())
}

fn layer(content: &str) -> ImageLayer {
    ImageLayer {
        blob: Digest::sha256(format!("gzip of {content}")),
        diff_id: Digest::sha256(content),
        media_type: MediaType::OCI_LAYER_GZIP,
        size: 1 << 20,
        chain_id: None,
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
