//! One piece of the work, alone and always the same, so that its instructions can be counted.
//!
//! `cargo xtask bench instructions` builds this with optimisations and runs it under valgrind. Nothing here depends on the
//! machine: input is made by the caller, no hash map with a random seed is filled, and whether the process is root, or may
//! confine its threads, makes no difference.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use unlade_extract::{
    Helpers, Limits, Options, Ownership, Privilege, Progress, Whiteouts, digest_layer, extract_layer,
};
use unlade_oci::{Algorithm, Hasher};
use unlade_reference::Reference;
use unlade_sys::Dir;

/// References as people write them, and two that are none.
const REFERENCES: [&str; 8] = [
    "alpine",
    "debian:bookworm-slim",
    "registry.example:5000/team/project/service:v1.2.3",
    "ghcr.io/owner/name@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "localhost/a/b/c/d/e/f:latest",
    "[2001:db8::1]:8443/repository:tag",
    "name/Upper-case",
    "name:tag with a space",
];
const ROUNDS: usize = 2_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["reference"] => parse_references(),
        ["hash", layer] => hash(Path::new(layer)),
        ["read", layer] => read(Path::new(layer)),
        ["extract", layer, target] => extract(Path::new(layer), Path::new(target)),
        _ => bail!("usage: unlade-pieces reference | hash LAYER | read LAYER | extract LAYER DIRECTORY"),
    }
}

fn parse_references() -> Result<()> {
    let mut sound = 0;
    for _ in 0..ROUNDS {
        for text in REFERENCES {
            if let Ok(reference) = std::hint::black_box(text).parse::<Reference>() {
                std::hint::black_box(reference.to_string());
                sound += 1;
            }
        }
    }
    ensure!(sound == 6 * ROUNDS, "{sound} references can be parsed");
    Ok(())
}

fn hash(layer: &Path) -> Result<()> {
    let bytes = fs::read(layer).with_context(|| format!("cannot read {}", layer.display()))?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(&bytes);
    ensure!(hasher.length() > 0, "the layer is empty");
    std::hint::black_box(hasher.finish());
    Ok(())
}

fn read(layer: &Path) -> Result<()> {
    let bytes = fs::read(layer).with_context(|| format!("cannot read {}", layer.display()))?;
    let sha = Algorithm::Sha256;
    let report = digest_layer(&bytes[..], sha, sha, &Limits::default(), &Progress::new())?;
    ensure!(report.entries > 0, "the layer is empty");
    Ok(())
}

fn extract(layer: &Path, target: &Path) -> Result<()> {
    let bytes = fs::read(layer).with_context(|| format!("cannot read {}", layer.display()))?;
    let options = Options {
        whiteouts: Whiteouts::Oci,
        ownership: Ownership::Squash,
        privilege: Privilege::User,
        limits: Limits::default(),
        confine: false,
        // Whether there is one depends on how fast the threads are.
        helpers: Helpers::new(0),
    };
    let (target, sha) = (Dir::create(target, 0o755)?, Algorithm::Sha256);
    let report = extract_layer(&bytes[..], &target, sha, sha, &options, &Progress::new())?;
    ensure!(report.entries > 0, "the layer is empty");
    Ok(())
}
