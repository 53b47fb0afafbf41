//! Buffers that go round between the threads of one layer: of uncompressed bytes, and of compressed ones to be hashed.
//!
//! A layer has a few buffers, and a few more while the layers of the process together have not too many ([`crate::spare`]).
//! The decompressor takes a free one, fills it and shares it; when the last of its readers is done, the buffer goes back by
//! itself. So memory is bounded, nothing is copied between the threads, and a slow reader makes the decompressor wait for a
//! free buffer.

use std::ops::Deref;
use std::sync::Arc;

use crossbeam_channel::{Receiver, RecvError, Sender};
use unlade_sys::{Stage, Track, Wait};

use crate::spare::{self, Spare, Taken};

/// Bytes in one buffer: large enough that a thread switch per buffer costs nothing, small enough for the cache.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// Buffers that one layer always has: one that is filled and one for each that reads.
pub(crate) const ALWAYS: usize = 3;

/// Buffers of one layer at most: 1.75 MiB together. More are not faster.
pub(crate) const CHUNKS: usize = 7;

/// Bytes in one buffer of compressed bytes.
pub(crate) const INPUT_BYTES: usize = 64 * 1024;

/// Buffers of compressed bytes of one layer: one that is decompressed, and those that wait to be hashed among the buffers of
/// uncompressed bytes. With fewer the decompressor waits for the hasher.
pub(crate) const INPUT_CHUNKS: usize = 6;

/// So many filled buffers wait for one reader when that is what holds up the layer.
pub(crate) const CHUNKS_AWAITED: usize = CHUNKS / 2;

/// The buffers of one layer that are free.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Receiver<Box<[u8]>>,
    back: Sender<Box<[u8]>>,
    bytes: usize,
    made: usize,
    /// How many there may be without asking.
    always: usize,
    /// How many there may be at all.
    most: usize,
    spare: Taken<'static>,
}

impl Pool {
    /// Makes one for uncompressed bytes, of [`CHUNK_BYTES`] each.
    pub(crate) fn new() -> Self {
        Self::within(&spare::OF_PROCESS)
    }

    /// Makes one for compressed bytes, of [`INPUT_BYTES`] each.
    pub(crate) fn of_input() -> Self {
        Self::with(INPUT_BYTES, INPUT_CHUNKS, INPUT_CHUNKS, &spare::OF_PROCESS)
    }

    fn within(spare: &'static Spare) -> Self {
        Self::with(CHUNK_BYTES, ALWAYS, CHUNKS, spare)
    }

    fn with(bytes: usize, always: usize, most: usize, spare: &'static Spare) -> Self {
        let (back, free) = crossbeam_channel::bounded(most);
        Self {
            free,
            back,
            bytes,
            made: 0,
            always,
            most,
            spare: Taken::none(spare),
        }
    }

    /// Returns a free buffer, waiting for one in `stage` if all are in use. A small layer never makes them all.
    pub(crate) fn take(&mut self, track: &mut Track, stage: Stage) -> Box<[u8]> {
        if let Ok(buffer) = self.free.try_recv() {
            return buffer;
        }
        if self.made < self.always || (self.made < self.most && self.spare.more()) {
            self.made += 1;
            return spare::buffer(self.bytes);
        }
        track.wait(stage, Wait::Output);
        // The pool holds a sender itself, so the channel cannot be closed.
        self.free.recv().unwrap_or_else(|_| spare::buffer(self.bytes))
    }

    /// Shares the first `length` bytes of `buffer`.
    pub(crate) fn share(&self, buffer: Box<[u8]>, length: usize) -> Arc<Chunk> {
        Arc::new(self.fill(buffer, length))
    }

    /// Gives the first `length` bytes of `buffer` to one reader.
    pub(crate) fn fill(&self, buffer: Box<[u8]>, length: usize) -> Chunk {
        Chunk {
            buffer,
            length,
            back: self.back.clone(),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.free.try_iter().for_each(spare::keep);
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
        // Fails only when the layer is over, and then another layer may have the buffer.
        if let Err(error) = self.back.try_send(std::mem::take(&mut self.buffer)) {
            spare::keep(error.into_inner());
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::INFLATE;

    /// Takes buffers until there is none to be had at once.
    fn fill(pool: &mut Pool) -> Vec<Arc<Chunk>> {
        let mut chunks = Vec::new();
        while pool.made < ALWAYS || (pool.made < CHUNKS && pool.spare.left() > 0) {
            let buffer = pool.take(&mut Track::off(), INFLATE);
            chunks.push(pool.share(buffer, 1));
        }
        chunks
    }

    #[test]
    fn a_layer_has_what_it_needs_and_shares_the_rest() {
        static SPARE: Spare = Spare::new(5);
        let mut first = Pool::within(&SPARE);
        let chunks = fill(&mut first);
        assert_eq!(chunks.len(), CHUNKS);
        let mut second = Pool::within(&SPARE);
        assert_eq!(fill(&mut second).len(), ALWAYS + 1);
        let mut third = Pool::within(&SPARE);
        assert_eq!(fill(&mut third).len(), ALWAYS);
        // What the first has is used again, and is the others' when its layer is over.
        drop(chunks);
        let _buffer = first.take(&mut Track::off(), INFLATE);
        assert_eq!((first.made, SPARE.left()), (CHUNKS, 0));
        drop((first, second));
        assert_eq!(SPARE.left(), 5);
        assert_eq!(fill(&mut third).len(), CHUNKS);
    }
}
