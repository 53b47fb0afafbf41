//! One blob from the registry into its ingest file, over one connection or several.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};
use unlade_blobs::Ingest;
use unlade_oci::Descriptor;
use unlade_reference::Repository;
use unlade_registry::{BlobStream, Chunk, Client};
use unlade_sys::{Track, Wait};

use crate::budget::{Budget, Permit};
use crate::error::{Error, Stage};
use crate::observer::Watch;
use crate::pieces::Pieces;
use crate::stages::{RECEIVE, WRITE};
use crate::threads::Spawner;

/// How many chunks may wait between the network and the disk. A chunk is what one read of the connection gave, so this
/// bounds the memory of a download; what is slow behind the file does not count, since the file is the buffer.
const CHUNKS_IN_FLIGHT: usize = 4;
/// How often it is looked whether another connection has something to do.
const TICK: Duration = Duration::from_millis(500);

/// Where a blob comes from, and what its download needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetch<'a> {
    pub(crate) client: &'a Client,
    pub(crate) repository: &'a Repository,
    pub(crate) blob: &'a Descriptor,
    pub(crate) budget: &'a Budget,
    pub(crate) spawner: &'a Spawner,
    pub(crate) watch: &'a Watch,
    /// Set when the bytes come in several answers because one of them broke off.
    pub(crate) pieced: &'a AtomicBool,
}

impl Fetch<'_> {
    /// Receives what `ingest` lacks of the blob. The permit is held until the last byte is in the file.
    pub(crate) async fn download(self, mut ingest: Ingest, permit: Permit) -> Result<Ingest, Error> {
        let received = Arc::new(AtomicU64::new(ingest.arrived()));
        let task = self
            .watch
            .download(&self.blob.digest, self.blob.size, Arc::clone(&received));
        let missing = ingest.missing();
        if !missing.is_empty() {
            let limits = self.budget.ranges();
            let lacks = self.blob.size - ingest.arrived();
            let mut scattered = missing.len() > 1;
            if limits.ranges.get() > 1 && lacks >= limits.ranges_from {
                let result;
                (ingest, result) = self
                    .spawner
                    .run(move || {
                        let result = ingest.scatter();
                        (ingest, result)
                    })
                    .await;
                scattered = result.map_err(self.failed())?;
            }
            let (to_disk, from_network) = mpsc::channel(CHUNKS_IN_FLIGHT);
            let write = self.write(ingest, from_network, &received);
            if scattered {
                let pieces = Pieces::new(self.blob.size, missing);
                let receive = Box::pin(self.receive_pieces(pieces, limits.ranges.get(), permit, to_disk));
                ((), ingest) = tokio::try_join!(receive, write)?;
            } else {
                let receive = Box::pin(self.receive(ingest_offset(&missing), permit, to_disk));
                ((), ingest) = tokio::try_join!(receive, write)?;
            }
        }
        let mut track = self.track("write", 0);
        track.busy(WRITE);
        ingest.complete().map_err(self.failed())?;
        drop(track);
        task.done();
        Ok(ingest)
    }

    /// Receives everything from `offset` on over one connection.
    async fn receive(self, offset: u64, permit: Permit, to_disk: mpsc::Sender<Chunk>) -> Result<(), Error> {
        let mut track = self.track("receive", 0);
        track.wait(RECEIVE, Wait::Network);
        let stream = self.client.blob(self.repository, self.blob, offset).await;
        let mut stream = stream.map_err(self.failed())?;
        while let Some(chunk) = stream.next().await.map_err(self.failed())? {
            self.note(&stream);
            if !hand_on(&to_disk, chunk, &mut track).await {
                // The writer has failed and says why.
                return Ok(());
            }
        }
        drop(permit);
        Ok(())
    }

    /// Receives parts over up to `ranges` connections. The first one tells whether the server knows ranges; others follow if
    /// it does, as far as the budget has connections that nobody waits for.
    async fn receive_pieces(
        self,
        pieces: Pieces,
        ranges: usize,
        permit: Permit,
        to_disk: mpsc::Sender<Chunk>,
    ) -> Result<(), Error> {
        let shared = Shared {
            pieces: Mutex::new(pieces),
            answered: Notify::new(),
            to_disk,
        };
        let mut connections = FuturesUnordered::new();
        let mut failure = None;
        let mut next = 1;
        // Until the first answer there is one; with each failure there is one less.
        let (mut allowed, mut answered) = (1, false);
        connections.push(self.receive_piece(&shared, 0, ranges == 1, permit));
        loop {
            while connections.len() < allowed {
                let Some(permit) = self.budget.try_connection() else {
                    break;
                };
                if !shared.has_work() {
                    break;
                }
                connections.push(self.receive_piece(&shared, next, false, permit));
                next += 1;
            }
            tokio::select! {
                ended = connections.next() => match ended {
                    None => break,
                    Some((connection, Ok(permit))) => {
                        let alone = connections.is_empty() && (ranges == 1 || answered);
                        if shared.has_work() {
                            connections.push(self.receive_piece(&shared, connection, alone, permit));
                        }
                    }
                    Some((_, Err((error, permit)))) => {
                        if !is_survivable(&error) {
                            return Err(self.failed()(error));
                        }
                        tracing::debug!(%error, left = connections.len(), "a part of a blob could not be fetched");
                        self.pieced.store(true, Ordering::Relaxed);
                        allowed = connections.len();
                        failure = Some((error, permit));
                    }
                },
                () = shared.answered.notified(), if !answered => {
                    answered = true;
                    allowed = ranges;
                }
                () = tokio::time::sleep(TICK), if connections.len() < allowed => {}
            }
        }
        let front = {
            let pieces = shared.lock();
            if pieces.are_done() {
                return Ok(());
            }
            pieces.front()
        };
        match failure {
            // It does not know ranges, or no longer: one more try, over one connection, from the start if need be.
            Some((error, permit)) if is_about_ranges(&error) => {
                self.receive(front, permit, shared.to_disk.clone()).await
            }
            Some((error, _)) => Err(self.failed()(error)),
            // The writer has failed and says why.
            None => Ok(()),
        }
    }

    /// Receives one part.
    async fn receive_piece(
        self,
        shared: &Shared,
        connection: usize,
        alone: bool,
        permit: Permit,
    ) -> (usize, Result<Permit, (unlade_registry::Error, Permit)>) {
        let Some(part) = shared.lock().take(connection, alone, Instant::now()) else {
            return (connection, Ok(permit));
        };
        match self.receive_part(shared, connection, part).await {
            Ok(()) => {
                shared.lock().done(connection, Instant::now());
                (connection, Ok(permit))
            }
            Err(error) => {
                shared.lock().put_back(connection);
                (connection, Err((error, permit)))
            }
        }
    }

    async fn receive_part(
        self,
        shared: &Shared,
        connection: usize,
        part: std::ops::Range<u64>,
    ) -> Result<(), unlade_registry::Error> {
        let asked = part.end;
        let mut track = self.track("receive", connection);
        track.wait(RECEIVE, Wait::Network);
        let mut stream = self.client.blob_range(self.repository, self.blob, part).await?;
        if stream.end() > asked {
            shared.lock().whole(connection);
        } else {
            shared.answered.notify_one();
        }
        while let Some(mut chunk) = stream.next().await? {
            self.note(&stream);
            let end = shared.lock().end(connection);
            // Another connection may have taken the rest.
            let room = usize::try_from(end.saturating_sub(chunk.offset)).unwrap_or(usize::MAX);
            chunk.data.truncate(room);
            if chunk.data.is_empty() {
                break;
            }
            let next = chunk.offset + chunk.data.len() as u64;
            if !hand_on(&shared.to_disk, chunk, &mut track).await {
                // The writer has failed and says why: nothing is left to do for anybody.
                shared.lock().whole(connection);
                break;
            }
            if shared.lock().progress(connection, next) <= next {
                break;
            }
        }
        Ok(())
    }

    /// Writes chunks as they come, all that wait in one go.
    async fn write(
        self,
        mut ingest: Ingest,
        mut from_network: mpsc::Receiver<Chunk>,
        received: &AtomicU64,
    ) -> Result<Ingest, Error> {
        let mut chunks = Vec::with_capacity(CHUNKS_IN_FLIGHT);
        let mut track = self.track("write", 0);
        track.wait(WRITE, Wait::Input);
        while from_network.recv_many(&mut chunks, CHUNKS_IN_FLIGHT).await > 0 {
            let result;
            track.wait(WRITE, Wait::Thread);
            (ingest, chunks, track, result) = self
                .spawner
                .run(move || {
                    track.busy(WRITE);
                    // A registry that does not honour `Range` sends the blob from its start again. The bytes that are there
                    // already stay: the digest decides in the end whether they were the right ones.
                    let written = chunks.drain(..).try_for_each(|chunk| {
                        track.bytes(WRITE, chunk.data.len() as u64);
                        ingest.write_at(chunk.offset, &chunk.data).map(drop)
                    });
                    track.wait(WRITE, Wait::Input);
                    // The ingest comes back also after a failure: dropped here it would wake its follower, whose error could
                    // then be taken for the cause.
                    (ingest, chunks, track, written)
                })
                .await;
            result.map_err(self.failed())?;
            received.fetch_max(ingest.arrived(), Ordering::Relaxed);
        }
        Ok(ingest)
    }

    fn track(self, name: &'static str, number: usize) -> Track {
        self.watch.track(&self.blob.digest, name, number)
    }

    fn note(self, stream: &BlobStream) {
        if stream.attempts() > 1 {
            self.pieced.store(true, Ordering::Relaxed);
        }
    }

    fn failed<E: Into<crate::error::Cause>>(self) -> impl FnOnce(E) -> Error {
        Error::layer(&self.blob.digest, Stage::Download)
    }
}

/// What the connections of one blob share.
#[derive(Debug)]
struct Shared {
    pieces: Mutex<Pieces>,
    /// A server has answered with the part that was asked for.
    answered: Notify,
    to_disk: mpsc::Sender<Chunk>,
}

impl Shared {
    /// Tells whether another part can be taken now.
    fn has_work(&self) -> bool {
        self.lock().has_work(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a chunk to the writer, waiting for it if need be. Says whether there is still one.
async fn hand_on(to_disk: &mpsc::Sender<Chunk>, chunk: Chunk, track: &mut Track) -> bool {
    track.bytes(RECEIVE, chunk.data.len() as u64);
    match to_disk.try_send(chunk) {
        Ok(()) => true,
        Err(TrySendError::Closed(_)) => false,
        Err(TrySendError::Full(chunk)) => {
            track.wait(RECEIVE, Wait::Output);
            let sent = to_disk.send(chunk).await.is_ok();
            track.wait(RECEIVE, Wait::Network);
            sent
        }
    }
}

/// Tells whether other connections may have better luck.
fn is_survivable(error: &unlade_registry::Error) -> bool {
    is_about_ranges(error) || error.is_retryable()
}

fn is_about_ranges(error: &unlade_registry::Error) -> bool {
    matches!(error.main(), unlade_registry::Error::Range { .. })
}

fn ingest_offset(missing: &[std::ops::Range<u64>]) -> u64 {
    missing.first().map_or(0, |range| range.start)
}
