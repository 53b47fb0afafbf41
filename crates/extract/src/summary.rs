//! What an extraction did other than the layer said: nothing is skipped, dropped or altered without a line here.

use std::collections::BTreeMap;
use std::fmt;

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
    /// The file belongs to the caller, as was asked for, and not to whom the layer says.
    OwnerSquashed,
    /// A device node was made as an empty file (where owners are recorded, or where the kernel refused it).
    DeviceAsFile,
    /// A FIFO was made as an empty file, where owners are recorded.
    FifoAsFile,
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
    /// A directory was made opaque by a file `.wh..wh..opq`, since the filesystem has no such attributes. Overlayfs does not
    /// read that.
    OpaqueAsFile,
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

impl fmt::Display for Note {
    /// Writes what happened to each of the things that are counted, as a person reads it after a number and a colon.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnerRecorded => "owner recorded instead of set",
            Self::OwnerLost => "owner neither set nor recorded",
            Self::OwnerSquashed => "owner left out as asked for",
            Self::DeviceAsFile => "device node made as an empty file",
            Self::FifoAsFile => "FIFO made as an empty file",
            Self::XattrDropped => "attribute dropped that describes another machine",
            Self::XattrEscaped => "overlayfs attribute escaped",
            Self::XattrUnsupported => "attribute left out that the filesystem does not have",
            Self::XattrRefused => "attribute left out that the kernel does not permit",
            Self::XattrTooLarge => "attribute left out that is too large for the filesystem",
            Self::TimeClamped => "time clamped to what the filesystem holds",
            Self::NameWithParent => "name with `..`, resolved inside the root",
            Self::NameAbsolute => "absolute name without its slash",
            Self::Duplicate => "entry replaced an earlier one",
            Self::TreeReplaced => "directory replaced with all that was in it",
            Self::AufsIgnored => "entry of aufs ignored",
            Self::WhiteoutAsXattr => "whiteout kept as an attribute",
            Self::OpaqueAsUserXattr => "directory made opaque by a user attribute",
            Self::OpaqueAsFile => "directory made opaque by a file, which overlayfs does not read",
            Self::WhiteoutWithoutEffect => "whiteout without effect left out",
            Self::HardLinkToLower => "hard link left out whose target is in a lower layer",
            Self::LowerFileCopied => "file of a lower layer copied as the target of a hard link",
            Self::DecidedByLower => "entry left out that depends on the layers below",
            Self::SizeIgnored => "size ignored of an entry without data",
            Self::EndMarkerMissing => "archive without an end marker",
            Self::BytesAfterEnd => "bytes after the end of the archive",
            Self::BytesAfterCompressed => "bytes after the compressed data",
        })
    }
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

/// What an extraction did: how much, what other than the layer said, and what depends on the layers below.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// How many entries the layer has, extension records not counted.
    pub entries: u64,
    /// How many bytes its files hold, those of holes included.
    pub bytes: u64,
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
        self.entries += other.entries;
        self.bytes = self.bytes.saturating_add(other.bytes);
        for (note, count) in other.notes {
            let mine = self.notes.entry(note).or_default();
            mine.count += count.count;
            mine.first = mine.first.take().or(count.first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_read_again_byte_for_byte() {
        let mut summary = Summary {
            entries: 3,
            bytes: 7,
            ..Summary::default()
        };
        summary.note(Note::OwnerRecorded, b"latin\xe9/new\nline\\");
        summary.note(Note::OwnerRecorded, b"second");
        summary.note_layer(Note::EndMarkerMissing);
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(
            json["notes"],
            serde_json::json!({
                "owner-recorded": {"count": 2, "first": r"latin\xe9/new\x0aline\\"},
                "end-marker-missing": {"count": 1, "first": null},
            })
        );
        assert_eq!(serde_json::from_value::<Summary>(json).unwrap(), summary);
        // What an older version has recorded.
        let old: Summary = serde_json::from_str(r#"{"implied_parents": ["lib"]}"#).unwrap();
        assert_eq!((old.entries, old.implied_parents.len()), (0, 1));
    }

    #[test]
    fn the_halves_add_up() {
        let mut writer = Summary::default();
        writer.note(Note::Duplicate, b"a");
        let mut reader = Summary {
            entries: 2,
            bytes: 5,
            ..Summary::default()
        };
        reader.note(Note::Duplicate, b"b");
        reader.note(Note::NameAbsolute, b"/c");
        writer.absorb(reader);
        assert_eq!((writer.entries, writer.bytes), (2, 5));
        assert_eq!(
            (writer.count(Note::Duplicate), writer.count(Note::NameAbsolute)),
            (2, 1)
        );
        assert_eq!(writer.notes[&Note::Duplicate].first, Some(RawPath::from(&b"a"[..])));
    }
}
