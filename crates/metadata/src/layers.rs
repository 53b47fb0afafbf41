//! Rows of layers, of the blobs they come as, and of their directories.

use rusqlite::{OptionalExtension as _, Row, Transaction, named_params};
use unlade_oci::Digest;

use crate::error::{Failure, Result};
use crate::images::image_layer;
use crate::records::{
    ImageLayer, LayerBlobRecord, LayerCommit, LayerDirectoryRecord, LayerForm, LayerOwnership, LayerPlace, LayerRecord,
    LayerState, StackLayer, StoredDirectory,
};
use crate::{Database, blobs, columns};

impl Database {
    /// Records one finished layer as [`record_layers`](Self::record_layers) does.
    pub fn record_layer(&self, commit: &LayerCommit) -> Result<()> {
        self.record_layers(std::slice::from_ref(commit))
    }

    /// Records finished layers in one transaction: call it once blobs and directories are at their final paths.
    ///
    /// Anything recorded before under the same keys is replaced, except that a layer which was only read has nothing to add to
    /// the summary of one that was extracted.
    pub fn record_layers(&self, commits: &[LayerCommit]) -> Result<()> {
        let roots = commits
            .iter()
            .map(|commit| {
                let directory = commit.directory.as_ref();
                directory
                    .map(|directory| self.root_bytes(&directory.place.root))
                    .transpose()
            })
            .collect::<Result<Vec<_>>>()?;
        self.write("record layers", |transaction| {
            for (commit, root) in commits.iter().zip(&roots) {
                insert_layer(transaction, &commit.layer, commit.directory.is_some())?;
                insert_source(transaction, &commit.source)?;
                if let Some(blob) = &commit.blob {
                    blobs::insert(transaction, blob)?;
                }
                if let (Some(directory), Some(root)) = (&commit.directory, root) {
                    insert_directory(transaction, directory, root, &commit.layer.summary)?;
                }
            }
            Ok(())
        })
    }

    /// Records a directory of a layer that is recorded, with the summary of its extraction; returns its row.
    ///
    /// Another directory that was recorded under the same name is forgotten: its tree has given way.
    pub fn record_layer_directory(&self, directory: &LayerDirectoryRecord, summary: &serde_json::Value) -> Result<i64> {
        let root = self.root_bytes(&directory.place.root)?;
        self.write("record a layer directory", |transaction| {
            insert_directory(transaction, directory, &root, summary)
        })
    }

    /// Returns the summary of each layer of a manifest, the lowest first: of the extraction that made its directory at
    /// `place`, or else of when the layer was last extracted or read. A JSON object each.
    pub fn layer_summaries(&self, manifest: &Digest, place: &LayerPlace) -> Result<Vec<serde_json::Value>> {
        let root = self.root_bytes(&place.root)?;
        self.read("look the summaries of layers up", |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT coalesce(d.summary, l.summary) AS summary
                 FROM manifest_layers ml JOIN layers l USING (diff_id)
                     LEFT JOIN layer_directories d ON d.diff_id = ml.diff_id AND d.chain_id = coalesce(ml.chain_id, '')
                         AND d.root_path = :root AND d.form = :form AND d.ownership = :ownership
                 WHERE ml.manifest_digest = :manifest ORDER BY ml.position",
            )?;
            let mut rows = statement.query(named_params! {
                ":manifest": manifest.to_string(),
                ":root": root,
                ":form": place.form.as_str(),
                ":ownership": place.ownership.as_str(),
            })?;
            let mut summaries = Vec::new();
            while let Some(row) = rows.next()? {
                summaries.push(columns::from_json(row, "summary")?);
            }
            Ok(summaries)
        })
    }

    /// Returns what is known of each layer of a stack, given as diff ID and chain ID, in their order; of one moment.
    ///
    /// Their directories are looked up at `place`.
    pub fn stack_layers(&self, layers: &[(Digest, Digest)], place: &LayerPlace) -> Result<Vec<StackLayer>> {
        let root = self.root_bytes(&place.root)?;
        self.read("look the layers of a stack up", |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM layers WHERE diff_id = :diff_id AND entries = 0) AS has_no_entries,
                     (SELECT summary FROM layer_directories WHERE diff_id = :diff_id AND chain_id = ''
                         AND root_path = :root AND form = :form AND ownership = :ownership) AS summary,
                     EXISTS (SELECT 1 FROM manifest_layers WHERE diff_id = :diff_id AND chain_id = :chain_id) AS is_needed",
            )?;
            let mut found = Vec::with_capacity(layers.len());
            for (diff_id, chain_id) in layers {
                let mut rows = statement.query(named_params! {
                    ":diff_id": diff_id.to_string(),
                    ":chain_id": chain_id.to_string(),
                    ":root": root,
                    ":form": place.form.as_str(),
                    ":ownership": place.ownership.as_str(),
                })?;
                // A row of expressions alone is always there.
                if let Some(row) = rows.next()? {
                    found.push(StackLayer {
                        has_no_entries: row.get("has_no_entries")?,
                        summary: columns::from_optional_json(row, "summary")?,
                        is_needed: row.get("is_needed")?,
                    });
                }
            }
            Ok(found)
        })
    }

    /// Returns a stack that has the layer `diff_id` under `chain_id` on top, as an image has it: its layers in order, lowest
    /// first. None if no image has it.
    pub fn stack(&self, diff_id: &Digest, chain_id: &Digest) -> Result<Vec<ImageLayer>> {
        self.read("look the layers of a stack up", |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT l.* FROM manifest_layers l JOIN (
                     SELECT manifest_digest, position FROM manifest_layers WHERE diff_id = ?1 AND chain_id = ?2 LIMIT 1) top
                 ON l.manifest_digest = top.manifest_digest AND l.position <= top.position ORDER BY l.position",
            )?;
            let mut rows = statement.query([diff_id.to_string(), chain_id.to_string()])?;
            let mut layers = Vec::new();
            while let Some(row) = rows.next()? {
                layers.push(image_layer(row)?);
            }
            Ok(layers)
        })
    }

    /// Returns the summary of the extraction that made a layer directory, given by its row: a JSON object.
    pub fn directory_summary(&self, id: i64) -> Result<Option<serde_json::Value>> {
        self.read("look the summary of a layer directory up", |transaction| {
            let mut statement = transaction.prepare_cached("SELECT summary FROM layer_directories WHERE id = ?1")?;
            let mut rows = statement.query([id])?;
            Ok(match rows.next()? {
                Some(row) => Some(columns::from_json(row, "summary")?),
                None => None,
            })
        })
    }

    /// Returns the record of a layer.
    pub fn layer(&self, diff_id: &Digest) -> Result<Option<LayerRecord>> {
        self.read("look a layer up", |transaction| get_layer(transaction, diff_id))
    }

    /// Returns what the blob `digest` holds, as far as it was ever read; more than one only with digest algorithms
    /// mixed.
    pub fn layers_of_blob(&self, digest: &Digest) -> Result<Vec<LayerBlobRecord>> {
        self.read("look a blob's layers up", |transaction| {
            let mut statement =
                transaction.prepare_cached("SELECT * FROM layer_blobs WHERE blob_digest = ?1 ORDER BY diff_id")?;
            let mut rows = statement.query([digest.to_string()])?;
            let mut sources = Vec::new();
            while let Some(row) = rows.next()? {
                sources.push(source_from_row(row)?);
            }
            Ok(sources)
        })
    }

    /// Returns the blobs that the layer `diff_id` comes as, as far as they were ever read, whether they are kept or not.
    pub fn blobs_of_layer(&self, diff_id: &Digest) -> Result<Vec<LayerBlobRecord>> {
        self.read("look a layer's blobs up", |transaction| {
            let mut statement =
                transaction.prepare_cached("SELECT * FROM layer_blobs WHERE diff_id = ?1 ORDER BY blob_digest")?;
            let mut rows = statement.query([diff_id.to_string()])?;
            let mut sources = Vec::new();
            while let Some(row) = rows.next()? {
                sources.push(source_from_row(row)?);
            }
            Ok(sources)
        })
    }

    /// Returns what is known of each of `layers`, given as blob digest and diff ID, in their order; of one moment.
    ///
    /// Directories are looked up at `place`; without one, none is reported.
    pub fn layer_states(&self, layers: &[(Digest, Digest)], place: Option<&LayerPlace>) -> Result<Vec<LayerState>> {
        let root = place.map(|place| self.root_bytes(&place.root)).transpose()?;
        self.read("look layers up", |transaction| {
            let state = |(blob, diff_id): &(Digest, Digest)| {
                let directory = match (place, &root) {
                    (Some(place), Some(root)) => get_directory(self, transaction, diff_id, None, place, root)?,
                    _ => None,
                };
                Ok(LayerState {
                    layer: get_layer(transaction, diff_id)?,
                    directory,
                    blob: blobs::get(transaction, blob)?,
                    is_linked: transaction
                        .prepare_cached("SELECT 1 FROM layer_blobs WHERE blob_digest = ?1 AND diff_id = ?2")?
                        .exists([blob.to_string(), diff_id.to_string()])?,
                })
            };
            layers.iter().map(state).collect()
        })
    }

    /// Returns the directory of a layer at `place`: of the layer alone, or of the stack `chain_id`.
    pub fn layer_directory(
        &self,
        diff_id: &Digest,
        chain_id: Option<&Digest>,
        place: &LayerPlace,
    ) -> Result<Option<StoredDirectory>> {
        let root = self.root_bytes(&place.root)?;
        self.read("look a layer directory up", |transaction| {
            get_directory(self, transaction, diff_id, chain_id, place, &root)
        })
    }

    /// Returns all recorded layer directories, oldest first, with their rows.
    pub fn layer_directories(&self) -> Result<Vec<(i64, LayerDirectoryRecord)>> {
        self.read("list the layer directories", |transaction| {
            let mut statement = transaction.prepare_cached("SELECT * FROM layer_directories ORDER BY id")?;
            let mut rows = statement.query([])?;
            let mut directories = Vec::new();
            while let Some(row) = rows.next()? {
                directories.push((row.get("id")?, directory_from_row(self, row)?));
            }
            Ok(directories)
        })
    }

    /// Forgets a layer directory; returns whether it was recorded. The directory itself is for the caller to remove.
    pub fn forget_layer_directory(&self, id: i64) -> Result<bool> {
        self.write("forget a layer directory", |transaction| {
            let mut statement = transaction.prepare_cached("DELETE FROM layer_directories WHERE id = ?1")?;
            Ok(statement.execute([id])? > 0)
        })
    }
}

fn insert_layer(transaction: &Transaction<'_>, layer: &LayerRecord, is_extracted: bool) -> Result<(), Failure> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO layers (diff_id, raw_size, entries, is_empty, summary, created_at)
         VALUES (:diff_id, :raw_size, :entries, :is_empty, :summary, :now)
         ON CONFLICT (diff_id) DO UPDATE SET raw_size = excluded.raw_size, entries = excluded.entries,
             is_empty = excluded.is_empty, summary = CASE WHEN :is_extracted THEN excluded.summary ELSE summary END",
    )?;
    statement.execute(named_params! {
        ":diff_id": layer.diff_id.to_string(),
        ":raw_size": columns::integer(layer.raw_size),
        ":entries": columns::integer(layer.entries),
        ":is_empty": layer.is_empty,
        ":is_extracted": is_extracted,
        ":summary": layer.summary.to_string(),
        ":now": columns::now(),
    })?;
    Ok(())
}

fn insert_source(transaction: &Transaction<'_>, source: &LayerBlobRecord) -> Result<(), Failure> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO layer_blobs (blob_digest, diff_id, compression, media_type, size)
         VALUES (:blob, :diff_id, :compression, :media_type, :size)
         ON CONFLICT (blob_digest, diff_id) DO UPDATE SET compression = excluded.compression,
             media_type = excluded.media_type, size = excluded.size",
    )?;
    statement.execute(named_params! {
        ":blob": source.blob.to_string(),
        ":diff_id": source.diff_id.to_string(),
        ":compression": source.compression.as_str(),
        ":media_type": source.media_type.as_str(),
        ":size": columns::integer(source.size),
    })?;
    Ok(())
}

fn insert_directory(
    transaction: &Transaction<'_>,
    directory: &LayerDirectoryRecord,
    root: &[u8],
    summary: &serde_json::Value,
) -> Result<i64, Failure> {
    transaction
        .prepare_cached(
            "DELETE FROM layer_directories WHERE root_path = :root AND name = :name
                 AND (diff_id, chain_id, form, ownership) <> (:diff_id, :chain_id, :form, :ownership)",
        )?
        .execute(named_params! {
            ":root": root,
            ":name": directory.name,
            ":diff_id": directory.diff_id.to_string(),
            ":chain_id": chain_text(directory.chain_id.as_ref()),
            ":form": directory.place.form.as_str(),
            ":ownership": directory.place.ownership.as_str(),
        })?;
    let mut statement = transaction.prepare_cached(
        "INSERT INTO layer_directories (diff_id, chain_id, root_path, form, ownership, name, entries, summary, synced,
             boot_id, created_at)
         VALUES (:diff_id, :chain_id, :root, :form, :ownership, :name, :entries, :summary, :synced, :boot_id, :now)
         ON CONFLICT (diff_id, chain_id, root_path, form, ownership) DO UPDATE SET name = excluded.name,
             entries = excluded.entries, summary = excluded.summary, synced = excluded.synced,
             boot_id = excluded.boot_id, created_at = excluded.created_at
         RETURNING id",
    )?;
    let id = statement.query_row(
        named_params! {
            ":diff_id": directory.diff_id.to_string(),
            ":chain_id": chain_text(directory.chain_id.as_ref()),
            ":root": root,
            ":form": directory.place.form.as_str(),
            ":ownership": directory.place.ownership.as_str(),
            ":name": directory.name,
            ":entries": columns::integer(directory.entries),
            ":summary": summary.to_string(),
            ":synced": directory.durability.synced,
            ":boot_id": directory.durability.boot_id,
            ":now": columns::now(),
        },
        |row| row.get(0),
    )?;
    Ok(id)
}

fn get_layer(transaction: &Transaction<'_>, diff_id: &Digest) -> Result<Option<LayerRecord>, Failure> {
    let mut statement = transaction.prepare_cached("SELECT * FROM layers WHERE diff_id = ?1")?;
    statement
        .query_row([diff_id.to_string()], |row| Ok(layer_from_row(row)))
        .optional()?
        .transpose()
}

fn get_directory(
    database: &Database,
    transaction: &Transaction<'_>,
    diff_id: &Digest,
    chain_id: Option<&Digest>,
    place: &LayerPlace,
    root: &[u8],
) -> Result<Option<StoredDirectory>, Failure> {
    let mut statement = transaction.prepare_cached(
        "SELECT * FROM layer_directories
         WHERE diff_id = :diff_id AND chain_id = :chain_id AND root_path = :root AND form = :form
             AND ownership = :ownership",
    )?;
    let parameters = named_params! {
        ":diff_id": diff_id.to_string(),
        ":chain_id": chain_text(chain_id),
        ":root": root,
        ":form": place.form.as_str(),
        ":ownership": place.ownership.as_str(),
    };
    let mut rows = statement.query(parameters)?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let record = directory_from_row(database, row)?;
    Ok(Some(StoredDirectory {
        id: row.get("id")?,
        path: record.path(),
        entries: record.entries,
        durability: record.durability,
    }))
}

pub(crate) fn layer_from_row(row: &Row<'_>) -> Result<LayerRecord, Failure> {
    Ok(LayerRecord {
        diff_id: columns::digest(row, "diff_id")?,
        raw_size: columns::count(row, "raw_size")?,
        entries: columns::count(row, "entries")?,
        is_empty: row.get("is_empty")?,
        summary: columns::from_json(row, "summary")?,
    })
}

fn source_from_row(row: &Row<'_>) -> Result<LayerBlobRecord, Failure> {
    Ok(LayerBlobRecord {
        blob: columns::digest(row, "blob_digest")?,
        diff_id: columns::digest(row, "diff_id")?,
        compression: columns::compression(row, "compression")?,
        media_type: columns::media_type(row, "media_type")?,
        size: columns::count(row, "size")?,
    })
}

pub(crate) fn directory_from_row(database: &Database, row: &Row<'_>) -> Result<LayerDirectoryRecord, Failure> {
    let chain_id = match row.get_ref("chain_id")?.as_str().map_err(rusqlite::Error::from)? {
        "" => None,
        text => Some(columns::parse_digest(text)?),
    };
    let form = match row.get_ref("form")?.as_str().map_err(rusqlite::Error::from)? {
        "overlay" => LayerForm::Overlay,
        "oci" => LayerForm::Oci,
        other => return Err(columns::bad("the form of a layer directory", other)),
    };
    let ownership = row.get_ref("ownership")?.as_str().map_err(rusqlite::Error::from)?;
    let ownership = LayerOwnership::parse(ownership)
        .ok_or_else(|| columns::bad("the ownership of a layer directory", ownership))?;
    Ok(LayerDirectoryRecord {
        diff_id: columns::digest(row, "diff_id")?,
        chain_id,
        place: LayerPlace {
            root: database.root_path(row.get("root_path")?),
            form,
            ownership,
        },
        name: row.get("name")?,
        entries: columns::count(row, "entries")?,
        durability: blobs::durability(row)?,
    })
}

fn chain_text(chain_id: Option<&Digest>) -> String {
    chain_id.map(ToString::to_string).unwrap_or_default()
}
