//! Incremental hashing, of one stream or of two at the same time.

use std::fmt;

use sha2::block_api::compress256;
use sha2::{Digest as _, Sha512};

use crate::{Algorithm, Digest};

/// Takes whole blocks of two messages into their states (FIPS 180-4, section 6.2), as many as the shorter has.
pub type CompressTwo = fn(states: [&mut [u32; 8]; 2], blocks: [&[[u8; Sha256::BLOCK]]; 2]);

/// An incremental hash that ends in a [`Digest`].
#[derive(Clone)]
pub struct Hasher {
    state: State,
    length: u64,
}

#[derive(Clone)]
enum State {
    Sha256(Box<Sha256>),
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// Starts a hash.
    pub fn new(algorithm: Algorithm) -> Self {
        let state = match algorithm {
            Algorithm::Sha256 => State::Sha256(Box::new(Sha256::new())),
            Algorithm::Sha512 => State::Sha512(Box::new(Sha512::new())),
        };
        Self { state, length: 0 }
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
        self.length += bytes.len() as u64;
    }

    /// Takes more bytes into two hashes. `compress` is what does so at the same time, as far as both are SHA-256 and both have
    /// bytes; what is left of one of them is taken in alone.
    pub fn update_two(hashers: [&mut Self; 2], bytes: [&[u8]; 2], compress: CompressTwo) {
        let [first, second] = hashers;
        let [mut of_first, mut of_second] = bytes;
        if let (State::Sha256(one), State::Sha256(other)) = (&mut first.state, &mut second.state) {
            of_first = one.fill_block(of_first);
            of_second = other.fill_block(of_second);
            if one.filled == 0 && other.filled == 0 {
                let (blocks, _) = of_first.as_chunks();
                let (other_blocks, _) = of_second.as_chunks();
                compress([&mut one.state, &mut other.state], [blocks, other_blocks]);
                let both = Sha256::BLOCK * blocks.len().min(other_blocks.len());
                (of_first, of_second) = (&of_first[both..], &of_second[both..]);
            }
        }
        first.length += (bytes[0].len() - of_first.len()) as u64;
        second.length += (bytes[1].len() - of_second.len()) as u64;
        first.update(of_first);
        second.update(of_second);
    }

    /// Returns how many bytes were taken in.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Ends the hash.
    pub fn finish(self) -> Digest {
        match self.state {
            State::Sha256(state) => Digest::of_hash(Algorithm::Sha256, &state.finish(self.length)),
            State::Sha512(state) => Digest::of_hash(Algorithm::Sha512, &state.finalize()),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// SHA-256 (FIPS 180-4) on the compression function of `sha2`, whose own incremental hash shows nobody its state.
#[derive(Clone)]
struct Sha256 {
    state: [u32; 8],
    /// What there is of a block that is not yet whole: `filled` bytes.
    block: [u8; Self::BLOCK],
    filled: usize,
}

impl Sha256 {
    /// Bytes of a block.
    const BLOCK: usize = 64;

    /// The state before the first block (section 5.3.3).
    const START: [u32; 8] = [
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ];

    const fn new() -> Self {
        Self {
            state: Self::START,
            block: [0; Self::BLOCK],
            filled: 0,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        let (blocks, rest) = self.fill_block(bytes).as_chunks();
        if !blocks.is_empty() {
            compress256(&mut self.state, blocks);
        }
        if !rest.is_empty() {
            self.block[..rest.len()].copy_from_slice(rest);
            self.filled = rest.len();
        }
    }

    /// Takes from `bytes` what the block that was begun still needs, and returns the others. None are left if it is not whole
    /// even so.
    fn fill_block<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.filled == 0 {
            return bytes;
        }
        let (taken, rest) = bytes.split_at(bytes.len().min(Self::BLOCK - self.filled));
        self.block[self.filled..][..taken.len()].copy_from_slice(taken);
        self.filled += taken.len();
        if self.filled == Self::BLOCK {
            compress256(&mut self.state, &[self.block]);
            self.filled = 0;
        }
        rest
    }

    /// Pads the message, which has `length` bytes (section 5.1.1), and returns its hash.
    fn finish(mut self, length: u64) -> [u8; 32] {
        const LENGTH: usize = size_of::<u64>();
        let zeros = (2 * Self::BLOCK - LENGTH - 1 - self.filled) % Self::BLOCK;
        let mut padding = [0; Self::BLOCK + LENGTH];
        padding[0] = 0x80;
        padding[1 + zeros..][..LENGTH].copy_from_slice(&(8 * length).to_be_bytes());
        self.update(&padding[..1 + zeros + LENGTH]);
        let mut hash = [0; 32];
        for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        hash
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes both in one after the other.
    fn in_turn(states: [&mut [u32; 8]; 2], blocks: [&[[u8; 64]]; 2]) {
        let both = blocks[0].len().min(blocks[1].len());
        for (state, blocks) in states.into_iter().zip(blocks) {
            compress256(state, &blocks[..both]);
        }
    }

    fn sha256(bytes: &[u8]) -> Digest {
        Digest::of_hash(Algorithm::Sha256, &sha2::Sha256::digest(bytes))
    }

    fn message(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + at / 256).to_le_bytes()[0]).collect()
    }

    #[test]
    fn every_length_up_to_a_few_blocks() {
        let message = message(260);
        for length in 0..message.len() {
            let (bytes, mut hasher) = (&message[..length], Hasher::new(Algorithm::Sha256));
            hasher.update(bytes);
            assert_eq!(hasher.length(), length as u64);
            assert_eq!(hasher.finish(), sha256(bytes), "{length} bytes");
        }
    }

    #[test]
    fn hashes_of_different_kinds_go_together() {
        let (bytes, others) = (message(1000), message(300));
        let mut hashers = [Hasher::new(Algorithm::Sha512), Hasher::new(Algorithm::Sha256)];
        let [first, second] = &mut hashers;
        Hasher::update_two([first, second], [&bytes, &others], in_turn);
        let [first, second] = hashers.map(Hasher::finish);
        assert_eq!(first, Digest::of(Algorithm::Sha512, &bytes));
        assert_eq!(second, sha256(&others));
    }

    proptest! {
        #[test]
        fn in_pieces_and_in_pairs(parts in prop::collection::vec((0..400_usize, 0..400_usize, any::<bool>()), 0..12)) {
            let whole = message(parts.len() * 400);
            let (mut first, mut second) = (Hasher::new(Algorithm::Sha256), Hasher::new(Algorithm::Sha256));
            let (mut of_first, mut of_second) = (&whole[..0], &whole[..0]);
            for (more, others, together) in parts {
                let (start, other_start) = (of_first.len(), of_second.len());
                of_first = &whole[..start + more];
                of_second = &whole[..other_start + others];
                let bytes = [&of_first[start..], &of_second[other_start..]];
                if together {
                    Hasher::update_two([&mut first, &mut second], bytes, in_turn);
                } else {
                    first.update(bytes[0]);
                    second.update(bytes[1]);
                }
            }
            prop_assert_eq!((first.length(), second.length()), (of_first.len() as u64, of_second.len() as u64));
            prop_assert_eq!(first.finish(), sha256(of_first));
            prop_assert_eq!(second.finish(), sha256(of_second));
        }
    }
}
