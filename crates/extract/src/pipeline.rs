//! The threads of one layer and what runs between them.
//!
//! ```text
//! this thread:  input → decompressor ─┬→ hash thread:   hash of the blob, hash of the raw bytes
//!                                     └→ files thread:  tar → entries → writer
//! ```
//!
//! Decompressing one stream is a single chain, so its thread does nothing else. The two others are started when the layer turns
//! out to be large enough for them; until then the buffers wait.
//!
//! The bytes go in shared buffers ([`crate::chunk`]), so both sides see them without a copy, and the number of buffers is
//! what bounds memory. An uncompressed layer needs one hash if blob and diff ID use the same algorithm.
//!
//! **Which error is reported.** A failure of the writing side closes its channel, which ends the reader early; a failure of
//! the reader closes the channels without an end message, which ends the others. Neither of these consequences is an error
//! of its own ([`Stop::Elsewhere`]), so that what remains is the first real cause. A panic in a thread goes on in the
//! caller.

use std::io::{self, Read};
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use unlade_oci::{Algorithm, Compression, Hasher};
use unlade_sys::{Track, Wait};

use crate::chunk::{CHUNK_BYTES, CHUNKS, Chunk, INPUT_BYTES, INPUT_CHUNKS, Message, Pool};
use crate::entry::EntrySink;
use crate::hashing::{Hashes, Hashing, ToHash};
use crate::inflate::{Inflater, Refusal, Step};
use crate::stages::{INFLATE, READ};
use crate::stream::Stream;
use crate::tar::TarReader;
use crate::{Content, Error, LayerReport, Limits, Note, Progress, Summary};

/// A layer of so many buffers is read, hashed and made by one thread, one after the other: starting threads takes longer than
/// what they could do meanwhile. The channels hold that much, and there is always one buffer more.
const ALONE_CHUNKS: usize = 2;

/// Why a thread ended before its work was done.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It failed.
    Failed(Error),
    /// Another thread went away, and has the cause.
    Elsewhere,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Reads one layer to the end of its stream, feeding its entries to `sink`.
///
/// The summary holds what the reading half noted.
pub(crate) fn run<R: Read>(
    input: R,
    sink: &mut (dyn EntrySink + Send),
    blob_algorithm: Algorithm,
    diff_algorithm: Algorithm,
    limits: &Limits,
    progress: &Progress,
) -> Result<LayerReport, Error> {
    let (to_tar, from_reader) = crossbeam_channel::bounded(CHUNKS + 1);
    let hashing = &Hashing::new(blob_algorithm, diff_algorithm);
    thread::scope(|scope| {
        let (hashes, making) = (progress.track("hash"), progress.track("files"));
        let hash = move || hashing.work(hashes);
        let archive = move || read_archive(from_reader, sink, limits, progress, making);
        let mut outputs = Outputs {
            to_hasher: hashing.input(),
            to_tar,
            sent: 0,
            sent_of_blob: 0,
            hashes: !progress.is_unverified(),
            hasher: Side::new(scope, "unlade-hash", hash),
            archive: Side::new(scope, "unlade-files", archive),
        };
        let one_algorithm = blob_algorithm == diff_algorithm;
        let read = Reader::new(input, one_algorithm, limits, progress).run(&mut outputs);
        let Outputs {
            to_hasher,
            to_tar,
            hasher,
            archive,
            ..
        } = outputs;
        // If the reader failed, closing these is what the others notice.
        drop((to_hasher, to_tar));
        let archive = archive.finish().and_then(|archive| archive);
        let (archive, read, Hashes { blob, raw }) = match (archive, read, hasher.finish()) {
            (Ok(archive), Ok(read), Ok(hashes)) => (archive, read, hashes),
            (Err(Stop::Failed(error)), ..) | (_, Err(Stop::Failed(error)), _) => return Err(error),
            // They cannot all have stopped because of another; if they did, it was for the switch that they look at.
            _ => return Err(Error::Cancelled),
        };
        let content = |hasher: Hasher| Content {
            size: hasher.length(),
            digest: hasher.finish(),
        };
        let raw = content(raw);
        let mut summary = archive.summary;
        if read.trailing {
            summary.note_layer(Note::BytesAfterCompressed);
        }
        Ok(LayerReport {
            blob: if read.is_blob_raw { raw.clone() } else { content(blob) },
            raw,
            compression: read.compression,
            entries: archive.entries,
            is_empty: archive.entries == 0,
            summary,
        })
    })
}

/// One of the two that use the raw bytes: on a thread of its own once it was started, else by whoever asks for the result.
enum Side<'scope, 'env, T, F> {
    Waiting {
        scope: &'scope thread::Scope<'scope, 'env>,
        name: &'static str,
        body: F,
    },
    Running(thread::ScopedJoinHandle<'scope, T>),
    /// Its thread could not be started.
    Failed,
}

impl<'scope, 'env, T: Send + 'scope, F: FnOnce() -> T + Send + 'scope> Side<'scope, 'env, T, F> {
    fn new(scope: &'scope thread::Scope<'scope, 'env>, name: &'static str, body: F) -> Self {
        Self::Waiting { scope, name, body }
    }

    fn start(&mut self) -> Result<(), Error> {
        *self = match std::mem::replace(self, Self::Failed) {
            Self::Waiting { scope, name, body } => Self::Running(spawn(scope, name, body)?),
            started => started,
        };
        Ok(())
    }

    /// Returns what it found.
    fn finish(self) -> Result<T, Stop> {
        match self {
            Self::Waiting { body, .. } => Ok(body()),
            Self::Running(thread) => Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic))),
            Self::Failed => Err(Stop::Elsewhere),
        }
    }
}

pub(crate) fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    name: &str,
    body: impl FnOnce() -> T + Send + 'scope,
) -> Result<thread::ScopedJoinHandle<'scope, T>, Error> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn_scoped(scope, body)
        .map_err(|source| Error::Thread { source })
}

/// What the archive side found out.
struct Archive {
    entries: u64,
    summary: Summary,
}

fn read_archive(
    chunks: Receiver<Message>,
    sink: &mut dyn EntrySink,
    limits: &Limits,
    progress: &Progress,
    track: Track,
) -> Result<Archive, Stop> {
    let mut reader = TarReader::new(Stream::new(chunks, track), limits, progress);
    reader.read(sink)?;
    sink.finish()?;
    let (entries, summary) = reader.drain()?;
    Ok(Archive { entries, summary })
}

/// Where the reader's buffers go.
trait Output {
    /// Sends compressed bytes to be hashed, from a position of the buffer on.
    fn blob(&mut self, chunk: Chunk, from: usize) -> Result<(), Stop>;

    /// Sends uncompressed bytes, and says whether they are to be hashed as the blob's, too.
    fn raw(&mut self, chunk: Arc<Chunk>, is_blob: bool) -> Result<(), Stop>;

    /// Says that the stream has ended as it should.
    fn end(&mut self) -> Result<(), Stop>;
}

/// Where both sides take their buffers from, and who takes them.
struct Outputs<'scope, 'env, H, A, F, G> {
    to_hasher: ToHash<'scope>,
    to_tar: Sender<Message>,
    sent: usize,
    sent_of_blob: usize,
    hashes: bool,
    hasher: Side<'scope, 'env, H, F>,
    archive: Side<'scope, 'env, A, G>,
}

impl<'scope, H, A, F, G> Outputs<'scope, '_, H, A, F, G>
where
    H: Send + 'scope,
    A: Send + 'scope,
    F: FnOnce() -> H + Send + 'scope,
    G: FnOnce() -> A + Send + 'scope,
{
    /// Starts those that read the channels, before these or the buffers are used up.
    fn start(&mut self) -> Result<(), Stop> {
        if self.hashes {
            self.hasher.start()?;
        }
        self.archive.start()?;
        Ok(())
    }
}

impl<'scope, H, A, F, G> Output for Outputs<'scope, '_, H, A, F, G>
where
    H: Send + 'scope,
    A: Send + 'scope,
    F: FnOnce() -> H + Send + 'scope,
    G: FnOnce() -> A + Send + 'scope,
{
    fn blob(&mut self, chunk: Chunk, from: usize) -> Result<(), Stop> {
        if !self.hashes {
            return Ok(());
        }
        self.sent_of_blob += 1;
        // The last buffer is the reader's already, so it gets another one only from the hasher.
        if self.sent_of_blob == INPUT_CHUNKS - 1 {
            self.start()?;
        }
        self.to_hasher.blob(chunk, from);
        Ok(())
    }

    fn raw(&mut self, chunk: Arc<Chunk>, is_blob: bool) -> Result<(), Stop> {
        self.sent += 1;
        if self.sent == ALONE_CHUNKS + 1 {
            self.start()?;
        }
        if self.hashes {
            self.to_hasher.raw(Arc::clone(&chunk), is_blob);
        }
        self.to_tar.send(Message::Data(chunk)).map_err(|_| Stop::Elsewhere)
    }

    fn end(&mut self) -> Result<(), Stop> {
        self.to_tar.send(Message::End).map_err(|_| Stop::Elsewhere)
    }
}

/// What the reading thread found out.
struct ReadOutcome {
    compression: Compression,
    /// Whether the blob's bytes are the raw ones, and were hashed as those alone.
    is_blob_raw: bool,
    trailing: bool,
}

struct Reader<'a, R> {
    input: R,
    inputs: Pool,
    /// What was read last: bytes up to `filled`, of which those in `pending` are not yet decompressed.
    buffer: Box<[u8]>,
    filled: usize,
    pending: Range<usize>,
    /// From where on the bytes in `buffer` are to be hashed.
    unhashed: usize,
    at_end: bool,
    /// Whether blob and diff ID have the same algorithm.
    one_algorithm: bool,
    compressed: u64,
    limits: &'a Limits,
    progress: &'a Progress,
    /// What this thread does.
    track: Track,
    /// For how long the reads of the input had waited when it was last looked.
    waited: Duration,
}

impl<'a, R: Read> Reader<'a, R> {
    fn new(input: R, one_algorithm: bool, limits: &'a Limits, progress: &'a Progress) -> Self {
        let mut inputs = Pool::of_input();
        let mut track = progress.track("extract");
        Self {
            input,
            buffer: inputs.take(&mut track, READ),
            inputs,
            filled: 0,
            pending: 0..0,
            unhashed: 0,
            at_end: false,
            one_algorithm,
            compressed: 0,
            limits,
            progress,
            track,
            waited: progress.input_waited(),
        }
    }

    fn run(mut self, outputs: &mut impl Output) -> Result<ReadOutcome, Stop> {
        while self.pending.len() < Compression::MAGIC_LEN && !self.at_end {
            self.fill(outputs)?;
        }
        let compression = Compression::of_magic(&self.buffer[self.pending.clone()]);
        let is_blob_raw = compression == Compression::None && self.one_algorithm;
        let trailing = if compression == Compression::None {
            self.pass(outputs)?;
            false
        } else {
            let trailing = self.inflate(compression, outputs)?;
            outputs.blob(self.inputs.fill(self.buffer, self.filled), self.unhashed)?;
            trailing
        };
        outputs.end()?;
        Ok(ReadOutcome {
            compression,
            is_blob_raw,
            trailing,
        })
    }

    /// Reads uncompressed input right into the shared buffers.
    fn pass(&mut self, outputs: &mut impl Output) -> Result<(), Stop> {
        let mut pool = Pool::new();
        loop {
            let mut chunk = pool.take(&mut self.track, READ);
            let mut length = self.pending.len();
            chunk[..length].copy_from_slice(&self.buffer[self.pending.clone()]);
            self.pending = 0..0;
            while length < CHUNK_BYTES && !self.at_end {
                self.track.busy(READ);
                let read = read_some(&mut self.input, &mut chunk[length..], self.compressed)?;
                self.note_read(read)?;
                length += read;
            }
            if length > 0 {
                self.note_raw(length)?;
                outputs.raw(pool.share(chunk, length), !self.one_algorithm)?;
            }
            if self.at_end {
                return Ok(());
            }
        }
    }

    /// Decompresses the input to its end. Says whether bytes follow the compressed data.
    fn inflate(&mut self, compression: Compression, outputs: &mut impl Output) -> Result<bool, Stop> {
        let malformed = |offset: u64, problem: String| Error::Compressed {
            compression,
            offset,
            problem,
        };
        let mut inflater =
            Inflater::new(compression, self.limits.zstd_window_log).map_err(|problem| malformed(0, problem))?;
        let mut pool = Pool::new();
        let mut chunk = pool.take(&mut self.track, INFLATE);
        let mut length = 0;
        loop {
            self.track.busy(INFLATE);
            let input = &self.buffer[self.pending.clone()];
            let step = inflater
                .step(input, &mut chunk[length..], self.at_end)
                .map_err(|refusal| match refusal {
                    Refusal::Window => Error::Limit {
                        limit: "zstd_window_log",
                        value: self.limits.zstd_window_log.into(),
                        path: None,
                    },
                    Refusal::Malformed(problem) => malformed(self.compressed - input.len() as u64, problem),
                })?;
            self.pending.start += step.read;
            length += step.written;
            if length == CHUNK_BYTES {
                self.note_raw(length)?;
                self.track.bytes(INFLATE, length as u64);
                outputs.raw(pool.share(chunk, length), false)?;
                chunk = pool.take(&mut self.track, INFLATE);
                length = 0;
                continue;
            }
            if step == Step::default() || self.pending.is_empty() {
                // The decompressor may still hold output back when the input is used up; it wrote none in this step or
                // left room in the buffer, so it has none.
                if self.at_end {
                    break;
                }
                if self.pending.len() == INPUT_BYTES {
                    return Err(malformed(self.compressed, "the decompressor makes no progress".to_owned()).into());
                }
                self.fill(outputs)?;
            }
        }
        if !inflater.may_end() {
            return Err(Error::CompressedTruncated {
                compression,
                offset: self.compressed,
            }
            .into());
        }
        if length > 0 {
            self.note_raw(length)?;
            self.track.bytes(INFLATE, length as u64);
            outputs.raw(pool.share(chunk, length), false)?;
        }
        Ok(inflater.has_trailing_bytes())
    }

    /// Reads more input behind what is pending. A buffer that is full goes to be hashed, and what is pending in it to the front of
    /// another one.
    fn fill(&mut self, outputs: &mut impl Output) -> Result<(), Stop> {
        if self.filled == INPUT_BYTES {
            let mut next = self.inputs.take(&mut self.track, READ);
            let held = self.pending.len();
            next[..held].copy_from_slice(&self.buffer[self.pending.clone()]);
            let full = std::mem::replace(&mut self.buffer, next);
            outputs.blob(self.inputs.fill(full, INPUT_BYTES), self.unhashed)?;
            (self.filled, self.pending, self.unhashed) = (held, 0..held, held);
        }
        self.track.busy(READ);
        let read = read_some(&mut self.input, &mut self.buffer[self.filled..], self.compressed)?;
        self.filled += read;
        self.pending.end = self.filled;
        self.note_read(read)
    }

    fn note_read(&mut self, read: usize) -> Result<(), Stop> {
        if self.track.is_on() {
            let waited = self.progress.input_waited();
            self.track.has_waited(Wait::Input, waited.saturating_sub(self.waited));
            self.waited = waited;
            self.track.bytes(READ, read as u64);
        }
        self.at_end = read == 0;
        self.compressed += read as u64;
        self.progress.set_compressed(self.compressed);
        Ok(self.progress.check()?)
    }

    fn note_raw(&mut self, length: usize) -> Result<(), Stop> {
        let (raw, total) = self.progress.add_raw(length as u64);
        let Limits {
            raw_bytes,
            total_raw_bytes,
            ratio,
            ..
        } = *self.limits;
        let exceeded = |limit, value: Option<u64>, holds: &dyn Fn(u64) -> bool| match value {
            Some(value) if !holds(value) => Err(Error::Limit {
                limit,
                value,
                path: None,
            }),
            _ => Ok(()),
        };
        exceeded("raw_bytes", raw_bytes, &|limit| raw <= limit)?;
        exceeded("total_raw_bytes", total_raw_bytes, &|limit| total <= limit)?;
        exceeded("ratio", ratio, &|limit| {
            raw <= Limits::RATIO_FREE_BYTES || raw / limit.max(1) <= self.compressed
        })?;
        Ok(self.progress.check()?)
    }
}

fn read_some(input: &mut impl Read, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::Input { offset, source }),
            Ok(read) => return Ok(read),
        }
    }
}
