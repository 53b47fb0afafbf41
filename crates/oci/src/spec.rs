//! The way to the types of `oci-spec`, for programs that speak them.

use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest};
use serde::de::DeserializeOwned;

use crate::error::DocumentError;
use crate::{Document, ImageConfig, Index, Manifest};

impl Document<Index> {
    /// Reads the bytes of the document again, as `oci-spec` sees them.
    ///
    /// Fails where `oci-spec` is stricter than this crate, see the crate's documentation.
    pub fn to_spec(&self) -> Result<ImageIndex, DocumentError> {
        read(self.bytes(), "index")
    }
}

impl Document<Manifest> {
    /// Reads the bytes of the document again, as `oci-spec` sees them.
    ///
    /// Fails where `oci-spec` is stricter than this crate, see the crate's documentation.
    pub fn to_spec(&self) -> Result<ImageManifest, DocumentError> {
        read(self.bytes(), "manifest")
    }
}

impl Document<ImageConfig> {
    /// Reads the bytes of the document again, as `oci-spec` sees them.
    ///
    /// Fails where `oci-spec` is stricter than this crate, see the crate's documentation.
    pub fn to_spec(&self) -> Result<ImageConfiguration, DocumentError> {
        read(self.bytes(), "image configuration")
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8], document: &'static str) -> Result<T, DocumentError> {
    serde_json::from_slice(bytes).map_err(|source| DocumentError::Json { document, source })
}
