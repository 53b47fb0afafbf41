//! Whiteouts in the form that overlayfs reads, made when the whole layer is there.
//!
//! What the layer brings is on disk by then, so the disk answers the questions that the order of entries leaves open:
//!
//! - a whiteout of a path that is there hides nothing of this layer; if a directory is there, it was removed and made again,
//!   so it is opaque;
//! - an opaque directory has no whiteouts in it, nor has anything below it: there is nothing for them to hide, and overlayfs
//!   would show them;
//! - a whiteout below a whiteout, or below something that is no directory, is hidden already.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use rustix::fs::FileType;
use rustix::io::Errno;
use unlade_sys::NodeKind;

use super::parents::{Make, Parent};
use super::{DirectoryWriter, failed, is, split};
use crate::{Error, Note, Privilege, RawPath};

/// What makes a directory opaque where it can have no attribute that does.
pub(crate) const OPAQUE_FILE: &str = ".wh..wh..opq";

/// The device that overlayfs takes for a whiteout. Making it needs no privilege since Linux 5.8.
const WHITEOUT: NodeKind = NodeKind::CharDevice { major: 0, minor: 0 };

impl DirectoryWriter<'_> {
    pub(super) fn defer_whiteout(&mut self, path: &[u8]) -> Result<(), Error> {
        if self.whiteouts.insert(path.to_vec()) {
            self.whiteout_bytes += path.len() as u64 + 64;
        }
        self.check_deferred(path)
    }

    pub(super) fn defer_opaque(&mut self, path: &[u8]) -> Result<(), Error> {
        if self.opaques.insert(path.to_vec()) {
            self.whiteout_bytes += path.len() as u64 + 64;
        }
        self.check_deferred(path)
    }

    /// Makes the whiteouts and opaque directories of the layer.
    pub(super) fn apply_whiteouts(&mut self) -> Result<(), Error> {
        let whiteouts = std::mem::take(&mut self.whiteouts);
        let markers = std::mem::take(&mut self.opaques);
        // Paths on disk of the directories that are opaque.
        let mut opaque = std::mem::take(&mut self.fresh);
        let mut missing = Vec::new();
        for path in &markers {
            match self.removal_parent(path, path, Make::Nothing)? {
                Some(dir) => {
                    self.note_removal(&dir.path, path, path);
                    if dir.path.is_empty() {
                        // Overlayfs merges roots in any case, so what is below has to be known.
                        self.removal_directories.insert(Vec::new());
                    }
                    opaque.insert(dir.path.to_vec());
                }
                None => missing.push(path),
            }
        }
        // In the order of paths, what is above comes first.
        let mut left = Vec::new();
        for path in &whiteouts {
            match self.brought(path)? {
                Some((physical, is_directory)) => {
                    self.note_removal(&physical, path, path);
                    if is_directory {
                        opaque.insert(physical);
                    } else {
                        self.notes.note(Note::WhiteoutWithoutEffect, path);
                    }
                }
                None => left.push(path),
            }
        }
        for path in left {
            let (parent_path, name) = split(path);
            if has_opaque(parent_path, &markers) || has_opaque(parent_path, &opaque) {
                self.notes.note(Note::WhiteoutWithoutEffect, path);
                continue;
            }
            match self.removal_parent(parent_path, path, Make::Missing)? {
                Some(parent) if !has_opaque(&parent.path, &opaque) => {
                    self.note_removal(&parent.path, parent_path, path);
                    self.removal_directories.insert(parent.path.to_vec());
                    self.make_whiteout(&parent, name, path)?;
                }
                // Something of this layer is in the way, behind which a link below may lead elsewhere.
                _ => {
                    self.summary.removals_through_links.push(RawPath::from(&path[..]));
                    self.notes.note(Note::WhiteoutWithoutEffect, path);
                }
            }
        }
        for path in missing {
            let (parent_path, _) = split(path);
            if has_opaque(parent_path, &markers) || has_opaque(parent_path, &opaque) {
                self.notes.note(Note::WhiteoutWithoutEffect, path);
                continue;
            }
            match self.removal_parent(path, path, Make::Missing)? {
                Some(dir) if !has_opaque(&dir.path, &opaque) => {
                    self.note_removal(&dir.path, path, path);
                    self.removal_directories.insert(dir.path.to_vec());
                    opaque.insert(dir.path.to_vec());
                }
                // Something of this layer is in the way, behind which a link below may lead elsewhere.
                _ => {
                    self.summary.removals_through_links.push(RawPath::from(&path[..]));
                    self.notes.note(Note::WhiteoutWithoutEffect, path);
                }
            }
        }
        self.make_all_opaque(opaque)
    }

    /// Notes where the removals are that were kept as they stand in the archive.
    pub(super) fn note_plain_removals(&mut self) -> Result<(), Error> {
        let (whiteouts, opaques) = (std::mem::take(&mut self.whiteouts), std::mem::take(&mut self.opaques));
        for path in &whiteouts {
            let (parent_path, _) = split(path);
            if let Some(parent) = self.removal_parent(parent_path, path, Make::Nothing)? {
                self.note_removal(&parent.path, parent_path, path);
                self.removal_directories.insert(parent.path.to_vec());
            }
        }
        for path in &opaques {
            if let Some(dir) = self.removal_parent(path, path, Make::Nothing)? {
                self.note_removal(&dir.path, path, path);
                if dir.path.is_empty() || !self.directories.is_declared(&dir.path) {
                    self.removal_directories.insert(dir.path.to_vec());
                }
            }
        }
        let fresh = std::mem::take(&mut self.fresh);
        self.make_all_opaque(fresh)
    }

    /// Returns the directory that a removal at `path` is about. A circle of links leads nowhere, unless a layer below breaks it.
    pub(super) fn removal_parent(&mut self, parent: &[u8], path: &[u8], make: Make) -> Result<Option<Parent>, Error> {
        match self.parent(parent, make) {
            Err(Error::Refused { .. }) => {
                self.summary.removals_through_links.push(RawPath::from(path));
                Ok(None)
            }
            found => found,
        }
    }

    /// Notes a removal that goes through a link of this layer: what it removes is found without that link.
    fn note_removal(&mut self, physical: &[u8], spelled: &[u8], path: &[u8]) {
        if physical != spelled {
            self.summary.removals_through_links.push(RawPath::from(path));
        }
    }

    /// Returns where on disk `path` is and whether it is a directory, if the layer brings it.
    fn brought(&mut self, path: &[u8]) -> Result<Option<(Vec<u8>, bool)>, Error> {
        let (parent_path, name) = split(path);
        let Some(parent) = self.removal_parent(parent_path, path, Make::Nothing)? else {
            return Ok(None);
        };
        let stat = parent.dir.stat(name).map_err(failed(path))?;
        Ok(stat.map(|stat| {
            (
                parent.child(name),
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            )
        }))
    }

    pub(super) fn make_whiteout(&mut self, parent: &Parent, name: &OsStr, path: &[u8]) -> Result<(), Error> {
        match parent.dir.make_node(name, WHITEOUT, 0) {
            Ok(()) => Ok(()),
            // Two names of one whiteout, through a link.
            Err(error) if is(&error, Errno::EXIST) => {
                self.notes.note(Note::WhiteoutWithoutEffect, path);
                Ok(())
            }
            Err(error) if is(&error, Errno::PERM) => self.make_whiteout_xattr(parent, name, path),
            Err(error) => Err(failed(path)(error)),
        }
    }

    /// Makes the form of a whiteout that overlayfs reads since Linux 6.7: an empty file with an attribute, in a directory
    /// with another one.
    fn make_whiteout_xattr(&mut self, parent: &Parent, name: &OsStr, path: &[u8]) -> Result<(), Error> {
        self.notes.note(Note::WhiteoutAsXattr, path);
        drop(parent.dir.create_file(name, 0o600).map_err(failed(path))?);
        let attribute = match self.options.privilege {
            Privilege::Root => "trusted.overlay.whiteout",
            Privilege::User => "user.overlay.whiteout",
        };
        parent
            .dir
            .set_xattr(name, OsStr::new(attribute), b"y")
            .map_err(failed(path))?;
        self.make_opaque(parent, path, b"x")
    }

    pub(super) fn make_opaque(&mut self, dir: &Parent, path: &[u8], value: &[u8]) -> Result<(), Error> {
        if self.options.privilege == Privilege::Root {
            match dir.dir.set_own_xattr(OsStr::new("trusted.overlay.opaque"), value) {
                // Root of a user namespace may not set `trusted.` attributes; its overlayfs reads `user.` ones.
                Err(error) if is(&error, Errno::PERM) => self.notes.note(Note::OpaqueAsUserXattr, path),
                Err(error) if is(&error, Errno::OPNOTSUPP) => return self.make_opaque_file(dir, path, value),
                other => return other.map_err(failed(path)),
            }
        }
        match dir.dir.set_own_xattr(OsStr::new("user.overlay.opaque"), value) {
            Err(error) if is(&error, Errno::OPNOTSUPP) => self.make_opaque_file(dir, path, value),
            other => other.map_err(failed(path)),
        }
    }

    /// Marks a directory on a filesystem without attributes as the layer does.
    fn make_opaque_file(&mut self, dir: &Parent, path: &[u8], value: &[u8]) -> Result<(), Error> {
        if value == b"y" {
            self.notes.note(Note::OpaqueAsFile, path);
            match dir.dir.create_file(OsStr::new(OPAQUE_FILE), 0o600) {
                Err(error) if !is(&error, Errno::EXIST) => return Err(failed(path)(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Says whether `path` or a directory above it is opaque.
pub(crate) fn has_opaque(path: &[u8], opaque: &BTreeSet<Vec<u8>>) -> bool {
    let slashes = path
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .map(|(at, _)| at);
    slashes.chain([0, path.len()]).any(|end| opaque.contains(&path[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opaque_ancestors() {
        let opaque: BTreeSet<Vec<u8>> = [b"a/b".to_vec()].into();
        for (path, expected) in [
            ("a", false),
            ("a/b", true),
            ("a/b/c", true),
            ("a/bc", false),
            ("", false),
        ] {
            assert_eq!(has_opaque(path.as_bytes(), &opaque), expected, "{path}");
        }
        assert!(has_opaque(b"x/y", &[Vec::new()].into()));
    }
}
