//! Which names a writer has to do with: those it ever had, and those that another thread is about to make.
//!
//! Both go by a hash of the path on disk, so a wrong answer is always that a name is known, which costs time and nothing else.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher as _};

/// Bits of the set of all names: 256 KiB, which stay in the cache. With 100,000 names one new name in 110 is taken for a known
/// one, with a million one in 3.
const BITS: usize = 1 << 21;

/// So many names are kept one by one: small layers, which are most of an image that has many, fill no such set.
const FEW: usize = 1000;

/// A path on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NameHash(u64);

impl NameHash {
    /// Returns that of `name` in the directory `parent`.
    pub(super) fn of_child(parent: &[u8], name: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        if !parent.is_empty() {
            for component in parent.split(|byte| *byte == b'/') {
                step(&mut hasher, component);
            }
        }
        step(&mut hasher, name)
    }

    /// Returns those of each directory on the way to `path`, and of `path` itself.
    pub(super) fn of_all(path: &[u8]) -> impl Iterator<Item = Self> {
        let mut hasher = DefaultHasher::new();
        path.split(|byte| *byte == b'/')
            .map(move |component| step(&mut hasher, component))
    }
}

fn step(hasher: &mut DefaultHasher, component: &[u8]) -> NameHash {
    hasher.write(component);
    hasher.write_u8(b'/');
    NameHash(hasher.finish())
}

/// All names that a writer ever had to do with: what it made, and what it went through on the way to a parent.
///
/// Memory is bounded whatever the number of names; the more there are, the more new ones are taken for known.
#[derive(Debug, Default)]
pub(super) struct Names {
    few: HashSet<NameHash>,
    /// A Bloom filter with two bits for each name; empty while there are few.
    bits: Box<[u64]>,
}

impl Names {
    /// Adds a name. Says whether it certainly was not there.
    pub(super) fn insert(&mut self, name: NameHash) -> bool {
        if self.bits.is_empty() {
            if self.few.len() < FEW {
                return self.few.insert(name);
            }
            self.bits = vec![0; BITS / 64].into_boxed_slice();
            for name in std::mem::take(&mut self.few) {
                self.set(name);
            }
        }
        self.set(name)
    }

    /// Sets the bits of a name. Says whether one of them was not.
    fn set(&mut self, name: NameHash) -> bool {
        let NameHash(hash) = name;
        let mut is_new = false;
        for part in [hash, hash >> 32] {
            #[expect(clippy::cast_possible_truncation, reason = "it is below `BITS`")]
            let bit = (part % BITS as u64) as usize;
            let (word, mask) = (&mut self.bits[bit / 64], 1 << (bit % 64));
            is_new |= *word & mask == 0;
            *word |= mask;
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_hash_however_it_is_put_together() {
        for (path, parent, name) in [("a", "", "a"), ("a/b", "a", "b"), ("a/b/c", "a/b", "c")] {
            let all: Vec<_> = NameHash::of_all(path.as_bytes()).collect();
            let child = NameHash::of_child(parent.as_bytes(), name.as_bytes());
            assert_eq!(all.last(), Some(&child), "{path}");
            assert_eq!(all.len(), path.split('/').count());
            assert_eq!(all[0], NameHash::of_child(b"", b"a"));
        }
        assert_ne!(NameHash::of_child(b"a", b"bc"), NameHash::of_child(b"ab", b"c"));
    }

    #[test]
    fn a_known_name_is_never_new_and_a_new_one_seldom_known() {
        let mut names = Names::default();
        let name = |number: u32| NameHash::of_child(b"d", number.to_string().as_bytes());
        let new = (0..50_000).filter(|number| names.insert(name(*number))).count();
        assert!(new > 49_900, "{new}");
        assert!((0..50_000).all(|number| !names.insert(name(number))));
    }
}
