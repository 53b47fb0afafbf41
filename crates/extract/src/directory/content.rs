//! Regular files and their data: written, handed over, copied, shared, or linked.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;

use super::attributes::creation_mode;
use super::helper::Job;
use super::parents::Parent;
use super::{DirectoryWriter, failed, is};
use crate::entry::{Content, Entry, Extent};
use crate::{Error, RawPath};

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
    /// Makes a regular file, unless a helper does.
    pub(super) fn file(&mut self, entry: &Entry<'_>, size: u64, content: &mut dyn Content) -> Result<(), Error> {
        let (parent, name, new) = self.new_place(entry.path)?;
        if self.link_files
            && let Some(source) = content.file()
            && self.link_file(source, &parent, name, entry.path)?
        {
            return Ok(());
        }
        let created_mode = creation_mode(entry.mode, self.options.privilege);
        if let Some(hash) = new
            && let Some(data) = self.helper.takes(size, content)
        {
            self.helper.take(Job {
                entry: self.notes.entry(),
                hash,
                parent,
                path: entry.path.into(),
                data,
                mode: entry.mode,
                created_mode,
                uid: entry.uid,
                gid: entry.gid,
                mtime: entry.mtime,
                xattrs: entry.xattrs.into(),
            });
            return Ok(());
        }
        let file = self.create(&parent, name, entry.path, |writer, dir| {
            writer.finisher.make_file(dir, name, created_mode)
        })?;
        // What comes now may take long.
        self.helper.send();
        let failed = |source| Error::Write {
            path: RawPath::from(entry.path),
            source: unlade_sys::Error::new("write", parent.dir.path().join(name), source),
        };
        if let Some(source) = content.file() {
            unlade_sys::copy_data(source, &file, size).map_err(failed)?;
        } else {
            write_content(&file, size, content, failed)?;
        }
        self.finisher
            .finish_file(&mut self.notes, &file, &parent.dir, entry, created_mode, None)
    }

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

/// Writes the data of a file, leaving its holes.
fn write_content(
    file: &File,
    size: u64,
    content: &mut dyn Content,
    failed: impl Fn(std::io::Error) -> Error,
) -> Result<(), Error> {
    // Where the next plain write would go, and the end of what was written.
    let (mut position, mut end) = (0, 0);
    let mut plain = file;
    while let Some(extent) = content.next()? {
        let length = extent.data.len() as u64;
        if extent.offset == position {
            plain.write_all(extent.data).map_err(&failed)?;
            position += length;
        } else {
            file.write_all_at(extent.data, extent.offset).map_err(&failed)?;
        }
        end = extent.offset + length;
    }
    if end < size {
        file.set_len(size).map_err(&failed)?;
    }
    Ok(())
}
