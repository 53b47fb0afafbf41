//! Registry to store: resolve a name, plan what is missing, fetch and extract it at once, commit.
//!
//! A pull takes this way; each stage is a module:
//!
//! 1. **Look locally.** [`find_local`] needs no runtime and no network. If every image is complete, that is all.
//! 2. **Resolve.** The name leads to an index, a manifest and a configuration; every digest is computed from the bytes.
//! 3. **Plan.** Each missing content once, the largest first; the pull is refused if it cannot fit.
//! 4. **Bring in.** A layer's bytes are appended to its ingest file. Behind that watermark a follower reads the same file,
//!    hashes, inflates, hashes again and extracts, so that the last byte is extracted soon after it has arrived. The file is
//!    the buffer between the two: a slow disk does not hold up the network, and a broken connection does not disturb the
//!    extraction.
//! 5. **Commit.** When both digests and the size match, the blob is renamed into place, then the layer directory, then the row
//!    is written. The images become visible at the end, in one transaction each.
//!
//! # Locking
//! A layer is claimed by its layer lock, then its blob by the ingest's lock, then the database is written; never in another
//! order, and neither lock is waited for: who finds one taken lets go of everything and looks again a moment later. See
//! [`unlade_images`] for what the locks mean.
//!
//! # Example
//! `examples/embed.rs` is a pull with progress in a page.

mod again;
mod artifact;
mod budget;
mod error;
mod explain;
mod fetch;
mod import;
mod layer;
mod observer;
mod pieces;
mod plan;
mod puller;
mod repair;
mod resolve;
pub mod stages;
mod supply;
mod threads;
mod unpack;
mod warning;
mod whole;

pub use artifact::PulledArtifact;
pub use budget::{Budget, Limits};
pub use error::{Cause, Error, Stage};
pub use explain::{Choice, DocumentState, Explanation, ImageExplanation, LayerExplanation, Recorded};
pub use import::{Importer, Origin};
pub use observer::{Activity, Event, Observer, Outcome, Planned, Silent, Task};
pub use puller::{Options, Policy, Pulled, Puller, find_local};
pub use resolve::Resolution;
pub use unlade_sys::{
    Part, PartTimes, Span, Stage as TimedStage, StageTimes, Timings, TimingsReport, Track, TrackTimes, Wait,
};
pub use warning::Warning;
