//! How much a decompressor remembers of what it has put out, told from the first bytes of a stream.

use unlade_oci::Compression;

/// Bytes of a stream from which its window can be told: a skippable frame without content and a frame's header.
pub const WINDOW_HEAD_BYTES: usize = 32;

/// What the window is taken to be if the bytes do not tell: the largest that zstd uses unless it is told to (RFC 8878, 3.1.1.1.2).
const UNKNOWN: u64 = 8 << 20;

const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184D_2A50..=0x184D_2A5F;

/// Returns the bytes of memory that the window of the stream that begins with `head` takes, by its first frame.
///
/// That of gzip is always 32 KiB (RFC 1951), that of zstd is in the header of each frame. Nothing is compressed without a window but
/// plain bytes.
pub fn window_bytes(head: &[u8]) -> u64 {
    match Compression::of_magic(head) {
        Compression::None => 0,
        Compression::Gzip => 32 << 10,
        Compression::Zstd => zstd(head).unwrap_or(UNKNOWN),
    }
}

/// Reads frame headers as RFC 8878 has them in 3.1.1.1 and 3.1.2.
fn zstd(mut head: &[u8]) -> Option<u64> {
    loop {
        let (magic, rest) = head.split_first_chunk()?;
        let magic = u32::from_le_bytes(*magic);
        if !SKIPPABLE.contains(&magic) {
            head = rest;
            break;
        }
        let (length, rest) = rest.split_first_chunk()?;
        head = rest.get(usize::try_from(u32::from_le_bytes(*length)).ok()?..)?;
    }
    let (descriptor, head) = head.split_first()?;
    let is_single = descriptor & 0x20 != 0;
    if !is_single {
        let window = head.first()?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // Without a window the content is one, and its size follows the number of the dictionary.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = head.get(dictionary..)?;
    match descriptor >> 6 {
        0 => size.first().map(|size| u64::from(*size)),
        1 => size
            .first_chunk()
            .map(|size| u64::from(u16::from_le_bytes(*size)) + 256),
        2 => size.first_chunk().map(|size| u64::from(u32::from_le_bytes(*size))),
        _ => size.first_chunk().map(|size| u64::from_le_bytes(*size)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zstd::stream::raw::CParameter;

    use super::*;

    fn compressed(window_log: u32, bytes: &[u8], pledged: bool) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_parameter(CParameter::WindowLog(window_log)).unwrap();
        if pledged {
            encoder.set_pledged_src_size(Some(bytes.len() as u64)).unwrap();
            encoder.include_contentsize(true).unwrap();
        }
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn head(stream: &[u8]) -> &[u8] {
        &stream[..WINDOW_HEAD_BYTES.min(stream.len())]
    }

    #[test]
    fn windows_are_those_that_zstd_was_told() {
        for log in [10, 17, 23, 27] {
            let stream = compressed(log, &[7; 1000], false);
            assert_eq!(window_bytes(head(&stream)), 1 << log);
        }
    }

    #[test]
    fn content_that_is_its_own_window_tells_its_size() {
        for size in [200, 300, 70_000, 1 << 20] {
            let stream = compressed(27, &vec![7; size], true);
            assert_eq!(window_bytes(head(&stream)), size as u64);
        }
    }

    #[test]
    fn fractions_of_a_power_count() {
        let frame = [0x28, 0xB5, 0x2F, 0xFD, 0, (3 << 3) | 5];
        assert_eq!(window_bytes(&frame), 8192 + 5 * 1024);
    }

    #[test]
    fn frames_to_skip_are_skipped() {
        let mut stream = vec![0x5A, 0x2A, 0x4D, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
        stream.extend(compressed(21, &[7; 1000], false));
        assert_eq!(window_bytes(head(&stream)), 2 << 20);
        // One that is longer than what is looked at.
        stream[4] = 200;
        assert_eq!(window_bytes(head(&stream)), UNKNOWN);
    }

    #[test]
    fn other_streams_have_theirs() {
        assert_eq!(window_bytes(&[0x1F, 0x8B, 8, 0]), 32 << 10);
        assert_eq!(window_bytes(b"etc/"), 0);
        assert_eq!(window_bytes(b""), 0);
        assert_eq!(window_bytes(&[0x28, 0xB5, 0x2F, 0xFD]), UNKNOWN);
    }
}
