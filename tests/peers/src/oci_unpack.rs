//! `peer-oci-unpack REFERENCE DIRECTORY`: pulls an image with the crate `oci-unpack` into `DIRECTORY/image`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use oci_unpack::{Reference, Unpacker};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [reference, directory] = &arguments[..] else {
        bail!("usage: peer-oci-unpack REFERENCE DIRECTORY");
    };
    // Registries on loopback are spoken to without TLS by themselves.
    let source = Reference::try_from(reference.as_str()).with_context(|| format!("{reference} is no reference"))?;
    Unpacker::new(source)
        .require_sandbox(false)
        .unpack(PathBuf::from(directory).join("image"))
        .with_context(|| format!("cannot pull {reference}"))?;
    Ok(())
}
