//! OCI digests, descriptors, documents that keep their bytes, platforms and their matching.
//!
//! No I/O happens here: the crate turns bytes into checked values and back.

mod digest;

pub use digest::{Algorithm, Digest, DigestError, Hasher};
