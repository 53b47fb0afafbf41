//! Compressed bytes: any, and those that are sound but come in odd pieces.

use std::io::{self, Read};

use unlade_extract::{Limits, Progress, digest_layer};
use unlade_oci::{Algorithm, Digest, ErrorClass};
use unlade_test_support::{Compression, LayerBuilder};

/// Reads `data`, behind a byte that chooses how, as a compressed layer.
///
/// # Panics
/// If bytes that were compressed soundly, in one member or frame or in many, do not come out as they went in, or if what the
/// bytes are at fault for is said to be something else.
pub fn inflate(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let sha = Algorithm::Sha256;
    let limits = Limits {
        raw_bytes: Some(8 << 20),
        // A window of gigabytes is a promise of the format, and more than a fuzzer's memory.
        zstd_window_log: 23,
        ..Limits::default()
    };
    let step = usize::from(choice >> 3) + 1;
    if choice & 1 == 0 {
        let read = digest_layer(Pieces { data, step }, sha, sha, &limits, &Progress::new());
        if let Err(error) = read {
            assert_eq!(error.class(), ErrorClass::Rejected, "{error:?}");
        }
        return;
    }
    let builder = LayerBuilder::new().file("file", data);
    let layer = match (choice >> 1) & 3 {
        0 => builder.build(Compression::Gzip),
        1 => builder.build(Compression::Zstd),
        2 => builder.multi_member_gzip(step),
        _ => builder.multi_frame_zstd(step),
    };
    let pieces = Pieces {
        data: &layer.bytes,
        step,
    };
    let report = digest_layer(pieces, sha, sha, &limits, &Progress::new()).expect("a sound layer");
    assert_eq!(report.blob.digest, Digest::sha256(&layer.bytes));
    assert_eq!(report.raw.digest, layer.diff_id);
}

/// A reader that gives a few bytes at a time.
struct Pieces<'a> {
    data: &'a [u8],
    step: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.step.min(buffer.len()).min(self.data.len());
        let (piece, rest) = self.data.split_at(length);
        buffer[..length].copy_from_slice(piece);
        self.data = rest;
        Ok(length)
    }
}
