//! One layer stream to files below a directory descriptor.
//!
//! [`extract_layer`] reads a layer blob from any reader, decompresses it, hashes it on both sides of the decompressor, reads
//! it as a tar archive and makes its files below a directory, all at the same time and with less than 3 MiB of buffers.
//! [`digest_layer`] does the same without making files. [`read_layer`] hands the entries to any [`EntrySink`].
//!
//! The input is taken to be hostile: whatever it says, nothing outside the target directory is touched, memory is bounded
//! by [`Limits`], and what the layer says that is not done is either an [`Error`] or a line in the [`Summary`].
//!
//! | module | what it owns |
//! |---|---|
//! | `pipeline`, `chunk`, `spare`, `stream` | the threads of one layer and the buffers between them |
//! | `hashing` | the hashes of all layers at work |
//! | `inflate`, `window` | gzip, zstd or nothing |
//! | `tar` | the reading half: blocks → entries |
//! | `entry` | the seam: [`Entry`], [`EntrySink`] |
//! | `stages` | what is measured of a layer |
//! | `helpers` | how many threads of the process help to make files: [`Helpers`] |
//! | `lower` | what a layer's extraction asks of the layers below: [`Lower`], [`Removals`] |
//! | `directory` | today's writing half: entries → a layer directory |
//! | `compare` | a layer directory held against its layer |
//!
//! **Invariant:** `tar` and `pipeline` know no filesystem, `directory` knows no tar.
//!
//! **Invariant:** everything here blocks and none of it is asynchronous; the caller gives it a thread.

mod chunk;
mod compare;
mod directory;
mod entry;
mod error;
mod hashing;
mod helpers;
mod inflate;
mod lower;
mod options;
mod pipeline;
mod progress;
mod raw_path;
mod report;
mod spare;
pub mod stages;
mod stream;
mod summary;
mod tar;
mod window;

use std::io::Read;
use std::panic::resume_unwind;
use std::sync::Once;
use std::thread;

use unlade_oci::Algorithm;
use unlade_sys::Dir;

pub use crate::compare::{Comparison, Deviation, Difference, compare_layer, compare_layer_on};
use crate::directory::DirectoryWriter;
pub use crate::directory::{FileContent, TreeWriter};
pub use crate::entry::{Content as EntryContent, Entry, EntrySink, Extent, Kind, NullSink, SharedData, Time, Xattr};
pub use crate::error::Error;
pub use crate::helpers::Helpers;
use crate::lower::RemovalSink;
pub use crate::lower::{Lower, LowerKind, LowerNode, Removals};
pub use crate::options::{Limits, Options, Ownership, Privilege, Whiteouts};
pub use crate::progress::{Progress, Total};
pub use crate::raw_path::{EscapeError, RawPath};
pub use crate::report::{Content, LayerReport};
pub use crate::summary::{Count, LowerHardLink, Note, Summary};
pub use crate::window::{WINDOW_HEAD_BYTES, window_bytes};

/// Extracts the layer that `input` delivers into the directory `target`, which should be empty.
///
/// The input is read to its end, and so is what follows the archive in it, since the digests cover it. It is up to the
/// caller to compare the digests of the report with what they should be, *before* anybody uses the directory. After an
/// error the directory holds part of the layer.
pub fn extract_layer<R: Read + Send>(
    input: R,
    target: &Dir,
    blob_algorithm: Algorithm,
    diff_algorithm: Algorithm,
    options: &Options,
    progress: &Progress,
) -> Result<LayerReport, Error> {
    confined(options.confine.then_some(target), || {
        let mut writer = DirectoryWriter::new(target, options)?.timed(progress);
        let mut report = pipeline::run(
            input,
            &mut writer,
            blob_algorithm,
            diff_algorithm,
            &options.limits,
            progress,
        )
        .map_err(|error| writer.first_failure(error))?;
        let mut summary = writer.into_summary();
        summary.absorb(report.summary);
        report.summary = summary;
        Ok(report)
    })
}

/// Does `work` on a thread that can write below `target` alone, or right here if there is none.
///
/// A thread never gets its freedom back, so it is one of its own. It has an umask of its own as well, which takes nothing away, so
/// that files need not be given their modes a second time.
fn confined<T: Send>(target: Option<&Dir>, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    static SAID: Once = Once::new();
    let Some(target) = target else { return work() };
    thread::scope(|scope| {
        let thread = pipeline::spawn(scope, "unlade-extract", || {
            if let Err(error) = unlade_sys::clear_umask_of_thread() {
                tracing::debug!(%error, "modes are set in a second step");
            }
            if let Err(error) = unlade_sys::confine_thread(target) {
                SAID.call_once(|| tracing::info!(%error, "layers are extracted without Landlock as a second wall"));
            }
            work()
        })?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Extracts a layer as [`extract_layer`] does, on top of the layers in `lower`: parents that it does not declare are those
/// of the layers below, links among them; targets of hard links are found there and copied; and what it removes is what is
/// there.
///
/// `removals` are those of the same layer, see [`read_removals`]. The directory, put on top of the layers below, gives the
/// tree that applying the layer to theirs gives.
///
/// # Errors
/// As [`extract_layer`]; moreover a hard link whose target neither the layer nor one below has is refused.
#[expect(clippy::too_many_arguments, reason = "those of `extract_layer` and what is below")]
pub fn extract_layer_on<R: Read + Send>(
    input: R,
    target: &Dir,
    lower: &dyn Lower,
    removals: &Removals,
    blob_algorithm: Algorithm,
    diff_algorithm: Algorithm,
    options: &Options,
    progress: &Progress,
) -> Result<LayerReport, Error> {
    let mut writer = DirectoryWriter::on_top(target, options, lower, removals)?.timed(progress);
    let limits = &options.limits;
    let mut report = pipeline::run(input, &mut writer, blob_algorithm, diff_algorithm, limits, progress)
        .map_err(|error| writer.first_failure(error))?;
    let mut summary = writer.into_summary();
    summary.absorb(report.summary);
    report.summary = summary;
    Ok(report)
}

/// Reads the layer that `input` delivers to its end and returns what it removes from the layers below.
///
/// # Errors
/// As [`digest_layer`].
pub fn read_removals<R: Read + Send>(
    input: R,
    blob_algorithm: Algorithm,
    diff_algorithm: Algorithm,
    limits: &Limits,
    progress: &Progress,
) -> Result<(Removals, LayerReport), Error> {
    let mut sink = RemovalSink::new(limits.deferred_bytes);
    let report = pipeline::run(input, &mut sink, blob_algorithm, diff_algorithm, limits, progress)?;
    Ok((sink.removals, report))
}

/// Reads the layer that `input` delivers as [`extract_layer`] does, with the same checks of its form, and makes no files.
pub fn digest_layer<R: Read + Send>(
    input: R,
    blob_algorithm: Algorithm,
    diff_algorithm: Algorithm,
    limits: &Limits,
    progress: &Progress,
) -> Result<LayerReport, Error> {
    pipeline::run(input, &mut NullSink, blob_algorithm, diff_algorithm, limits, progress)
}

/// Reads the layer that `input` delivers and hands its entries to `sink`; the summary of the report is that of the reading.
pub fn read_layer<R: Read + Send>(
    input: R,
    sink: &mut (dyn EntrySink + Send),
    blob_algorithm: Algorithm,
    diff_algorithm: Algorithm,
    limits: &Limits,
    progress: &Progress,
) -> Result<LayerReport, Error> {
    pipeline::run(input, sink, blob_algorithm, diff_algorithm, limits, progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_extracts_has_an_umask_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let target = Dir::open(directory.path()).unwrap();
        let before = unlade_sys::umask_of_thread();
        let inside = confined(Some(&target), || Ok(unlade_sys::umask_of_thread())).unwrap();
        assert_eq!(inside, Some(0));
        assert_eq!(unlade_sys::umask_of_thread(), before);
    }
}
