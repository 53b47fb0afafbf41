//! A blob that arrives in several places at once: its second form on disk.
//!
//! In the plain form the length of `ingest/<algorithm>-<hex>` says how far the blob has come. Whoever knows only that form
//! must never take a hole for content, so bytes beyond a gap are never in a file of that name. A blob that is *scattered* has
//! three files:
//!
//! ```text
//! ingest/<algorithm>-<hex>         empty; carries the lock
//! ingest/<algorithm>-<hex>.parts   the bytes, each where it belongs, with holes between
//! ingest/<algorithm>-<hex>.have    which bytes are there
//! ```
//!
//! The first two change places in one step (`RENAME_EXCHANGE`), so at every moment the file of the plain name is locked and
//! its length is true: everything before, nothing after. The list is written after the bytes that it names. A process that is
//! killed leaves a list that is true, and may lack the last few bytes. An older version finds an empty file and starts again.
//!
//! After a power loss the list may name bytes that never reached the disk. It says under which boot it was written, and after
//! another one only the bytes without a gap before them are believed, as they are in the plain form: they are read from the
//! start, and the digest decides.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use unlade_sys::FileLock;

use crate::ranges::Ranges;
use crate::{Error, Result};

/// How many bytes arrive between two writings of the list: what a kill may cost.
const RECORD_BYTES: u64 = 4 << 20;
/// The first line of a list.
const FORMAT: &str = "unlade parts 1";
/// The last line of a list: it was written whole.
const END: &str = "end";

/// The files of a scattered blob but for the one that carries the lock.
#[derive(Debug)]
pub(crate) struct Scattered {
    /// The bytes. Locked as well, for the moment in which it gets the plain name back.
    data: FileLock,
    list: File,
    size: u64,
    have: Ranges,
    unrecorded: u64,
}

impl Scattered {
    /// Scatters the plain blob that `lock` is on: afterwards `lock` is on the empty file. `None` if the filesystem cannot
    /// exchange two files; then nothing has changed.
    pub(crate) fn begin(lock: &mut FileLock, size: u64, length: u64) -> Result<Option<Self>> {
        let (plain, parts, list) = paths(lock.path());
        let Some(mut other) = FileLock::try_exclusive(&parts)? else {
            return Ok(None);
        };
        let have = Ranges::up_to(length);
        let written = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&list);
        let list = written
            .and_then(|file| write_list(&file, size, &have).map(|()| file))
            .map_err(Error::io("write", &list))?;
        if let Err(error) = unlade_sys::exchange(&plain, &parts) {
            tracing::debug!(%error, "the filesystem does not exchange files, so blobs arrive in one piece");
            remove(&plain)?;
            return Ok(None);
        }
        std::mem::swap(lock, &mut other);
        lock.renamed(plain);
        other.renamed(parts);
        Ok(Some(Self {
            data: other,
            list,
            size,
            have,
            unrecorded: 0,
        }))
    }

    /// Finds what a process has left of a scattered blob whose plain file is `plain`, empty and locked by the caller.
    pub(crate) fn find(plain: &Path, size: u64) -> Result<Option<Self>> {
        let (_, parts, list_path) = paths(plain);
        let data = match FileLock::try_exclusive_existing(&parts) {
            Ok(Some(data)) => data,
            Ok(None) => return Ok(None),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let list = match File::options().read(true).write(true).open(&list_path) {
            Ok(list) => list,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", &list_path)(error)),
        };
        let text = io::read_to_string(&list).map_err(Error::io("read", &list_path))?;
        let length = data.file().metadata().map_err(Error::io("look at", &parts))?.len();
        let boot = unlade_sys::boot_id().ok();
        let Some(have) = parse(&text, size, boot.as_deref()).filter(|have| have.end() <= length) else {
            tracing::debug!(path = %list_path.display(), "a list of parts cannot be used");
            return Ok(None);
        };
        Ok(Some(Self {
            data,
            list,
            size,
            have,
            unrecorded: 0,
        }))
    }

    pub(crate) fn file(&self) -> &File {
        self.data.file()
    }

    pub(crate) fn path(&self) -> &Path {
        self.data.path()
    }

    pub(crate) fn have(&self) -> &Ranges {
        &self.have
    }

    /// Writes what of these bytes is not there yet. What is there may have been read already, so it is never written again.
    pub(crate) fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        for Range { start, end } in self.have.missing(offset..offset + bytes.len() as u64) {
            let at = |position: u64| usize::try_from(position - offset).unwrap_or(usize::MAX);
            let part = &bytes[at(start)..at(end)];
            let written = self.data.file().write_all_at(part, start);
            written.map_err(Error::io("write", self.data.path()))?;
            self.have.insert(start..end);
            self.unrecorded += end - start;
        }
        if self.unrecorded >= RECORD_BYTES {
            self.record()?;
        }
        Ok(())
    }

    /// Writes the list.
    pub(crate) fn record(&mut self) -> Result<()> {
        self.unrecorded = 0;
        write_list(&self.list, self.size, &self.have).map_err(Error::io("write the list of parts of", self.data.path()))
    }

    /// Brings a blob without gaps back to the plain form: `lock` is on its file again.
    pub(crate) fn gather(mut self, lock: &mut FileLock) -> Result<()> {
        let (plain, parts, _) = paths(lock.path());
        unlade_sys::exchange(&plain, &parts)?;
        std::mem::swap(lock, &mut self.data);
        lock.renamed(plain.clone());
        remove(&plain)
    }
}

/// Removes what stands beside the plain file, which the caller has locked.
pub(crate) fn remove(plain: &Path) -> Result<()> {
    let (_, parts, list) = paths(plain);
    crate::ingest::remove_if_there(&parts)?;
    crate::ingest::remove_if_there(&list)?;
    Ok(())
}

/// Says whether anything stands beside the plain file.
pub(crate) fn is_there(plain: &Path) -> bool {
    let (_, parts, list) = paths(plain);
    parts.exists() || list.exists()
}

/// Returns how many bytes there are of a scattered blob, by its list.
pub(crate) fn bytes(plain: &Path) -> u64 {
    let (_, _, list) = paths(plain);
    let text = std::fs::read_to_string(list).unwrap_or_default();
    let size = text.lines().nth(2).and_then(|line| line.parse().ok());
    let have = size.and_then(|size| parse(&text, size, unlade_sys::boot_id().ok().as_deref()));
    have.map_or(0, |have| have.total())
}

/// Returns the paths of the plain file, of the parts and of the list.
fn paths(plain: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let beside = |suffix| {
        let mut path = plain.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    (plain.to_owned(), beside(".parts"), beside(".have"))
}

/// Writes the list in one go and cuts off what a longer one has left, which the reader would not look at.
fn write_list(file: &File, size: u64, have: &Ranges) -> io::Result<()> {
    let boot = unlade_sys::boot_id().unwrap_or_default();
    let mut text = format!("{FORMAT}\n{boot}\n{size}\n");
    for Range { start, end } in have.iter() {
        // Writing to a text does not fail.
        let _infallible = writeln!(text, "{start} {end}");
    }
    text.push_str(END);
    text.push('\n');
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}

/// Reads a list for a blob of `size` bytes; `None` if it is none, is not whole, or is for another size.
fn parse(text: &str, size: u64, boot: Option<&str>) -> Option<Ranges> {
    let mut lines = text.lines();
    if lines.next()? != FORMAT {
        return None;
    }
    let written_under = lines.next()?;
    let same_boot = !written_under.is_empty() && boot == Some(written_under);
    if lines.next()?.parse() != Ok(size) {
        return None;
    }
    let mut have = Ranges::default();
    loop {
        let line = lines.next()?;
        if line == END {
            break;
        }
        let (start, end) = line.split_once(' ')?;
        let range: Range<u64> = start.parse().ok()?..end.parse().ok()?;
        if range.start >= range.end || range.end > size {
            return None;
        }
        have.insert(range);
    }
    Some(if same_boot { have } else { Ranges::up_to(have.prefix()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let whole = "unlade parts 1\nb\n100\n0 10\n20 30\nend\n";
        let both: Vec<_> = parse(whole, 100, Some("b")).unwrap().iter().collect();
        assert_eq!(both, [0..10, 20..30]);
        // What a longer list has left behind the end does not count.
        assert_eq!(
            parse(&format!("{whole}90 95\nend\n"), 100, Some("b")).unwrap().total(),
            20
        );
        for boot in [Some("other"), Some(""), None] {
            assert_eq!(parse(whole, 100, boot), Some(Ranges::up_to(10)), "{boot:?}");
        }
        for bad in [
            "",
            "unlade parts 2\nb\n100\n0 10\nend\n",
            "unlade parts 1\nb\n101\n0 10\nend\n",
            "unlade parts 1\nb\n100\n0 10\n",
            "unlade parts 1\nb\n100\n0 10\n20 3",
            "unlade parts 1\nb\n100\n0 101\nend\n",
            "unlade parts 1\nb\n100\n10 10\nend\n",
            "unlade parts 1\nb\n100\nx 10\nend\n",
        ] {
            assert_eq!(parse(bad, 100, Some("b")), None, "{bad:?}");
        }
    }
}
