//! Documents and the choice of a platform, through the crate's public face.

mod documents;
mod platforms;
mod robustness;

use bytes::Bytes;
use serde_json::{Value, json};
use unlade_oci::{Digest, MediaType};

/// Returns the bytes of a document.
fn bytes(value: &Value) -> Bytes {
    value.to_string().into()
}

/// Returns a descriptor for a document, with content named by `seed`.
fn descriptor(media_type: &MediaType, seed: &str) -> Value {
    json!({"mediaType": media_type, "digest": Digest::sha256(seed), "size": seed.len()})
}

/// Returns an image manifest that names no type of its own.
fn manifest() -> Value {
    json!({
        "schemaVersion": 2,
        "config": descriptor(&MediaType::OCI_CONFIG, "config"),
        "layers": [descriptor(&MediaType::OCI_LAYER_GZIP, "a"), descriptor(&MediaType::OCI_LAYER_ZSTD, "b")],
    })
}

/// Returns an index that names no type of its own.
fn index() -> Value {
    json!({"schemaVersion": 2, "manifests": [descriptor(&MediaType::OCI_MANIFEST, "m")]})
}

/// Returns `document` with one more member.
fn with(mut document: Value, name: &str, value: impl Into<Value>) -> Value {
    document[name] = value.into();
    document
}
