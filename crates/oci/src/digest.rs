//! Content digests: the two registered algorithms, strict parsing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Hasher;

/// A hash algorithm that a digest may name.
///
/// The image specification registers these two and calls every other one unrecognised
/// (image-spec, `descriptor.md`, *Registered Algorithms*).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256: 64 hexadecimal digits.
    Sha256,
    /// SHA-512: 128 hexadecimal digits.
    Sha512,
}

impl Algorithm {
    /// Returns the name as it stands before the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Returns how many hexadecimal digits a digest of this algorithm has.
    pub const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A content digest, `algorithm:hex`, known to be well formed.
///
/// A `Digest` can only be made by parsing or by hashing, so its hex part is always lower-case hexadecimal of the
/// right length and safe to use as a file name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

impl Digest {
    /// Returns the SHA-256 digest of `bytes`.
    pub fn sha256(bytes: impl AsRef<[u8]>) -> Self {
        Self::of(Algorithm::Sha256, bytes)
    }

    /// Returns the digest of `bytes` under `algorithm`.
    pub fn of(algorithm: Algorithm, bytes: impl AsRef<[u8]>) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes.as_ref());
        hasher.finish()
    }

    /// Returns the digest that a hash is, which has the length that `algorithm` gives it.
    pub(crate) fn of_hash(algorithm: Algorithm, hash: &[u8]) -> Self {
        let mut hex = String::with_capacity(algorithm.hex_len());
        for byte in hash {
            for nibble in [byte >> 4, byte & 15] {
                hex.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        Self {
            algorithm,
            hex: hex.into(),
        }
    }

    /// Returns the algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the hexadecimal part, lower case.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// Returns the first 12 hexadecimal digits, for people.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// There is no colon between algorithm and hex.
    #[error("a digest has the form algorithm:hex, this has no colon")]
    NoSeparator,
    /// The algorithm is not one of the registered ones.
    #[error("the digest algorithm {algorithm:?} is not supported, sha256 and sha512 are")]
    UnknownAlgorithm {
        /// What stood before the colon.
        algorithm: String,
    },
    /// The hex part has the wrong length.
    #[error("a {algorithm} digest has {expected} hexadecimal digits, this has {actual}", expected = algorithm.hex_len())]
    WrongLength {
        /// The algorithm named.
        algorithm: Algorithm,
        /// How many bytes follow the colon.
        actual: usize,
    },
    /// The hex part has a byte that is not a lower-case hexadecimal digit.
    #[error("a digest is lower-case hexadecimal, position {position} holds {found:?}")]
    NotHex {
        /// Byte position in the whole text, from 0.
        position: usize,
        /// The character there.
        found: char,
    },
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, hex) = text.split_once(':').ok_or(DigestError::NoSeparator)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            other => {
                return Err(DigestError::UnknownAlgorithm {
                    algorithm: other.to_owned(),
                });
            }
        };
        if let Some((at, found)) = hex.char_indices().find(|(_, c)| !matches!(c, '0'..='9' | 'a'..='f')) {
            return Err(DigestError::NotHex {
                position: name.len() + 1 + at,
                found,
            });
        }
        if hex.len() != algorithm.hex_len() {
            return Err(DigestError::WrongLength {
                algorithm,
                actual: hex.len(),
            });
        }
        Ok(Self {
            algorithm,
            hex: hex.into(),
        })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
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
    fn known_values() {
        assert_eq!(
            Digest::sha256("").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert!(
            Digest::of(Algorithm::Sha512, "abc")
                .to_string()
                .starts_with("sha512:ddaf35a193617aba")
        );
    }

    #[test]
    fn parse_and_display_are_inverse() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = Digest::of(algorithm, "x");
            assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        }
    }

    #[test]
    fn malformed() {
        let hex = "a".repeat(64);
        let parse = |text: &str| text.parse::<Digest>().unwrap_err();
        assert_eq!(parse(&hex), DigestError::NoSeparator);
        assert_eq!(
            parse(&format!("md5:{hex}")),
            DigestError::UnknownAlgorithm {
                algorithm: "md5".into()
            }
        );
        assert_eq!(
            parse("sha256:ab"),
            DigestError::WrongLength {
                algorithm: Algorithm::Sha256,
                actual: 2
            }
        );
        assert_eq!(
            parse(&format!("sha256:A{hex}")),
            DigestError::NotHex {
                position: 7,
                found: 'A'
            }
        );
        assert_eq!(
            parse("sha256:../../etc/passwd"),
            DigestError::NotHex {
                position: 7,
                found: '.'
            }
        );
    }
}
