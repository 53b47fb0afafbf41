//! Artifacts: names that lead to a manifest whose blobs are kept as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use rusqlite::{Row, Transaction, named_params};
use unlade_oci::{Descriptor, Digest, MediaType};

use crate::error::{Failure, Result};
use crate::images::image_name;
use crate::records::{ImageName, Target};
use crate::{Database, columns};

/// An artifact, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactRecord {
    /// The name.
    pub name: ImageName,
    /// The manifest.
    pub manifest: Target,
    /// What it is, as the manifest says.
    pub artifact_type: String,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
    /// The configuration.
    pub config: Descriptor,
    /// The blobs, in the manifest's order.
    pub blobs: Vec<Descriptor>,
    /// When the name last led here. Set by the database.
    pub pulled_at: SystemTime,
}

impl Database {
    /// Records an artifact in one transaction. A name that led elsewhere now leads here.
    pub fn commit_artifact(&self, artifact: &ArtifactRecord) -> Result<()> {
        self.write("record an artifact", |transaction| insert(transaction, artifact))
    }

    /// Finds an artifact by its name, or by a digest in its repository.
    pub fn find_artifact(&self, name: &ImageName) -> Result<Option<ArtifactRecord>> {
        self.read("look an artifact up", |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT * FROM artifacts
                 WHERE repository = :repository AND registry = :registry
                     AND ((coalesce(tag, '') = :tag AND coalesce(digest, '') = :digest)
                         OR (:digest <> '' AND :digest IN (digest, manifest_digest)))
                 ORDER BY coalesce(tag, '') = :tag DESC, pulled_at DESC, id DESC LIMIT 1",
            )?;
            let mut rows = statement.query(named_params! {
                ":registry": name.registry,
                ":repository": name.repository,
                ":tag": name.tag.as_deref().unwrap_or_default(),
                ":digest": name.digest.as_ref().map(ToString::to_string).unwrap_or_default(),
            })?;
            match rows.next()? {
                Some(row) => Ok(Some(record(transaction, row)?)),
                None => Ok(None),
            }
        })
    }

    /// Lists all artifacts, by name.
    pub fn artifacts(&self) -> Result<Vec<ArtifactRecord>> {
        self.read("list the artifacts", |transaction| {
            let mut statement =
                transaction.prepare_cached("SELECT * FROM artifacts ORDER BY registry, repository, tag, digest")?;
            let mut rows = statement.query([])?;
            let mut artifacts = Vec::new();
            while let Some(row) = rows.next()? {
                artifacts.push(record(transaction, row)?);
            }
            Ok(artifacts)
        })
    }
}

fn insert(transaction: &Transaction<'_>, artifact: &ArtifactRecord) -> Result<(), Failure> {
    remove(transaction, &artifact.name)?;
    let id: i64 = transaction
        .prepare_cached(
            "INSERT INTO artifacts (registry, repository, tag, digest, manifest_digest, media_type, size, artifact_type,
                 annotations, pulled_at)
             VALUES (:registry, :repository, :tag, :digest, :manifest, :media_type, :size, :type, :annotations, :now)
             RETURNING id",
        )?
        .query_row(
            named_params! {
                ":registry": artifact.name.registry,
                ":repository": artifact.name.repository,
                ":tag": artifact.name.tag,
                ":digest": artifact.name.digest.as_ref().map(ToString::to_string),
                ":manifest": artifact.manifest.digest.to_string(),
                ":media_type": artifact.manifest.media_type.as_str(),
                ":size": columns::integer(artifact.manifest.size),
                ":type": artifact.artifact_type,
                ":annotations": columns::json(&artifact.annotations)?,
                ":now": columns::now(),
            },
            |row| row.get(0),
        )?;
    let mut statement = transaction.prepare_cached(
        "INSERT INTO artifact_blobs (artifact_id, position, digest, media_type, size, annotations)
         VALUES (:artifact, :position, :digest, :media_type, :size, :annotations)",
    )?;
    for (position, blob) in std::iter::once(&artifact.config).chain(&artifact.blobs).enumerate() {
        statement.execute(named_params! {
            ":artifact": id,
            ":position": columns::integer(position as u64),
            ":digest": blob.digest.to_string(),
            ":media_type": blob.media_type.as_str(),
            ":size": columns::integer(blob.size),
            ":annotations": columns::json(&blob.annotations)?,
        })?;
    }
    Ok(())
}

/// Removes the artifact of exactly this name, and returns the digests that it named: its manifest and its blobs.
pub(crate) fn remove(transaction: &Transaction<'_>, name: &ImageName) -> Result<BTreeSet<String>, Failure> {
    let mut statement = transaction.prepare_cached(
        "SELECT id, manifest_digest FROM artifacts
         WHERE repository = :repository AND registry = :registry AND coalesce(tag, '') = :tag
             AND coalesce(digest, '') = :digest",
    )?;
    let mut rows = statement.query(named_params! {
        ":registry": name.registry,
        ":repository": name.repository,
        ":tag": name.tag.as_deref().unwrap_or_default(),
        ":digest": name.digest.as_ref().map(ToString::to_string).unwrap_or_default(),
    })?;
    let mut digests = BTreeSet::new();
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        digests.insert(row.get(1)?);
        let mut blobs = transaction.prepare_cached("SELECT digest FROM artifact_blobs WHERE artifact_id = ?1")?;
        for blob in blobs.query_map([id], |row| row.get(0))? {
            digests.insert(blob?);
        }
        transaction
            .prepare_cached("DELETE FROM artifacts WHERE id = ?1")?
            .execute([id])?;
    }
    Ok(digests)
}

fn record(transaction: &Transaction<'_>, row: &Row<'_>) -> Result<ArtifactRecord, Failure> {
    let id: i64 = row.get("id")?;
    let mut statement =
        transaction.prepare_cached("SELECT * FROM artifact_blobs WHERE artifact_id = ?1 ORDER BY position")?;
    let mut rows = statement.query([id])?;
    let mut blobs = Vec::new();
    while let Some(row) = rows.next()? {
        let media_type: MediaType = columns::media_type(row, "media_type")?;
        let digest: Digest = columns::digest(row, "digest")?;
        let mut blob = Descriptor::new(media_type, digest, columns::count(row, "size")?);
        blob.annotations = columns::annotations(row)?;
        blobs.push(blob);
    }
    if blobs.is_empty() {
        return Err(columns::bad("artifact without a configuration", &id.to_string()));
    }
    Ok(ArtifactRecord {
        name: image_name(row)?,
        manifest: Target {
            digest: columns::digest(row, "manifest_digest")?,
            media_type: columns::media_type(row, "media_type")?,
            size: columns::count(row, "size")?,
        },
        artifact_type: row.get("artifact_type")?,
        annotations: columns::annotations(row)?,
        config: blobs.remove(0),
        blobs,
        pulled_at: columns::time(row, "pulled_at")?,
    })
}
