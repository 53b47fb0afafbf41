//! PAX extended headers: records `LENGTH KEY=VALUE\n` that override fields of the header that follows.
//!
//! `tar::PaxExtensions` finds records by their newlines, so it cannot read a value that has one: a name with a newline, a
//! binary attribute such as `security.capability`. Here the length decides, as POSIX says.

use super::header::pax_time;
use crate::entry::{Time, Xattr};

/// Prefix of extended attributes as star, GNU tar and Go write them: the value is raw bytes.
const SCHILY_XATTR: &[u8] = b"SCHILY.xattr.";
/// Prefix of extended attributes as libarchive writes them: the name URL-encoded, the value in base64.
const LIBARCHIVE_XATTR: &[u8] = b"LIBARCHIVE.xattr.";

/// What extended headers say of an entry; a field is none where they say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) sparse: SparseRecords,
}

/// What GNU's sparse formats in PAX say (`GNU.sparse.*`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SparseRecords {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    /// `GNU.sparse.size` or `.realsize`: the length with holes.
    pub(super) size: Option<u64>,
    /// Offset and length of each run of data, of the formats 0.0 and 0.1.
    pub(super) map: Option<Vec<(u64, u64)>>,
    /// An offset of 0.0 that waits for its length.
    pending: Option<u64>,
}

impl Records {
    /// Takes in the records of one extended header; a later record overrides an earlier one. An empty value takes a
    /// record back, except of an extended attribute, which may be empty.
    pub(super) fn add(&mut self, data: &[u8]) -> Result<(), String> {
        let mut rest = data;
        // GNU tar pads the last block with NULs, and so may count them in the size.
        while !rest.is_empty() && rest.iter().any(|byte| *byte != 0) {
            let (key, value, after) = record(rest).ok_or_else(|| {
                format!(
                    "the extended header has no well-formed record at its byte {}",
                    data.len() - rest.len()
                )
            })?;
            self.set(key, value).map_err(|problem| {
                format!(
                    "the extended header's record {}: {problem}",
                    String::from_utf8_lossy(key)
                )
            })?;
            rest = after;
        }
        if self.sparse.pending.is_some() {
            return Err("the extended header's record GNU.sparse.offset has no GNU.sparse.numbytes".to_owned());
        }
        Ok(())
    }

    /// Returns the key of a record that decides what bytes mean, and so must not hold for many entries.
    pub(super) fn not_global(&self) -> Option<&'static str> {
        if self.path.is_some() {
            Some("path")
        } else if self.link_path.is_some() {
            Some("linkpath")
        } else if self.size.is_some() {
            Some("size")
        } else if self.sparse != SparseRecords::default() {
            Some("GNU.sparse")
        } else {
            None
        }
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link_path = text(value)?,
            b"size" => self.size = number(value)?,
            b"uid" => self.uid = number(value)?,
            b"gid" => self.gid = number(value)?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(pax_time(value).ok_or("is not a time")?),
            b"GNU.sparse.major" => self.sparse.major = number(value)?,
            b"GNU.sparse.minor" => self.sparse.minor = number(value)?,
            b"GNU.sparse.name" => self.sparse.name = text(value)?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = number(value)?,
            b"GNU.sparse.map" => self.sparse.map = Some(map(value)?),
            b"GNU.sparse.offset" => {
                let offset = number(value)?.ok_or("is empty")?;
                if self.sparse.pending.replace(offset).is_some() {
                    return Err("follows another without a length".to_owned());
                }
            }
            b"GNU.sparse.numbytes" => {
                let offset = self.sparse.pending.take().ok_or("has no offset before it")?;
                let length = number(value)?.ok_or("is empty")?;
                self.sparse.map.get_or_insert_default().push((offset, length));
            }
            _ => {
                if let Some(name) = key.strip_prefix(SCHILY_XATTR) {
                    self.set_xattr(name.into(), value.into())?;
                } else if let Some(name) = key.strip_prefix(LIBARCHIVE_XATTR) {
                    let name = url_decoded(name).ok_or("has a name that is not URL-encoded")?;
                    let value = base64_decoded(value).ok_or("has a value that is not base64")?;
                    // The raw form of the same attribute, if there is one, is the more exact.
                    if !self.xattrs.iter().any(|xattr| *xattr.name == *name) {
                        self.set_xattr(name.into(), value.into())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn set_xattr(&mut self, name: Box<[u8]>, value: Box<[u8]>) -> Result<(), String> {
        if name.is_empty() || name.contains(&0) {
            return Err("names no extended attribute".to_owned());
        }
        match self.xattrs.iter_mut().find(|xattr| xattr.name == name) {
            Some(xattr) => xattr.value = value,
            None => self.xattrs.push(Xattr { name, value }),
        }
        Ok(())
    }
}

/// Splits the first record off: its key, its value, the rest.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(21).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&data[..space])?).ok()?;
    // The shortest record, after its length and blank, is `k=` and the newline.
    if length > data.len() || length < space + 4 || data[length - 1] != b'\n' {
        return None;
    }
    let body = &data[space + 1..length - 1];
    let equals = body.iter().position(|byte| *byte == b'=')?;
    (equals > 0).then(|| (&body[..equals], &body[equals + 1..], &data[length..]))
}

fn text(value: &[u8]) -> Result<Option<Vec<u8>>, String> {
    if value.contains(&0) {
        return Err("holds a NUL byte".to_owned());
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn number(value: &[u8]) -> Result<Option<u64>, String> {
    if value.is_empty() {
        return Ok(None);
    }
    decimal(value)
        .map(Some)
        .ok_or_else(|| "is not a decimal number".to_owned())
}

pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Reads `OFFSET,LENGTH,OFFSET,LENGTH,…`.
fn map(value: &[u8]) -> Result<Vec<(u64, u64)>, String> {
    let mut pairs = Vec::new();
    let mut numbers = value.split(|byte| *byte == b',').map(decimal);
    if value.is_empty() {
        return Ok(pairs);
    }
    while let Some(offset) = numbers.next() {
        match (offset, numbers.next().flatten()) {
            (Some(offset), Some(length)) => pairs.push((offset, length)),
            _ => return Err("is not a list of offsets and lengths".to_owned()),
        }
    }
    Ok(pairs)
}

fn url_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        if *byte == b'%' {
            let high = char::from(*bytes.next()?).to_digit(16)?;
            let low = char::from(*bytes.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(*byte);
        }
    }
    Some(decoded)
}

/// Decodes base64 with or without padding.
fn base64_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0_u32, 0);
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    for byte in &text[..end] {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            decoded.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    (count < 6).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_length(body: &[u8]) -> Vec<u8> {
        let mut length = body.len() + 2;
        while length != body.len() + 2 + length.to_string().len() {
            length = body.len() + 2 + length.to_string().len();
        }
        [length.to_string().as_bytes(), b" ", body, b"\n"].concat()
    }

    fn records(bodies: &[&[u8]]) -> Result<Records, String> {
        let mut records = Records::default();
        let data: Vec<u8> = bodies.iter().flat_map(|body| with_length(body)).collect();
        records.add(&data)?;
        Ok(records)
    }

    #[test]
    fn values_may_hold_anything_but_the_length_decides() {
        let records = records(&[
            b"path=a\nb",
            b"SCHILY.xattr.user.x=1\n2\0=3",
            b"SCHILY.xattr.user.empty=",
        ])
        .unwrap();
        assert_eq!(records.path.unwrap(), b"a\nb");
        assert_eq!(&*records.xattrs[0].value, b"1\n2\0=3");
        assert_eq!(&*records.xattrs[1].value, b"");
    }

    #[test]
    fn later_records_override_and_empty_ones_take_back() {
        let records = records(&[b"path=a", b"path=b", b"size=5", b"size=", b"uid=7", b"comment=x"]).unwrap();
        assert_eq!(records.path.unwrap(), b"b");
        assert_eq!(records.size, None);
        assert_eq!(records.uid, Some(7));
    }

    #[test]
    fn libarchive_attributes() {
        let records = records(&[b"LIBARCHIVE.xattr.user.a%20b=aGVsbG8=", b"SCHILY.xattr.user.c=x"]).unwrap();
        assert_eq!(&*records.xattrs[0].name, b"user.a b");
        assert_eq!(&*records.xattrs[0].value, b"hello");
    }

    #[test]
    fn sparse_maps() {
        let zero = records(&[
            b"GNU.sparse.offset=0",
            b"GNU.sparse.numbytes=1",
            b"GNU.sparse.offset=8",
            b"GNU.sparse.numbytes=2",
        ]);
        let one = records(&[b"GNU.sparse.map=0,1,8,2"]);
        assert_eq!(zero.unwrap().sparse.map, one.unwrap().sparse.map);
        for bad in [
            &b"GNU.sparse.map=1"[..],
            b"GNU.sparse.map=1,",
            b"GNU.sparse.numbytes=1",
            b"GNU.sparse.offset=1",
        ] {
            assert!(records(&[bad]).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn malformed() {
        for bad in [
            &b"5 a=b\n"[..],
            b"99 a=b\n",
            b"6 a=b",
            b"6 a=bx",
            b"x a=b\n",
            b"0 \n",
            b"4 =\n",
            b"18446744073709551616 a=b\n",
            b"-6 a=b\n",
            b"13 path=a\0bc\n",
            b"11 size=-1\n",
            b"11 size=1x\n",
            b"11 mtime=x\n",
        ] {
            assert!(Records::default().add(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(Records::default().add(b"6 a=b\n\0\0\0").is_ok());
    }
}
