//! Helps a fuzzer over the checksums of tar headers, which it would never guess.

const BLOCK: usize = 512;
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Returns `data` with the checksum of each header put right. What is a header is told by the sizes of the entries before.
pub(crate) fn with_checksums(data: &[u8]) -> Vec<u8> {
    let mut tar = data.to_vec();
    let mut at = 0;
    while let Some(header) = tar.get_mut(at..at + BLOCK) {
        if header.iter().any(|byte| *byte != 0) {
            header[CHECKSUM].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let digits: String = header[SIZE]
            .iter()
            .map(|byte| char::from(*byte))
            .filter(char::is_ascii_digit)
            .collect();
        let size = usize::from_str_radix(&digits, 8).unwrap_or(0);
        let left = tar.len() - at - BLOCK;
        // A size that leaves the data is for the reader to find out; the next block may be a header for another one.
        at += BLOCK + if size <= left { size.next_multiple_of(BLOCK) } else { 0 };
    }
    tar
}
