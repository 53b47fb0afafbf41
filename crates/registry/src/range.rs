//! What a response to a request for (the rest of) a blob holds: `206`, `416`, `Content-Range` (RFC 9110, 14).

use http::{HeaderMap, StatusCode, header};

use crate::attempt::Reply;

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

/// What an answer to a request for the rest of a blob means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It begins where it was asked to, and ends before this byte, if it says.
    Continues { end: Option<u64> },
    /// It is the whole blob.
    Whole,
    /// It is something else; the whole blob has to be asked for.
    Unfit { reason: String },
    /// The blob has another size.
    OtherSize { actual: u64 },
}

/// Tells what an answer is that came to a request for a blob of `size` bytes from byte `from`.
pub(crate) fn judge(reply: &Reply, from: u64, size: u64) -> Answer {
    let headers = reply.response.headers();
    let length = declared_length(reply);
    match reply.response.status() {
        StatusCode::PARTIAL_CONTENT => judge_part(ContentRange::of(headers), length, from, size),
        StatusCode::RANGE_NOT_SATISFIABLE => match ContentRange::of(headers).and_then(|range| range.total) {
            Some(total) if total != size => Answer::OtherSize { actual: total },
            _ => Answer::Unfit {
                reason: "it says that there is no such range (416)".to_owned(),
            },
        },
        _ => match length {
            Some(actual) if actual != size => Answer::OtherSize { actual },
            _ => Answer::Whole,
        },
    }
}

fn judge_part(range: Option<ContentRange>, length: Option<u64>, from: u64, size: u64) -> Answer {
    let Some(ContentRange {
        bytes: Some((first, last)),
        total,
    }) = range
    else {
        return Answer::Unfit {
            reason: "its part carries no usable Content-Range".to_owned(),
        };
    };
    if let Some(actual) = total.filter(|&total| total != size) {
        return Answer::OtherSize { actual };
    }
    if first != from {
        return Answer::Unfit {
            reason: format!("it answered with the bytes {first}-{last}"),
        };
    }
    if last >= size {
        return Answer::OtherSize {
            actual: last.saturating_add(1),
        };
    }
    if length.is_some_and(|length| length != last - first + 1) {
        return Answer::Unfit {
            reason: "its part is not as long as its Content-Range says".to_owned(),
        };
    }
    Answer::Continues { end: Some(last + 1) }
}

/// Returns the length that a response declares.
pub(crate) fn declared_length(reply: &Reply) -> Option<u64> {
    hyper::body::Body::size_hint(reply.response.body()).exact()
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

    fn part(bytes: Option<(u64, u64)>, total: Option<u64>, length: Option<u64>) -> Answer {
        judge_part(Some(ContentRange { bytes, total }), length, 4, 10)
    }

    #[test]
    fn parts() {
        assert_eq!(
            part(Some((4, 9)), Some(10), Some(6)),
            Answer::Continues { end: Some(10) }
        );
        assert_eq!(part(Some((4, 9)), None, None), Answer::Continues { end: Some(10) });
        assert_eq!(
            part(Some((4, 6)), Some(10), Some(3)),
            Answer::Continues { end: Some(7) }
        );
        assert_eq!(part(Some((4, 10)), Some(11), Some(7)), Answer::OtherSize { actual: 11 });
        assert_eq!(part(Some((4, 10)), None, Some(7)), Answer::OtherSize { actual: 11 });
        let endless = part(Some((4, u64::MAX)), None, None);
        assert_eq!(endless, Answer::OtherSize { actual: u64::MAX });
        for unfit in [
            part(Some((0, 9)), Some(10), Some(10)),
            part(Some((5, 9)), Some(10), Some(5)),
            part(Some((4, 9)), Some(10), Some(5)),
            part(None, Some(10), None),
            judge_part(None, Some(6), 4, 10),
        ] {
            assert!(matches!(unfit, Answer::Unfit { .. }), "{unfit:?}");
        }
    }
}
