//! How a layer is extracted: the form of whiteouts, what the process may do, and where it stops.

use crate::Helpers;

/// How a layer is extracted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The form in which removals are kept.
    pub whiteouts: Whiteouts,
    /// Whom the files belong to.
    pub ownership: Ownership,
    /// What the process may do to files.
    pub privilege: Privilege,
    /// Where extraction gives up.
    pub limits: Limits,
    /// Whether the threads that extract can write below the target alone, as far as the kernel offers that (Landlock).
    ///
    /// A reader that makes or changes files of its own as it is read cannot be used with it.
    pub confine: bool,
    /// How many threads may help to make files, beside those that each layer has.
    pub helpers: Helpers,
}

impl Default for Options {
    /// Overlay whiteouts, the privilege of the process and the ownership that goes with it, the default limits, confined, the
    /// helpers of the process.
    fn default() -> Self {
        Self {
            whiteouts: Whiteouts::Overlay,
            ownership: Privilege::of_process().ownership(),
            privilege: Privilege::of_process(),
            limits: Limits::default(),
            confine: true,
            helpers: Helpers::of_process(),
        }
    }
}

/// The form in which a layer's removals are kept in its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteouts {
    /// As overlayfs reads them: a character device 0:0, and an `overlay.opaque` attribute on directories.
    Overlay,
    /// As the layer spells them: files named `.wh.NAME` and `.wh..wh..opq`.
    Oci,
}

/// Whom files belong to, and where it is kept what the layer says of it. Modes are the layer's in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ownership {
    /// To whom the layer says. What a user who is not root may not give away is an error.
    Preserve,
    /// To the caller. The owner and mode that the layer says are in `user.containers.override_stat` of every file and
    /// directory; devices and FIFOs are empty files that say there what they are meant to be.
    Record,
    /// To the caller, and what the layer says is forgotten. Devices that cannot be made are empty files.
    Squash,
    /// To whom the layer says, as seen in the user namespace that the process is in. What has no place there is counted.
    Userns,
}

impl Ownership {
    /// Says whether owners are set.
    pub(crate) const fn sets_owners(self) -> bool {
        matches!(self, Self::Preserve | Self::Userns)
    }
}

/// What the process may do to the files it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Anything, as root can.
    Root,
    /// Only what their owner can.
    User,
}

impl Privilege {
    /// Returns what the effective user of this process may do.
    pub fn of_process() -> Self {
        if unlade_sys::is_root() { Self::Root } else { Self::User }
    }

    /// Returns the ownership that is the default with it: root preserves, anybody else records.
    pub const fn ownership(self) -> Ownership {
        match self {
            Self::Root => Ownership::Preserve,
            Self::User => Ownership::Record,
        }
    }
}

/// Where extraction gives up. An error names the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Uncompressed bytes of the layer; none means that the disk is the limit.
    pub raw_bytes: Option<u64>,
    /// Uncompressed bytes of all layers that count together, see [`Total`](crate::Total).
    pub total_raw_bytes: Option<u64>,
    /// Uncompressed bytes for each compressed byte. It holds from the point where the layer has
    /// [`Limits::RATIO_FREE_BYTES`] uncompressed bytes, since a few kilobytes of zeros are no attack.
    pub ratio: Option<u64>,
    /// Length of a regular file, its holes included.
    pub file_bytes: Option<u64>,
    /// Entries of the layer.
    pub entries: u64,
    /// Bytes of an entry's path, and of the target of a link.
    pub path_bytes: u64,
    /// Components of an entry's path.
    pub depth: u64,
    /// Bytes of the names and values of an entry's extended attributes.
    pub xattr_bytes: u64,
    /// Bytes of all extension records (PAX, GNU long names, sparse maps) that belong to one entry.
    pub extension_bytes: u64,
    /// Bytes of memory for what must be remembered to the end: attributes of directories, whiteouts, implied parents.
    pub deferred_bytes: u64,
    /// Base-2 logarithm of the largest zstd window that is given memory; 31 is the most that the decoder can.
    pub zstd_window_log: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            raw_bytes: None,
            total_raw_bytes: None,
            ratio: None,
            file_bytes: None,
            entries: 5_000_000,
            path_bytes: 4096,
            depth: 2048,
            xattr_bytes: 1 << 20,
            extension_bytes: 1 << 20,
            deferred_bytes: 256 << 20,
            zstd_window_log: 31,
        }
    }
}

impl Limits {
    /// Up to how many uncompressed bytes a layer may have any [`ratio`](Self::ratio): 16 MiB.
    pub const RATIO_FREE_BYTES: u64 = 16 << 20;
}
