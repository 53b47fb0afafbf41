//! What is known of a layer once its stream was read to the end.

use serde::{Deserialize, Serialize};
use unlade_oci::{Compression, Digest};

use crate::Summary;

/// Digest and size of a sequence of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The digest.
    pub digest: Digest,
    /// The length in bytes.
    pub size: u64,
}

/// What is known of a layer once its stream was read to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerReport {
    /// The bytes as they came in: what a descriptor names.
    pub blob: Content,
    /// The bytes after decompression: what a diff ID names.
    pub raw: Content,
    /// What the bytes were compressed with, by their magic.
    pub compression: Compression,
    /// How many entries the archive has, extension records not counted.
    pub entries: u64,
    /// Whether the archive has no entry at all.
    pub is_empty: bool,
    /// What was done other than the layer says.
    pub summary: Summary,
}
