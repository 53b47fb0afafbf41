//! The data of a file that is at hand as a file: copied, shared, or linked.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;

use super::parents::Parent;
use super::{DirectoryWriter, failed, is};
use crate::Error;
use crate::entry::{Content, Extent};

/// Bytes read at a time where nobody asks for the file.
const READ_BYTES: usize = 128 * 1024;

/// A file's data as [`Content`].
#[derive(Debug)]
pub struct FileContent {
    file: File,
    buffer: Vec<u8>,
    offset: u64,
}

impl FileContent {
    /// Takes the whole data of `file`.
    pub fn new(file: File) -> Self {
        Self {
            file,
            buffer: Vec::new(),
            offset: 0,
        }
    }
}

impl Content for FileContent {
    fn next(&mut self) -> Result<Option<Extent<'_>>, Error> {
        let failed = |source| Error::Input {
            offset: self.offset,
            source,
        };
        let Some(offset) = unlade_sys::next_data(&self.file, self.offset).map_err(failed)? else {
            return Ok(None);
        };
        self.buffer.resize(READ_BYTES, 0);
        let read = self.file.read_at(&mut self.buffer, offset).map_err(failed)?;
        self.offset = offset + read as u64;
        let data = &self.buffer[..read];
        Ok((read > 0).then_some(Extent { offset, data }))
    }

    fn file(&self) -> Option<&File> {
        Some(&self.file)
    }
}

impl DirectoryWriter<'_> {
    /// Makes `name` another name of the file `source`. Says whether that could be done: not across filesystems, for one.
    pub(super) fn link_file(
        &mut self,
        source: &File,
        parent: &Parent,
        name: &OsStr,
        path: &[u8],
    ) -> Result<bool, Error> {
        if parent.dir.stat(name).map_err(failed(path))?.is_some() {
            self.clear_way(parent, name, path)?;
        }
        match parent.dir.link_file(name, source) {
            Ok(()) => {
                self.made(parent, name);
                Ok(true)
            }
            Err(error)
                if [Errno::XDEV, Errno::PERM, Errno::MLINK, Errno::OPNOTSUPP, Errno::NOENT]
                    .iter()
                    .any(|errno| is(&error, *errno)) =>
            {
                Ok(false)
            }
            Err(error) => Err(failed(path)(error)),
        }
    }
}
