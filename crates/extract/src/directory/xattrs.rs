//! Which extended attributes of a layer are honoured, and what happens to the others.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use rustix::io::Errno;

use super::attributes::{Finisher, OVERRIDE_STAT};
use super::notes::Notes;
use super::{failed, is};
use crate::entry::Xattr;
use crate::{Error, Note, Ownership};

/// Attributes that describe the machine that packed the layer, not the image.
const DROPPED: [&[u8]; 2] = [b"security.selinux", b"system.nfs4_acl"];

/// Namespaces that overlayfs acts on. It unescapes names that it finds escaped, so an image can still carry them.
const OVERLAY: [(&[u8], &[u8]); 2] = [
    (b"trusted.overlay.", b"trusted.overlay.overlay."),
    (b"user.overlay.", b"user.overlay.overlay."),
];

/// What becomes of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Keep,
    Drop,
    Escape(Vec<u8>),
}

pub(crate) fn decide(name: &[u8], ownership: Ownership) -> Decision {
    // Where owners are not set that name says what the file is meant to be, and only the extractor may say so.
    if DROPPED.contains(&name) || (!ownership.sets_owners() && name == OVERRIDE_STAT.as_bytes()) {
        return Decision::Drop;
    }
    for (prefix, escaped) in OVERLAY {
        if let Some(rest) = name.strip_prefix(prefix) {
            return Decision::Escape([escaped, rest].concat());
        }
    }
    Decision::Keep
}

impl Finisher {
    /// Sets the extended attributes of an entry with `set`, noting what is not honoured or not possible.
    pub(super) fn set_xattrs(
        &self,
        notes: &mut Notes,
        path: &[u8],
        xattrs: &[Xattr],
        set: impl Fn(&OsStr, &[u8]) -> unlade_sys::Result<()>,
    ) -> Result<(), Error> {
        for xattr in xattrs {
            let outcome = match decide(&xattr.name, self.ownership) {
                Decision::Drop => {
                    notes.note(Note::XattrDropped, path);
                    continue;
                }
                Decision::Keep => set(OsStr::from_bytes(&xattr.name), &xattr.value),
                Decision::Escape(name) => {
                    notes.note(Note::XattrEscaped, path);
                    set(OsStr::from_bytes(&name), &xattr.value)
                }
            };
            if let Err(error) = outcome {
                let note = self.why_not(&error).ok_or_else(|| failed(path)(error))?;
                notes.note(note, path);
            }
        }
        Ok(())
    }

    /// Returns what to note of an attribute that could not be set, or nothing if that must end the extraction.
    fn why_not(&self, error: &unlade_sys::Error) -> Option<Note> {
        let is = |errno| is(error, errno);
        if is(Errno::OPNOTSUPP) {
            Some(Note::XattrUnsupported)
        } else if is(Errno::PERM) || is(Errno::ACCESS) || is(Errno::INVAL) {
            Some(Note::XattrRefused)
        } else if is(Errno::TOOBIG) || is(Errno::RANGE) || is(Errno::NAMETOOLONG) {
            Some(Note::XattrTooLarge)
        } else if is(Errno::NOSPC) && self.has_free_blocks() {
            // Filesystems that keep attributes in one block say this when the block is full.
            Some(Note::XattrTooLarge)
        } else {
            None
        }
    }

    fn has_free_blocks(&self) -> bool {
        rustix::fs::fstatvfs(&*self.root).is_ok_and(|stat| stat.f_bavail > 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions() {
        for name in [
            "security.capability",
            "user.x",
            "system.posix_acl_access",
            "trusted.x",
            "user.overlayfs",
        ] {
            assert_eq!(decide(name.as_bytes(), Ownership::Record), Decision::Keep, "{name}");
        }
        assert_eq!(decide(b"security.selinux", Ownership::Preserve), Decision::Drop);
        assert_eq!(decide(b"system.nfs4_acl", Ownership::Preserve), Decision::Drop);
        assert_eq!(decide(OVERRIDE_STAT.as_bytes(), Ownership::Record), Decision::Drop);
        assert_eq!(decide(OVERRIDE_STAT.as_bytes(), Ownership::Squash), Decision::Drop);
        assert_eq!(decide(OVERRIDE_STAT.as_bytes(), Ownership::Userns), Decision::Keep);
        assert_eq!(decide(OVERRIDE_STAT.as_bytes(), Ownership::Preserve), Decision::Keep);
        let escaped = |name: &str| Decision::Escape(name.as_bytes().to_vec());
        assert_eq!(
            decide(b"trusted.overlay.opaque", Ownership::Preserve),
            escaped("trusted.overlay.overlay.opaque")
        );
        assert_eq!(
            decide(b"user.overlay.opaque", Ownership::Preserve),
            escaped("user.overlay.overlay.opaque")
        );
        assert_eq!(
            decide(b"user.overlay.overlay.x", Ownership::Record),
            escaped("user.overlay.overlay.overlay.x")
        );
    }
}
