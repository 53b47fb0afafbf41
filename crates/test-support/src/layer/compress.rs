//! Compression of layers, with the same bytes on every machine.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzEncoder;

use crate::Compression;

/// The gzip level of every layer made here; 6 is what most builders use.
const GZIP_LEVEL: u32 = 6;
/// The zstd level of every layer made here.
const ZSTD_LEVEL: i32 = 3;
/// A skippable frame of four bytes: readers must step over it.
const SKIPPABLE_FRAME: &[u8] = b"\x50\x2a\x4d\x18\x04\0\0\0skip";

/// Compresses `raw` as one member or frame.
pub(super) fn whole(raw: &[u8], compression: Compression) -> Bytes {
    match compression {
        Compression::None => Bytes::copy_from_slice(raw),
        Compression::Gzip => Bytes::from(gzip_member(raw)),
        Compression::Zstd => Bytes::from(zstd_frame(raw)),
    }
}

/// Compresses `raw` as `members` gzip members, one behind the other.
pub(super) fn gzip_members(raw: &[u8], members: usize) -> Bytes {
    pieces(raw, members).flat_map(gzip_member).collect()
}

/// Compresses `raw` as `frames` zstd frames with a skippable frame before each.
pub(super) fn zstd_frames(raw: &[u8], frames: usize) -> Bytes {
    pieces(raw, frames)
        .flat_map(|piece| [SKIPPABLE_FRAME.to_vec(), zstd_frame(piece)].concat())
        .collect()
}

/// A gzip writer with the settings of this module, for layers too large for memory.
pub(crate) fn gzip_writer<W: Write>(inner: W) -> GzEncoder<W> {
    GzEncoder::new(inner, flate2::Compression::new(GZIP_LEVEL))
}

fn pieces(raw: &[u8], count: usize) -> impl Iterator<Item = &[u8]> {
    assert!(count > 0, "at least one member");
    let size = raw.len().div_ceil(count).max(1);
    raw.chunks(size)
}

fn gzip_member(raw: &[u8]) -> Vec<u8> {
    in_memory(gzip_writer(Vec::new()), raw, GzEncoder::finish)
}

fn zstd_frame(raw: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(raw, ZSTD_LEVEL).expect("zstd compresses anything in memory")
}

fn in_memory<W: Write>(mut writer: W, raw: &[u8], finish: impl FnOnce(W) -> io::Result<Vec<u8>>) -> Vec<u8> {
    writer
        .write_all(raw)
        .and_then(|()| finish(writer))
        .expect("writing to memory cannot fail")
}
