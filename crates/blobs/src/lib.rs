//! Content-addressed blobs in an OCI image layout: ingest, follow, verify, publish.
//!
//! # The directory
//! A [`BlobStore`] is a directory that is a valid OCI image layout (image-spec, `image-layout.md`) at every moment, so
//! that other tools can read it in place:
//!
//! ```text
//! oci-layout                    {"imageLayoutVersion":"1.0.0"}
//! index.json                    replaced as a whole, by write_index
//! blobs/<algorithm>/<hex>       published blobs, mode 0444
//! ingest/<algorithm>-<hex>      blobs that are still arriving, mode 0600; two more files beside it where one arrives in
//!                               several places at once
//! ```
//!
//! # The life of a blob
//! 1. [`BlobStore::begin`] hands out an [`Ingest`] to one holder, across threads and processes. Bytes are only ever
//!    appended, so the length of the file says how far it has come: a process that is killed leaves a file that the
//!    next one continues. [`Ingest::scatter`] allows bytes to arrive out of order, and keeps this true.
//! 2. A [`Follower`] reads the bytes while they arrive, hashes them and does with them whatever is to be done. The file
//!    is the buffer between the two: a slow reader costs no memory and does not slow the download.
//! 3. [`Ingest::publish`] compares what the reader hashed with what was asked for, and only then gives the blob its
//!    name. Nothing else does: what has a name in `blobs/` was hashed, by [`Ingest::publish`] or by [`BlobStore::put`].
//!
//! ```
//! use unlade_blobs::{Begin, BlobStore, hash};
//! use unlade_oci::Digest;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let root = directory.path();
//! let store = BlobStore::open(root)?;
//! let digest = Digest::sha256("the whole blob");
//! if let Begin::Owned(mut ingest) = store.begin(&digest, 14)? {
//!     let follower = ingest.follower()?;
//!     let reader = std::thread::spawn(move || hash(follower, digest.algorithm()));
//!     ingest.append(b"the whole ")?;
//!     ingest.append(b"blob")?;
//!     ingest.complete()?;
//!     let (digest, size) = reader.join().expect("hashing does not panic")?;
//!     ingest.publish(&digest, size)?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Locking
//! The lock is an advisory one on the ingest file itself ([`unlade_sys::FileLock`]), and it moves with the file when the
//! blob is published. It is the only lock of this crate, and no other one is taken while getting it.
//!
//! **Invariant:** nothing here knows what a manifest or a layer is; a blob is a digest and bytes.

mod error;
mod follower;
mod hash;
mod ingest;
mod layout;
mod ranges;
mod scattered;
mod store;

pub use error::{Error, Result};
pub use follower::{CancelHandle, FollowError, Follower, Watermark};
pub use hash::hash;
pub use ingest::{Begin, Ingest};
pub use store::{BlobStore, IngestInfo};
pub use unlade_sys::Durability;
