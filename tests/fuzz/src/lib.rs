//! What untrusted bytes meet first, as functions that take any bytes and panic if a promise is broken.
//!
//! `cargo xtask fuzz` builds a fuzzer round each of them. The inputs in `corpus/` are those that reach different code; a
//! test feeds them again with every run.

mod archive;
mod document;
mod inflate;
mod layer;
mod reference;

pub use document::document;
pub use inflate::inflate;
pub use layer::layer;
pub use reference::reference;

/// A function that is fed with bytes.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 4] = [
    ("reference", reference),
    ("document", document),
    ("layer", layer),
    ("inflate", inflate),
];
