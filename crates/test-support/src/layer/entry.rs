//! One tar entry, described in full and turned into header blocks.

use tar::{EntryType, Header};

const BLOCK: usize = 512;
const NAME_FIELD: usize = 100;
/// The largest number that eight octal digits less one hold: uid and gid fields.
const MAX_OCTAL_ID: u64 = 0o777_7777;

/// A tar entry with everything that a layer can say about a file.
///
/// Names are bytes and are written as they are: absolute names, `..` and the empty name are for hostile archives.
/// What the fixed header fields cannot hold goes to a PAX record, or, for names, to GNU `L` and `K` entries when
/// [`Entry::gnu_long_names`] asks for them.
#[derive(Clone, Debug)]
pub struct Entry {
    path: Vec<u8>,
    link: Vec<u8>,
    kind: EntryType,
    mode: u32,
    owner: (u64, u64),
    owner_names: (String, String),
    mtime: (i64, u32),
    device: (u32, u32),
    content: Vec<u8>,
    pax: Vec<(Vec<u8>, Vec<u8>)>,
    gnu_long_names: bool,
    base256: bool,
}

impl Entry {
    /// Describes an entry of any type, mode 0644, owner 0:0, mtime 0, no content.
    pub fn new(path: impl AsRef<[u8]>, entry_type: EntryType) -> Self {
        Self {
            path: path.as_ref().to_vec(),
            link: Vec::new(),
            kind: entry_type,
            mode: 0o644,
            owner: (0, 0),
            owner_names: (String::new(), String::new()),
            mtime: (0, 0),
            device: (0, 0),
            content: Vec::new(),
            pax: Vec::new(),
            gnu_long_names: false,
            base256: false,
        }
    }

    /// Describes a regular file, mode 0644.
    pub fn file(path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        Self {
            content: content.as_ref().to_vec(),
            ..Self::new(path, EntryType::Regular)
        }
    }

    /// Describes a directory. The name is written as given: a trailing slash is the caller's choice.
    pub fn dir(path: impl AsRef<[u8]>, mode: u32) -> Self {
        Self::new(path, EntryType::Directory).mode(mode)
    }

    /// Describes a symbolic link, mode 0777.
    pub fn symlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self {
            link: target.as_ref().to_vec(),
            ..Self::new(path, EntryType::Symlink)
        }
        .mode(0o777)
    }

    /// Describes a hard link to an entry of the archive (or of a lower layer).
    pub fn hardlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self {
            link: target.as_ref().to_vec(),
            ..Self::new(path, EntryType::Link)
        }
    }

    /// Describes a character device.
    pub fn char_device(path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        Self {
            device: (major, minor),
            ..Self::new(path, EntryType::Char)
        }
    }

    /// Describes a block device.
    pub fn block_device(path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        Self {
            device: (major, minor),
            ..Self::new(path, EntryType::Block)
        }
    }

    /// Describes a FIFO.
    pub fn fifo(path: impl AsRef<[u8]>) -> Self {
        Self::new(path, EntryType::Fifo)
    }

    /// Sets the permission bits, set-id and sticky bits included.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Sets user and group ids.
    #[must_use]
    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// Sets user and group names (at most 31 bytes each).
    #[must_use]
    pub fn owner_names(mut self, user: &str, group: &str) -> Self {
        self.owner_names = (user.to_owned(), group.to_owned());
        self
    }

    /// Sets the modification time in seconds since 1970; negative is before.
    #[must_use]
    pub fn mtime(self, seconds: i64) -> Self {
        self.mtime_nanos(seconds, 0)
    }

    /// Sets the modification time with nanoseconds (0 to 999,999,999, counted forward from `seconds`).
    #[must_use]
    pub fn mtime_nanos(mut self, seconds: i64, nanoseconds: u32) -> Self {
        assert!(nanoseconds < 1_000_000_000, "nanoseconds are less than a second");
        self.mtime = (seconds, nanoseconds);
        self
    }

    /// Adds an extended attribute as a `SCHILY.xattr.` PAX record.
    #[must_use]
    pub fn xattr(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let key = [b"SCHILY.xattr.", name.as_ref()].concat();
        self.pax.push((key, value.as_ref().to_vec()));
        self
    }

    /// Adds a PAX record as it is.
    #[must_use]
    pub fn pax(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.pax.push((key.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Sets the link target of an entry of any type.
    #[must_use]
    pub fn link_target(mut self, target: impl AsRef<[u8]>) -> Self {
        self.link = target.as_ref().to_vec();
        self
    }

    /// Sets the content (and with it the size) of an entry of any type.
    #[must_use]
    pub fn content(mut self, content: impl AsRef<[u8]>) -> Self {
        self.content = content.as_ref().to_vec();
        self
    }

    /// Writes names over 100 bytes as GNU `L` and `K` entries instead of PAX records.
    #[must_use]
    pub fn gnu_long_names(mut self) -> Self {
        self.gnu_long_names = true;
        self
    }

    /// Writes numbers that octal digits cannot hold in base 256 (GNU) instead of PAX records.
    #[must_use]
    pub fn base256(mut self) -> Self {
        self.base256 = true;
        self
    }

    /// Writes the entry's blocks, with whatever extension entries it needs before it.
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        let mut pax = self.pax.clone();
        self.write_names_that_do_not_fit(out, &mut pax);
        let gnu = self.gnu_long_names || self.base256;
        let mut header = if gnu { Header::new_gnu() } else { Header::new_ustar() };
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_size(self.content.len() as u64);
        for (key, id, set) in [
            ("uid", self.owner.0, Header::set_uid as fn(&mut Header, u64)),
            ("gid", self.owner.1, Header::set_gid as fn(&mut Header, u64)),
        ] {
            if id <= MAX_OCTAL_ID || self.base256 {
                set(&mut header, id);
            } else {
                set(&mut header, 0);
                pax.push((key.into(), id.to_string().into_bytes()));
            }
        }
        self.set_mtime(&mut header, &mut pax);
        if matches!(self.kind, EntryType::Char | EntryType::Block) {
            header
                .set_device_major(self.device.0)
                .expect("a header with device fields");
            header
                .set_device_minor(self.device.1)
                .expect("a header with device fields");
        }
        header
            .set_username(&self.owner_names.0)
            .expect("a user name of at most 31 bytes");
        header
            .set_groupname(&self.owner_names.1)
            .expect("a group name of at most 31 bytes");
        put_field(&mut header.as_old_mut().name, &self.path);
        put_field(&mut header.as_old_mut().linkname, &self.link);
        header.set_cksum();
        if !pax.is_empty() {
            write_extension(out, EntryType::XHeader, b"PaxHeaders/entry", &pax_records(&pax));
        }
        out.extend_from_slice(header.as_bytes());
        write_padded(out, &self.content);
    }

    fn write_names_that_do_not_fit(&self, out: &mut Vec<u8>, pax: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        for (key, gnu_type, name) in [
            ("path", EntryType::GNULongName, &self.path),
            ("linkpath", EntryType::GNULongLink, &self.link),
        ] {
            if name.len() <= NAME_FIELD {
                continue;
            }
            if self.gnu_long_names {
                write_extension(out, gnu_type, b"././@LongLink", &[name.as_slice(), b"\0"].concat());
            } else {
                pax.push((key.into(), name.clone()));
            }
        }
    }

    fn set_mtime(&self, header: &mut Header, pax: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        let (seconds, nanoseconds) = self.mtime;
        match u64::try_from(seconds) {
            Ok(seconds) if seconds < 1 << 33 || self.base256 => header.set_mtime(seconds),
            _ => header.set_mtime(0),
        }
        let fits = (0..1 << 33).contains(&seconds) || (self.base256 && seconds >= 0);
        if nanoseconds == 0 && fits {
            return;
        }
        // A PAX time is one decimal number, so half a second before 1970 is "-0.5" and not "-1 and a half".
        let text = if nanoseconds == 0 {
            seconds.to_string()
        } else if seconds < 0 {
            let whole = (seconds + 1).unsigned_abs();
            format!("-{whole}.{:09}", 1_000_000_000 - nanoseconds)
        } else {
            format!("{seconds}.{nanoseconds:09}")
        };
        pax.push(("mtime".into(), text.into_bytes()));
    }
}

/// A hole-aware description of a sparse file: where data stands, and how long the whole is.
pub(super) fn write_gnu_sparse(out: &mut Vec<u8>, path: &[u8], real_size: u64, pieces: &[(u64, &[u8])]) {
    const IN_HEADER: usize = 4;
    const IN_EXTENSION: usize = 21;
    const PIECE: usize = 24;
    let stored: usize = pieces.iter().map(|(_, data)| data.len()).sum();
    // A last piece without data marks the end of a file that ends in a hole.
    let mut map: Vec<(u64, u64)> = pieces.iter().map(|(at, data)| (*at, data.len() as u64)).collect();
    map.push((real_size, 0));
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(stored as u64);
    put_field(&mut header.as_old_mut().name, path);
    let gnu = header.as_gnu_mut().expect("a GNU header");
    put_octal(&mut gnu.realsize, real_size);
    for (slot, (at, length)) in gnu.sparse.iter_mut().zip(&map) {
        put_octal(&mut slot.offset, *at);
        put_octal(&mut slot.numbytes, *length);
    }
    gnu.isextended = [u8::from(map.len() > IN_HEADER)];
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    let rest = map.get(IN_HEADER..).unwrap_or_default();
    let blocks = rest.chunks(IN_EXTENSION);
    let last = blocks.len().saturating_sub(1);
    for (number, chunk) in blocks.enumerate() {
        let mut block = [0; BLOCK];
        for (slot, (at, length)) in block.chunks_exact_mut(PIECE).zip(chunk) {
            put_octal(&mut slot[..12], *at);
            put_octal(&mut slot[12..], *length);
        }
        block[IN_EXTENSION * PIECE] = u8::from(number < last);
        out.extend_from_slice(&block);
    }
    let data: Vec<u8> = pieces.iter().flat_map(|(_, data)| data.iter().copied()).collect();
    write_padded(out, &data);
}

/// A sparse file in the PAX form, version 1.0: the map stands as text before the data.
pub(super) fn write_pax_sparse(out: &mut Vec<u8>, path: &[u8], real_size: u64, pieces: &[(u64, &[u8])]) {
    let mut map = vec![pieces.len() as u64 + 1];
    map.extend(pieces.iter().flat_map(|(at, data)| [*at, data.len() as u64]));
    map.extend([real_size, 0]);
    let mut body: Vec<u8> = map
        .iter()
        .flat_map(|number| format!("{number}\n").into_bytes())
        .collect();
    body.resize(body.len().next_multiple_of(BLOCK), 0);
    for (_, data) in pieces {
        body.extend_from_slice(data);
    }
    Entry::file(b"GNUSparseFile.0/placeholder", body)
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.name", path)
        .pax("GNU.sparse.realsize", real_size.to_string())
        .write_to(out);
}

/// Writes a PAX header of the given type (`x` for the next entry, `g` for all that follow).
pub(super) fn write_pax(out: &mut Vec<u8>, entry_type: EntryType, records: &[(Vec<u8>, Vec<u8>)]) {
    write_extension(out, entry_type, b"PaxHeaders/entry", &pax_records(records));
}

/// Appends `bytes` and zeros up to the next block.
pub(super) fn write_padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    out.resize(out.len() + bytes.len().next_multiple_of(BLOCK) - bytes.len(), 0);
}

fn write_extension(out: &mut Vec<u8>, entry_type: EntryType, name: &[u8], body: &[u8]) {
    let mut header = Header::new_ustar();
    header.set_entry_type(entry_type);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(body.len() as u64);
    put_field(&mut header.as_old_mut().name, name);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    write_padded(out, body);
}

/// Each record is `length key=value\n`, where the length counts its own digits.
fn pax_records(records: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        out.extend_from_slice(format!("{length} ").as_bytes());
        out.extend_from_slice(key);
        out.push(b'=');
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out
}

/// Puts as much of a name as fits; what does not is told by an extension entry.
fn put_field(field: &mut [u8], name: &[u8]) {
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
}

fn put_octal(field: &mut [u8], number: u64) {
    let text = format!("{number:0width$o}\0", width = field.len() - 1);
    field.copy_from_slice(text.as_bytes());
}
