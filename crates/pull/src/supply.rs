//! A blob from where it lies instead of from a registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use unlade_blobs::Ingest;
use unlade_images::Supply;
use unlade_oci::Descriptor;

use crate::error::{Error, Stage};
use crate::observer::Watch;
use crate::threads::Spawner;

/// Puts all of a blob into its ingest. Dropping the future stops it.
pub(crate) async fn take(
    supply: &Arc<Supply>,
    blob: &Descriptor,
    mut ingest: Ingest,
    watch: &Watch,
    spawner: &Spawner,
) -> Result<Ingest, Error> {
    let received = Arc::new(AtomicU64::new(ingest.arrived()));
    let task = watch.download(&blob.digest, blob.size, Arc::clone(&received));
    let stop = Arc::new(AtomicBool::new(false));
    let _stop = SetOnDrop(Arc::clone(&stop));
    let supply = Arc::clone(supply);
    let filled;
    (ingest, filled) = spawner
        .run(move || {
            let filled = supply.fill(&mut ingest, &received, &stop);
            // The ingest comes back also after a failure: dropped here it would wake its follower, whose error could then be
            // taken for the cause.
            (ingest, filled)
        })
        .await;
    if !filled.map_err(Error::layer(&blob.digest, Stage::Download))? {
        let digest = blob.digest.clone();
        let missing = unlade_images::Error::NotSupplied { digest };
        return Err(Error::layer(&blob.digest, Stage::Download)(missing));
    }
    ingest.complete().map_err(Error::layer(&blob.digest, Stage::Download))?;
    task.done();
    Ok(ingest)
}

/// Tells a thread to stop when nobody waits for it any more.
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
