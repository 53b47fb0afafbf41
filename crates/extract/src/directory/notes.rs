//! What was noted of entries, by threads that do not take them in the order of the archive.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::{Note, RawPath, Summary};

/// How often each thing happened, and at which entry first.
///
/// Every note is one of the entry that is worked on. So it does not matter in which order notes are made and put together.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Number of the entry that is worked on.
    entry: u64,
    kinds: BTreeMap<Note, Noted>,
}

#[derive(Debug)]
struct Noted {
    count: u64,
    entry: u64,
    path: RawPath,
}

impl Notes {
    /// Returns the number of the entry that is worked on.
    pub(super) const fn entry(&self) -> u64 {
        self.entry
    }

    /// Goes on to the entry with this number.
    pub(super) const fn set_entry(&mut self, entry: u64) {
        self.entry = entry;
    }

    pub(super) fn note(&mut self, note: Note, path: &[u8]) {
        let entry = self.entry;
        match self.kinds.entry(note) {
            Entry::Occupied(mut noted) => noted.get_mut().add(1, entry, || RawPath::from(path)),
            Entry::Vacant(vacant) => {
                let path = RawPath::from(path);
                vacant.insert(Noted { count: 1, entry, path });
            }
        }
    }

    /// Takes in what another thread noted.
    pub(super) fn absorb(&mut self, other: Self) {
        for (note, theirs) in other.kinds {
            match self.kinds.entry(note) {
                Entry::Occupied(mut ours) => ours.get_mut().add(theirs.count, theirs.entry, || theirs.path),
                Entry::Vacant(vacant) => {
                    vacant.insert(theirs);
                }
            }
        }
    }

    /// Moves all notes to a summary, which has none of these kinds.
    pub(super) fn move_to(&mut self, summary: &mut Summary) {
        for (note, noted) in std::mem::take(&mut self.kinds) {
            let count = summary.notes.entry(note).or_default();
            count.count += noted.count;
            count.first.get_or_insert(noted.path);
        }
    }
}

impl Noted {
    fn add(&mut self, count: u64, entry: u64, path: impl FnOnce() -> RawPath) {
        self.count += count;
        if entry < self.entry {
            self.entry = entry;
            self.path = path();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(all: &[(u64, Note, &str)]) -> Notes {
        let mut notes = Notes::default();
        for (entry, note, path) in all {
            notes.set_entry(*entry);
            notes.note(*note, path.as_bytes());
        }
        notes
    }

    #[test]
    fn the_first_entry_is_the_first_whoever_noted_it() {
        let ours = [
            (2, Note::OwnerLost, "b"),
            (5, Note::OwnerLost, "e"),
            (6, Note::Duplicate, "f"),
        ];
        let theirs = [
            (1, Note::OwnerLost, "a"),
            (3, Note::OwnerLost, "c"),
            (4, Note::XattrDropped, "d"),
        ];
        let summary = |first: &[_], second: &[_]| {
            let (mut notes, mut summary) = (noted(first), Summary::default());
            notes.absorb(noted(second));
            notes.move_to(&mut summary);
            summary
        };
        let one = summary(&ours, &theirs);
        assert_eq!(one, summary(&theirs, &ours));
        let all = [&theirs[..1], &ours[..1], &theirs[1..], &ours[1..]].concat();
        assert_eq!(one, summary(&all, &[]));
        assert_eq!(one.notes[&Note::OwnerLost].first, Some(RawPath::from(&b"a"[..])));
        assert_eq!(one.count(Note::OwnerLost), 4);
    }
}
