//! Data from one file to another with the least work: shared, copied by the kernel, or read and written.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{AtFlags, CWD, SeekFrom};
use rustix::io::Errno;

use crate::dir::component;
use crate::{Dir, Error, Result};

/// Up to how many bytes are copied even where they could be shared. Sharing waits until they are on the disk, which takes a
/// small file that was just written several times as long as copying it.
const SMALL: usize = 32 * 1024;

/// Copies the `size` bytes of `from` to the empty file `to`, which shares them where the filesystem can (`FICLONE`), unless
/// they are few: those are read and written, holes and all. Else holes stay holes, and the kernel copies what is between
/// (`copy_file_range`).
pub fn copy_data(from: &File, to: &File, size: u64) -> io::Result<()> {
    match usize::try_from(size) {
        Ok(size) if size <= SMALL && copy_small(from, to, size)? => return Ok(()),
        _ if rustix::fs::ioctl_ficlone(to, from).is_ok() => return Ok(()),
        _ => {}
    }
    let mut position = 0;
    while position < size {
        let Some(start) = next_data(from, position)?.filter(|start| *start < size) else {
            break;
        };
        let end = match rustix::fs::seek(from, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            Err(Errno::INVAL | Errno::NXIO) => size,
            Err(errno) => return Err(errno.into()),
        };
        copy_range(from, to, start, end)?;
        position = end;
    }
    // What ends in a hole has to get its length.
    to.set_len(size)
}

/// Returns where the next data of `file` at or after `offset` begins; nothing if only a hole follows.
pub fn next_data(file: &File, offset: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(start) => Ok(Some(start)),
        Err(Errno::NXIO) => Ok(None),
        // The filesystem does not know holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(offset)),
        Err(errno) => Err(errno.into()),
    }
}

/// Copies all of a small file at once; does nothing and says so if it has become shorter than it was.
fn copy_small(from: &File, to: &File, size: usize) -> io::Result<bool> {
    let mut data = vec![0; size];
    if from.read_at(&mut data, 0)? < size {
        return Ok(false);
    }
    to.write_all_at(&data, 0)?;
    Ok(true)
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut input, mut output) = (start, start);
    while input < end {
        let length = usize::try_from(end - input).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut input), to, Some(&mut output), length) {
            // Shorter than it was when it was looked at.
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                return read_and_write(from, to, input, end);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn read_and_write(from: &File, to: &File, mut position: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; 128 * 1024];
    while position < end {
        let wanted = usize::try_from(end - position).unwrap_or(usize::MAX).min(buffer.len());
        let read = from.read_at(&mut buffer[..wanted], position)?;
        if read == 0 {
            return Ok(());
        }
        to.write_all_at(&buffer[..read], position)?;
        position += read as u64;
    }
    Ok(())
}

impl Dir {
    /// Makes `name` another name of the open file `file`. Needs `/proc`.
    pub fn link_file(&self, name: &OsStr, file: &File) -> Result<()> {
        let source = format!("/proc/self/fd/{}", file.as_raw_fd());
        component(name)
            .and_then(|name| rustix::fs::linkat(CWD, source, self, name, AtFlags::SYMLINK_FOLLOW))
            .map_err(Error::on("make the hard link", &self.path().join(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    fn files() -> (tempfile::TempDir, File, File) {
        let directory = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(directory.path().join(name))
                .unwrap()
        };
        let (from, to) = (open("from"), open("to"));
        (directory, from, to)
    }

    #[test]
    fn holes_stay_holes() {
        let (directory, from, to) = files();
        from.write_all_at(b"begin", 0).unwrap();
        from.write_all_at(b"middle", 4 << 20).unwrap();
        from.set_len(8 << 20).unwrap();
        copy_data(&from, &to, 8 << 20).unwrap();
        let path = |name: &str| directory.path().join(name);
        assert!(std::fs::read(path("from")).unwrap() == std::fs::read(path("to")).unwrap());
        assert!(to.metadata().unwrap().blocks() <= from.metadata().unwrap().blocks() + 16);
    }

    #[test]
    fn by_hand_as_by_the_kernel() {
        let (directory, from, to) = files();
        let data: Vec<u8> = (0..300_000u32).map(|number| (number % 251) as u8).collect();
        from.write_all_at(&data, 0).unwrap();
        read_and_write(&from, &to, 0, data.len() as u64).unwrap();
        assert!(std::fs::read(directory.path().join("to")).unwrap() == data);
    }

    #[test]
    fn small_files_are_copied_whole_or_by_other_means() {
        for size in [0, 1, SMALL - 1, SMALL, SMALL + 1] {
            let (directory, from, to) = files();
            let data: Vec<u8> = (0..250).cycle().take(size).collect();
            from.write_all_at(&data, 0).unwrap();
            copy_data(&from, &to, data.len() as u64).unwrap();
            assert!(std::fs::read(directory.path().join("to")).unwrap() == data, "{size}");
        }
        // It has become shorter since it was looked at.
        let (directory, from, to) = files();
        from.write_all_at(b"short", 0).unwrap();
        assert!(!copy_small(&from, &to, 100).unwrap());
        assert_eq!(to.metadata().unwrap().len(), 0);
        drop(directory);
    }

    #[test]
    fn another_name_of_an_open_file() {
        let (directory, from, _) = files();
        let dir = Dir::open(directory.path()).unwrap();
        dir.link_file(OsStr::new("second"), &from).unwrap();
        assert_eq!(from.metadata().unwrap().nlink(), 2);
        assert!(dir.link_file(OsStr::new("a/b"), &from).is_err());
    }
}
