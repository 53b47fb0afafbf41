//! A path as the archive spells it: bytes, shown and serialised reversibly.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A path of an entry, byte for byte, without a leading slash; the root is the empty path.
///
/// Names in a layer are bytes, not text. As text (`Display`, JSON) a path is its UTF-8, with `\xNN` for each byte that is
/// not part of a printable character and `\\` for the backslash, so that parsing the text gives the same bytes back.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawPath(Vec<u8>);

impl RawPath {
    /// Takes the bytes of a path.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for RawPath {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl fmt::Display for RawPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for part in self.0.utf8_chunks() {
            for character in part.valid().chars() {
                if character == '\\' {
                    f.write_str("\\\\")?;
                } else if character.is_control() {
                    let mut buffer = [0; 4];
                    for byte in character.encode_utf8(&mut buffer).bytes() {
                        write!(f, "\\x{byte:02x}")?;
                    }
                } else {
                    f.write_char(character)?;
                }
            }
            for byte in part.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RawPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Why a text is not an escaped path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the escape at byte {position} is neither \\\\ nor \\x and two hexadecimal digits")]
pub struct EscapeError {
    /// Byte position of the backslash.
    pub position: usize,
}

impl FromStr for RawPath {
    type Err = EscapeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let mut path = Vec::with_capacity(bytes.len());
        let mut position = 0;
        while position < bytes.len() {
            if bytes[position] != b'\\' {
                path.push(bytes[position]);
                position += 1;
                continue;
            }
            if bytes.get(position + 1) == Some(&b'\\') {
                path.push(b'\\');
                position += 2;
                continue;
            }
            let hex = (bytes.get(position + 1) == Some(&b'x'))
                .then(|| text.get(position + 2..position + 4))
                .flatten()
                .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .and_then(|digits| u8::from_str_radix(digits, 16).ok());
            path.push(hex.ok_or(EscapeError { position })?);
            position += 4;
        }
        Ok(Self(path))
    }
}

impl Serialize for RawPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RawPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_is_reversible() {
        let cases: [(&[u8], &str); 7] = [
            (b"usr/bin/env", "usr/bin/env"),
            (b"", ""),
            ("grüße/日本".as_bytes(), "grüße/日本"),
            (b"back\\slash", "back\\\\slash"),
            (b"new\nline", "new\\x0aline"),
            (b"latin\xe9", "latin\\xe9"),
            (b"\\x41", "\\\\x41"),
        ];
        for (bytes, text) in cases {
            assert_eq!(RawPath::new(bytes).to_string(), text);
            assert_eq!(text.parse::<RawPath>().unwrap().as_bytes(), bytes, "{text}");
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(
            RawPath::new(all.clone())
                .to_string()
                .parse::<RawPath>()
                .unwrap()
                .as_bytes(),
            all
        );
    }

    #[test]
    fn malformed_escapes() {
        for (text, position) in [("a\\", 1), ("\\x4", 0), ("ab\\n", 2), ("\\x+1", 0), ("\\xé", 0)] {
            assert_eq!(text.parse::<RawPath>().unwrap_err(), EscapeError { position }, "{text}");
        }
    }
}
