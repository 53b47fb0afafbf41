//! The grammar of references as tables, and its laws as properties.

mod errors;
mod names;
mod properties;

/// A SHA-256 digest.
const SHA256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// 64 hexadecimal digits.
const HEX_64: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
