//! What an extraction did other than the layer said: nothing is skipped, dropped or altered without a line here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::RawPath;

/// One kind of difference between what a layer says and what was made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Note {
    /// The owner was recorded in `user.containers.override_stat` instead of set (without root).
    OwnerRecorded,
    /// The owner could neither be set nor recorded: the file belongs to the caller, and only that.
    OwnerLost,
    /// A device node was made as an empty file (without root, or where the kernel refused it).
    DeviceAsFile,
    /// An extended attribute that describes the machine that packed the layer was dropped.
    XattrDropped,
    /// An overlayfs attribute was escaped, so that it cannot act.
    XattrEscaped,
    /// The filesystem has no extended attributes of that kind.
    XattrUnsupported,
    /// The kernel did not permit the extended attribute.
    XattrRefused,
    /// The extended attribute is larger than the filesystem holds.
    XattrTooLarge,
    /// A time was clamped to what the filesystem holds.
    TimeClamped,
    /// A name had `..` in it, which was resolved inside the root.
    NameWithParent,
    /// An absolute name lost its slash.
    NameAbsolute,
    /// An entry, or a directory that an entry needed, replaced an earlier one of the same name.
    Duplicate,
    /// A non-directory replaced a directory with all that was in it.
    TreeReplaced,
    /// An aufs bookkeeping entry (`.wh..wh.…`) was ignored.
    AufsIgnored,
    /// A whiteout was kept as an extended attribute, since the kernel refused the device 0:0.
    WhiteoutAsXattr,
    /// A directory was made opaque by a `user.` attribute, since the kernel refused the `trusted.` one.
    OpaqueAsUserXattr,
    /// A whiteout was left out: its path is brought by the layer itself, or nothing below can be seen there anyway.
    WhiteoutWithoutEffect,
    /// A hard link's target is not in this layer; nothing was made.
    HardLinkToLower,
    /// A hard link's target is in a lower layer and was copied from there, so that there is something to link.
    LowerFileCopied,
    /// Whether an entry can be made is known only with the layers below; nothing was made.
    DecidedByLower,
    /// A size was stated for an entry that has no data.
    SizeIgnored,
    /// The archive has no end marker.
    EndMarkerMissing,
    /// Bytes other than zeros follow the end marker of the archive. They are part of the diff ID.
    BytesAfterEnd,
    /// Bytes follow the compressed data, as padding or garbage. They are part of the blob's digest.
    BytesAfterCompressed,
}

/// How often something happened, and where first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How often.
    pub count: u64,
    /// The path of the first entry, if it happened at one.
    pub first: Option<RawPath>,
}

/// A hard link whose target this layer does not bring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LowerHardLink {
    /// The link.
    pub path: RawPath,
    /// What it names: a path in the layers below.
    pub target: RawPath,
}

/// What an extraction did other than the layer said, and what depends on the layers below.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Differences by kind.
    pub notes: BTreeMap<Note, Count>,
    /// Whether the layer declares the attributes of the root.
    pub root_declared: bool,
    /// Directories that entries needed and the layer does not declare, sorted, without the root.
    pub implied_parents: Vec<RawPath>,
    /// Directories that entries needed and that something else replaced later in the layer.
    pub replaced_parents: Vec<RawPath>,
    /// Hard links that need a layer below, in the archive's order.
    pub lower_hard_links: Vec<LowerHardLink>,
    /// Entries that would be refused, unless a directory that the layer merely implies is a link below.
    pub undecided: Vec<RawPath>,
    /// Directories that hold whiteouts, or that are there for an opaque marker alone, sorted.
    pub removal_directories: Vec<RawPath>,
    /// Whiteouts and opaque markers whose way leads through a symbolic link of this layer.
    pub removals_through_links: Vec<RawPath>,
}

impl Summary {
    /// Returns how often `note` happened.
    pub fn count(&self, note: Note) -> u64 {
        self.notes.get(&note).map_or(0, |count| count.count)
    }

    /// Says whether what was made may depend on the layers below, so that it has to be held against them.
    pub fn depends_on_lower(&self) -> bool {
        !self.root_declared
            || !self.implied_parents.is_empty()
            || !self.replaced_parents.is_empty()
            || !self.lower_hard_links.is_empty()
            || !self.undecided.is_empty()
            || !self.removal_directories.is_empty()
            || !self.removals_through_links.is_empty()
    }

    pub(crate) fn note(&mut self, note: Note, path: &[u8]) {
        let count = self.notes.entry(note).or_default();
        if count.count == 0 {
            count.first = Some(RawPath::new(path));
        }
        count.count += 1;
    }

    pub(crate) fn note_layer(&mut self, note: Note) {
        self.notes.entry(note).or_default().count += 1;
    }

    /// Takes in what another part of the pipeline noted.
    pub fn absorb(&mut self, other: Self) {
        for (note, count) in other.notes {
            let mine = self.notes.entry(note).or_default();
            mine.count += count.count;
            mine.first = mine.first.take().or(count.first);
        }
    }
}
