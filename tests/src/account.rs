//! Every path of a store, accounted for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use unlade_oci::Digest;

use crate::home::Home;

/// What a store has whether there is anything in it or not.
const FRAME: [&str; 15] = [
    "blobs",
    "blobs/sha256",
    "index.json",
    "ingest",
    "layers",
    "locks",
    "locks/index",
    "locks/removal",
    "metadata.db",
    "metadata.db-shm",
    "metadata.db-wal",
    "mounts",
    "oci-layout",
    "staging",
    "lost+found",
];

impl Home {
    /// Lists every path of the store that nothing accounts for: neither the frame of a store, nor one of the images in it.
    /// Layer directories are not looked into.
    pub fn strays(&self) -> Vec<PathBuf> {
        let mut known: BTreeSet<PathBuf> = FRAME.iter().map(PathBuf::from).collect();
        for name in self.images() {
            let inspected = self.unlade(["inspect", &name]).run().success().json();
            for image in inspected.as_array().expect("a list of images") {
                account_for(&image["Unlade"], &mut known);
            }
        }
        let mut strays = Vec::new();
        let mut directories = vec![PathBuf::new()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(self.store().join(&directory)).expect("a directory of the store") {
                let name = directory.join(entry.expect("an entry").file_name());
                if !known.contains(&name) {
                    strays.push(name);
                } else if self.store().join(&name).is_dir() && directory != Path::new("layers") {
                    directories.push(name);
                }
            }
        }
        strays.sort();
        strays
    }
}

fn account_for(image: &Value, known: &mut BTreeSet<PathBuf>) {
    let mut documents = vec![&image["Digest"], &image["Index"], &image["Manifest"], &image["Config"]];
    for layer in image["Layers"].as_array().expect("a list of layers") {
        documents.push(&layer["Digest"]);
        let diff_id = digest(&layer["DiffId"]).expect("every layer has a diff ID");
        known.insert(format!("layers/{}-{}.extracted", diff_id.algorithm(), diff_id.hex()).into());
    }
    for digest in documents.into_iter().filter_map(digest) {
        known.insert(format!("blobs/{}/{}", digest.algorithm(), digest.hex()).into());
    }
}

fn digest(value: &Value) -> Option<Digest> {
    value.as_str().map(|text| text.parse().expect("a digest"))
}
