//! What is measured of a layer, if [`Progress::timed`](crate::Progress::timed) asks for it.
//!
//! [`READ`] and [`INFLATE`] are on one thread, one after the other, buffer by buffer; [`HASH`] and [`FILES`] have one each; unless the
//! layer is small. Bytes are those of the blob for `READ`, those of both for `HASH`, and uncompressed ones for the others.

use unlade_sys::Stage;

/// Reads the input, and in an uncompressed layer copies it into the buffers for the others.
///
/// Waits for [`Input`](unlade_sys::Wait::Input), and for [`Output`](unlade_sys::Wait::Output): all buffers are still with the hash or,
/// with no decompression, with the files.
pub const READ: Stage = Stage::new(40, "read");

/// Hashes the blob and the uncompressed bytes, or those alone that are both. Waits for [`Input`](unlade_sys::Wait::Input).
///
/// Two buffers are hashed together where that is faster. If the other is another layer's, the time is counted for the layer whose
/// thread did it, and the bytes for the layer that has them.
pub const HASH: Stage = Stage::new(41, "hash");

/// Decompresses. Waits for [`Output`](unlade_sys::Wait::Output): all buffers are still with the hash or with the files.
pub const INFLATE: Stage = Stage::new(42, "inflate");

/// Reads the archive and makes the files. Waits for [`Input`](unlade_sys::Wait::Input).
pub const FILES: Stage = Stage::new(44, "files");

/// What helpers ([`Helpers`](crate::Helpers)) do of [`FILES`], on threads of their own: they make small files. Waits for
/// [`Input`](unlade_sys::Wait::Input). Is not there where no helper was needed.
pub const SMALL_FILES: Stage = Stage::new(45, "small-files");
