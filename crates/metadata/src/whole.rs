//! Indexes that are kept whole: every platform of them, and what is no image.

use std::collections::BTreeSet;

use rusqlite::{Transaction, named_params};
use unlade_oci::Digest;

use crate::Database;
use crate::error::{Failure, Result};
use crate::records::IndexRecord;

/// The digests of an index and all that it leads to, indexes below it included; `:index` is where it begins.
const REACHED: &str = "
    WITH RECURSIVE reached (digest) AS (
        SELECT :index
        UNION
        SELECT e.digest FROM reached r JOIN index_entries e ON e.index_digest = r.digest)";

impl Database {
    /// Records that an index is kept whole: its first one is `indexes[0]`, the others are below it. `blobs` is what it needs
    /// beside the images that are recorded.
    ///
    /// An image must lead to the index. Returns whether it is whole now: it is not if one of its images was removed meanwhile.
    pub fn record_whole_index(&self, indexes: &[IndexRecord], blobs: &BTreeSet<Digest>) -> Result<bool> {
        self.write("record a whole index", |transaction| {
            let Some(first) = indexes.first() else {
                return Ok(false);
            };
            for index in indexes {
                index.insert(transaction)?;
            }
            let first = first.digest.to_string();
            transaction
                .prepare_cached("INSERT INTO whole_indexes (index_digest) VALUES (?1) ON CONFLICT DO NOTHING")?
                .execute([&first])?;
            let mut statement = transaction.prepare_cached(
                "INSERT INTO index_blobs (index_digest, digest) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            )?;
            for blob in blobs {
                statement.execute([&first, &blob.to_string()])?;
            }
            is_whole(transaction, &first)
        })
    }

    /// Returns whether everything that an index leads to is recorded, as images or as blobs that it needs.
    pub fn is_whole_index(&self, index: &Digest) -> Result<bool> {
        self.read("look whether an index is whole", |transaction| {
            is_whole(transaction, &index.to_string())
        })
    }

    /// Returns the manifests of the images that an index leads to and that are recorded, under whatever name.
    pub fn images_of_index(&self, index: &Digest) -> Result<BTreeSet<Digest>> {
        self.read("list the images of an index", |transaction| {
            let mut statement = transaction.prepare_cached(&format!(
                "{REACHED}
                 SELECT r.digest FROM reached r JOIN manifests m ON m.digest = r.digest
                 WHERE r.digest NOT IN (SELECT digest FROM index_blobs WHERE index_digest = :index)"
            ))?;
            let mut rows = statement.query(named_params! { ":index": index.to_string() })?;
            let mut manifests = BTreeSet::new();
            while let Some(row) = rows.next()? {
                manifests.insert(crate::columns::digest(row, "digest")?);
            }
            Ok(manifests)
        })
    }

    /// Returns what a whole index needs beside its images; nothing if it is not kept whole.
    pub fn index_blobs(&self, index: &Digest) -> Result<BTreeSet<Digest>> {
        self.read("list the blobs of an index", |transaction| {
            let mut statement = transaction.prepare_cached("SELECT digest FROM index_blobs WHERE index_digest = ?1")?;
            let mut rows = statement.query([index.to_string()])?;
            let mut blobs = BTreeSet::new();
            while let Some(row) = rows.next()? {
                blobs.insert(crate::columns::digest(row, "digest")?);
            }
            Ok(blobs)
        })
    }

    /// Returns whether some index that is kept whole needs this blob beside its images.
    pub fn is_index_blob(&self, blob: &Digest) -> Result<bool> {
        self.read("look a blob of an index up", |transaction| {
            let mut statement = transaction.prepare_cached("SELECT 1 FROM index_blobs WHERE digest = ?1")?;
            Ok(statement.exists([blob.to_string()])?)
        })
    }
}

/// Returns whether an index is to be kept whole, and is.
pub(crate) fn is_whole(transaction: &Transaction<'_>, index: &str) -> Result<bool, Failure> {
    let mut statement = transaction.prepare_cached(&format!(
        "{REACHED}
         SELECT 1 FROM whole_indexes WHERE index_digest = :index AND NOT EXISTS (
             SELECT 1 FROM reached r
             WHERE r.digest NOT IN (SELECT digest FROM manifests)
                 AND r.digest NOT IN (SELECT digest FROM indexes)
                 AND r.digest NOT IN (SELECT digest FROM index_blobs WHERE index_digest = :index))"
    ))?;
    Ok(statement.exists(named_params! { ":index": index })?)
}
