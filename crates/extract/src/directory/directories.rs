//! What is known of the directories made, kept to the end, when their attributes are set.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::attributes::Attributes;
use super::below::below_of;
use super::parents::Make;
use super::{DirectoryWriter, split};
use crate::{Error, RawPath};

/// What a record costs beside its path and attributes, about.
const RECORD_BYTES: u64 = 128;

/// Where a directory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// An entry describes it.
    Declared,
    /// An entry needed it.
    Implied,
    /// A layer below has it.
    Copied,
}

#[derive(Debug)]
struct Record {
    origin: Origin,
    /// None for an implied directory that gets what those of its layer get.
    attributes: Option<Box<Attributes>>,
    /// The mode that it was made with, if that is known.
    made: Option<u32>,
}

/// Attributes of directories, by path on disk.
///
/// In the order of paths a directory comes before what is in it, so the reverse is deepest first.
#[derive(Debug, Default)]
pub(super) struct Directories {
    records: BTreeMap<Vec<u8>, Record>,
    /// How many are implied.
    implied: usize,
    bytes: u64,
}

impl Directories {
    /// Sets the attributes of `path`, in place of any that were there.
    ///
    /// `made` is the mode that it has just been made with, if it was and if that is known.
    pub(super) fn declare(&mut self, path: &[u8], attributes: Attributes, made: Option<u32>) {
        self.insert(path, Origin::Declared, Some(attributes), made);
    }

    /// Notes that `path` was made without an entry of its own; without attributes it gets what all such get.
    pub(super) fn imply(&mut self, path: &[u8], attributes: Option<Attributes>, made: Option<u32>) {
        self.insert(path, Origin::Implied, attributes, made);
    }

    /// Notes that `path` is as a layer below has it.
    pub(super) fn copy(&mut self, path: &[u8], attributes: Attributes, made: Option<u32>) {
        self.insert(path, Origin::Copied, Some(attributes), made);
    }

    pub(super) fn is_implied(&self, path: &[u8]) -> bool {
        matches!(
            self.records.get(path),
            Some(Record {
                origin: Origin::Implied,
                ..
            })
        )
    }

    /// Says whether a directory was made that no entry describes.
    pub(super) fn has_implied(&self) -> bool {
        self.implied > 0
    }

    pub(super) fn is_known(&self, path: &[u8]) -> bool {
        self.records.contains_key(path)
    }

    pub(super) fn is_declared(&self, path: &[u8]) -> bool {
        matches!(
            self.records.get(path),
            Some(Record {
                origin: Origin::Declared,
                ..
            })
        )
    }

    /// Returns those of `path` and what is below it that no entry describes.
    pub(super) fn implied_in(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let own = self.records.get_key_value(path);
        own.into_iter()
            .chain(below_of(&self.records, path))
            .filter(|(_, record)| record.origin == Origin::Implied)
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// Returns about how much memory the records take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Forgets `path` and all that is below it.
    pub(super) fn remove(&mut self, path: &[u8]) {
        let below: Vec<_> = below_of(&self.records, path).map(|(path, _)| path.clone()).collect();
        for path in std::iter::once(path.to_vec()).chain(below) {
            if let Some(old) = self.records.remove(&path) {
                self.forget(&path, &old);
            }
        }
    }

    fn insert(&mut self, path: &[u8], origin: Origin, attributes: Option<Attributes>, made: Option<u32>) {
        let attributes = attributes.map(Box::new);
        let record = Record {
            origin,
            attributes,
            made,
        };
        self.bytes += cost(path, &record);
        self.implied += usize::from(origin == Origin::Implied);
        match self.records.entry(path.to_vec()) {
            Entry::Vacant(vacant) => {
                vacant.insert(record);
            }
            Entry::Occupied(mut occupied) => {
                // What is described again was not made again.
                let made = made.or(occupied.get().made);
                let old = occupied.insert(Record { made, ..record });
                self.forget(path, &old);
            }
        }
    }

    fn forget(&mut self, path: &[u8], old: &Record) {
        self.bytes -= cost(path, old);
        self.implied -= usize::from(old.origin == Origin::Implied);
    }
}

fn cost(path: &[u8], record: &Record) -> u64 {
    let attributes = record.attributes.as_deref().map_or(0, Attributes::bytes);
    RECORD_BYTES + path.len() as u64 + attributes
}

impl DirectoryWriter<'_> {
    /// Sets the attributes of all directories, deepest first, so that no mode or time of a parent is in the way or changed
    /// by what happens to its children.
    pub(super) fn apply_directories(&mut self) -> Result<(), Error> {
        let records = std::mem::take(&mut self.directories.records);
        let implied = Attributes::implied(self.first_time.unwrap_or_default());
        let mut root = None;
        for (path, record) in records.into_iter().rev() {
            let Record {
                origin,
                attributes,
                made,
            } = record;
            if path.is_empty() {
                root = attributes;
                continue;
            }
            let (parent_path, name) = split(&path);
            // Always there: whatever removes a directory also removes its record.
            let Some(parent) = self.parent(parent_path, Make::Nothing)? else {
                continue;
            };
            let attributes = attributes.as_deref().unwrap_or(&implied);
            self.finisher
                .finish_child(&mut self.notes, &parent, name, &path, made, attributes)?;
            if origin == Origin::Implied {
                self.summary.implied_parents.push(RawPath::new(path));
            }
        }
        self.summary.implied_parents.reverse();
        let dir = std::sync::Arc::clone(&self.root);
        self.finisher
            .finish_directory(&mut self.notes, &dir, b"", root.as_deref().unwrap_or(&implied))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Time;

    #[test]
    fn removing_takes_the_tree_and_its_cost() {
        let mut directories = Directories::default();
        for path in ["a", "a/b", "a/b/c", "a-b", "a0", "b"] {
            directories.declare(path.as_bytes(), Attributes::implied(Time::default()), None);
        }
        directories.imply(b"a/b", None, None);
        assert!(!directories.is_declared(b"a/b"));
        directories.remove(b"a");
        let left: Vec<_> = directories
            .records
            .keys()
            .map(|path| String::from_utf8_lossy(path).into_owned())
            .collect();
        assert_eq!(left, ["a-b", "a0", "b"]);
        for path in ["a-b", "a0", "b"] {
            directories.remove(path.as_bytes());
        }
        assert_eq!(directories.bytes(), 0);
    }
}
