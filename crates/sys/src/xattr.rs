//! Extended attributes by descriptor.
//!
//! A name below a directory is reached as `/proc/self/fd/N/name`: the descriptor fixes the directory, and the calls used
//! do not follow the last component, so that attributes of links, FIFOs and devices can be set, too. That needs a
//! mounted `/proc`.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::dir::component;
use crate::{Dir, Error, Result};

/// Sets the extended attribute `attribute` of an open file; `path` is what errors call it.
pub fn set_xattr(file: impl AsFd, path: &Path, attribute: &OsStr, value: &[u8]) -> Result<()> {
    rustix::fs::fsetxattr(file, attribute, value, XattrFlags::empty())
        .map_err(Error::on("set the extended attributes of", path))
}

impl Dir {
    /// Sets the extended attribute `attribute` of `name` itself, also when it is a link.
    pub fn set_xattr(&self, name: &OsStr, attribute: &OsStr, value: &[u8]) -> Result<()> {
        self.magic_path_of(name)
            .and_then(|path| rustix::fs::lsetxattr(path, attribute, value, XattrFlags::empty()))
            .map_err(Error::on("set the extended attributes of", &self.path().join(name)))
    }

    /// Sets the extended attribute `attribute` of the directory itself.
    pub fn set_own_xattr(&self, attribute: &OsStr, value: &[u8]) -> Result<()> {
        set_xattr(self, self.path(), attribute, value)
    }

    /// Removes the extended attribute `attribute` of the directory itself. Says whether it had it.
    pub fn remove_own_xattr(&self, attribute: &OsStr) -> Result<bool> {
        match rustix::fs::fremovexattr(self, attribute) {
            Ok(()) => Ok(true),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(Error::new("remove an extended attribute of", self.path(), errno)),
        }
    }

    /// Returns the value of the extended attribute `attribute` of `name` itself, if it has it.
    pub fn xattr(&self, name: &OsStr, attribute: &OsStr) -> Result<Option<Vec<u8>>> {
        self.magic_path_of(name)
            .and_then(|path| value_of(|buffer| rustix::fs::lgetxattr(&path, attribute, buffer)))
            .map_err(Error::on("read the extended attributes of", &self.path().join(name)))
    }

    /// Returns the value of the extended attribute `attribute` of the directory itself, if it has it.
    pub fn own_xattr(&self, attribute: &OsStr) -> Result<Option<Vec<u8>>> {
        value_of(|buffer| rustix::fs::fgetxattr(self, attribute, buffer))
            .map_err(Error::on("read the extended attributes of", self.path()))
    }

    /// Returns the names of the extended attributes of `name` itself.
    pub fn xattr_names(&self, name: &OsStr) -> Result<Vec<OsString>> {
        let path = self.magic_path_of(name);
        names_of(|buffer| rustix::fs::llistxattr(path.as_deref().map_err(|errno| *errno)?, buffer))
            .map_err(Error::on("list the extended attributes of", &self.path().join(name)))
    }

    /// Returns the names of the extended attributes of the directory itself.
    pub fn own_xattr_names(&self) -> Result<Vec<OsString>> {
        names_of(|buffer| rustix::fs::flistxattr(self, buffer))
            .map_err(Error::on("list the extended attributes of", self.path()))
    }

    fn magic_path_of(&self, name: &OsStr) -> Result<PathBuf, Errno> {
        Ok(self.magic_path().join(component(name)?))
    }
}

fn value_of(call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Option<Vec<u8>>, Errno> {
    match sized(call) {
        Ok(value) => Ok(Some(value)),
        // A name that the kernel finds invalid, such as `user.`, is one that nothing has.
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn names_of(call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<OsString>, Errno> {
    match sized(call) {
        Ok(list) => Ok(list
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| OsStr::from_bytes(name).to_owned())
            .collect()),
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        Err(errno) => Err(errno),
    }
}

/// Calls with a growing buffer until the answer fits; the kernel's own bound is 64 KiB.
fn sized(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 1024];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 128 * 1024 => buffer.resize(buffer.len() * 4, 0),
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_read_and_list() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        let (file, attribute) = (OsStr::new("file"), OsStr::new("user.unlade.test"));
        drop(dir.create_file(file, 0o600).unwrap());
        let long = vec![b'x'; 2000];
        match dir.set_xattr(file, attribute, &long) {
            // The filesystem of the temporary directory has no `user.` attributes.
            Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => return,
            other => other.unwrap(),
        }
        assert_eq!(dir.xattr(file, attribute).unwrap().unwrap(), long);
        assert!(dir.xattr_names(file).unwrap().contains(&attribute.to_owned()));
        assert!(dir.xattr(file, OsStr::new("user.unlade.none")).unwrap().is_none());
        assert!(dir.xattr(file, OsStr::new("user.")).unwrap().is_none());
        assert!(dir.xattr(OsStr::new("a/b"), attribute).is_err());
        dir.set_own_xattr(attribute, b"").unwrap();
        assert_eq!(dir.own_xattr(attribute).unwrap().unwrap(), b"");
        assert!(dir.own_xattr_names().unwrap().contains(&attribute.to_owned()));
    }

    #[test]
    fn a_link_is_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        drop(dir.create_file(OsStr::new("file"), 0o600).unwrap());
        dir.make_symlink(OsStr::new("link"), OsStr::new("file")).unwrap();
        // `user.` attributes of links are not allowed, which shows that it is the link that was meant.
        assert!(
            dir.set_xattr(OsStr::new("link"), OsStr::new("user.unlade.test"), b"x")
                .is_err()
        );
        assert!(
            dir.xattr(OsStr::new("file"), OsStr::new("user.unlade.test"))
                .unwrap()
                .is_none()
        );
    }
}
