//! Removing an image, and finding what nothing needs any more.

use std::collections::BTreeSet;

use rusqlite::{Transaction, named_params};
use unlade_oci::{Digest, Platform};

use crate::error::{Failure, Result};
use crate::images::image_name;
use crate::records::{ImageKey, ImageName, Removed};
use crate::{Database, artifacts, columns, layers, leases};

impl Database {
    /// Removes the image of exactly this name, in one transaction; without a platform, on every platform and also the artifact
    /// of that name.
    ///
    /// Returns what only this image needed and no live lease protects, or `None` if there is no such image. The rows of
    /// that are gone: a process that looks now does not find them, and fetches again. The caller removes the files,
    /// under the locks by which a pull publishes them.
    ///
    /// Layers that some pull has recorded without having recorded its image yet are left alone.
    pub fn remove_image(&self, key: &ImageKey) -> Result<Option<Removed>> {
        self.write("remove an image", |transaction| {
            let rows = rows_of(transaction, key)?;
            let mut blobs = match &key.platform {
                None => artifacts::remove(transaction, &key.name)?,
                Some(_) => BTreeSet::new(),
            };
            if rows.is_empty() && blobs.is_empty() {
                return Ok(None);
            }
            leases::end_dead(transaction)?;
            let mut removed = Removed::default();
            if !blobs.is_empty() {
                removed.artifacts.push(key.name.clone());
            }
            let mut manifests = BTreeSet::new();
            let mut indexes = BTreeSet::new();
            for row in rows {
                transaction
                    .prepare_cached("DELETE FROM images WHERE id = ?1")?
                    .execute([row.id])?;
                removed.names.push((row.name, row.platform));
                manifests.insert(row.manifest);
                indexes.extend(row.index);
            }
            for manifest in manifests {
                remove_manifest(self, transaction, &manifest, &mut removed, &mut blobs)?;
            }
            for index in indexes {
                remove_index(transaction, &index, &mut blobs)?;
            }
            removed.blobs = remove_unneeded_blobs(transaction, blobs)?;
            Ok(Some(removed))
        })
    }
}

struct NameRow {
    id: i64,
    name: ImageName,
    platform: Platform,
    manifest: String,
    index: Option<String>,
}

fn rows_of(transaction: &Transaction<'_>, key: &ImageKey) -> Result<Vec<NameRow>, Failure> {
    let mut statement = transaction.prepare_cached(
        "SELECT * FROM images
         WHERE repository = :repository AND registry = :registry AND coalesce(tag, '') = :tag
             AND coalesce(digest, '') = :digest AND (:platform IS NULL OR platform = :platform)
         ORDER BY id",
    )?;
    let mut rows = statement.query(named_params! {
        ":registry": key.name.registry,
        ":repository": key.name.repository,
        ":tag": key.name.tag.as_deref().unwrap_or_default(),
        ":digest": key.name.digest.as_ref().map(ToString::to_string).unwrap_or_default(),
        ":platform": key.platform.as_ref().map(columns::platform_text).transpose()?,
    })?;
    let mut names = Vec::new();
    while let Some(row) = rows.next()? {
        names.push(NameRow {
            id: row.get("id")?,
            name: image_name(row)?,
            platform: columns::platform(row, "platform")?,
            manifest: row.get("manifest_digest")?,
            index: row.get("index_digest")?,
        });
    }
    Ok(names)
}

/// Removes a manifest that no name leads to, then its configuration and layers where nothing else has them.
fn remove_manifest(
    database: &Database,
    transaction: &Transaction<'_>,
    manifest: &str,
    removed: &mut Removed,
    blobs: &mut BTreeSet<String>,
) -> Result<(), Failure> {
    if exists(transaction, "SELECT 1 FROM images WHERE manifest_digest = ?1", manifest)? {
        return Ok(());
    }
    let config: String = transaction
        .prepare_cached("SELECT config_digest FROM manifests WHERE digest = ?1")?
        .query_row([manifest], |row| row.get(0))?;
    let layers: Vec<(String, String)> = transaction
        .prepare_cached(
            "SELECT blob_digest, diff_id FROM manifest_layers WHERE manifest_digest = ?1 ORDER BY position",
        )?
        .query_map([manifest], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    transaction
        .prepare_cached("DELETE FROM manifests WHERE digest = ?1")?
        .execute([manifest])?;
    blobs.insert(manifest.to_owned());
    if !exists(transaction, "SELECT 1 FROM manifests WHERE config_digest = ?1", &config)? {
        transaction
            .prepare_cached("DELETE FROM configs WHERE digest = ?1")?
            .execute([&config])?;
        blobs.insert(config);
    }
    for (blob, diff_id) in layers {
        remove_layer(database, transaction, &diff_id, removed)?;
        blobs.insert(blob);
    }
    Ok(())
}

/// Removes a layer that no manifest has; of one that stays, the directories of stacks that no manifest has.
fn remove_layer(
    database: &Database,
    transaction: &Transaction<'_>,
    diff_id: &str,
    removed: &mut Removed,
) -> Result<(), Failure> {
    if exists(
        transaction,
        "SELECT 1 FROM lease_items WHERE kind = 'layer' AND digest = ?1",
        diff_id,
    )? {
        return Ok(());
    }
    let unused = "diff_id = ?1 AND NOT EXISTS (
        SELECT 1 FROM manifest_layers ml
        WHERE ml.diff_id = layer_directories.diff_id
            AND (layer_directories.chain_id = '' OR ml.chain_id = layer_directories.chain_id))";
    let mut statement = transaction.prepare_cached(&format!("SELECT * FROM layer_directories WHERE {unused}"))?;
    let mut rows = statement.query([diff_id])?;
    while let Some(row) = rows.next()? {
        removed.directories.push(layers::directory_from_row(database, row)?);
    }
    transaction
        .prepare_cached(&format!("DELETE FROM layer_directories WHERE {unused}"))?
        .execute([diff_id])?;
    if !exists(transaction, "SELECT 1 FROM manifest_layers WHERE diff_id = ?1", diff_id)?
        && transaction
            .prepare_cached("DELETE FROM layers WHERE diff_id = ?1")?
            .execute([diff_id])?
            > 0
    {
        removed.diff_ids.push(columns::parse_digest(diff_id)?);
    }
    Ok(())
}

/// Removes an index that neither a name nor another index leads to, then those below it likewise.
fn remove_index(transaction: &Transaction<'_>, index: &str, blobs: &mut BTreeSet<String>) -> Result<(), Failure> {
    if exists(transaction, "SELECT 1 FROM images WHERE index_digest = ?1", index)?
        || exists(transaction, "SELECT 1 FROM index_entries WHERE digest = ?1", index)?
    {
        return Ok(());
    }
    let nested: Vec<String> = transaction
        .prepare_cached(
            "SELECT e.digest FROM index_entries e JOIN indexes x ON x.digest = e.digest WHERE e.index_digest = ?1",
        )?
        .query_map([index], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let others: Vec<String> = transaction
        .prepare_cached("SELECT digest FROM index_blobs WHERE index_digest = ?1")?
        .query_map([index], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    blobs.extend(others);
    transaction
        .prepare_cached("DELETE FROM indexes WHERE digest = ?1")?
        .execute([index])?;
    blobs.insert(index.to_owned());
    for digest in nested {
        remove_index(transaction, &digest, blobs)?;
    }
    Ok(())
}

/// Drops the rows of those of `blobs` that no document is, no manifest lists and no lease protects; returns them.
fn remove_unneeded_blobs(transaction: &Transaction<'_>, blobs: BTreeSet<String>) -> Result<Vec<Digest>, Failure> {
    const NEEDED: &str = "
        SELECT 1 FROM manifest_layers WHERE blob_digest = ?1
        UNION ALL SELECT 1 FROM manifests WHERE digest = ?1
        UNION ALL SELECT 1 FROM configs WHERE digest = ?1
        UNION ALL SELECT 1 FROM indexes WHERE digest = ?1
        UNION ALL SELECT 1 FROM artifacts WHERE manifest_digest = ?1
        UNION ALL SELECT 1 FROM artifact_blobs WHERE digest = ?1
        UNION ALL SELECT 1 FROM index_blobs WHERE digest = ?1
        UNION ALL SELECT 1 FROM lease_items WHERE kind = 'blob' AND digest = ?1";
    let mut unneeded = Vec::new();
    for blob in blobs {
        if !exists(transaction, NEEDED, &blob)? {
            transaction
                .prepare_cached("DELETE FROM blobs WHERE digest = ?1")?
                .execute([&blob])?;
            transaction
                .prepare_cached("DELETE FROM layer_blobs WHERE blob_digest = ?1")?
                .execute([&blob])?;
            unneeded.push(columns::parse_digest(&blob)?);
        }
    }
    Ok(unneeded)
}

fn exists(transaction: &Transaction<'_>, sql: &str, digest: &str) -> Result<bool, Failure> {
    Ok(transaction.prepare_cached(sql)?.exists([digest])?)
}
