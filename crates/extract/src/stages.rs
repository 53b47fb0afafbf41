//! What is measured of a layer, if [`Progress::timed`](crate::Progress::timed) asks for it.
//!
//! [`READ`] and [`INFLATE`] are on one thread, one after the other, buffer by buffer, and so are [`HASH_BLOB`] and [`HASH_RAW`] on
//! another; [`FILES`] has its own; unless the layer is small. Bytes are those of the blob for `READ` and `HASH_BLOB`, and uncompressed ones for
//! the others.

use unlade_sys::Stage;

/// Reads the input, and in an uncompressed layer copies it into the buffers for the others.
///
/// Waits for [`Input`](unlade_sys::Wait::Input), and for [`Output`](unlade_sys::Wait::Output): all buffers are still with the hash or,
/// with no decompression, with the files.
pub const READ: Stage = Stage::new(40, "read");

/// Hashes the blob. Is not there in an uncompressed layer whose diff ID has the same algorithm: one hash is both.
pub const HASH_BLOB: Stage = Stage::new(41, "hash-blob");

/// Decompresses. Waits for [`Output`](unlade_sys::Wait::Output): all buffers are still with the hash or with the files.
pub const INFLATE: Stage = Stage::new(42, "inflate");

/// Hashes the uncompressed bytes. Waits for [`Input`](unlade_sys::Wait::Input).
pub const HASH_RAW: Stage = Stage::new(43, "hash-raw");

/// Reads the archive and makes the files. Waits for [`Input`](unlade_sys::Wait::Input).
pub const FILES: Stage = Stage::new(44, "files");

/// What helpers ([`Helpers`](crate::Helpers)) do of [`FILES`], on threads of their own: they make small files. Waits for
/// [`Input`](unlade_sys::Wait::Input). Is not there where no helper was needed.
pub const SMALL_FILES: Stage = Stage::new(45, "small-files");
