//! Rows of blob files, and what of the store has reached the disk.

use std::time::SystemTime;

use rusqlite::{OptionalExtension as _, Row, Transaction, named_params};
use unlade_oci::Digest;

use crate::error::{Failure, Result};
use crate::layers;
use crate::records::{BlobRecord, Durability, Unsynced};
use crate::{Database, columns};

impl Database {
    /// Records a blob file, or records it anew.
    pub fn record_blob(&self, blob: &BlobRecord) -> Result<()> {
        self.write("record a blob", |transaction| insert(transaction, blob))
    }

    /// Records blob files, or records them anew, in one transaction.
    pub fn record_blobs(&self, blobs: &[BlobRecord]) -> Result<()> {
        self.write("record blobs", |transaction| {
            blobs.iter().try_for_each(|blob| insert(transaction, blob))
        })
    }

    /// Returns the record of a blob file.
    pub fn blob(&self, digest: &Digest) -> Result<Option<BlobRecord>> {
        self.read("look a blob up", |transaction| get(transaction, digest))
    }

    /// Returns the records of all blob files, by digest.
    pub fn blobs(&self) -> Result<Vec<BlobRecord>> {
        self.read("list the blobs", |transaction| {
            let mut statement = transaction.prepare_cached("SELECT * FROM blobs ORDER BY digest")?;
            let mut rows = statement.query([])?;
            let mut blobs = Vec::new();
            while let Some(row) = rows.next()? {
                blobs.push(from_row(row)?);
            }
            Ok(blobs)
        })
    }

    /// Forgets blob files, once they are removed; returns how many were recorded. What they hold stays recorded.
    pub fn forget_blobs(&self, digests: &[Digest]) -> Result<usize> {
        self.write("forget blobs", |transaction| {
            let mut statement = transaction.prepare_cached("DELETE FROM blobs WHERE digest = ?1")?;
            let mut forgotten = 0;
            for digest in digests {
                forgotten += statement.execute([digest.to_string()])?;
            }
            Ok(forgotten)
        })
    }

    /// Returns what was written under the boot `boot_id` and not flushed yet.
    ///
    /// To flush it all: take this, flush the filesystems that it is on, then pass it to [`Database::mark_synced`].
    /// What was not flushed under *another* boot is not here: it has to be verified, not flushed.
    pub fn unsynced(&self, boot_id: &str) -> Result<Unsynced> {
        self.read("list what is not flushed", |transaction| {
            let mut statement =
                transaction.prepare_cached("SELECT * FROM blobs WHERE synced = 0 AND boot_id = ?1 ORDER BY digest")?;
            let mut rows = statement.query([boot_id])?;
            let mut unsynced = Unsynced::default();
            while let Some(row) = rows.next()? {
                unsynced.note_time(row)?;
                unsynced.blobs.push(from_row(row)?);
            }
            let mut statement = transaction
                .prepare_cached("SELECT * FROM layer_directories WHERE synced = 0 AND boot_id = ?1 ORDER BY id")?;
            let mut rows = statement.query([boot_id])?;
            while let Some(row) = rows.next()? {
                unsynced.note_time(row)?;
                unsynced
                    .directories
                    .push((row.get("id")?, layers::directory_from_row(self, row)?));
            }
            Ok(unsynced)
        })
    }

    /// Returns since when something that was written under the boot `boot_id` is not flushed, without looking at all of it: what
    /// was written again counts from its first time or its last.
    pub fn unsynced_since(&self, boot_id: &str) -> Result<Option<SystemTime>> {
        // Rows of directories come in the order of time. Blobs are flushed with the directories that are made of them.
        const FIRST: [&str; 2] = [
            "SELECT created_at FROM layer_directories WHERE synced = 0 AND boot_id = ?1 ORDER BY id LIMIT 1",
            "SELECT created_at FROM blobs WHERE synced = 0 AND boot_id = ?1 ORDER BY created_at LIMIT 1",
        ];
        self.read("look for what is not flushed", |transaction| {
            for sql in FIRST {
                let mut statement = transaction.prepare_cached(sql)?;
                let mut rows = statement.query([boot_id])?;
                if let Some(row) = rows.next()? {
                    return columns::time(row, "created_at").map(Some);
                }
            }
            Ok(None)
        })
    }

    /// Marks as flushed what [`Database::unsynced`] gave, except what was written again since.
    pub fn mark_synced(&self, synced: &Unsynced) -> Result<()> {
        self.write("mark as flushed", |transaction| {
            let mut statement = transaction.prepare_cached(
                "UPDATE blobs SET synced = 1 WHERE digest = ?1 AND boot_id = ?2 AND created_at <= ?3",
            )?;
            for blob in &synced.blobs {
                statement.execute((blob.digest.to_string(), &blob.durability.boot_id, synced.latest))?;
            }
            let mut statement = transaction.prepare_cached(
                "UPDATE layer_directories SET synced = 1 WHERE id = ?1 AND boot_id = ?2 AND created_at <= ?3",
            )?;
            for (id, directory) in &synced.directories {
                statement.execute((id, &directory.durability.boot_id, synced.latest))?;
            }
            Ok(())
        })
    }

    /// Notes that files which were written under an earlier boot, and not flushed, were verified under the boot
    /// `boot_id`. They may be used from here on; flushed they are not yet.
    pub fn mark_verified(&self, blobs: &[Digest], directories: &[i64], boot_id: &str) -> Result<()> {
        self.write("mark as verified", |transaction| {
            let mut statement =
                transaction.prepare_cached("UPDATE blobs SET boot_id = ?2 WHERE digest = ?1 AND synced = 0")?;
            for digest in blobs {
                statement.execute((digest.to_string(), boot_id))?;
            }
            let mut statement =
                transaction.prepare_cached("UPDATE layer_directories SET boot_id = ?2 WHERE id = ?1 AND synced = 0")?;
            for id in directories {
                statement.execute((id, boot_id))?;
            }
            Ok(())
        })
    }
}

impl Unsynced {
    fn note_time(&mut self, row: &Row<'_>) -> Result<(), Failure> {
        let time = columns::time(row, "created_at")?;
        self.since = Some(self.since.map_or(time, |since| since.min(time)));
        self.latest = self.latest.max(columns::milliseconds(time));
        Ok(())
    }
}

pub(crate) fn insert(transaction: &Transaction<'_>, blob: &BlobRecord) -> Result<(), Failure> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO blobs (digest, media_type, size, synced, boot_id, created_at)
         VALUES (:digest, :media_type, :size, :synced, :boot_id, :now)
         ON CONFLICT (digest) DO UPDATE SET media_type = excluded.media_type, size = excluded.size,
             synced = excluded.synced, boot_id = excluded.boot_id, created_at = excluded.created_at",
    )?;
    statement.execute(named_params! {
        ":digest": blob.digest.to_string(),
        ":media_type": blob.media_type.as_str(),
        ":size": columns::integer(blob.size),
        ":synced": blob.durability.synced,
        ":boot_id": blob.durability.boot_id,
        ":now": columns::now(),
    })?;
    Ok(())
}

pub(crate) fn get(transaction: &Transaction<'_>, digest: &Digest) -> Result<Option<BlobRecord>, Failure> {
    let mut statement = transaction.prepare_cached("SELECT * FROM blobs WHERE digest = ?1")?;
    statement
        .query_row([digest.to_string()], |row| Ok(from_row(row)))
        .optional()?
        .transpose()
}

fn from_row(row: &Row<'_>) -> Result<BlobRecord, Failure> {
    Ok(BlobRecord {
        digest: columns::digest(row, "digest")?,
        media_type: columns::media_type(row, "media_type")?,
        size: columns::count(row, "size")?,
        durability: durability(row)?,
    })
}

pub(crate) fn durability(row: &Row<'_>) -> Result<Durability, Failure> {
    Ok(Durability {
        synced: row.get("synced")?,
        boot_id: row.get("boot_id")?,
    })
}
