//! What each image consists of: the question behind disk usage and the choice of what to remove.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::SystemTime;

use rusqlite::{OptionalExtension as _, Transaction};
use unlade_oci::{Digest, Platform};

use crate::error::{Failure, Result};
use crate::images::image_name;
use crate::records::ImageName;
use crate::{Database, columns, layers};

/// An image and everything in the store that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageContent {
    /// The image's row.
    pub id: i64,
    /// Its name.
    pub name: ImageName,
    /// The platform that was asked for.
    pub platform: Platform,
    /// When the image was last used.
    pub last_used_at: SystemTime,
    /// Its documents: manifest, configuration, and the indexes on the way; of an index that is kept whole also what is no image.
    pub documents: BTreeSet<Digest>,
    /// Its layers, each as the blob that the manifest lists and the diff ID.
    pub layers: BTreeSet<(Digest, Digest)>,
    /// The directories of its layers, wherever they are.
    pub directories: BTreeSet<PathBuf>,
}

impl Database {
    /// Returns what every image consists of, in the order of names and platforms. Seen at one moment.
    pub fn contents(&self) -> Result<Vec<ImageContent>> {
        self.read("list what images consist of", |transaction| {
            let mut documents = documents(transaction)?;
            let mut image_layers = image_layers(transaction)?;
            let mut directories = directories(self, transaction)?;
            let mut statement = transaction
                .prepare_cached("SELECT * FROM images ORDER BY registry, repository, tag, digest, platform")?;
            let mut rows = statement.query([])?;
            let mut contents = Vec::new();
            while let Some(row) = rows.next()? {
                let id = row.get("id")?;
                contents.push(ImageContent {
                    id,
                    name: image_name(row)?,
                    platform: columns::platform(row, "platform")?,
                    last_used_at: columns::time(row, "last_used_at")?,
                    documents: documents.remove(&id).unwrap_or_default(),
                    layers: image_layers.remove(&id).unwrap_or_default(),
                    directories: directories.remove(&id).unwrap_or_default(),
                });
            }
            Ok(contents)
        })
    }

    /// Returns the bytes of an index, a manifest or a configuration that is recorded.
    pub fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        self.read("look a document up", |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT raw FROM manifests WHERE digest = ?1 UNION ALL SELECT raw FROM configs WHERE digest = ?1
                 UNION ALL SELECT raw FROM indexes WHERE digest = ?1 LIMIT 1",
            )?;
            Ok(statement.query_row([digest.to_string()], |row| row.get(0)).optional()?)
        })
    }
}

type ByImage<T> = BTreeMap<i64, BTreeSet<T>>;

fn documents(transaction: &Transaction<'_>) -> Result<ByImage<Digest>, Failure> {
    let mut statement = transaction.prepare_cached(
        "WITH RECURSIVE reached (image, digest) AS (
             SELECT id, index_digest FROM images WHERE index_digest IS NOT NULL
             UNION
             SELECT r.image, e.digest FROM reached r JOIN index_entries e ON e.index_digest = r.digest
                 JOIN indexes x ON x.digest = e.digest)
         SELECT image, digest FROM reached
         UNION SELECT r.image, b.digest FROM reached r JOIN index_blobs b ON b.index_digest = r.digest
         UNION SELECT id, manifest_digest FROM images
         UNION SELECT i.id, m.config_digest FROM images i JOIN manifests m ON m.digest = i.manifest_digest",
    )?;
    let mut rows = statement.query([])?;
    let mut documents = ByImage::new();
    while let Some(row) = rows.next()? {
        let digest = columns::digest(row, "digest")?;
        documents.entry(row.get("image")?).or_default().insert(digest);
    }
    Ok(documents)
}

fn image_layers(transaction: &Transaction<'_>) -> Result<ByImage<(Digest, Digest)>, Failure> {
    let mut statement = transaction.prepare_cached(
        "SELECT i.id, ml.blob_digest, ml.diff_id FROM images i
             JOIN manifest_layers ml ON ml.manifest_digest = i.manifest_digest",
    )?;
    let mut rows = statement.query([])?;
    let mut found = ByImage::new();
    while let Some(row) = rows.next()? {
        let layer = (columns::digest(row, "blob_digest")?, columns::digest(row, "diff_id")?);
        found.entry(row.get("id")?).or_default().insert(layer);
    }
    Ok(found)
}

fn directories(database: &Database, transaction: &Transaction<'_>) -> Result<ByImage<PathBuf>, Failure> {
    let mut statement = transaction.prepare_cached(
        "SELECT DISTINCT i.id AS image, d.* FROM images i
             JOIN manifest_layers ml ON ml.manifest_digest = i.manifest_digest
             JOIN layer_directories d ON d.diff_id = ml.diff_id AND d.chain_id = coalesce(ml.chain_id, '')",
    )?;
    let mut rows = statement.query([])?;
    let mut found = ByImage::new();
    while let Some(row) = rows.next()? {
        let path = layers::directory_from_row(database, row)?.path();
        found.entry(row.get("image")?).or_default().insert(path);
    }
    Ok(found)
}
