//! `peer-microsandbox-image REFERENCE DIRECTORY`: pulls an image with the crate `microsandbox-image` into
//! `DIRECTORY/cache`, as EROFS images of the layers.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use microsandbox_image::{GlobalCache, Platform, PullOptions, Reference, Registry};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [reference, directory] = &arguments[..] else {
        bail!("usage: peer-microsandbox-image REFERENCE DIRECTORY");
    };
    let (authority, _) = reference.split_once('/').context("a reference begins with the registry")?;
    let source: Reference = reference.parse().with_context(|| format!("{reference} is no reference"))?;
    let cache = GlobalCache::new(&PathBuf::from(directory).join("cache"))?;
    let registry = Registry::builder(Platform::host_linux(), cache)
        .add_insecure_registries(vec![authority.to_owned()])
        .build()?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(registry.pull(&source, &PullOptions::default()))
        .with_context(|| format!("cannot pull {reference}"))?;
    Ok(())
}
