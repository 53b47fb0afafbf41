//! Image names: recording, finding, listing, inspecting.

use rusqlite::{Params, Row, Transaction, named_params};
use unlade_oci::{Digest, Platform};

use crate::error::{Error, Failure, Result};
use crate::records::{
    Committed, Durability, ImageCommit, ImageKey, ImageLayer, ImageName, ImageSummary, IndexRecord, Inspection,
    LayerDirectoryRecord, LayerPlace, LayerRecord, ManifestRecord, NameRecord, StoredDirectory, StoredImage,
    StoredLayer, Target,
};
use crate::{ConfigRecord, Database, blobs, columns, layers, whole};

impl Database {
    /// Records a complete image in one transaction; after it, and not before, the image can be found.
    ///
    /// A name that led elsewhere on the same platform now leads here. Fails with [`Error::MissingLayer`] and records
    /// nothing if a layer is not recorded, which also happens when another process removed it meanwhile.
    pub fn commit_image(&self, commit: &ImageCommit) -> Result<Committed> {
        check(commit)?;
        self.write("record an image", |transaction| {
            for index in &commit.indexes {
                index.insert(transaction)?;
            }
            commit.config.insert(transaction)?;
            check_layers(transaction, commit)?;
            commit.manifest.insert(transaction, &commit.layers)?;
            insert_name(transaction, commit)
        })
    }

    /// Finds an image, with its layers in order and their directories at `place`.
    ///
    /// A name without a digest finds only what was recorded under that tag. A name with a digest finds, first, what
    /// was recorded under it, then anything in its repository whose index or manifest has that digest: the content is
    /// the same. Without a platform, the image that was pulled last is found.
    pub fn find_image(&self, key: &ImageKey, place: Option<&LayerPlace>) -> Result<Option<StoredImage>> {
        let root = place.map(|place| self.root_bytes(&place.root)).transpose()?;
        self.read("look an image up", |transaction| {
            let Some(mut image) = find(transaction, key)? else {
                return Ok(None);
            };
            let root = place.zip(root.as_deref());
            image.layers = stored_layers(self, transaction, &image.manifest, root)?;
            Ok(Some(image))
        })
    }

    /// Lists all images, by name and platform.
    pub fn images(&self) -> Result<Vec<ImageSummary>> {
        self.read("list the images", |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT i.*, m.config_digest, m.layer_count, m.compressed_size, c.created, c.os, c.architecture,
                     c.variant, c.os_version, c.os_features,
                     (SELECT coalesce(sum(l.raw_size), 0) FROM manifest_layers ml JOIN layers l USING (diff_id)
                      WHERE ml.manifest_digest = m.digest) AS raw_size
                 FROM images i JOIN manifests m ON m.digest = i.manifest_digest
                     JOIN configs c ON c.digest = m.config_digest
                 ORDER BY i.registry, i.repository, i.tag, i.digest, i.platform",
            )?;
            let mut rows = statement.query([])?;
            let mut images = Vec::new();
            while let Some(row) = rows.next()? {
                images.push(summary(row)?);
            }
            Ok(images)
        })
    }

    /// Lists all names with what they lead to: what an image layout's `index.json` is made of.
    pub fn names(&self) -> Result<Vec<NameRecord>> {
        self.read("list the names", |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT i.registry, i.repository, i.tag, i.digest, i.platform, i.manifest_digest, i.index_digest,
                     m.media_type AS manifest_media_type, m.size AS manifest_size,
                     x.media_type AS index_media_type, x.size AS index_size, w.index_digest AS whole_index,
                     c.os, c.architecture, c.variant, c.os_version, c.os_features
                 FROM images i JOIN manifests m ON m.digest = i.manifest_digest
                     JOIN configs c ON c.digest = m.config_digest
                     LEFT JOIN indexes x ON x.digest = i.index_digest
                     LEFT JOIN whole_indexes w ON w.index_digest = i.index_digest
                 ORDER BY i.registry, i.repository, i.tag, i.digest, i.platform",
            )?;
            let mut rows = statement.query([])?;
            let mut names = Vec::new();
            while let Some(row) = rows.next()? {
                let mut record = name_record(row)?;
                if let Some(index) = row.get::<_, Option<String>>("whole_index")? {
                    record.is_whole = whole::is_whole(transaction, &index)?;
                }
                names.push(record);
            }
            Ok(names)
        })
    }

    /// Returns everything about an image, found as [`Database::find_image`] does.
    pub fn inspect(&self, key: &ImageKey) -> Result<Option<Inspection>> {
        self.read("inspect an image", |transaction| {
            let Some(mut image) = find(transaction, key)? else {
                return Ok(None);
            };
            image.layers = stored_layers(self, transaction, &image.manifest, None)?;
            Ok(Some(Inspection {
                names: names_of(transaction, &image.manifest)?,
                indexes: indexes_between(transaction, image.index.as_ref(), &image.manifest)?,
                manifest: ManifestRecord::load(transaction, &image.manifest)?,
                config: ConfigRecord::load(transaction, &image.config)?,
                layers: layer_records(transaction, &image.manifest)?,
                directories: directories(self, transaction, &image.manifest)?,
                image,
            }))
        })
    }

    /// Notes that images, given by row, were used now.
    ///
    /// Writes, so not before the answer is given. An image that is gone meanwhile is not an error.
    pub fn touch(&self, images: &[i64]) -> Result<()> {
        self.write("note the use of images", |transaction| {
            let mut statement = transaction.prepare_cached("UPDATE images SET last_used_at = ?2 WHERE id = ?1")?;
            let now = columns::now();
            for image in images {
                statement.execute((image, now))?;
            }
            Ok(())
        })
    }
}

/// Refuses an image whose parts do not belong together, before anything is written.
fn check(commit: &ImageCommit) -> Result<()> {
    let name = &commit.name;
    let reason = if name.tag.is_none() && name.digest.is_none() {
        "the name has neither a tag nor a digest"
    } else if commit.manifest.config != commit.config.digest {
        "the configuration is not the one that the manifest names"
    } else if commit.config.diff_ids.len() != commit.layers.len() {
        "the configuration lists another number of layers"
    } else if commit
        .config
        .diff_ids
        .iter()
        .zip(&commit.layers)
        .any(|(text, layer)| *text != layer.diff_id.to_string())
    {
        "the configuration lists other layers, or in another order"
    } else {
        return Ok(());
    };
    Err(Error::Mismatch {
        manifest: commit.manifest.digest.clone(),
        reason,
    })
}

fn check_layers(transaction: &Transaction<'_>, commit: &ImageCommit) -> Result<(), Failure> {
    let mut statement = transaction.prepare_cached("SELECT 1 FROM layers WHERE diff_id = ?1")?;
    for (position, layer) in commit.layers.iter().enumerate() {
        if !statement.exists([layer.diff_id.to_string()])? {
            return Err(Failure::Other(Error::MissingLayer {
                manifest: commit.manifest.digest.clone(),
                position,
                diff_id: layer.diff_id.clone(),
            }));
        }
    }
    Ok(())
}

fn insert_name(transaction: &Transaction<'_>, commit: &ImageCommit) -> Result<Committed, Failure> {
    let key = ImageKey {
        name: commit.name.clone(),
        platform: Some(commit.platform.clone()),
    };
    let before = exact(transaction, &key)?.map(|image| image.manifest);
    let mut statement = transaction.prepare_cached(
        "INSERT INTO images (registry, repository, tag, digest, platform, index_digest, manifest_digest, pulled_at,
             last_used_at)
         VALUES (:registry, :repository, :tag, :digest, :platform, :index, :manifest, :now, :now)
         ON CONFLICT (repository, registry, coalesce(tag, ''), coalesce(digest, ''), platform) DO UPDATE SET
             index_digest = excluded.index_digest, manifest_digest = excluded.manifest_digest,
             pulled_at = excluded.pulled_at, last_used_at = excluded.last_used_at
         RETURNING id",
    )?;
    let id = statement.query_row(
        named_params! {
            ":registry": commit.name.registry,
            ":repository": commit.name.repository,
            ":tag": commit.name.tag,
            ":digest": commit.name.digest.as_ref().map(ToString::to_string),
            ":platform": columns::platform_text(&commit.platform)?,
            ":index": commit.indexes.first().map(|index| index.digest.to_string()),
            ":manifest": commit.manifest.digest.to_string(),
            ":now": columns::now(),
        },
        |row| row.get(0),
    )?;
    Ok(Committed {
        id,
        replaced: before.filter(|manifest| *manifest != commit.manifest.digest),
    })
}

/// The columns of an image without its layers.
const FIND: &str = "
SELECT i.*, m.media_type AS manifest_media_type, m.size AS manifest_size, m.config_digest
FROM images i JOIN manifests m ON m.digest = i.manifest_digest
WHERE i.repository = :repository AND i.registry = :registry AND (:platform IS NULL OR i.platform = :platform)";

fn find(transaction: &Transaction<'_>, key: &ImageKey) -> Result<Option<StoredImage>, Failure> {
    if let Some(image) = exact(transaction, key)? {
        return Ok(Some(image));
    }
    let Some(digest) = &key.name.digest else {
        return Ok(None);
    };
    query_image(
        transaction,
        &format!(
            "{FIND} AND :digest IN (i.digest, i.index_digest, i.manifest_digest)
             ORDER BY i.pulled_at DESC, i.id DESC LIMIT 1"
        ),
        named_params! {
            ":registry": key.name.registry,
            ":repository": key.name.repository,
            ":digest": digest.to_string(),
            ":platform": key.platform.as_ref().map(columns::platform_text).transpose()?,
        },
    )
}

/// Finds the image of exactly this name.
fn exact(transaction: &Transaction<'_>, key: &ImageKey) -> Result<Option<StoredImage>, Failure> {
    query_image(
        transaction,
        &format!(
            "{FIND} AND coalesce(i.tag, '') = :tag AND coalesce(i.digest, '') = :digest
             ORDER BY i.pulled_at DESC, i.id DESC LIMIT 1"
        ),
        named_params! {
            ":registry": key.name.registry,
            ":repository": key.name.repository,
            ":tag": key.name.tag.as_deref().unwrap_or_default(),
            ":digest": key.name.digest.as_ref().map(ToString::to_string).unwrap_or_default(),
            ":platform": key.platform.as_ref().map(columns::platform_text).transpose()?,
        },
    )
}

fn query_image(
    transaction: &Transaction<'_>,
    sql: &str,
    parameters: impl Params,
) -> Result<Option<StoredImage>, Failure> {
    let mut statement = transaction.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(StoredImage {
        id: row.get("id")?,
        name: image_name(row)?,
        platform: columns::platform(row, "platform")?,
        index: columns::optional_digest(row, "index_digest")?,
        manifest: columns::digest(row, "manifest_digest")?,
        manifest_media_type: columns::media_type(row, "manifest_media_type")?,
        manifest_size: columns::count(row, "manifest_size")?,
        config: columns::digest(row, "config_digest")?,
        pulled_at: columns::time(row, "pulled_at")?,
        last_used_at: columns::time(row, "last_used_at")?,
        layers: Vec::new(),
    }))
}

fn stored_layers(
    database: &Database,
    transaction: &Transaction<'_>,
    manifest: &Digest,
    place: Option<(&LayerPlace, &[u8])>,
) -> Result<Vec<StoredLayer>, Failure> {
    let mut statement = transaction.prepare_cached(
        "SELECT ml.*, l.raw_size, l.is_empty, d.id AS directory, d.name, d.entries, d.synced, d.boot_id,
             b.synced AS blob_synced, b.boot_id AS blob_boot_id
         FROM manifest_layers ml JOIN layers l USING (diff_id) LEFT JOIN blobs b ON b.digest = ml.blob_digest
             LEFT JOIN layer_directories d ON d.diff_id = ml.diff_id AND d.chain_id = coalesce(ml.chain_id, '')
                 AND d.root_path = :root AND d.form = :form AND d.ownership = :ownership
         WHERE ml.manifest_digest = :manifest ORDER BY ml.position",
    )?;
    let mut rows = statement.query(named_params! {
        ":manifest": manifest.to_string(),
        ":root": place.map(|(_, root)| root),
        ":form": place.map(|(place, _)| place.form.as_str()),
        ":ownership": place.map(|(place, _)| place.ownership.as_str()),
    })?;
    let root = place.map(|(_, root)| database.root_path(root.to_vec()));
    let mut layers = Vec::new();
    while let Some(row) = rows.next()? {
        let id: Option<i64> = row.get("directory")?;
        let directory = match (id, &root) {
            (Some(id), Some(root)) => Some(StoredDirectory {
                id,
                path: root.join(row.get::<_, String>("name")?),
                entries: columns::count(row, "entries")?,
                durability: blobs::durability(row)?,
            }),
            _ => None,
        };
        layers.push(StoredLayer {
            layer: image_layer(row)?,
            raw_size: columns::count(row, "raw_size")?,
            is_empty: row.get("is_empty")?,
            blob_file: blob_file(row)?,
            directory,
        });
    }
    Ok(layers)
}

fn blob_file(row: &Row<'_>) -> Result<Option<Durability>, Failure> {
    let synced: Option<bool> = row.get("blob_synced")?;
    let boot_id: Option<String> = row.get("blob_boot_id")?;
    Ok(synced
        .zip(boot_id)
        .map(|(synced, boot_id)| Durability { synced, boot_id }))
}

fn names_of(transaction: &Transaction<'_>, manifest: &Digest) -> Result<Vec<ImageName>, Failure> {
    let mut statement = transaction.prepare_cached(
        "SELECT DISTINCT registry, repository, tag, digest FROM images WHERE manifest_digest = ?1
         ORDER BY registry, repository, tag, digest",
    )?;
    let mut rows = statement.query([manifest.to_string()])?;
    let mut names = Vec::new();
    while let Some(row) = rows.next()? {
        names.push(image_name(row)?);
    }
    Ok(names)
}

/// Returns the indexes from `outermost` down to the one that lists `manifest`.
fn indexes_between(
    transaction: &Transaction<'_>,
    outermost: Option<&Digest>,
    manifest: &Digest,
) -> Result<Vec<IndexRecord>, Failure> {
    let mut path = Vec::new();
    if let Some(digest) = outermost
        && let Some(index) = IndexRecord::load(transaction, digest)?
    {
        descend(transaction, index, manifest, &mut path)?;
    }
    Ok(path)
}

/// Adds `index` and what is below it to `path` if the manifest is listed there. Digests cannot form a circle.
fn descend(
    transaction: &Transaction<'_>,
    index: IndexRecord,
    manifest: &Digest,
    path: &mut Vec<IndexRecord>,
) -> Result<bool, Failure> {
    let here = index.entries.iter().any(|entry| entry.digest == *manifest);
    let nested: Vec<Digest> = index
        .entries
        .iter()
        .filter(|entry| !here && entry.media_type.is_index())
        .map(|entry| entry.digest.clone())
        .collect();
    path.push(index);
    if here {
        return Ok(true);
    }
    for digest in nested {
        if let Some(below) = IndexRecord::load(transaction, &digest)?
            && descend(transaction, below, manifest, path)?
        {
            return Ok(true);
        }
    }
    path.pop();
    Ok(false)
}

fn layer_records(transaction: &Transaction<'_>, manifest: &Digest) -> Result<Vec<LayerRecord>, Failure> {
    let mut statement = transaction.prepare_cached(
        "SELECT l.* FROM manifest_layers ml JOIN layers l USING (diff_id) WHERE ml.manifest_digest = ?1
         ORDER BY ml.position",
    )?;
    let mut rows = statement.query([manifest.to_string()])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(layers::layer_from_row(row)?);
    }
    Ok(records)
}

fn directories(
    database: &Database,
    transaction: &Transaction<'_>,
    manifest: &Digest,
) -> Result<Vec<LayerDirectoryRecord>, Failure> {
    let mut statement = transaction.prepare_cached(
        "SELECT DISTINCT d.* FROM manifest_layers ml
             JOIN layer_directories d ON d.diff_id = ml.diff_id AND d.chain_id = coalesce(ml.chain_id, '')
         WHERE ml.manifest_digest = ?1 ORDER BY d.id",
    )?;
    let mut rows = statement.query([manifest.to_string()])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(layers::directory_from_row(database, row)?);
    }
    Ok(records)
}

pub(crate) fn image_layer(row: &Row<'_>) -> Result<ImageLayer, Failure> {
    let (chain_id, is_stacked) = match row.get::<_, Option<String>>("chain_id")?.as_deref() {
        None => (None, false),
        Some("") => (None, true),
        Some(text) => (Some(columns::parse_digest(text)?), true),
    };
    Ok(ImageLayer {
        blob: columns::digest(row, "blob_digest")?,
        diff_id: columns::digest(row, "diff_id")?,
        media_type: columns::media_type(row, "media_type")?,
        size: columns::count(row, "size")?,
        chain_id,
        is_stacked,
    })
}

pub(crate) fn image_name(row: &Row<'_>) -> Result<ImageName, Failure> {
    Ok(ImageName {
        registry: row.get("registry")?,
        repository: row.get("repository")?,
        tag: row.get("tag")?,
        digest: columns::optional_digest(row, "digest")?,
    })
}

fn config_platform(row: &Row<'_>) -> Result<Platform, Failure> {
    Ok(Platform {
        os: row.get("os")?,
        architecture: row.get("architecture")?,
        variant: row.get("variant")?,
        os_version: row.get("os_version")?,
        os_features: columns::from_optional_json(row, "os_features")?.unwrap_or_default(),
    })
}

fn summary(row: &Row<'_>) -> Result<ImageSummary, Failure> {
    Ok(ImageSummary {
        id: row.get("id")?,
        name: image_name(row)?,
        platform: columns::platform(row, "platform")?,
        actual_platform: config_platform(row)?,
        index: columns::optional_digest(row, "index_digest")?,
        manifest: columns::digest(row, "manifest_digest")?,
        config: columns::digest(row, "config_digest")?,
        created: row.get("created")?,
        pulled_at: columns::time(row, "pulled_at")?,
        last_used_at: columns::time(row, "last_used_at")?,
        layers: columns::count(row, "layer_count")?,
        compressed_size: columns::count(row, "compressed_size")?,
        raw_size: columns::count(row, "raw_size")?,
    })
}

fn name_record(row: &Row<'_>) -> Result<NameRecord, Failure> {
    let index = match columns::optional_digest(row, "index_digest")? {
        None => None,
        Some(digest) => Some(Target {
            digest,
            media_type: columns::media_type(row, "index_media_type")?,
            size: columns::count(row, "index_size")?,
        }),
    };
    Ok(NameRecord {
        name: image_name(row)?,
        platform: columns::platform(row, "platform")?,
        actual_platform: config_platform(row)?,
        manifest: Target {
            digest: columns::digest(row, "manifest_digest")?,
            media_type: columns::media_type(row, "manifest_media_type")?,
            size: columns::count(row, "manifest_size")?,
        },
        index,
        is_whole: false,
    })
}
