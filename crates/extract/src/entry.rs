//! The seam between the half that reads a layer and the halves that write it somewhere.
//!
//! The reading half turns any dialect of tar into a sequence of [`Entry`] values: names cleaned and checked, numbers in
//! range, extension records applied, whiteouts recognised, sparse files as extents. It knows nothing of where the entries
//! go. A writer implements [`EntrySink`]; the one of today makes a directory.
//!
//! **Invariant:** an [`Entry::path`] has no leading or trailing slash, no empty, `.` or `..` component and no NUL; its
//! components have at most 255 bytes. The empty path is the root.

use std::fs::File;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::Error;
use crate::chunk::Chunk;

/// One entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where the entry goes, relative to the root.
    pub path: &'a [u8],
    /// What it is.
    pub kind: Kind<'a>,
    /// Permission, set-id and sticky bits, at most `0o7777`.
    pub mode: u32,
    /// Owner; never `u32::MAX`.
    pub uid: u32,
    /// Group; never `u32::MAX`.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Time,
    /// Extended attributes as the archive gives them, each name once; a writer decides which it honours.
    pub xattrs: &'a [Xattr],
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A directory.
    Directory,
    /// A regular file of `size` bytes, holes included; its data comes through [`Content`].
    File {
        /// Length of the file.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// The target, byte for byte.
        target: &'a [u8],
    },
    /// Another name of a file.
    HardLink {
        /// The path of that file, cleaned as [`Entry::path`] is.
        target: &'a [u8],
    },
    /// A character device; the numbers are in Linux' range.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device; the numbers are in Linux' range.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// Hides what the layers below have at [`Entry::path`], which is the path without the `.wh.` prefix.
    Whiteout,
    /// Hides what the layers below have in the directory [`Entry::path`].
    Opaque,
}

/// A point in time: seconds since 1970 and the nanoseconds after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, at most 999,999,999.
    pub nanoseconds: u32,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xattr {
    /// The name with its namespace, without NUL.
    pub name: Box<[u8]>,
    /// The value, which may be empty.
    pub value: Box<[u8]>,
}

/// A run of data of a regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent<'a> {
    /// Where in the file the data goes. Extents come in order; what lies between two of them is a hole.
    pub offset: u64,
    /// The data, never empty: a slice of the buffer that the decompressor filled.
    pub data: &'a [u8],
}

/// The data of one regular file, pulled by the writer as it goes.
pub trait Content {
    /// Returns the next run of data, or nothing at the end.
    ///
    /// A hole at the end of the file has no extent: the file is as long as [`Kind::File`] says.
    fn next(&mut self) -> Result<Option<Extent<'_>>, Error>;

    /// Returns the file that the data is in, if it is in one: a writer may then share it instead of copying it.
    fn file(&self) -> Option<&File> {
        None
    }

    /// Returns the data that follows, if all of it is in memory, without holes, so that another thread can have it. It is not
    /// pulled by this.
    fn shared(&self) -> Option<SharedData> {
        None
    }

    /// Says whether much of the layer waits to be made already, so that making is what holds it up.
    fn is_awaited(&self) -> bool {
        false
    }
}

/// Data of a file that threads can share: it holds on to the decompressor's buffer, of which there are few.
#[derive(Clone, Debug)]
pub struct SharedData {
    chunk: Option<Arc<Chunk>>,
    range: Range<usize>,
}

impl SharedData {
    /// Takes `range` of `chunk`; without one it has to be empty.
    pub(crate) const fn new(chunk: Option<Arc<Chunk>>, range: Range<usize>) -> Self {
        Self { chunk, range }
    }

    /// Says whether both hold on to one buffer at most.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        match (&self.chunk, &other.chunk) {
            (Some(this), Some(other)) => Arc::ptr_eq(this, other),
            _ => true,
        }
    }
}

impl Deref for SharedData {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.chunk.as_ref().map_or(&[], |chunk| &chunk[self.range.clone()])
    }
}

/// A writer of a layer's entries.
///
/// The reader pushes entries, since a layer is a stream and there is one at a time; the writer pulls the data of an entry
/// out of [`Content`], since it knows how it wants to write. Data that is not pulled is skipped.
pub trait EntrySink {
    /// Takes one entry. An error ends the extraction.
    fn entry(&mut self, entry: &Entry<'_>, content: &mut dyn Content) -> Result<(), Error>;

    /// Called once after the last entry. The stream may go on after the archive's end marker.
    fn finish(&mut self) -> Result<(), Error>;
}

/// A sink that takes everything and keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSink;

impl EntrySink for NullSink {
    fn entry(&mut self, _: &Entry<'_>, _: &mut dyn Content) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
