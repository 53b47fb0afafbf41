//! One blob from the registry into its ingest file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use unlade_blobs::Ingest;
use unlade_oci::Descriptor;
use unlade_reference::Repository;
use unlade_registry::{Chunk, Client};

use crate::budget::Permit;
use crate::error::{Error, Stage};
use crate::observer::Watch;
use crate::threads::Spawner;

/// How many chunks may wait between the network and the disk. A chunk is what one read of the connection gave, so this
/// bounds the memory of a download; what is slow behind the file does not count, since the file is the buffer.
const CHUNKS_IN_FLIGHT: usize = 8;

/// Receives what `ingest` lacks of the blob and appends it. The permit is held until the last byte is in the file.
pub(crate) async fn download(
    client: &Client,
    repository: &Repository,
    blob: &Descriptor,
    mut ingest: Ingest,
    permit: Permit,
    watch: &Watch,
    spawner: &Spawner,
) -> Result<Ingest, Error> {
    let received = Arc::new(AtomicU64::new(ingest.offset()));
    let task = watch.download(&blob.digest, blob.size, Arc::clone(&received));
    if ingest.offset() < blob.size {
        let (to_disk, from_network) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let receive = receive(client, repository, blob, ingest.offset(), &received, to_disk);
        let append = append(ingest, from_network, blob, spawner);
        ((), ingest) = tokio::try_join!(receive, append)?;
    }
    drop(permit);
    ingest.complete().map_err(Error::layer(&blob.digest, Stage::Download))?;
    task.done();
    Ok(ingest)
}

async fn receive(
    client: &Client,
    repository: &Repository,
    blob: &Descriptor,
    offset: u64,
    received: &AtomicU64,
    to_disk: mpsc::Sender<Chunk>,
) -> Result<(), Error> {
    let failed = |error| Error::layer(&blob.digest, Stage::Download)(error);
    let mut stream = client.blob(repository, blob, offset).await.map_err(failed)?;
    while let Some(chunk) = stream.next().await.map_err(failed)? {
        received.fetch_max(chunk.offset + chunk.data.len() as u64, Ordering::Relaxed);
        if to_disk.send(chunk).await.is_err() {
            // The writer has failed and says why.
            return Ok(());
        }
    }
    Ok(())
}

/// Appends chunks as they come, all that wait in one go.
async fn append(
    mut ingest: Ingest,
    mut from_network: mpsc::Receiver<Chunk>,
    blob: &Descriptor,
    spawner: &Spawner,
) -> Result<Ingest, Error> {
    let mut chunks = Vec::with_capacity(CHUNKS_IN_FLIGHT);
    while from_network.recv_many(&mut chunks, CHUNKS_IN_FLIGHT).await > 0 {
        let result;
        (ingest, chunks, result) = spawner
            .run(move || {
                let result = chunks.drain(..).try_for_each(|chunk| append_new(&mut ingest, &chunk));
                // The ingest comes back also after a failure: dropped here it would wake its follower, whose error could
                // then be taken for the cause.
                (ingest, chunks, result)
            })
            .await;
        result.map_err(Error::layer(&blob.digest, Stage::Download))?;
    }
    Ok(ingest)
}

/// Appends what of `chunk` the file does not have yet.
///
/// A registry that does not honour `Range` sends the blob from its start again. The bytes that are there already stay: the
/// digest decides in the end whether they were the right ones.
fn append_new(ingest: &mut Ingest, chunk: &Chunk) -> Result<(), unlade_blobs::Error> {
    let known = usize::try_from(ingest.offset().saturating_sub(chunk.offset)).unwrap_or(usize::MAX);
    if known < chunk.data.len() {
        ingest.append(&chunk.data[known..])?;
    }
    Ok(())
}
