//! The reading half: a stream of tar blocks → entries.
//!
//! One loop over header blocks on top of [`tar::Header`], since the loop of that crate reads extension records without a
//! limit and knows neither PAX sparse files nor names and attributes that hold a newline. The dialects read are V7, ustar,
//! star, PAX with global headers, and GNU with long names, base-256 numbers and sparse files of all four formats.
//!
//! Where readers of tar disagree, what Go's `archive/tar` does is done, since that is what image layers are made and read
//! with: a link, directory or device has no data whatever its size field says, and a single zero block in the middle of an
//! archive is an error. Where the difference would let one archive mean two things, the entry is refused.

mod header;
mod name;
mod pax;
mod sparse;

use tar::{GnuExtSparseHeader, Header};

use self::header::BLOCK;
use self::name::{Cleaned, Meaning};
use self::pax::Records;
use self::sparse::{MapReader, SparseMap};
use crate::chunk::CHUNKS_AWAITED;
use crate::entry::{Content, Entry, EntrySink, Extent, Kind, SharedData, Time, Xattr};
use crate::pipeline::Stop;
use crate::stream::Stream;
use crate::{Error, Limits, Note, Progress, RawPath, Summary};

/// Largest major and minor number of a device on Linux: 12 and 20 bits.
const MAX_MAJOR: i64 = 0xfff;
const MAX_MINOR: i64 = 0xf_ffff;

/// Reads an archive.
#[derive(Debug)]
pub(crate) struct TarReader<'a> {
    stream: Stream,
    limits: &'a Limits,
    progress: &'a Progress,
    global: Records,
    entries: u64,
    summary: Summary,
}

/// What extension headers said of the entry that follows them.
#[derive(Debug, Default)]
struct Extensions {
    records: Records,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    /// Bytes of extension data so far.
    bytes: u64,
    /// Whether there was one at all.
    any: bool,
}

/// Buffers that are used again for every entry.
#[derive(Debug, Default)]
struct Scratch {
    name: Vec<u8>,
    path: Vec<u8>,
    target: Vec<u8>,
}

impl<'a> TarReader<'a> {
    pub(crate) fn new(stream: Stream, limits: &'a Limits, progress: &'a Progress) -> Self {
        Self {
            stream,
            limits,
            progress,
            global: Records::default(),
            entries: 0,
            summary: Summary::default(),
        }
    }

    /// Reads the archive up to its end marker.
    pub(crate) fn read(&mut self, sink: &mut dyn EntrySink) -> Result<(), Stop> {
        let mut header = Header::new_old();
        let mut extensions = Extensions::default();
        let mut scratch = Scratch::default();
        while self.next_header(&mut header)? {
            if self.extension(&header, &mut extensions)? {
                continue;
            }
            self.progress.check()?;
            self.entries += 1;
            self.progress.set_entries(self.entries);
            self.entry(&header, &mut extensions, &mut scratch, sink)?;
            if extensions.any {
                extensions = Extensions::default();
            }
        }
        if extensions.any {
            return Err(self.malformed("extension headers are not followed by an entry").into());
        }
        Ok(())
    }

    /// Reads what follows the archive to the very end of the stream, since the digest covers it. Returns how many entries
    /// there were and what was noted.
    pub(crate) fn drain(mut self) -> Result<(u64, Summary), Stop> {
        let mut only_zeros = true;
        loop {
            let bytes = self.stream.take(u64::MAX)?;
            if bytes.is_empty() {
                break;
            }
            only_zeros = only_zeros && is_zero(bytes);
        }
        if !only_zeros {
            self.summary.note_layer(Note::BytesAfterEnd);
        }
        self.summary.entries = self.entries;
        Ok((self.entries, self.summary))
    }

    /// Reads the next header block. Returns false at the end of the archive.
    fn next_header(&mut self, header: &mut Header) -> Result<bool, Stop> {
        match self.stream.read_full(header.as_mut_bytes())? {
            BLOCK => {}
            0 => {
                self.summary.note_layer(Note::EndMarkerMissing);
                return Ok(false);
            }
            _ => return Err(self.truncated("a header").into()),
        }
        if is_zero(header.as_bytes()) {
            return match self.stream.read_full(header.as_mut_bytes())? {
                0 => {
                    self.summary.note_layer(Note::EndMarkerMissing);
                    Ok(false)
                }
                BLOCK if is_zero(header.as_bytes()) => Ok(false),
                BLOCK => Err(self
                    .malformed("a single block of zeros stands in the middle of the archive")
                    .into()),
                _ => Err(self.truncated("the end marker").into()),
            };
        }
        if !header::checksum_holds(header) {
            let problem = if self.entries == 0 {
                "this is no tar archive: the checksum of its first header does not hold"
            } else {
                "the checksum of a header does not hold"
            };
            return Err(Error::archive(self.stream.offset() - BLOCK as u64, problem).into());
        }
        Ok(true)
    }

    /// Takes in `header` if it belongs to the entry that follows it. Says whether it did.
    fn extension(&mut self, header: &Header, extensions: &mut Extensions) -> Result<bool, Stop> {
        let kind = header.as_old().linkflag[0];
        if !matches!(kind, b'x' | b'X' | b'g' | b'L' | b'K') {
            return Ok(false);
        }
        // A size in PAX records is that of the entry, never of another extension header.
        let size = self.unsigned(&header.as_old().size, "size")?;
        extensions.any = true;
        extensions.bytes = extensions.bytes.saturating_add(size);
        let mut data = self.extension_data(size, extensions.bytes)?;
        match kind {
            b'L' | b'K' => {
                data.truncate(header::until_nul(&data).len());
                if kind == b'L' {
                    extensions.long_name = Some(data);
                } else {
                    extensions.long_link = Some(data);
                }
            }
            b'g' => {
                let mut records = self.global.clone();
                records.add(&data).map_err(|problem| self.malformed(problem))?;
                if let Some(key) = records.not_global() {
                    return Err(self.malformed(format!("a global extended header sets {key}")).into());
                }
                self.global = records;
            }
            _ => extensions
                .records
                .add(&data)
                .map_err(|problem| self.malformed(problem))?,
        }
        Ok(true)
    }

    fn extension_data(&mut self, size: u64, total: u64) -> Result<Vec<u8>, Stop> {
        self.check_extension_bytes(total)?;
        let mut data = vec![0; usize::try_from(size).map_err(|_| self.malformed("an extension header is too large"))?];
        if self.stream.read_full(&mut data)? < data.len() {
            return Err(self.truncated("an extension header").into());
        }
        self.skip_padding(size)?;
        Ok(data)
    }

    fn check_extension_bytes(&self, total: u64) -> Result<(), Error> {
        let value = self.limits.extension_bytes;
        if total > value {
            Err(Error::Limit {
                limit: "extension_bytes",
                value,
                path: None,
            })
        } else {
            Ok(())
        }
    }

    /// Cleans `name` into `path`, within the limits, and tells what it means.
    fn clean_name(&mut self, name: &[u8], path: &mut Vec<u8>) -> Result<(Cleaned, Meaning), Error> {
        if self.entries > self.limits.entries {
            return Err(limit("entries", self.limits.entries, name));
        }
        if name.len() as u64 > self.limits.path_bytes {
            return Err(limit("path_bytes", self.limits.path_bytes, name));
        }
        let cleaned = name::clean(name, path).map_err(|problem| Error::refused(name, problem))?;
        let depth = path.split(|byte| *byte == b'/').count() as u64;
        if depth > self.limits.depth {
            return Err(limit("depth", self.limits.depth, name));
        }
        let meaning = name::meaning(name, path).map_err(|problem| Error::refused(name, problem))?;
        if cleaned.parent {
            self.summary.note(Note::NameWithParent, name);
        }
        if cleaned.absolute {
            self.summary.note(Note::NameAbsolute, name);
        }
        Ok((cleaned, meaning))
    }

    fn check_xattrs(&self, records: &Records, name: &[u8]) -> Result<(), Error> {
        let value = self.limits.xattr_bytes;
        let bytes = |xattr: &Xattr| (xattr.name.len() + xattr.value.len()) as u64;
        if records.xattrs.iter().map(bytes).sum::<u64>() > value {
            return Err(limit("xattr_bytes", value, name));
        }
        Ok(())
    }

    /// Reads the entry of `header` and hands it to `sink`.
    fn entry(
        &mut self,
        header: &Header,
        extensions: &mut Extensions,
        scratch: &mut Scratch,
        sink: &mut dyn EntrySink,
    ) -> Result<(), Stop> {
        let Scratch { name, path, target } = scratch;
        let start = self.stream.offset() - BLOCK as u64;
        self.take_name(header, extensions, name)?;
        self.check_xattrs(&extensions.records, name)?;
        let (cleaned, meaning) = self.clean_name(name, path)?;

        let kind = match header.as_old().linkflag[0] {
            // Before ustar, a directory was a file whose name ends in a slash.
            0 if cleaned.trailing_slash => b'5',
            0 | b'7' => b'0',
            kind => kind,
        };
        let records = &extensions.records;
        let mut size = match records.size {
            Some(size) => size,
            None => self.unsigned(&header.as_old().size, "size")?,
        };
        if !matches!(kind, b'0' | b'S') && size != 0 {
            self.summary.note(Note::SizeIgnored, path);
            size = 0;
        }
        if i64::try_from(size).is_err() {
            return Err(self.malformed("an entry is larger than a file can be").into());
        }
        let map = self.sparse_map(header, kind, &mut size, extensions)?;

        let records = &extensions.records;
        let link: &[u8] = records
            .link_path
            .as_deref()
            .or(extensions.long_link.as_deref())
            .unwrap_or(header::link_name(header));
        let file_size = map.as_ref().map_or(size, |map| map.size);
        if let Some(value) = self.limits.file_bytes
            && file_size > value
        {
            return Err(limit("file_bytes", value, name).into());
        }
        let kind = self.kind(header, kind, file_size, name, link, target)?;
        if let Kind::File { size } = kind {
            self.summary.bytes = self.summary.bytes.saturating_add(size);
        }
        let kind = match meaning {
            Meaning::Entry => kind,
            Meaning::Whiteout => Kind::Whiteout,
            Meaning::Opaque => Kind::Opaque,
            Meaning::Aufs => {
                self.summary.note(Note::AufsIgnored, path);
                return self.skip_data(size);
            }
        };
        if path.is_empty() && !matches!(kind, Kind::Directory | Kind::Opaque) {
            return Err(Error::refused(&name[..], "it would replace the root, which is a directory").into());
        }

        let entry = Entry {
            path,
            kind,
            mode: u32::try_from(self.unsigned(&header.as_old().mode, "mode")? & 0o7777).unwrap_or(0),
            uid: self.id(records.uid.or(self.global.uid), &header.as_old().uid, "uid", start)?,
            gid: self.id(records.gid.or(self.global.gid), &header.as_old().gid, "gid", start)?,
            mtime: match records.mtime.or(self.global.mtime) {
                Some(time) => time,
                None => Time {
                    seconds: self.signed(&header.as_old().mtime, "mtime")?,
                    nanoseconds: 0,
                },
            },
            xattrs: &records.xattrs,
        };
        let whole = [(0, size)];
        let runs = map.as_ref().map_or(&whole[..], |map| &map.runs);
        let mut data = Data {
            stream: &mut self.stream,
            progress: self.progress,
            runs,
            done: 0,
            left: size,
            cut: None,
        };
        let outcome = sink.entry(&entry, &mut data);
        let (left, cut) = (data.left, data.cut);
        match (cut, outcome) {
            (Some(Cut::Elsewhere), _) => return Err(Stop::Elsewhere),
            (Some(Cut::Truncated), _) => return Err(self.truncated("a file").into()),
            (None, outcome) => outcome?,
        }
        if self.stream.skip(left)? < left {
            return Err(self.truncated("a file").into());
        }
        self.skip_padding(size)
    }

    fn take_name(&self, header: &Header, extensions: &mut Extensions, name: &mut Vec<u8>) -> Result<(), Error> {
        let records = &mut extensions.records;
        if let Some(long) = records.sparse.name.take().or_else(|| records.path.take()) {
            *name = long;
        } else if let Some(long) = extensions.long_name.take() {
            *name = long;
        } else {
            header::name(header, name);
        }
        if name.is_empty() {
            Err(self.malformed("an entry has no name"))
        } else {
            Ok(())
        }
    }

    /// Returns where the stored bytes of a sparse file go, and takes what of them is the map itself off `size`.
    fn sparse_map(
        &mut self,
        header: &Header,
        kind: u8,
        size: &mut u64,
        extensions: &mut Extensions,
    ) -> Result<Option<SparseMap>, Stop> {
        if kind == b'S' {
            let gnu = header
                .as_gnu()
                .ok_or_else(|| self.malformed("a sparse file of GNU tar has no GNU header"))?;
            let real_size = self.unsigned(&gnu.realsize, "real size")?;
            let mut runs = Vec::new();
            let mut more = sparse::old_gnu(gnu, &mut runs).map_err(|problem| self.malformed(problem))?;
            while more {
                let mut block = GnuExtSparseHeader::new();
                self.map_block(block.as_mut_bytes(), extensions)?;
                more = sparse::old_gnu_block(&block, &mut runs).map_err(|problem| self.malformed(problem))?;
            }
            return Ok(Some(
                SparseMap::new(real_size, runs, *size).map_err(|problem| self.malformed(problem))?,
            ));
        }
        let sparse = std::mem::take(&mut extensions.records.sparse);
        if sparse == pax::SparseRecords::default() {
            return Ok(None);
        }
        if kind != b'0' {
            return Err(self.malformed("something other than a regular file is sparse").into());
        }
        let runs = match (sparse.major.unwrap_or(0), sparse.minor.unwrap_or(0), sparse.map) {
            (1, 0, None) => {
                let mut reader = MapReader::default();
                let mut block = [0; BLOCK];
                loop {
                    *size = size
                        .checked_sub(BLOCK as u64)
                        .ok_or_else(|| self.malformed("the map of the sparse file does not end"))?;
                    self.map_block(&mut block, extensions)?;
                    if let Some(runs) = reader.add(&block).map_err(|problem| self.malformed(problem))? {
                        break runs;
                    }
                }
            }
            (0, 0 | 1, Some(map)) => map,
            (major, minor, map) => {
                let state = if map.is_some() { "with" } else { "without" };
                return Err(self
                    .malformed(format!("sparse format {major}.{minor} {state} a map is unknown"))
                    .into());
            }
        };
        let real_size = sparse
            .size
            .ok_or_else(|| self.malformed("a sparse file has no real size"))?;
        Ok(Some(
            SparseMap::new(real_size, runs, *size).map_err(|problem| self.malformed(problem))?,
        ))
    }

    fn map_block(&mut self, block: &mut [u8; BLOCK], extensions: &mut Extensions) -> Result<(), Stop> {
        extensions.any = true;
        extensions.bytes = extensions.bytes.saturating_add(BLOCK as u64);
        self.check_extension_bytes(extensions.bytes)?;
        if self.stream.read_full(block)? < BLOCK {
            return Err(self.truncated("the map of a sparse file").into());
        }
        Ok(())
    }

    /// Returns what an entry of type `kind` is.
    fn kind<'s>(
        &self,
        header: &Header,
        kind: u8,
        size: u64,
        name: &[u8],
        link: &'s [u8],
        target: &'s mut Vec<u8>,
    ) -> Result<Kind<'s>, Error> {
        if matches!(kind, b'1' | b'2') && link.len() as u64 > self.limits.path_bytes {
            return Err(limit("path_bytes", self.limits.path_bytes, name));
        }
        match kind {
            b'0' | b'S' => Ok(Kind::File { size }),
            b'1' => {
                name::clean(link, target).map_err(|problem| {
                    Error::refused(name, format!("it is a hard link to what cannot be: {problem}"))
                })?;
                Ok(Kind::HardLink { target })
            }
            b'2' if link.is_empty() => Err(Error::refused(name, "it is a symbolic link to nothing")),
            b'2' => Ok(Kind::Symlink { target: link }),
            b'3' | b'4' => self.device(header, kind, name),
            b'5' => Ok(Kind::Directory),
            b'6' => Ok(Kind::Fifo),
            other => Err(Error::refused(
                name,
                format!("its type {:?} is unknown", char::from(other)),
            )),
        }
    }

    fn device(&self, header: &Header, kind: u8, name: &[u8]) -> Result<Kind<'static>, Error> {
        let (major, minor) = header::device(header).ok_or_else(|| self.malformed("a device number is no number"))?;
        if !(0..=MAX_MAJOR).contains(&major) || !(0..=MAX_MINOR).contains(&minor) {
            return Err(Error::refused(
                name,
                format!("its device number {major}:{minor} is out of range"),
            ));
        }
        // Both fit, as just checked.
        let (major, minor) = (u32::try_from(major).unwrap_or(0), u32::try_from(minor).unwrap_or(0));
        Ok(if kind == b'3' {
            Kind::CharDevice { major, minor }
        } else {
            Kind::BlockDevice { major, minor }
        })
    }

    fn skip_data(&mut self, size: u64) -> Result<(), Stop> {
        if self.stream.skip(size)? < size {
            return Err(self.truncated("a file").into());
        }
        self.skip_padding(size)
    }

    /// Steps over what fills the last block of `size` bytes.
    ///
    /// It may be missing at the end of an archive that has no end marker either: `umoci insert` writes such layers, and Go's
    /// reader takes them.
    fn skip_padding(&mut self, size: u64) -> Result<(), Stop> {
        self.stream.skip(size.wrapping_neg() % BLOCK as u64)?;
        Ok(())
    }

    fn signed(&self, field: &[u8], what: &str) -> Result<i64, Error> {
        header::number(field).ok_or_else(|| self.malformed(format!("the {what} of a header is no number")))
    }

    fn unsigned(&self, field: &[u8], what: &str) -> Result<u64, Error> {
        let value = self.signed(field, what)?;
        u64::try_from(value).map_err(|_| self.malformed(format!("the {what} of a header is negative")))
    }

    fn id(&self, record: Option<u64>, field: &[u8], what: &str, start: u64) -> Result<u32, Error> {
        let id = match record {
            Some(id) => id,
            None => self.unsigned(field, what)?,
        };
        // The highest number means "leave as it is" to the kernel.
        u32::try_from(id)
            .ok()
            .filter(|id| *id != u32::MAX)
            .ok_or_else(|| Error::archive(start, format!("the {what} {id} of an entry is out of range")))
    }

    fn malformed(&self, problem: impl Into<String>) -> Error {
        Error::archive(self.stream.offset(), problem)
    }

    fn truncated(&self, what: &'static str) -> Error {
        Error::ArchiveTruncated {
            offset: self.stream.offset(),
            what,
        }
    }
}

/// Why the data of an entry ended early.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Truncated,
    Elsewhere,
}

/// The data of one entry, right out of the shared buffers.
#[derive(Debug)]
struct Data<'s> {
    stream: &'s mut Stream,
    progress: &'s Progress,
    /// Runs that are not finished; the first may be begun.
    runs: &'s [(u64, u64)],
    /// Bytes done of the first run.
    done: u64,
    /// Bytes not yet taken from the stream.
    left: u64,
    cut: Option<Cut>,
}

impl Content for Data<'_> {
    fn next(&mut self) -> Result<Option<Extent<'_>>, Error> {
        self.progress.check()?;
        while let Some((_, length)) = self.runs.first()
            && self.done == *length
        {
            self.runs = &self.runs[1..];
            self.done = 0;
        }
        let Some((offset, length)) = self.runs.first() else {
            return Ok(None);
        };
        let at = offset + self.done;
        let position = self.stream.offset();
        let data = match self.stream.take(length - self.done) {
            Ok(data) if !data.is_empty() => data,
            Ok(_) => {
                self.cut = Some(Cut::Truncated);
                return Err(Error::ArchiveTruncated {
                    offset: position,
                    what: "a file",
                });
            }
            Err(_) => {
                // The reader of the stream has the cause and reports it; this only ends the writer.
                self.cut = Some(Cut::Elsewhere);
                return Err(Error::Cancelled);
            }
        };
        self.done += data.len() as u64;
        self.left -= data.len() as u64;
        Ok(Some(Extent { offset: at, data }))
    }

    fn shared(&self) -> Option<SharedData> {
        match self.runs {
            [(0, length)] if self.done == 0 => self.stream.share(*length),
            _ => None,
        }
    }

    fn is_awaited(&self) -> bool {
        self.stream.waiting() >= CHUNKS_AWAITED
    }
}

fn limit(limit: &'static str, value: u64, name: &[u8]) -> Error {
    Error::Limit {
        limit,
        value,
        path: Some(RawPath::from(&name[..name.len().min(4096)])),
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
