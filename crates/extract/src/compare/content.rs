//! A digest of a file's content that holes cost nothing in.
//!
//! It covers each block that is not all zeros, with its place. So a hole, and zeros written out, are the same, as they are to
//! whoever reads the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use unlade_oci::{Algorithm, Digest, Hasher};

const BLOCK: usize = 4096;
const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Bytes read at a time.
const BUFFER: usize = 128 * 1024;

/// Hashes content that comes in order of its places.
pub(super) struct ContentHasher {
    hasher: Hasher,
    block: Box<[u8; BLOCK]>,
    index: u64,
}

impl ContentHasher {
    pub(super) fn new() -> Self {
        Self {
            hasher: Hasher::new(Algorithm::Sha256),
            block: Box::new(ZEROS),
            index: 0,
        }
    }

    /// Takes `data` at `offset`, which is not before the end of what came before.
    pub(super) fn write(&mut self, mut offset: u64, mut data: &[u8]) {
        while !data.is_empty() {
            let index = offset / BLOCK as u64;
            if index != self.index {
                self.flush();
                self.index = index;
            }
            // The remainder is below the size of a block.
            let start = usize::try_from(offset % BLOCK as u64).unwrap_or_default();
            let length = data.len().min(BLOCK - start);
            let (now, later) = data.split_at(length);
            self.block[start..start + length].copy_from_slice(now);
            offset += length as u64;
            data = later;
        }
    }

    fn flush(&mut self) {
        if *self.block != ZEROS {
            self.hasher.update(&self.index.to_le_bytes());
            self.hasher.update(&*self.block);
            *self.block = ZEROS;
        }
    }

    pub(super) fn finish(mut self) -> Digest {
        self.flush();
        self.hasher.finish()
    }
}

/// Hashes a file of `size` bytes.
pub(super) fn hash_file(file: &File, size: u64) -> io::Result<Digest> {
    let mut hasher = ContentHasher::new();
    let mut buffer = vec![0; BUFFER];
    let mut offset = 0;
    while offset < size {
        match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(data) => offset = data,
            Err(Errno::NXIO) => break,
            // The filesystem knows no holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
        let end = rustix::fs::seek(file, SeekFrom::Hole(offset)).unwrap_or(size).min(size);
        while offset < end {
            let read = file.read_at(&mut buffer, offset)?;
            if read == 0 {
                return Ok(hasher.finish());
            }
            hasher.write(offset, &buffer[..read]);
            offset += read as u64;
        }
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn pieces_and_holes_make_no_difference_and_places_do() {
        let hash = |parts: &[(u64, &[u8])]| {
            let mut hasher = ContentHasher::new();
            for (offset, data) in parts {
                hasher.write(*offset, data);
            }
            hasher.finish()
        };
        let data: Vec<u8> = (0..10_000_u32).map(|at| (at % 251) as u8).collect();
        let whole = hash(&[(0, &data)]);
        assert_eq!(
            hash(&[(0, &data[..1]), (1, &data[1..5000]), (5000, &data[5000..])]),
            whole
        );
        assert_ne!(hash(&[(1, &data)]), whole);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all_at(&data, 1 << 20).unwrap();
        file.write_all(b"x").unwrap();
        let sparse = hash(&[(0, b"x"), (1 << 20, &data)]);
        assert_eq!(hash_file(&file, (1 << 20) + 10_000).unwrap(), sparse);
        assert_eq!(hash(&[(0, b"x\0\0"), (9000, &ZEROS), (1 << 20, &data)]), sparse);
    }
}
