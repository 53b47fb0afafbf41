//! The hashes of all layers at work.
//!
//! A layer has two streams to be hashed, its blob and its raw bytes, and a thread that does so. Hashing two streams together takes
//! not much longer than one of them ([`sha256_of_two`]). So a thread takes a buffer of each, or one of its layer and one of another; and
//! if there is only one buffer, it waits for a second, as long as the layer has buffers enough to go on. Where nothing is gained by
//! that, each layer hashes its own as they come.
//!
//! **Invariant:** the buffers of a stream are hashed in their order. Who hashes one has its [`Hasher`] meanwhile, so nobody else can.
//!
//! **Invariant:** a layer that can fill no more buffers has one that its thread does not wait with ([`Side::most_waiting`]).

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};

use unlade_oci::{Algorithm, CompressTwo, Hasher};
use unlade_sys::{Track, Wait, sha256_of_two};

use crate::chunk::{ALWAYS, Chunk, INPUT_CHUNKS};
use crate::stages::HASH;

/// So many bytes of one stream are hashed before it is looked whether there is another by now to be hashed with it.
const ALONE_BYTES: usize = 64 * 1024;

/// The layers that may hash for each other.
#[derive(Debug)]
struct Layers {
    all: Mutex<Vec<Arc<Layer>>>,
    /// What hashes two streams together, if that is any faster than one after the other.
    two: Option<CompressTwo>,
}

static OF_PROCESS: LazyLock<Layers> = LazyLock::new(|| Layers::new(sha256_of_two()));

#[derive(Debug)]
struct Layer {
    streams: Mutex<Streams>,
    /// Told when more is to be hashed, when that is all, and when a stream is back.
    changed: Condvar,
}

#[derive(Debug)]
struct Streams {
    blob: Stream,
    raw: Stream,
    is_complete: bool,
}

#[derive(Debug)]
struct Stream {
    /// None while somebody hashes it.
    hasher: Option<Hasher>,
    waiting: VecDeque<Bytes>,
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Blob,
    Raw,
}

/// What is to be hashed of a buffer.
#[derive(Debug)]
struct Bytes {
    buffer: Buffer,
    /// How many of its bytes are not to be hashed any more.
    done: usize,
}

#[derive(Debug)]
enum Buffer {
    Own(Chunk),
    Shared(Arc<Chunk>),
}

/// What was hashed on both sides of the decompressor.
#[derive(Debug)]
pub(crate) struct Hashes {
    pub(crate) blob: Hasher,
    pub(crate) raw: Hasher,
}

/// The hashes of one layer. Others hash for it until this is dropped.
#[derive(Debug)]
pub(crate) struct Hashing {
    layer: Arc<Layer>,
    layers: &'static Layers,
}

/// Where the bytes of one layer go to be hashed. When it is dropped, that was all.
#[derive(Debug)]
pub(crate) struct ToHash<'a>(&'a Layer);

/// A stream that is taken out of its layer, with the first of its buffers. Goes back when it is dropped.
#[derive(Debug)]
struct Taken {
    layer: Arc<Layer>,
    side: Side,
    /// None once it is back.
    stream: Option<(Hasher, Bytes)>,
}

impl Hashing {
    /// Begins both hashes of a layer.
    pub(crate) fn new(blob: Algorithm, raw: Algorithm) -> Self {
        Self::within(&OF_PROCESS, blob, raw)
    }

    fn within(layers: &'static Layers, blob: Algorithm, raw: Algorithm) -> Self {
        let layer = Arc::new(Layer {
            streams: Mutex::new(Streams {
                blob: Stream::new(blob),
                raw: Stream::new(raw),
                is_complete: false,
            }),
            changed: Condvar::new(),
        });
        layers.lock().push(Arc::clone(&layer));
        Self { layer, layers }
    }

    /// Returns where the layer's bytes go; there is one.
    pub(crate) fn input(&self) -> ToHash<'_> {
        ToHash(&self.layer)
    }

    /// Hashes what comes until the [`input`](Self::input) is dropped, and returns both hashes.
    pub(crate) fn work(&self, mut track: Track) -> Hashes {
        loop {
            match self.next(&mut track) {
                Next::Both(mut one, mut other, two) => one.hash_with(&mut other, two),
                Next::One(mut one) => one.hash(),
                Next::Over(hashes) => {
                    track.bytes(HASH, hashes.blob.length() + hashes.raw.length());
                    return hashes;
                }
            }
        }
    }

    /// Waits until there is something to be hashed, or nothing will be.
    fn next(&self, track: &mut Track) -> Next {
        let mut streams = self.layer.lock();
        loop {
            if let Some(one) = streams.take(&self.layer) {
                track.busy(HASH);
                let Some(two) = self.layers.two else {
                    return Next::One(one);
                };
                let other = streams.take(&self.layer).or_else(|| self.layers.take_any());
                if let Some(other) = other {
                    return Next::Both(one, other, two);
                }
                if streams.presses(one.side) {
                    return Next::One(one);
                }
                one.put_back(&mut streams);
            }
            if let Some(hashes) = streams.finish() {
                return Next::Over(hashes);
            }
            track.wait(HASH, Wait::Input);
            streams = self.layer.changed.wait(streams).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What a thread does next.
enum Next {
    Both(Taken, Taken, CompressTwo),
    One(Taken),
    Over(Hashes),
}

impl Drop for Hashing {
    fn drop(&mut self) {
        self.layers.lock().retain(|layer| !Arc::ptr_eq(layer, &self.layer));
    }
}

impl Layers {
    const fn new(two: Option<CompressTwo>) -> Self {
        Self {
            all: Mutex::new(Vec::new()),
            two,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Layer>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a stream of any layer that nobody looks at just now.
    fn take_any(&self) -> Option<Taken> {
        let layers = self.lock();
        layers
            .iter()
            .find_map(|layer| layer.streams.try_lock().ok()?.take(layer))
    }
}

impl Layer {
    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Side {
    /// How many buffers of a stream may wait for another to be hashed with: fewer than a layer can always fill.
    const fn most_waiting(self) -> usize {
        match self {
            Self::Blob => 2,
            Self::Raw => 1,
        }
    }
}

// With one buffer that is being filled, the others are one more than may wait.
const _: () = assert!(Side::Raw.most_waiting() < ALWAYS - 1 && Side::Blob.most_waiting() < INPUT_CHUNKS - 1);

impl Streams {
    fn of(&mut self, side: Side) -> &mut Stream {
        match side {
            Side::Blob => &mut self.blob,
            Side::Raw => &mut self.raw,
        }
    }

    /// Takes a stream that has something to be hashed; this is those of `layer`.
    fn take(&mut self, layer: &Arc<Layer>) -> Option<Taken> {
        [Side::Raw, Side::Blob].into_iter().find_map(|side| {
            let stream = self.of(side);
            // Without its hasher somebody has taken it.
            stream.hasher.as_ref()?;
            let bytes = stream.waiting.pop_front()?;
            Some(Taken {
                layer: Arc::clone(layer),
                side,
                stream: stream.hasher.take().zip(Some(bytes)),
            })
        })
    }

    /// Takes a stream back.
    fn put_back(&mut self, side: Side, hasher: Hasher, bytes: Bytes) {
        let stream = self.of(side);
        stream.hasher = Some(hasher);
        if !bytes.is_empty() {
            stream.waiting.push_front(bytes);
        }
    }

    /// Says whether what was taken of this stream is to be hashed, even alone.
    fn presses(&mut self, side: Side) -> bool {
        self.is_complete || self.of(side).waiting.len() >= side.most_waiting()
    }

    /// Takes both hashes if nothing is left to be hashed and nothing comes.
    fn finish(&mut self) -> Option<Hashes> {
        let is_over = |stream: &Stream| stream.hasher.is_some() && stream.waiting.is_empty();
        if !self.is_complete || !is_over(&self.blob) || !is_over(&self.raw) {
            return None;
        }
        let both = self.blob.hasher.take().zip(self.raw.hasher.take());
        both.map(|(blob, raw)| Hashes { blob, raw })
    }
}

impl Stream {
    fn new(algorithm: Algorithm) -> Self {
        Self {
            hasher: Some(Hasher::new(algorithm)),
            waiting: VecDeque::new(),
        }
    }
}

impl ToHash<'_> {
    /// Hashes bytes of the blob, from this position of the buffer on.
    pub(crate) fn blob(&self, chunk: Chunk, from: usize) {
        let mut streams = self.0.lock();
        streams.blob.waiting.push_back(Bytes::of(Buffer::Own(chunk), from));
        // One alone is left to whoever has another to go with it.
        if streams.blob.waiting.len() > Side::Blob.most_waiting() || !streams.raw.waiting.is_empty() {
            self.0.changed.notify_one();
        }
    }

    /// Hashes uncompressed bytes, as those of the blob, too, if that is not compressed and has to be hashed by itself.
    pub(crate) fn raw(&self, chunk: Arc<Chunk>, is_blob: bool) {
        let mut streams = self.0.lock();
        if is_blob {
            let buffer = Buffer::Shared(Arc::clone(&chunk));
            streams.blob.waiting.push_back(Bytes::of(buffer, 0));
        }
        streams.raw.waiting.push_back(Bytes::of(Buffer::Shared(chunk), 0));
        self.0.changed.notify_one();
    }
}

impl Drop for ToHash<'_> {
    fn drop(&mut self) {
        self.0.lock().is_complete = true;
        self.0.changed.notify_one();
    }
}

impl Taken {
    /// Goes back to those that it was taken from.
    fn put_back(mut self, streams: &mut Streams) {
        if let Some((hasher, bytes)) = self.stream.take() {
            streams.put_back(self.side, hasher, bytes);
        }
    }

    /// Hashes some of its bytes.
    fn hash(&mut self) {
        if let Some((hasher, bytes)) = &mut self.stream {
            let length = bytes.len().min(ALONE_BYTES);
            hasher.update(&bytes[..length]);
            bytes.done += length;
        }
    }

    /// Hashes as many bytes of both as both have.
    fn hash_with(&mut self, other: &mut Self, two: CompressTwo) {
        if let (Some((hasher, bytes)), Some((other, others))) = (&mut self.stream, &mut other.stream) {
            let length = bytes.len().min(others.len());
            Hasher::update_two([hasher, other], [&bytes[..length], &others[..length]], two);
            bytes.done += length;
            others.done += length;
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some((hasher, bytes)) = self.stream.take() {
            self.layer.lock().put_back(self.side, hasher, bytes);
            self.layer.changed.notify_one();
        }
    }
}

impl Bytes {
    const fn of(buffer: Buffer, done: usize) -> Self {
        Self { buffer, done }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let buffer: &[u8] = match &self.buffer {
            Buffer::Own(chunk) => chunk,
            Buffer::Shared(chunk) => chunk,
        };
        &buffer[self.done..]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use proptest::prelude::*;
    use sha2::block_api::compress256;
    use unlade_oci::Digest;

    use super::*;
    use crate::chunk::Pool;
    use crate::stages::INFLATE;

    const SHA256: Algorithm = Algorithm::Sha256;

    fn in_turn(states: [&mut [u32; 8]; 2], blocks: [&[[u8; 64]]; 2]) {
        let both = blocks[0].len().min(blocks[1].len());
        for (state, blocks) in states.into_iter().zip(blocks) {
            compress256(state, &blocks[..both]);
        }
    }

    /// Blocks that were taken in together, for each test that counts them.
    static BLOCKS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

    fn counted<const TEST: usize>(states: [&mut [u32; 8]; 2], blocks: [&[[u8; 64]]; 2]) {
        BLOCKS[TEST].fetch_add(blocks[0].len().min(blocks[1].len()), Ordering::Relaxed);
        in_turn(states, blocks);
    }

    /// Returns a buffer of `length` times `byte`.
    fn filled(pool: &mut Pool, length: usize, byte: u8) -> Chunk {
        let mut buffer = pool.take(&mut Track::off(), INFLATE);
        buffer[..length].fill(byte);
        pool.fill(buffer, length)
    }

    /// Hashes a layer of such buffers, which come in turns.
    fn hash(layers: &'static Layers, algorithms: [Algorithm; 2], buffers: &[(usize, usize)]) -> Hashes {
        let hashing = Hashing::within(layers, algorithms[0], algorithms[1]);
        thread::scope(|scope| {
            let worker = scope.spawn(|| hashing.work(Track::off()));
            let (input, mut blobs, mut raws) = (hashing.input(), Pool::of_input(), Pool::new());
            for (at, (blob, raw)) in buffers.iter().enumerate() {
                input.blob(filled(&mut blobs, *blob, at.to_le_bytes()[0]), blob / 2);
                input.raw(Arc::new(filled(&mut raws, *raw, at.to_le_bytes()[0])), false);
            }
            drop(input);
            worker.join().unwrap()
        })
    }

    fn expected(algorithm: Algorithm, lengths: impl Iterator<Item = usize>) -> Digest {
        let mut hasher = Hasher::new(algorithm);
        lengths
            .enumerate()
            .for_each(|(at, length)| hasher.update(&vec![at.to_le_bytes()[0]; length]));
        hasher.finish()
    }

    fn check(layers: &'static Layers, algorithms: [Algorithm; 2], buffers: &[(usize, usize)]) {
        let Hashes { blob, raw } = hash(layers, algorithms, buffers);
        let blobs = buffers.iter().map(|(blob, _)| blob - blob / 2);
        assert_eq!(blob.finish(), expected(algorithms[0], blobs));
        let raws = buffers.iter().map(|(_, raw)| *raw);
        assert_eq!(raw.finish(), expected(algorithms[1], raws));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn layers_that_hash_for_each_other_have_their_own_hashes(
            all in prop::collection::vec((prop::collection::vec((0..3000_usize, 0..9000_usize), 0..30), any::<bool>()), 1..5),
            together: bool,
        ) {
            static TOGETHER: Layers = Layers::new(Some(in_turn));
            static ALONE: Layers = Layers::new(None);
            let layers = if together { &TOGETHER } else { &ALONE };
            thread::scope(|scope| {
                for (buffers, is_other) in &all {
                    let raw = if *is_other { Algorithm::Sha512 } else { SHA256 };
                    scope.spawn(move || check(layers, [SHA256, raw], buffers));
                }
            });
        }
    }

    #[test]
    fn both_streams_of_a_layer_go_together() {
        static LAYERS: Layers = Layers::new(Some(counted::<0>));
        check(&LAYERS, [SHA256; 2], &[(12_800, 6400); 40]);
        // A few may have been alone, when the layer had no other buffer to fill.
        assert!(BLOCKS[0].load(Ordering::Relaxed) > 40 * 50, "{BLOCKS:?}");
    }

    #[test]
    fn one_stream_of_each_of_two_layers_go_together() {
        static LAYERS: Layers = Layers::new(Some(counted::<1>));
        let mut pool = Pool::new();
        let [one, other] = [(); 2].map(|()| Hashing::within(&LAYERS, SHA256, SHA256));
        for hashing in [&one, &other] {
            // What waits in a layer can be found there by the thread of another, at work or not.
            hashing.input().raw(Arc::new(filled(&mut pool, 6400, 1)), false);
        }
        let Hashes { raw, .. } = one.work(Track::off());
        assert_eq!(raw.finish(), Digest::sha256([1; 6400]));
        assert_eq!(BLOCKS[1].load(Ordering::Relaxed), 100);
        // Nothing is left to do for its own.
        let Hashes { raw, .. } = other.work(Track::off());
        assert_eq!(raw.finish(), Digest::sha256([1; 6400]));
        assert_eq!(BLOCKS[1].load(Ordering::Relaxed), 100);
    }

    #[test]
    fn a_layer_that_has_all_its_buffers_filled_gets_one_back() {
        static LAYERS: Layers = Layers::new(Some(in_turn));
        for is_raw in [true, false] {
            let hashing = Hashing::within(&LAYERS, SHA256, SHA256);
            thread::scope(|scope| {
                let worker = scope.spawn(|| hashing.work(Track::off()));
                let (input, mut pool) = (hashing.input(), Pool::of_input());
                for _ in 0..100 {
                    // It waits for one when there are no more.
                    let chunk = filled(&mut pool, 100, 1);
                    if is_raw {
                        input.raw(Arc::new(chunk), false);
                    } else {
                        input.blob(chunk, 0);
                    }
                }
                drop(input);
                let Hashes { blob, raw } = worker.join().unwrap();
                assert_eq!(blob.length() + raw.length(), 10_000);
            });
        }
    }

    #[test]
    fn a_layer_that_is_given_up_is_nobodys_any_more() {
        static LAYERS: Layers = Layers::new(Some(in_turn));
        let mut pool = Pool::new();
        let [one, other] = [(); 2].map(|()| Hashing::within(&LAYERS, SHA256, SHA256));
        one.input().raw(Arc::new(filled(&mut pool, 10, 1)), false);
        other.input().raw(Arc::new(filled(&mut pool, 10, 2)), false);
        let taken = LAYERS.take_any().unwrap();
        drop(one);
        assert_eq!(LAYERS.lock().len(), 1);
        drop(taken);
        assert_eq!(other.work(Track::off()).raw.finish(), Digest::sha256([2; 10]));
        drop(other);
        assert!(LAYERS.lock().is_empty());
    }
}
