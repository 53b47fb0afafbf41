//! The SQLite database of a store: names, documents, layers, leases.
//!
//! The database is the truth about a store: what it does not name is not there, whatever lies on the disk. This crate
//! holds the only SQL of the project. It opens no blob, no layer and no socket; it is told what happened, in plain
//! records, and answers questions. All calls are synchronous and short; one that may wait for other processes waits
//! for [`PATIENCE`] at most.
//!
//! | module | what it owns |
//! |---|---|
//! | `connection` | [`Database`]: opening, connections, transactions |
//! | `migrations` | the schema's history: [`migrations()`] |
//! | [`schema`] | scratch databases, by which the history is checked |
//! | `records` | the values that go in and out |
//! | `blobs`, `layers`, `documents`, `config`, `images`, `artifacts` | the rows of each kind |
//! | `remove`, `collect` | what nothing needs any more: after a removal, and in all |
//! | `whole` | indexes that are kept with all their platforms |
//! | `contents` | what each image consists of |
//! | `leases` | what is in use, and by whom |
//!
//! # The order of things
//! A pull takes a [`Lease`] on what it is going to use, records each layer as it is finished
//! ([`Database::record_layer`]), and at the end the image, in one transaction ([`Database::commit_image`]). A layer that
//! is recorded and not named by any image yet is no garbage as long as its lease lives.
//!
//! # Keys
//! An image's key is registry, repository, tag, digest and platform, *as asked for*. One tag on two platforms is two
//! images; a name with tag and digest is another than that with the tag alone, since only the former is fixed.
//! Documents are keyed by digest, layers by diff ID, layer directories by diff ID, chain ID, root and form.

mod artifacts;
mod blobs;
mod collect;
mod columns;
mod config;
mod connection;
mod contents;
mod documents;
mod error;
mod images;
mod layers;
mod leases;
mod migrations;
mod records;
mod remove;
mod rest;
pub mod schema;
mod whole;

pub use artifacts::ArtifactRecord;
pub use collect::{Collect, Collected, Collection};
pub use config::{ConfigRecord, RunRecord};
pub use connection::{Database, PATIENCE};
pub use contents::ImageContent;
pub use error::{Error, Result};
pub use leases::{Holder, Lease, LeaseRecord, LeaseTarget};
pub use migrations::{Migration, latest_version, migrations};
pub use records::{
    BlobRecord, Committed, Durability, ImageCommit, ImageKey, ImageLayer, ImageName, ImageSummary, IndexRecord,
    Inspection, LayerBlobRecord, LayerCommit, LayerDirectoryRecord, LayerForm, LayerOwnership, LayerPlace, LayerRecord,
    LayerState, ManifestRecord, NameRecord, Removed, StackLayer, StoredDirectory, StoredImage, StoredLayer, Target,
    Unsynced,
};
