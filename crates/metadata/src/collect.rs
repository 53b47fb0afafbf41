//! Garbage: everything that no name leads to and no lease protects, found and dropped in one transaction.

use std::collections::BTreeSet;
use std::time::SystemTime;

use rusqlite::{Transaction, named_params};
use unlade_oci::Digest;

use crate::error::{Failure, Result};
use crate::images::image_name;
use crate::records::{LayerDirectoryRecord, Removed};
use crate::{Database, columns, layers, leases};

/// Whether a collection is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collect {
    /// It is.
    Apply,
    /// It is only tried: the answer is the same, and nothing is changed.
    Try,
}

/// What to collect beyond what nothing needs already.
#[derive(Clone, Debug, Default)]
pub struct Collection {
    /// Images to remove: each one's row and when it was last used. One that was used since stays.
    pub images: Vec<(i64, SystemTime)>,
    /// Whether artifacts are removed as well, all of them.
    pub artifacts: bool,
    /// Layers that can do without their blobs, except in a stack that they were extracted against.
    pub without_blobs: BTreeSet<Digest>,
}

/// What a collection has removed, and all that stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// What had rows and has none any more. The files are for the caller to remove.
    pub removed: Removed,
    /// The blobs that are needed or leased, whether they are in the store or not.
    pub blobs: BTreeSet<Digest>,
    /// The layer directories that stay.
    pub directories: Vec<LayerDirectoryRecord>,
    /// The layers that are recorded.
    pub layers: BTreeSet<Digest>,
    /// The layers that are leased, recorded or not.
    pub leased_layers: BTreeSet<Digest>,
}

impl Database {
    /// Removes the rows of everything that no name leads to and no live lease protects: old manifests of names that have
    /// moved on, layers without an image, and the blobs and directories of both.
    ///
    /// As with [`Database::remove_image`] the files are for the caller to remove. What is on the disk and is not among
    /// what stays is garbage as well, as long as nobody can take a lease meanwhile.
    pub fn collect(&self, collection: &Collection, collect: Collect) -> Result<Collected> {
        self.write("collect garbage", |transaction| {
            if collect == Collect::Apply {
                return collected(self, transaction, collection);
            }
            transaction.execute_batch("SAVEPOINT trial")?;
            let outcome = collected(self, transaction, collection);
            transaction.execute_batch("ROLLBACK TO trial; RELEASE trial")?;
            outcome
        })
    }
}

fn collected(
    database: &Database,
    transaction: &Transaction<'_>,
    collection: &Collection,
) -> Result<Collected, Failure> {
    leases::end_dead(transaction)?;
    let mut collected = Collected::default();
    remove_names(transaction, &collection.images, &mut collected.removed)?;
    if collection.artifacts {
        remove_artifacts(transaction, &mut collected.removed)?;
    }
    remove_documents(transaction)?;
    remove_layers(database, transaction, &mut collected.removed)?;
    collected.blobs = needed_blobs(transaction, &collection.without_blobs)?;
    remove_blobs(transaction, &collected.blobs, &mut collected.removed)?;
    let mut statement = transaction.prepare_cached("SELECT * FROM layer_directories ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        collected.directories.push(layers::directory_from_row(database, row)?);
    }
    collected.layers = digests(transaction, "SELECT diff_id FROM layers")?;
    collected.leased_layers = digests(
        transaction,
        "SELECT DISTINCT digest FROM lease_items WHERE kind = 'layer'",
    )?;
    Ok(collected)
}

fn remove_names(
    transaction: &Transaction<'_>,
    images: &[(i64, SystemTime)],
    removed: &mut Removed,
) -> Result<(), Failure> {
    let mut statement =
        transaction.prepare_cached("DELETE FROM images WHERE id = :id AND last_used_at = :used RETURNING *")?;
    for (id, last_used) in images {
        let mut rows = statement.query(named_params! { ":id": id, ":used": columns::milliseconds(*last_used) })?;
        while let Some(row) = rows.next()? {
            removed
                .names
                .push((image_name(row)?, columns::platform(row, "platform")?));
        }
    }
    Ok(())
}

fn remove_artifacts(transaction: &Transaction<'_>, removed: &mut Removed) -> Result<(), Failure> {
    let mut statement = transaction.prepare_cached("DELETE FROM artifacts RETURNING *")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        removed.artifacts.push(image_name(row)?);
    }
    Ok(())
}

fn remove_documents(transaction: &Transaction<'_>) -> Result<(), Failure> {
    transaction.execute_batch(
        "DELETE FROM manifests WHERE digest NOT IN (SELECT manifest_digest FROM images);
         DELETE FROM configs WHERE digest NOT IN (SELECT config_digest FROM manifests)",
    )?;
    // Each round frees the indexes that only those of the round before have named.
    let mut statement = transaction.prepare_cached(
        "DELETE FROM indexes
         WHERE digest NOT IN (SELECT index_digest FROM images WHERE index_digest IS NOT NULL)
             AND digest NOT IN (SELECT digest FROM index_entries)",
    )?;
    while statement.execute([])? > 0 {}
    Ok(())
}

fn remove_layers(database: &Database, transaction: &Transaction<'_>, removed: &mut Removed) -> Result<(), Failure> {
    const UNUSED: &str = "
        diff_id NOT IN (SELECT digest FROM lease_items WHERE kind = 'layer') AND NOT EXISTS (
            SELECT 1 FROM manifest_layers ml
            WHERE ml.diff_id = layer_directories.diff_id
                AND (layer_directories.chain_id = '' OR ml.chain_id = layer_directories.chain_id))";
    let mut statement =
        transaction.prepare_cached(&format!("DELETE FROM layer_directories WHERE {UNUSED} RETURNING *"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        removed.directories.push(layers::directory_from_row(database, row)?);
    }
    removed.diff_ids = digests(
        transaction,
        "DELETE FROM layers
         WHERE diff_id NOT IN (SELECT diff_id FROM manifest_layers)
             AND diff_id NOT IN (SELECT digest FROM lease_items WHERE kind = 'layer')
         RETURNING diff_id",
    )?
    .into_iter()
    .collect();
    Ok(())
}

/// Returns the blobs of all documents and layers, without those layers that need none, and all that are leased.
fn needed_blobs(transaction: &Transaction<'_>, without_blobs: &BTreeSet<Digest>) -> Result<BTreeSet<Digest>, Failure> {
    let mut needed = digests(
        transaction,
        "SELECT digest FROM manifests UNION SELECT digest FROM configs UNION SELECT digest FROM indexes
         UNION SELECT manifest_digest FROM artifacts UNION SELECT digest FROM artifact_blobs
         UNION SELECT digest FROM index_blobs
         UNION SELECT digest FROM lease_items WHERE kind = 'blob'",
    )?;
    let mut statement = transaction.prepare_cached(
        "SELECT DISTINCT blob_digest, diff_id, coalesce(chain_id, '') = '' AS is_alone FROM manifest_layers",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let is_alone: bool = row.get("is_alone")?;
        if !is_alone || !without_blobs.contains(&columns::digest(row, "diff_id")?) {
            needed.insert(columns::digest(row, "blob_digest")?);
        }
    }
    Ok(needed)
}

fn remove_blobs(transaction: &Transaction<'_>, kept: &BTreeSet<Digest>, removed: &mut Removed) -> Result<(), Failure> {
    for blob in digests(transaction, "SELECT digest FROM blobs")?.difference(kept) {
        transaction
            .prepare_cached("DELETE FROM blobs WHERE digest = ?1")?
            .execute([blob.to_string()])?;
        removed.blobs.push(blob.clone());
    }
    // What a blob holds is worth knowing as long as some manifest lists it, even while the blob is not there.
    transaction.execute_batch(
        "DELETE FROM layer_blobs
         WHERE blob_digest NOT IN (SELECT blob_digest FROM manifest_layers)
             AND blob_digest NOT IN (SELECT digest FROM lease_items WHERE kind = 'blob')",
    )?;
    Ok(())
}

fn digests(transaction: &Transaction<'_>, sql: &str) -> Result<BTreeSet<Digest>, Failure> {
    let mut statement = transaction.prepare_cached(sql)?;
    let texts: Vec<String> = statement
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    texts.iter().map(|text| columns::parse_digest(text)).collect()
}
