//! An image's root filesystem as one archive: the merged view of its layer directories, entry for entry.
//!
//! The archive is in the pax format of POSIX. Equal trees give equal bytes: directories come before what is in them, names in the
//! order of their bytes, owners are numbers alone, and nothing depends on who writes it, when, or where.

use std::io::{self, Write};

use tar::{EntryType, Header};
use unlade_extract::{Entry, EntryContent, EntrySink, Error as ExtractError, Kind, Progress, RawPath, Time};
use unlade_oci::Platform;
use unlade_reference::Reference;

use crate::export::{Exported, Selection};
use crate::{Error, Needed, Store};

/// The largest number that the fields of a header for owners hold.
const MAX_ID: u32 = 0o777_7777;
/// The largest number that the fields for sizes and times hold.
const MAX_NUMBER: u64 = 0o777_7777_7777;
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

impl Store {
    /// Writes the root filesystem of an image to `out`. All of its layers must have been extracted; the blobs are not needed.
    pub(crate) fn write_rootfs(
        &self,
        reference: &Reference,
        selection: &Selection,
        out: &mut dyn Write,
    ) -> Result<Exported, Error> {
        let platform: Option<&Platform> = match selection {
            Selection::Last => None,
            Selection::Platform(platform) => Some(platform),
            Selection::All => {
                return Err(Error::OneImageOnly {
                    name: reference.to_string(),
                });
            }
        };
        let inspection = self.inspect(reference, platform)?;
        let image = inspection.image;
        let _lease = self.lease(&Needed {
            blobs: std::collections::BTreeSet::new(),
            diff_ids: image.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        })?;
        let Some(view) = self.view(&image)? else {
            return Err(Error::NotExtracted {
                name: image.reference.to_string(),
            });
        };
        let mut sink = TarSink { out, failure: None };
        let written = view.write_to(&mut sink, &Progress::new());
        if let Some(source) = sink.failure {
            return Err(Error::Export { source });
        }
        written?;
        Ok(Exported {
            reference: image.reference.clone(),
            platform: Some(inspection.actual_platform),
            manifest: image.manifest.clone(),
            config: Some(image.config.clone()),
        })
    }
}

/// Writes entries as a tar archive in the pax format.
struct TarSink<'a> {
    out: &'a mut dyn Write,
    /// Why writing has ended, so that it is told from what went wrong in reading.
    failure: Option<io::Error>,
}

impl EntrySink for TarSink<'_> {
    fn entry(&mut self, entry: &Entry<'_>, content: &mut dyn EntryContent) -> Result<(), ExtractError> {
        let (kind, size) = match entry.kind {
            Kind::Directory => (EntryType::Directory, 0),
            Kind::File { size } => (EntryType::Regular, size),
            Kind::Symlink { .. } => (EntryType::Symlink, 0),
            Kind::HardLink { .. } => (EntryType::Link, 0),
            Kind::CharDevice { .. } => (EntryType::Char, 0),
            Kind::BlockDevice { .. } => (EntryType::Block, 0),
            Kind::Fifo => (EntryType::Fifo, 0),
            // A merged view has none.
            Kind::Whiteout | Kind::Opaque => return Ok(()),
        };
        let (header, extension) = headers(entry, kind, size).map_err(|source| self.failed(source))?;
        if !extension.is_empty() {
            let length = extension.len() as u64;
            let mut pax = blank(EntryType::XHeader, length);
            pax.set_path("PaxHeaders/entry").map_err(|source| self.failed(source))?;
            pax.set_cksum();
            self.write(pax.as_bytes())?;
            self.write(&extension)?;
            self.pad(length)?;
        }
        self.write(header.as_bytes())?;
        if let Kind::File { size } = entry.kind {
            let mut position = 0;
            while let Some(extent) = content.next()? {
                self.zeros(extent.offset.saturating_sub(position))?;
                self.write(extent.data)?;
                position = extent.offset + extent.data.len() as u64;
            }
            self.zeros(size.saturating_sub(position))?;
            self.pad(size)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ExtractError> {
        self.zeros(1024)
    }
}

impl TarSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), ExtractError> {
        self.out.write_all(bytes).map_err(|source| self.failed(source))
    }

    fn failed(&mut self, source: io::Error) -> ExtractError {
        self.failure = Some(source);
        ExtractError::Cancelled
    }

    fn zeros(&mut self, mut count: u64) -> Result<(), ExtractError> {
        while count > 0 {
            let length = usize::try_from(count).map_or(ZEROS.len(), |count| count.min(ZEROS.len()));
            self.write(&ZEROS[..length])?;
            count -= length as u64;
        }
        Ok(())
    }

    /// Fills the last block of so many bytes.
    fn pad(&mut self, length: u64) -> Result<(), ExtractError> {
        self.zeros(length.next_multiple_of(512) - length)
    }
}

fn blank(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Returns an entry's header, and the records for what the header cannot hold.
fn headers(entry: &Entry<'_>, kind: EntryType, size: u64) -> io::Result<(Header, Vec<u8>)> {
    let mut records = Records::default();
    let mut path = match entry.path {
        [] => b".".to_vec(),
        path => path.to_vec(),
    };
    if kind == EntryType::Directory {
        path.push(b'/');
    }
    let mut header = blank(kind, size.min(MAX_NUMBER));
    if size > MAX_NUMBER {
        records.add(b"size", size.to_string().as_bytes());
    }
    header.set_mode(entry.mode);
    header.set_uid(u64::from(entry.uid.min(MAX_ID)));
    header.set_gid(u64::from(entry.gid.min(MAX_ID)));
    for (name, id) in [("uid", entry.uid), ("gid", entry.gid)] {
        if id > MAX_ID {
            records.add(name.as_bytes(), id.to_string().as_bytes());
        }
    }
    match u64::try_from(entry.mtime.seconds) {
        Ok(seconds) if seconds <= MAX_NUMBER && entry.mtime.nanoseconds == 0 => header.set_mtime(seconds),
        seconds => {
            header.set_mtime(seconds.map_or(0, |seconds| seconds.min(MAX_NUMBER)));
            records.add(b"mtime", decimal(entry.mtime).as_bytes());
        }
    }
    put(&mut header.as_old_mut().name, &path, b"path", &mut records);
    if let Kind::Symlink { target } | Kind::HardLink { target } = entry.kind {
        put(&mut header.as_old_mut().linkname, target, b"linkpath", &mut records);
    }
    if let Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } = entry.kind {
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
    }
    let mut xattrs: Vec<_> = entry.xattrs.iter().collect();
    xattrs.sort_by(|one, other| one.name.cmp(&other.name));
    for xattr in xattrs {
        // A record ends its name with the first `=`: such an attribute cannot be told in this format.
        if xattr.name.contains(&b'=') {
            let (name, path) = (RawPath::new(xattr.name.to_vec()), RawPath::new(entry.path.to_vec()));
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{path} has the extended attribute {name}, and no archive can hold a name with `=` in it"),
            ));
        }
        records.add(&[b"SCHILY.xattr.", &*xattr.name].concat(), &xattr.value);
    }
    header.set_cksum();
    Ok((header, records.0))
}

/// Puts a name into a field of the header, and into a record if it is too long for it or is not ASCII.
fn put(field: &mut [u8; 100], name: &[u8], keyword: &[u8], records: &mut Records) {
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
    if name.len() > field.len() || !name.is_ascii() {
        records.add(keyword, name);
    }
}

/// Returns seconds with a fraction.
fn decimal(time: Time) -> String {
    let total = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let (sign, total) = (if total < 0 { "-" } else { "" }, total.unsigned_abs());
    let text = format!("{sign}{}.{:09}", total / 1_000_000_000, total % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The records of an extension header.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    fn add(&mut self, keyword: &[u8], value: &[u8]) {
        // The length counts its own digits.
        let rest = keyword.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.0.extend_from_slice(length.to_string().as_bytes());
        self.0.push(b' ');
        self.0.extend_from_slice(keyword);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_counts_its_own_digits() {
        let mut records = Records::default();
        records.add(b"path", b"x");
        records.add(b"a", &[b'b'; 94]);
        records.add(b"a", &[b'b'; 95]);
        let text = String::from_utf8(records.0).unwrap();
        let lengths: Vec<(usize, usize)> = text
            .split_inclusive('\n')
            .map(|record| (record.len(), record.split(' ').next().unwrap().parse().unwrap()))
            .collect();
        assert!(lengths.iter().all(|(is, says)| is == says), "{lengths:?}");
        assert!(text.starts_with("9 path=x\n"), "{text}");
    }

    #[test]
    fn times_before_the_epoch_and_between_seconds() {
        let time = |seconds, nanoseconds| decimal(Time { seconds, nanoseconds });
        assert_eq!(time(1, 500_000_000), "1.5");
        assert_eq!(time(-1, 0), "-1");
        assert_eq!(time(-1, 500_000_000), "-0.5");
        assert_eq!(time(-2, 1), "-1.999999999");
        assert_eq!(time(100, 0), "100");
    }
}
