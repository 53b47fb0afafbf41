//! What is known of the directories made, kept to the end, when their attributes are set.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::attributes::Attributes;
use super::parents::Make;
use super::{DirectoryWriter, failed, split};
use crate::{Error, RawPath};

/// What a record costs beside its path and attributes, about.
const RECORD_BYTES: u64 = 128;

/// Attributes of directories, by path on disk; none for one that the layer does not declare.
///
/// In the order of paths a directory comes before what is in it, so the reverse is deepest first.
#[derive(Debug, Default)]
pub(super) struct Directories {
    records: BTreeMap<Vec<u8>, Option<Box<Attributes>>>,
    bytes: u64,
}

impl Directories {
    /// Sets the attributes of `path`, in place of any that were there.
    pub(super) fn declare(&mut self, path: &[u8], attributes: Attributes) {
        self.insert(path, Some(Box::new(attributes)));
    }

    /// Notes that `path` was made without an entry of its own.
    pub(super) fn imply(&mut self, path: &[u8]) {
        self.insert(path, None);
    }

    pub(super) fn is_declared(&self, path: &[u8]) -> bool {
        matches!(self.records.get(path), Some(Some(_)))
    }

    /// Returns about how much memory the records take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Forgets `path` and all that is below it.
    pub(super) fn remove(&mut self, path: &[u8]) {
        if let Some(old) = self.records.remove(path) {
            self.bytes -= cost(path, old.as_deref());
        }
        let first = [path, b"/"].concat();
        while let Some(below) = self
            .records
            .range::<[u8], _>((Bound::Included(&first[..]), Bound::Unbounded))
            .next()
            && below.0.starts_with(&first)
        {
            let below = below.0.clone();
            if let Some(old) = self.records.remove(&below) {
                self.bytes -= cost(&below, old.as_deref());
            }
        }
    }

    fn insert(&mut self, path: &[u8], attributes: Option<Box<Attributes>>) {
        self.bytes += cost(path, attributes.as_deref());
        if let Some(old) = self.records.insert(path.to_vec(), attributes) {
            self.bytes -= cost(path, old.as_deref());
        }
    }
}

fn cost(path: &[u8], attributes: Option<&Attributes>) -> u64 {
    RECORD_BYTES + path.len() as u64 + attributes.map_or(0, Attributes::bytes)
}

impl DirectoryWriter<'_> {
    /// Sets the attributes of all directories, deepest first, so that no mode or time of a parent is in the way or changed
    /// by what happens to its children.
    pub(super) fn apply_directories(&mut self) -> Result<(), Error> {
        let records = std::mem::take(&mut self.directories.records);
        let implied = Attributes::implied(self.first_time.unwrap_or_default());
        let mut root = None;
        for (path, attributes) in records.into_iter().rev() {
            if path.is_empty() {
                root = attributes;
                continue;
            }
            let (parent_path, name) = split(&path);
            // Always there: whatever removes a directory also removes its record.
            let Some(parent) = self.parent(parent_path, Make::Nothing)? else {
                continue;
            };
            let dir = parent.dir.open_dir(name).map_err(failed(&path))?;
            self.finish_directory(&dir, &path, attributes.as_deref().unwrap_or(&implied))?;
            if attributes.is_none() {
                self.summary.implied_parents.push(RawPath::new(path));
            }
        }
        self.summary.implied_parents.reverse();
        let dir = std::rc::Rc::clone(&self.root);
        self.finish_directory(&dir, b"", root.as_deref().unwrap_or(&implied))
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
            directories.declare(path.as_bytes(), Attributes::implied(Time::default()));
        }
        directories.imply(b"a/b");
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
