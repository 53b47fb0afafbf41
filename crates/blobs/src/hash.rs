//! Hashing a stream that is read to its end.

use std::io::{self, Read};

use unlade_oci::{Algorithm, Digest, Hasher};

/// Large enough that the calls cost nothing beside the hashing, small enough to stay in the cache.
const BUFFER_BYTES: usize = 128 * 1024;

/// Reads to the end, and returns the digest and the number of bytes. Memory is flat.
pub fn hash(mut reader: impl Read, algorithm: Algorithm) -> io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let size = hasher.length();
    Ok((hasher.finish(), size))
}
