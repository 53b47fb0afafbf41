//! The fields of one 512-byte header block.
//!
//! [`tar::Header`] knows where the fields are in each of the header formats. What the fields say is read here, since a
//! layer may have what that crate does not read: negative base-256 times, blank numbers, signed checksums, the longer
//! prefix of star archives.

use tar::Header;

use crate::entry::Time;

/// Bytes of a block: headers and data come in multiples of it.
pub(crate) const BLOCK: usize = 512;

/// Where the checksum stands; it is taken as blanks when it is computed.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Says whether the header's checksum holds, summed as unsigned bytes (POSIX) or as signed ones (old implementations).
pub(super) fn checksum_holds(header: &Header) -> bool {
    let Some(stated) = number(&header.as_old().cksum) else {
        return false;
    };
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (position, byte) in header.as_bytes().iter().enumerate() {
        let byte = if CHECKSUM.contains(&position) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    stated == unsigned || stated == signed
}

/// Returns the name of an entry, with the prefix where the format has one.
pub(super) fn name(header: &Header, into: &mut Vec<u8>) {
    into.clear();
    if let Some(ustar) = header.as_ustar() {
        // star keeps two times in the last 24 bytes of the prefix field, and says so at the end of the block.
        let is_star = header.as_bytes().ends_with(b"tar\0");
        let prefix = until_nul(if is_star { &ustar.prefix[..131] } else { &ustar.prefix });
        if !prefix.is_empty() {
            into.extend_from_slice(prefix);
            into.push(b'/');
        }
    }
    into.extend_from_slice(until_nul(&header.as_old().name));
}

/// Returns the target of a link.
pub(super) fn link_name(header: &Header) -> &[u8] {
    until_nul(&header.as_old().linkname)
}

/// Returns the device numbers, which only some formats have.
pub(super) fn device(header: &Header) -> Option<(i64, i64)> {
    let (major, minor) = if let Some(ustar) = header.as_ustar() {
        (&ustar.dev_major, &ustar.dev_minor)
    } else if let Some(gnu) = header.as_gnu() {
        (&gnu.dev_major, &gnu.dev_minor)
    } else {
        return Some((0, 0));
    };
    Some((number(major)?, number(minor)?))
}

/// Reads a numeric field: octal digits between blanks or NULs, or base-256 (a two's complement number whose first byte has
/// its highest bit set). A blank field is 0. Returns nothing if it is no number, or none of 64 bits.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    if field.first().is_some_and(|byte| byte & 0x80 != 0) {
        return base_256(field);
    }
    let digits = until_nul(field).trim_ascii();
    let mut value: i64 = 0;
    for digit in digits {
        if !matches!(digit, b'0'..=b'7') {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))?;
    }
    Some(value)
}

fn base_256(field: &[u8]) -> Option<i64> {
    // The highest bit says that the field is binary, the next one is the sign.
    let negative = field[0] & 0x40 != 0;
    let mut value: i128 = if negative { -1 } else { 0 };
    for (position, byte) in field.iter().enumerate() {
        let byte = match position {
            0 if negative => byte | 0x80,
            0 => byte & 0x7f,
            _ => *byte,
        };
        value = (value << 8) | i128::from(byte);
    }
    i64::try_from(value).ok()
}

/// Reads a decimal time of PAX, `-?[0-9]+(\.[0-9]*)?`; what is beyond 64 bits of seconds is clamped, digits beyond
/// nanoseconds are cut off.
pub(super) fn pax_time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut nanoseconds = 0;
    for position in 0..9 {
        nanoseconds = nanoseconds * 10 + u32::from(fraction.as_bytes().get(position).map_or(0, |byte| byte - b'0'));
    }
    let seconds = whole.parse::<i64>().unwrap_or(i64::MAX);
    if !negative {
        return Some(Time { seconds, nanoseconds });
    }
    Some(if nanoseconds == 0 {
        Time {
            seconds: -seconds,
            nanoseconds: 0,
        }
    } else {
        Time {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        }
    })
}

pub(super) fn until_nul(field: &[u8]) -> &[u8] {
    field
        .iter()
        .position(|byte| *byte == 0)
        .map_or(field, |end| &field[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"        "), Some(0));
        assert_eq!(number(b"77777777777\0"), Some(0o77_777_777_777));
        assert_eq!(number(b"0000648\0"), None);
        assert_eq!(number(b"-1\0"), None);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]), Some(-2));
    }

    #[test]
    fn a_number_beyond_64_bits_is_none() {
        assert_eq!(number(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn pax_times() {
        let time = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
        assert_eq!(pax_time(b"1700000000.123456789"), time(1_700_000_000, 123_456_789));
        assert_eq!(pax_time(b"1.5"), time(1, 500_000_000));
        assert_eq!(pax_time(b"1."), time(1, 0));
        assert_eq!(pax_time(b"-1.5"), time(-2, 500_000_000));
        assert_eq!(pax_time(b"-3"), time(-3, 0));
        assert_eq!(pax_time(b"0.0000000019"), time(0, 1));
        assert_eq!(pax_time(b"99999999999999999999"), time(i64::MAX, 0));
        for bad in ["", "-", "x", "1.x", "+1", "1e3", " 1"] {
            assert_eq!(pax_time(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
