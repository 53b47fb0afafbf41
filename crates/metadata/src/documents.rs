//! Indexes and manifests: rows in and out.

use rusqlite::{Transaction, named_params};
use unlade_oci::{Descriptor, Digest, Platform};

use crate::columns;
use crate::error::Failure;
use crate::records::{ImageLayer, IndexRecord, ManifestRecord};

impl IndexRecord {
    /// Puts the index and its entries in, if it is not there. A digest stands for the same bytes for ever.
    pub(crate) fn insert(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let mut statement = transaction.prepare_cached(
            "INSERT INTO indexes (digest, media_type, size, artifact_type, subject_digest, annotations, created_at, raw)
             VALUES (:digest, :media_type, :size, :artifact_type, :subject, :annotations, :now, :raw)
             ON CONFLICT (digest) DO NOTHING",
        )?;
        let added = statement.execute(named_params! {
            ":digest": self.digest.to_string(),
            ":media_type": self.media_type.as_str(),
            ":size": columns::integer(self.raw.len() as u64),
            ":artifact_type": self.artifact_type,
            ":subject": self.subject.as_ref().map(ToString::to_string),
            ":annotations": columns::json(&self.annotations)?,
            ":now": columns::now(),
            ":raw": self.raw,
        })?;
        if added == 0 {
            return Ok(());
        }
        let mut statement = transaction.prepare_cached(
            "INSERT INTO index_entries (index_digest, position, digest, media_type, size, has_platform, os,
                 architecture, variant, os_version, os_features, artifact_type, urls, annotations)
             VALUES (:index, :position, :digest, :media_type, :size, :has_platform, :os, :architecture, :variant,
                 :os_version, :os_features, :artifact_type, :urls, :annotations)",
        )?;
        for (position, entry) in self.entries.iter().enumerate() {
            let platform = entry.platform.as_ref();
            statement.execute(named_params! {
                ":index": self.digest.to_string(),
                ":position": columns::integer(position as u64),
                ":digest": entry.digest.to_string(),
                ":media_type": entry.media_type.as_str(),
                ":size": columns::integer(entry.size),
                ":has_platform": platform.is_some(),
                ":os": platform.map(|platform| &platform.os),
                ":architecture": platform.map(|platform| &platform.architecture),
                ":variant": platform.and_then(|platform| platform.variant.as_ref()),
                ":os_version": platform.and_then(|platform| platform.os_version.as_ref()),
                ":os_features": columns::json(&platform.map(|platform| &platform.os_features[..]).unwrap_or_default())?,
                ":artifact_type": entry.artifact_type,
                ":urls": columns::json(&entry.urls)?,
                ":annotations": columns::json(&entry.annotations)?,
            })?;
        }
        Ok(())
    }

    /// Returns the index, if it is there.
    pub(crate) fn load(transaction: &Transaction<'_>, digest: &Digest) -> Result<Option<Self>, Failure> {
        let mut statement = transaction.prepare_cached("SELECT * FROM indexes WHERE digest = ?1")?;
        let mut rows = statement.query([digest.to_string()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(Self {
            digest: columns::digest(row, "digest")?,
            media_type: columns::media_type(row, "media_type")?,
            artifact_type: row.get("artifact_type")?,
            subject: columns::optional_digest(row, "subject_digest")?,
            annotations: columns::annotations(row)?,
            entries: entries(transaction, digest)?,
            raw: row.get("raw")?,
        }))
    }
}

fn entries(transaction: &Transaction<'_>, index: &Digest) -> Result<Vec<Descriptor>, Failure> {
    let mut statement =
        transaction.prepare_cached("SELECT * FROM index_entries WHERE index_digest = ?1 ORDER BY position")?;
    let mut rows = statement.query([index.to_string()])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let has_platform: bool = row.get("has_platform")?;
        let platform = if has_platform {
            Some(Platform {
                os: row.get::<_, Option<String>>("os")?.unwrap_or_default(),
                architecture: row.get::<_, Option<String>>("architecture")?.unwrap_or_default(),
                variant: row.get("variant")?,
                os_version: row.get("os_version")?,
                os_features: columns::from_json(row, "os_features")?,
            })
        } else {
            None
        };
        entries.push(Descriptor {
            media_type: columns::media_type(row, "media_type")?,
            digest: columns::digest(row, "digest")?,
            size: columns::count(row, "size")?,
            platform,
            annotations: columns::annotations(row)?,
            artifact_type: row.get("artifact_type")?,
            urls: columns::from_json(row, "urls")?,
        });
    }
    Ok(entries)
}

impl ManifestRecord {
    /// Puts the manifest and its layers in. If it is there, only the chain IDs that are new are added.
    pub(crate) fn insert(&self, transaction: &Transaction<'_>, layers: &[ImageLayer]) -> Result<(), Failure> {
        let mut statement = transaction.prepare_cached(
            "INSERT INTO manifests (digest, media_type, size, config_digest, config_media_type, config_size,
                 artifact_type, subject_digest, layer_count, compressed_size, annotations, created_at, raw)
             VALUES (:digest, :media_type, :size, :config, :config_media_type, :config_size, :artifact_type, :subject,
                 :layer_count, :compressed_size, :annotations, :now, :raw)
             ON CONFLICT (digest) DO NOTHING",
        )?;
        let compressed_size = layers.iter().fold(0u64, |sum, layer| sum.saturating_add(layer.size));
        statement.execute(named_params! {
            ":digest": self.digest.to_string(),
            ":media_type": self.media_type.as_str(),
            ":size": columns::integer(self.raw.len() as u64),
            ":config": self.config.to_string(),
            ":config_media_type": self.config_media_type.as_str(),
            ":config_size": columns::integer(self.config_size),
            ":artifact_type": self.artifact_type,
            ":subject": self.subject.as_ref().map(ToString::to_string),
            ":layer_count": columns::integer(layers.len() as u64),
            ":compressed_size": columns::integer(compressed_size),
            ":annotations": columns::json(&self.annotations)?,
            ":now": columns::now(),
            ":raw": self.raw,
        })?;
        let mut statement = transaction.prepare_cached(
            "INSERT INTO manifest_layers (manifest_digest, position, blob_digest, diff_id, media_type, size, chain_id)
             VALUES (:manifest, :position, :blob, :diff_id, :media_type, :size, :chain_id)
             ON CONFLICT (manifest_digest, position)
                 DO UPDATE SET chain_id = coalesce(nullif(chain_id, ''), excluded.chain_id, chain_id)",
        )?;
        for (position, layer) in layers.iter().enumerate() {
            statement.execute(named_params! {
                ":manifest": self.digest.to_string(),
                ":position": columns::integer(position as u64),
                ":blob": layer.blob.to_string(),
                ":diff_id": layer.diff_id.to_string(),
                ":media_type": layer.media_type.as_str(),
                ":size": columns::integer(layer.size),
                ":chain_id": match &layer.chain_id {
                    Some(chain_id) => Some(chain_id.to_string()),
                    None => layer.is_stacked.then(String::new),
                },
            })?;
        }
        Ok(())
    }

    /// Returns a manifest that is there.
    pub(crate) fn load(transaction: &Transaction<'_>, digest: &Digest) -> Result<Self, Failure> {
        let mut statement = transaction.prepare_cached("SELECT * FROM manifests WHERE digest = ?1")?;
        let mut rows = statement.query([digest.to_string()])?;
        let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        Ok(Self {
            digest: columns::digest(row, "digest")?,
            media_type: columns::media_type(row, "media_type")?,
            config: columns::digest(row, "config_digest")?,
            config_media_type: columns::media_type(row, "config_media_type")?,
            config_size: columns::count(row, "config_size")?,
            artifact_type: row.get("artifact_type")?,
            subject: columns::optional_digest(row, "subject_digest")?,
            annotations: columns::annotations(row)?,
            raw: row.get("raw")?,
        })
    }
}
