//! `Content-Range`: which part of a blob a response holds (RFC 9110, 14.4).

use http::{HeaderMap, header};

/// A parsed `Content-Range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentRange {
    /// First and last byte, both included; `None` in an answer that no range fits.
    pub(crate) bytes: Option<(u64, u64)>,
    /// The size of the whole, if the server knows it.
    pub(crate) total: Option<u64>,
}

impl ContentRange {
    /// Reads the header of a response; `None` if it is missing or malformed.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(header::CONTENT_RANGE)?.to_str().ok()?)
    }

    fn parse(value: &str) -> Option<Self> {
        let (unit, rest) = value.trim().split_once(' ')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (bytes, total) = rest.trim().split_once('/')?;
        let total = match total.trim() {
            "*" => None,
            total => Some(total.parse().ok()?),
        };
        let bytes = match bytes.trim() {
            "*" => None,
            bytes => {
                let (first, last) = bytes.split_once('-')?;
                let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
                if first > last || total.is_some_and(|total| last >= total) {
                    return None;
                }
                Some((first, last))
            }
        };
        Some(Self { bytes, total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let range = |bytes, total| Some(ContentRange { bytes, total });
        let table = [
            ("bytes 5-9/10", range(Some((5, 9)), Some(10))),
            ("Bytes 5-9/*", range(Some((5, 9)), None)),
            ("bytes */10", range(None, Some(10))),
            ("bytes 5-10/10", None),
            ("bytes 9-5/10", None),
            ("bytes=5-9/10", None),
            ("items 5-9/10", None),
            ("bytes 5-9", None),
            ("bytes -9/10", None),
            ("", None),
        ];
        for (value, expected) in table {
            assert_eq!(ContentRange::parse(value), expected, "{value}");
        }
    }
}
