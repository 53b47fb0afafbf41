//! How a layer is compressed, told by its first bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The compression of a layer blob.
///
/// The bytes decide ([`Compression::of_magic`]); what the media type claims ([`crate::MediaType::compression_hint`])
/// is only good for a warning where the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// A plain tar stream.
    None,
    /// RFC 1952, one or more members.
    Gzip,
    /// RFC 8878, one or more frames, skippable ones among them.
    Zstd,
}

impl Compression {
    /// How many of the first bytes decide.
    pub const MAGIC_LEN: usize = 4;

    /// Tells the compression from the first [`MAGIC_LEN`](Self::MAGIC_LEN) or more bytes of a blob.
    ///
    /// Fewer bytes mean that the blob is shorter than that. What is neither gzip nor zstd counts as uncompressed;
    /// whether it is a tar stream is for the reader of tar to say.
    pub const fn of_magic(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A zstd frame, or a skippable frame (magic numbers 0x184D2A50 to 0x184D2A5F, little-endian): blobs for
            // lazy pulling (zstd:chunked, eStargz' zstd form) may begin with one.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// Returns the name: `none`, `gzip` or `zstd`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of a compression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a compression, none, gzip and zstd are")]
pub struct UnknownCompression {
    /// The text.
    pub text: String,
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::None, Self::Gzip, Self::Zstd]
            .into_iter()
            .find(|compression| compression.as_str() == text)
            .ok_or_else(|| UnknownCompression { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic() {
        for (head, expected) in [
            (&b""[..], Compression::None),
            (b"\x1f", Compression::None),
            (b"\x1f\x8b", Compression::Gzip),
            (b"\x1f\x8b\x08\x00\x00\x00", Compression::Gzip),
            (b"\x28\xb5\x2f", Compression::None),
            (b"\x28\xb5\x2f\xfd", Compression::Zstd),
            (b"\x50\x2a\x4d\x18rest", Compression::Zstd),
            (b"\x5f\x2a\x4d\x18", Compression::Zstd),
            (b"\x60\x2a\x4d\x18", Compression::None),
            (b"etc/\0\0", Compression::None),
            (b"\0\0\0\0", Compression::None),
        ] {
            assert_eq!(Compression::of_magic(head), expected, "{head:?}");
        }
    }

    #[test]
    fn names_are_read_back() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            assert_eq!(compression.to_string().parse(), Ok(compression));
            assert_eq!(
                serde_json::to_value(compression).expect("a unit variant"),
                serde_json::Value::from(compression.as_str())
            );
        }
        assert_eq!(
            "bzip2".parse::<Compression>(),
            Err(UnknownCompression { text: "bzip2".into() })
        );
    }
}
