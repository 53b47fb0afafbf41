//! What is measured of a pull, if [`Puller::with_timings`](crate::Puller::with_timings) asks for it.
//!
//! The stages of the pull as a whole are in the part [`WHOLE`]. Each layer that is brought in is a part of its own, whose name
//! is the digest of its blob. The stages of an attempt that failed and was made again count, too.
//!
//! What the network takes of the processor (the runtime, TLS, HTTP) is in no stage, as connections belong to no layer: it is
//! most of what is left of the process's time when that of all stages is taken off.

pub use unlade_extract::stages::{FILES, HASH, INFLATE, READ, SMALL_FILES};
use unlade_sys::{Part, Stage, Track};

/// The name of the part that is the pull as a whole.
pub const WHOLE: &str = "pull";

/// Looks whether the store has the images.
pub const LOOK_UP: Stage = Stage::new(10, "look-up");

/// Asks for documents; all of it counts as waiting for the network, though documents may come from the store.
pub const RESOLVE: Stage = Stage::new(11, "resolve");

/// Protects what the images need, and finds out what is missing.
pub const PLAN: Stage = Stage::new(12, "plan");

/// Holds the layers against those below them, and extracts again where that is needed.
pub const STACK: Stage = Stage::new(13, "stack");

/// Writes documents and rows: from here on the images can be found.
pub const RECORD: Stage = Stage::new(14, "record");

/// Beside the pull: removes what dead processes have left.
pub const SWEEP: Stage = Stage::new(15, "sweep");

/// Waits for the disk. Of the pull as a whole it is for what was pulled earlier; of a layer, with
/// [`Durability::Sync`](unlade_images::Durability::Sync) alone, for what it has written.
pub const FLUSH: Stage = unlade_images::FLUSH;

/// Takes the layer's locks and looks what there is of it.
pub const CLAIM: Stage = Stage::new(30, "claim");

/// Receives the blob. Waits for [`Permit`](unlade_sys::Wait::Permit), a connection of the budget, for
/// [`Network`](unlade_sys::Wait::Network), and for [`Output`](unlade_sys::Wait::Output), that the file is written; it is never
/// busy itself. Bytes are those that came; several connections are several tracks.
pub const RECEIVE: Stage = Stage::new(31, "receive");

/// Writes what was received into the ingest. Waits for [`Input`](unlade_sys::Wait::Input), and for
/// [`Thread`](unlade_sys::Wait::Thread), one that may block.
pub const WRITE: Stage = Stage::new(32, "write");

/// Renames the blob and the tree into place and writes the rows.
pub const COMMIT: Stage = unlade_images::COMMIT;

/// Makes of `work` one that is measured, on a track that has no more than it.
pub(crate) fn timed<T>(
    part: Option<Part>,
    track: &'static str,
    stage: Stage,
    work: impl FnOnce() -> T,
) -> impl FnOnce() -> T {
    move || {
        let mut track = Track::of(part.as_ref(), track);
        track.busy(stage);
        work()
    }
}
