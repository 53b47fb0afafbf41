//! One layer's bytes, from a file or from behind a download, into a staged tree.

use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use unlade_extract::{LayerReport, Progress, WINDOW_HEAD_BYTES};
use unlade_images::{LayerWork, StagedLayer};
use unlade_oci::{Compression, Descriptor};
use unlade_sys::{Track, Wait};

use crate::error::{Cause, Error, Stage};
use crate::layer::Context;
use crate::stages::READ;

/// Reads the layer to its end: hashes it on both sides of the compression and, if the work says so, makes its files.
///
/// `waits` is where the input counts the nanoseconds for which it makes its reader wait.
///
/// Waits for a worker permit first, so the bytes should be on their way already. Dropping the future stops the thread,
/// which removes the tree it has begun.
pub(crate) async fn consume(
    input: Box<dyn Read + Send>,
    waits: Option<Arc<AtomicU64>>,
    work: &LayerWork,
    blob: &Descriptor,
    context: &Context,
) -> Result<(LayerReport, Option<StagedLayer>), Error> {
    let part = context.watch.part(&blob.digest);
    let mut track = Track::of(part.as_ref(), "extract");
    track.wait(READ, Wait::Permit);
    let _permit = context.budget.worker().await;
    track.wait(READ, Wait::Thread);
    let mut progress = Progress::within(&context.total);
    if let Some(part) = part {
        progress = progress.timed(part, waits);
    }
    #[cfg(feature = "bench-skip-verify")]
    if context.unverified {
        progress = progress.unverified();
    }
    let task = context
        .watch
        .extract(&blob.digest, work.diff_id(), blob.size, &progress);
    let stop = StopOnDrop(progress.clone());
    let algorithms = (blob.digest.algorithm(), work.diff_id().algorithm());
    let stager = work.stager();
    let (options, sampled) = (context.options.clone(), progress.clone());
    // A window of gzip is not worth to be counted.
    let is_counted = blob.media_type.compression_hint() != Some(Compression::Gzip);
    let budget = context.budget.clone();
    let result = context
        .spawner
        .run(move || -> Result<_, Cause> {
            track.wait(READ, Wait::Input);
            let (input, head) = if is_counted { peek(input) } else { (input, Vec::new()) };
            track.wait(READ, Wait::Permit);
            let _window = budget.window(unlade_extract::window_bytes(&head), || progress.is_cancelled());
            drop(track);
            let (blob, diff) = algorithms;
            let Some(stager) = stager else {
                let report = unlade_extract::digest_layer(input, blob, diff, &options.limits, &progress)?;
                return Ok((report, None));
            };
            let staged = stager.stage()?;
            let report = unlade_extract::extract_layer(input, staged.directory(), blob, diff, &options, &progress)?;
            Ok((report, Some(staged)))
        })
        .await;
    drop(stop);
    #[cfg(feature = "bench-skip-verify")]
    let result = result.map(|(report, staged)| {
        let report = if context.unverified {
            believed(report, blob, work, &sampled)
        } else {
            report
        };
        (report, staged)
    });
    let consumed = result
        .map_err(Error::layer(&blob.digest, Stage::Extract))
        .inspect_err(|_| {
            // The layer may be begun again, and must not count twice then.
            context.total.give_back(&sampled);
        })?;
    task.done();
    Ok(consumed)
}

/// Reads the first bytes of `input`, and returns an input that begins with them again. If they cannot be read, that is told where
/// the others are read.
fn peek(mut input: Box<dyn Read + Send>) -> (Box<dyn Read + Send>, Vec<u8>) {
    let mut head = Vec::with_capacity(WINDOW_HEAD_BYTES);
    let failure = (&mut input).take(WINDOW_HEAD_BYTES as u64).read_to_end(&mut head).err();
    let input = Cursor::new(head.clone()).chain(Failing(failure)).chain(input);
    (Box::new(input), head)
}

/// An input that fails once, or is empty.
struct Failing(Option<io::Error>);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// Makes of a report without digests what a report of the right content would say.
#[cfg(feature = "bench-skip-verify")]
fn believed(report: LayerReport, blob: &Descriptor, work: &LayerWork, progress: &Progress) -> LayerReport {
    use unlade_extract::Content;
    LayerReport {
        blob: Content {
            digest: blob.digest.clone(),
            size: blob.size,
        },
        raw: Content {
            digest: work.diff_id().clone(),
            size: progress.raw(),
        },
        ..report
    }
}

/// Tells the extracting threads to stop when nobody waits for them any more.
pub(crate) struct StopOnDrop(pub(crate) Progress);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
