//! SHA-256 of two messages at the same time, by the processor's instructions for it.
//!
//! The rounds of one message depend on each other, and each takes the processor longer than it would need to begin the next: it
//! waits for half of the time. With the rounds of two messages in turns it does not. Linux hashes the blocks of fs-verity and
//! dm-verity in pairs for the same reason.

/// Takes whole blocks of two messages into their states (FIPS 180-4, section 6.2), as many as the shorter has; the rest of the
/// longer is not looked at.
///
/// A state is the eight words between two blocks, the first of them `H0`.
pub type CompressTwo = fn(states: [&mut [u32; 8]; 2], blocks: [&[[u8; 64]]; 2]);

/// Returns what hashes two messages faster together than one after the other, if there is such a thing on this processor.
pub fn sha256_of_two() -> Option<CompressTwo> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3") {
        return Some(x86::compress_two);
    }
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_loadu_si128, _mm_set_epi32, _mm_set_epi64x,
        _mm_setzero_si128, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8,
        _mm_shuffle_epi32,
    };

    /// The constants of the rounds (FIPS 180-4, section 4.2.2): of the cube roots of the first 64 primes, the first 32 bits behind
    /// the point.
    const K: [u32; 64] = round_constants();

    /// Must not be called where [`sha256_of_two`](super::sha256_of_two) returns none.
    pub(super) fn compress_two(states: [&mut [u32; 8]; 2], blocks: [&[[u8; 64]]; 2]) {
        #![expect(
            unsafe_code,
            reason = "what needs instructions that not every processor has is called so"
        )]
        // SAFETY: only `sha256_of_two` gives this function away, and only on a processor that has all of them.
        unsafe { compress(states, blocks) }
    }

    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn compress(states: [&mut [u32; 8]; 2], blocks: [&[[u8; 64]]; 2]) {
        // The instructions have the state as A, B, E, F and C, D, G, H, with the first in the highest place.
        let (mut abef, mut cdgh) = ([_mm_setzero_si128(); 2], [_mm_setzero_si128(); 2]);
        for (lane, state) in states.iter().enumerate() {
            let word = |word: usize| state[word].cast_signed();
            abef[lane] = _mm_set_epi32(word(0), word(1), word(4), word(5));
            cdgh[lane] = _mm_set_epi32(word(2), word(3), word(6), word(7));
        }
        for (first, second) in blocks[0].iter().zip(blocks[1]) {
            let before = (abef, cdgh);
            let mut words = [load(first), load(second)];
            // Not as a loop, so that all of `words` is in registers.
            four_rounds::<0>(&mut abef, &mut cdgh, &mut words);
            four_rounds::<1>(&mut abef, &mut cdgh, &mut words);
            four_rounds::<2>(&mut abef, &mut cdgh, &mut words);
            four_rounds::<3>(&mut abef, &mut cdgh, &mut words);
            four_rounds::<4>(&mut abef, &mut cdgh, &mut words);
            four_rounds::<5>(&mut abef, &mut cdgh, &mut words);
            four_rounds::<6>(&mut abef, &mut cdgh, &mut words);
            four_rounds::<7>(&mut abef, &mut cdgh, &mut words);
            four_rounds::<8>(&mut abef, &mut cdgh, &mut words);
            four_rounds::<9>(&mut abef, &mut cdgh, &mut words);
            four_rounds::<10>(&mut abef, &mut cdgh, &mut words);
            four_rounds::<11>(&mut abef, &mut cdgh, &mut words);
            four_rounds::<12>(&mut abef, &mut cdgh, &mut words);
            four_rounds::<13>(&mut abef, &mut cdgh, &mut words);
            four_rounds::<14>(&mut abef, &mut cdgh, &mut words);
            four_rounds::<15>(&mut abef, &mut cdgh, &mut words);
            for lane in 0..2 {
                abef[lane] = _mm_add_epi32(abef[lane], before.0[lane]);
                cdgh[lane] = _mm_add_epi32(cdgh[lane], before.1[lane]);
            }
        }
        for (lane, state) in states.into_iter().enumerate() {
            let (abef, cdgh) = (abef[lane], cdgh[lane]);
            *state = [
                _mm_extract_epi32::<3>(abef),
                _mm_extract_epi32::<2>(abef),
                _mm_extract_epi32::<3>(cdgh),
                _mm_extract_epi32::<2>(cdgh),
                _mm_extract_epi32::<1>(abef),
                _mm_extract_epi32::<0>(abef),
                _mm_extract_epi32::<1>(cdgh),
                _mm_extract_epi32::<0>(cdgh),
            ]
            .map(i32::cast_unsigned);
        }
    }

    /// Does rounds `4 * STEP` to `4 * STEP + 3` of both messages. `words` are the last sixteen of the schedule of each, of which
    /// the oldest four make place for the four of these rounds.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn four_rounds<const STEP: usize>(abef: &mut [__m128i; 2], cdgh: &mut [__m128i; 2], words: &mut [[__m128i; 4]; 2]) {
        let constants = const { [K[4 * STEP], K[4 * STEP + 1], K[4 * STEP + 2], K[4 * STEP + 3]] };
        let [first, second, third, fourth] = constants.map(u32::cast_signed);
        let constants = _mm_set_epi32(fourth, third, second, first);
        for lane in 0..2 {
            let words = &mut words[lane];
            if STEP >= 4 {
                let before = |steps: usize| words[(STEP - steps) % 4];
                let sum = _mm_add_epi32(
                    _mm_sha256msg1_epu32(before(4), before(3)),
                    _mm_alignr_epi8::<4>(before(1), before(2)),
                );
                words[STEP % 4] = _mm_sha256msg2_epu32(sum, before(1));
            }
            let words = _mm_add_epi32(words[STEP % 4], constants);
            cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], words);
            let words = _mm_shuffle_epi32::<0b00_00_11_10>(words);
            abef[lane] = _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], words);
        }
    }

    /// Returns the sixteen words of a block.
    #[inline]
    #[target_feature(enable = "ssse3")]
    fn load(block: &[u8; 64]) -> [__m128i; 4] {
        #![expect(unsafe_code, reason = "the instruction takes an address")]
        let (quarters, _) = block.as_chunks::<16>();
        let mut words = [_mm_setzero_si128(); 4];
        for (words, quarter) in words.iter_mut().zip(quarters) {
            // SAFETY: it reads sixteen bytes, which `quarter` is, and asks for no alignment.
            let bytes = unsafe { _mm_loadu_si128(quarter.as_ptr().cast()) };
            // Words are big-endian.
            *words = _mm_shuffle_epi8(bytes, _mm_set_epi64x(0x0C0D_0E0F_0809_0A0B, 0x0405_0607_0001_0203));
        }
        words
    }

    const fn round_constants() -> [u32; 64] {
        let mut constants = [0; 64];
        let (mut found, mut candidate) = (0, 2_u128);
        while found < 64 {
            if is_prime(candidate) {
                // The cube root with 32 bits behind the point; what is in front of it falls off.
                constants[found] = (cube_root(candidate << 96) & 0xFFFF_FFFF) as u32;
                found += 1;
            }
            candidate += 1;
        }
        constants
    }

    const fn is_prime(candidate: u128) -> bool {
        let mut divisor = 2;
        while divisor * divisor <= candidate {
            if candidate.is_multiple_of(divisor) {
                return false;
            }
            divisor += 1;
        }
        true
    }

    /// Returns the largest number whose cube is not above `cube`.
    const fn cube_root(cube: u128) -> u128 {
        let (mut root, mut bit) = (0_u128, 1_u128 << 35);
        while bit > 0 {
            let larger = root | bit;
            if larger * larger * larger <= cube {
                root = larger;
            }
            bit >>= 1;
        }
        root
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_constants_are_those_of_the_standard() {
            assert_eq!(K[..4], [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5]);
            assert_eq!(K[60..], [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2]);
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::block_api::compress256;

    use super::*;

    #[test]
    fn two_messages_at_once_come_to_what_each_comes_to_alone() {
        let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let has_instructions = cfg!(target_arch = "x86_64") && flags.split_whitespace().any(|flag| flag == "sha_ni");
        let two = sha256_of_two();
        assert_eq!(two.is_some(), has_instructions);
        let Some(two) = two else { return };
        let blocks: Vec<[u8; 64]> = (0..40_usize)
            .map(|block| std::array::from_fn(|byte| (block * 41 + byte * 59 + block * byte).to_le_bytes()[0]))
            .collect();
        for (one, other) in [(0, 0), (0, 7), (1, 1), (5, 9), (20, 13), (20, 20)] {
            let blocks = [&blocks[..one], &blocks[20..20 + other]];
            let (mut states, mut expected) = ([[7; 8], [9; 8]], [[7; 8], [9; 8]]);
            let [first, second] = &mut states;
            two([first, second], blocks);
            for (state, blocks) in expected.iter_mut().zip(blocks) {
                compress256(state, &blocks[..one.min(other)]);
            }
            assert_eq!(states, expected, "{one} and {other} blocks");
        }
    }
}
