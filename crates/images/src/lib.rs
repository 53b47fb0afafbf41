//! The local image store put together: look up, bring in, list, inspect, remove.
//!
//! ```text
//! oci-layout, index.json         the store is an OCI image layout that other tools read in place
//! blobs/                         published blobs (unlade-blobs)
//! ingest/                        blobs that are arriving (unlade-blobs)
//! layers/sha256-HEX.extracted/   layer directories, named by diff ID; ….chain.extracted, by chain ID
//! staging/                       layer directories that are being made
//! mounts/                        records of what is mounted
//! metadata.db                    the database (unlade-metadata)
//! locks/                         files that exist to be locked
//! ```
//!
//! The database is the truth: what has no row is not there, whatever lies on the disk.
//!
//! # Locks
//! They are advisory file locks that die with their holder, taken in this order:
//!
//! 1. `locks/removal`: shared to take a lease, alone to remove. Held for a moment.
//! 2. `locks/layer-…`, by diff ID or chain ID: who makes, or removes, a layer directory. Never waited for while holding
//!    another.
//! 3. the ingest file of a blob: who fetches it. Never waited for.
//! 4. `locks/index`: who changes the names, until `index.json` is written. Held for a moment.
//! 5. the database's own.
//!
//! A directory of layers outside of the store (`StoreOptions::layer_path`) has its stages and its locks in `.unlade/` below
//! it, so that stores which share it agree.
//!
//! # Order of a commit
//! Blob, then layer directory, then row, those of layers that end at about the same time in one transaction; at the end the
//! image's rows in one transaction, then `index.json`. A removal goes the other way. So whatever is recorded is there, at every moment
//! at which a process may die; that `index.json` is still to be written says the file of its lock.

mod artifacts;
mod claim;
mod commit;
mod error;
mod export;
mod flatten;
mod image;
mod import;
mod index;
mod layers;
mod listing;
mod lookup;
mod mend;
mod mount;
mod process;
mod prune;
mod record;
mod remove;
mod settle;
mod stack;
mod store;
mod unpack;
mod usage;
mod verify;
mod view;
mod whole;

pub use artifacts::{Artifact, artifact_type};
pub use claim::{COMMIT, Claim, FLUSH, LayerWork, Source, Stager};
pub use commit::{ImageCommit, Needed};
pub use error::Error;
pub use export::{ArchiveForm, Exported, Selection};
pub use image::{Image, Layer};
pub use import::{SuppliedImage, SuppliedName, Supply, SupplyForm};
pub use layers::StagedLayer;
pub use listing::{ImageSummary, Inspection};
pub use lookup::Lookup;
pub use mend::{Lost, LostBlob, LostLayer, LostStack, Mending};
pub use mount::{MountOptions, MountedCommand};
pub use process::Process;
pub use prune::{PruneOptions, Pruned};
pub use remove::Removal;
pub use settle::Settled;
pub use stack::Stack;
pub use store::{LayerState, Store, StoreOptions, enter_user_namespace};
pub use unlade_extract::Ownership;
pub use unlade_metadata::Lease;
pub use unlade_sys::Durability;
pub use unpack::{UnpackOptions, UnpackSource, Unpacked, check_unpack_target};
pub use usage::{ImageUsage, Usage};
pub use verify::{BlobProblem, Damage, DamageKind, Depth, DirectoryProblem, Verification};
pub use view::View;
pub use whole::WholeLookup;
