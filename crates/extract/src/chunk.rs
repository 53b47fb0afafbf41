//! Buffers of uncompressed bytes that go round between the threads of one layer.
//!
//! A fixed number of buffers exists for a layer. The decompressor takes a free one, fills it and shares it; when the last
//! of its readers is done, the buffer goes back by itself. So memory is bounded, nothing is copied between the threads,
//! and a slow reader makes the decompressor wait for a free buffer.

use std::ops::Deref;
use std::sync::Arc;

use crossbeam_channel::{Receiver, RecvError, Sender};
use unlade_sys::{Stage, Track, Wait};

/// Bytes in one buffer: large enough that a thread switch per buffer costs nothing, small enough for the cache.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// Buffers of one layer: 1.75 MiB together.
pub(crate) const CHUNKS: usize = 7;

/// So many filled buffers wait for one reader when that is what holds up the layer.
pub(crate) const CHUNKS_AWAITED: usize = CHUNKS / 2;

/// The buffers of one layer that are free.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Receiver<Box<[u8]>>,
    back: Sender<Box<[u8]>>,
    unmade: usize,
}

impl Pool {
    pub(crate) fn new() -> Self {
        let (back, free) = crossbeam_channel::bounded(CHUNKS);
        Self {
            free,
            back,
            unmade: CHUNKS,
        }
    }

    /// Returns a free buffer, waiting for one in `stage` if all are in use. A small layer never makes them all.
    pub(crate) fn take(&mut self, track: &mut Track, stage: Stage) -> Box<[u8]> {
        if let Ok(buffer) = self.free.try_recv() {
            return buffer;
        }
        if self.unmade > 0 {
            self.unmade -= 1;
            return vec![0; CHUNK_BYTES].into_boxed_slice();
        }
        track.wait(stage, Wait::Output);
        // The pool holds a sender itself, so the channel cannot be closed.
        self.free
            .recv()
            .unwrap_or_else(|_| vec![0; CHUNK_BYTES].into_boxed_slice())
    }

    /// Shares the first `length` bytes of `buffer`.
    pub(crate) fn share(&self, buffer: Box<[u8]>, length: usize) -> Arc<Chunk> {
        Arc::new(Chunk {
            buffer,
            length,
            back: self.back.clone(),
        })
    }
}

/// A filled buffer; dropping the last reference frees it for reuse.
#[derive(Debug)]
pub(crate) struct Chunk {
    buffer: Box<[u8]>,
    length: usize,
    back: Sender<Box<[u8]>>,
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // Fails only when the layer is over, and then the buffer goes with it.
        let _ = self.back.try_send(std::mem::take(&mut self.buffer)).is_ok();
    }
}

/// What the decompressor tells its readers.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// More bytes.
    Data(Arc<Chunk>),
    /// The stream ended as it should. A channel that closes without this means that the decompressor failed.
    End,
}

/// Receives a message, waiting for it in `stage` if need be, and is busy with that afterwards.
pub(crate) fn receive(messages: &Receiver<Message>, track: &mut Track, stage: Stage) -> Result<Message, RecvError> {
    if track.is_on() && messages.is_empty() {
        track.wait(stage, Wait::Input);
    }
    let message = messages.recv()?;
    track.busy(stage);
    if let Message::Data(chunk) = &message {
        track.bytes(stage, chunk.len() as u64);
    }
    Ok(message)
}
