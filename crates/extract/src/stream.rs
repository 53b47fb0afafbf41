//! The uncompressed bytes as the tar reader sees them: slices of the shared buffers, one after another.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use unlade_sys::Track;

use crate::chunk::{Chunk, Message, receive};
use crate::entry::SharedData;
use crate::pipeline::Stop;
use crate::stages::FILES;

/// A stream of uncompressed bytes.
#[derive(Debug)]
pub(crate) struct Stream {
    chunks: Receiver<Message>,
    /// What the one who reads does.
    track: Track,
    chunk: Option<Arc<Chunk>>,
    /// Position in `chunk`.
    position: usize,
    /// Position in the stream.
    offset: u64,
    ended: bool,
}

impl Stream {
    pub(crate) fn new(chunks: Receiver<Message>, track: Track) -> Self {
        Self {
            chunks,
            track,
            chunk: None,
            position: 0,
            offset: 0,
            ended: false,
        }
    }

    /// Returns the position in the stream.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns what is there of the bytes ahead, waiting for some; nothing means the end of the stream.
    pub(crate) fn peek(&mut self) -> Result<&[u8], Stop> {
        while !self.ended && self.chunk.as_ref().is_none_or(|chunk| self.position == chunk.len()) {
            // Freed before waiting: the decompressor may be waiting for this very buffer.
            self.chunk = None;
            self.position = 0;
            match receive(&self.chunks, &mut self.track, FILES) {
                Ok(Message::Data(chunk)) => self.chunk = Some(chunk),
                Ok(Message::End) => self.ended = true,
                Err(_) => return Err(Stop::Elsewhere),
            }
        }
        Ok(self.chunk.as_ref().map_or(&[], |chunk| &chunk[self.position..]))
    }

    /// Returns the `length` bytes ahead if they are in one buffer that is there, without stepping over them.
    pub(crate) fn share(&self, length: u64) -> Option<SharedData> {
        if length == 0 {
            return Some(SharedData::new(None, 0..0));
        }
        let chunk = self.chunk.as_ref()?;
        let end = self.position.checked_add(usize::try_from(length).ok()?)?;
        (end <= chunk.len()).then(|| SharedData::new(Some(Arc::clone(chunk)), self.position..end))
    }

    /// Returns how many buffers wait behind the one that is being read.
    pub(crate) fn waiting(&self) -> usize {
        self.chunks.len()
    }

    /// Steps over `length` bytes of what [`Stream::peek`] returned.
    pub(crate) fn advance(&mut self, length: usize) {
        self.position += length;
        self.offset += length as u64;
    }

    /// Returns up to `limit` bytes that are together in a buffer and steps over them; nothing means the end.
    pub(crate) fn take(&mut self, limit: u64) -> Result<&[u8], Stop> {
        let available = self.peek()?.len();
        let length = usize::try_from(limit).map_or(available, |limit| limit.min(available));
        self.advance(length);
        Ok(self
            .chunk
            .as_ref()
            .map_or(&[], |chunk| &chunk[self.position - length..self.position]))
    }

    /// Fills `buffer`, or as much of it as the stream still has; returns how much.
    pub(crate) fn read_full(&mut self, buffer: &mut [u8]) -> Result<usize, Stop> {
        let mut length = 0;
        while length < buffer.len() {
            let part = self.take((buffer.len() - length) as u64)?;
            if part.is_empty() {
                break;
            }
            buffer[length..length + part.len()].copy_from_slice(part);
            length += part.len();
        }
        Ok(length)
    }

    /// Steps over `length` bytes, or to the end; returns how many there were.
    pub(crate) fn skip(&mut self, length: u64) -> Result<u64, Stop> {
        let mut left = length;
        while left > 0 {
            let part = self.take(left)?.len() as u64;
            if part == 0 {
                break;
            }
            left -= part;
        }
        Ok(length - left)
    }
}
