//! `cargo xtask fixtures`: the fixture images as OCI layouts on disk, held against their pinned digests.
//!
//! The images themselves are made by the `fixtures` module of `unlade-test-support`; here they are written,
//! checked, and joined by those that are made on demand: a layer of 1 GiB, a real Debian image, and a large one.

mod debian;
mod dev;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use unlade_oci::Digest;
use unlade_test_support::{fixtures, write_layout};

/// Where the pins stand, from the root of the repository.
const LOCK: &str = "crates/test-support/fixtures.lock";
/// The name under which the large fixture is pinned.
const LARGE: &str = "large:latest";

/// Write the fixture images as OCI layouts, and check them against their pinned digests
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own on the command line"
)]
pub(crate) struct Args {
    /// Where to write the layouts, a directory for each [default: target/fixtures]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also make the image with a layer of 1 GiB, unless it is there
    #[arg(long)]
    large: bool,
    /// Also make a real Debian image with mmdebstrap, unless it is there
    #[arg(long)]
    debian: bool,
    /// Also make a large real image with mmdebstrap, pip and npm, in five layers and in one, unless it is there
    #[arg(long)]
    dev: bool,
    /// Write nothing, only check the digests
    #[arg(long, conflicts_with_all = ["large", "debian", "dev", "update"])]
    check: bool,
    /// Pin the digests that come out, instead of failing when they differ from the pinned ones
    #[arg(long)]
    update: bool,
}

/// Writes and checks the fixtures.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the manifest has no directory above it")?;
    let out = args.out.clone().unwrap_or_else(|| root.join("target/fixtures"));
    let mut found = BTreeMap::new();
    for fixture in fixtures::all() {
        let mut entries = Vec::new();
        for (tag, artifact) in &fixture.tags {
            found.insert(format!("{}:{tag}", fixture.name), artifact.digest().clone());
            entries.push((*tag, artifact.as_ref()));
        }
        if !args.check {
            let dir = out.join(fixture.name);
            write_layout(&dir, &entries).with_context(|| format!("cannot write the layout {}", dir.display()))?;
            println!("{:<18} {}", fixture.name, fixture.about);
        }
    }
    if args.large {
        found.insert(LARGE.to_owned(), large(&out.join("large"))?);
    }
    if args.update {
        update(&root.join(LOCK), &found)?;
    } else {
        compare(&found)?;
    }
    if args.debian {
        debian::make(&out)?;
    }
    if args.dev {
        dev::make(&out)?;
    }
    if args.check {
        println!("{} digests are as pinned", found.len());
    } else {
        println!("in {}", out.display());
    }
    Ok(())
}

/// Makes the large layout, or takes the one that is there.
fn large(dir: &Path) -> anyhow::Result<Digest> {
    let index = dir.join("index.json");
    if let Ok(document) = fs::read(&index) {
        let document: serde_json::Value =
            serde_json::from_slice(&document).with_context(|| format!("{} is not JSON", index.display()))?;
        let digest = document["manifests"][0]["digest"].as_str().unwrap_or_default();
        println!("{:<18} a layer of 1 GiB (was there)", "large");
        return digest
            .parse()
            .with_context(|| format!("{} names no manifest", index.display()));
    }
    println!("{:<18} a layer of 1 GiB, being made", "large");
    fixtures::write_large(dir, fixtures::LARGE_LAYER_BYTES)
        .with_context(|| format!("cannot write the layout {}", dir.display()))
}

/// Fails, with every difference, unless all digests are the pinned ones.
fn compare(found: &BTreeMap<String, Digest>) -> anyhow::Result<()> {
    let pins = fixtures::pins();
    let mut wrong = String::new();
    for (name, digest) in found {
        match pins.get(name) {
            Some(pinned) if pinned == digest => {}
            Some(pinned) => writeln!(wrong, "  {name} is {digest}, pinned is {pinned}")?,
            None => writeln!(wrong, "  {name} is {digest}, which is not pinned")?,
        }
    }
    for name in pins.keys().filter(|name| *name != LARGE && !found.contains_key(*name)) {
        writeln!(wrong, "  {name} is pinned, and no such fixture is made")?;
    }
    if !wrong.is_empty() {
        bail!("fixtures differ from {LOCK}; if that is wanted, `cargo xtask fixtures --update` pins them:\n{wrong}");
    }
    Ok(())
}

/// Writes the pins; that of the large fixture stays if it was not made.
fn update(lock: &Path, found: &BTreeMap<String, Digest>) -> anyhow::Result<()> {
    let mut pins = found.clone();
    if let Some(large) = fixtures::pins().remove(LARGE) {
        pins.entry(LARGE.to_owned()).or_insert(large);
    }
    let mut text =
        "# Digests of the fixtures' top documents. `cargo xtask fixtures --update` writes this file.\n".to_owned();
    for (name, digest) in &pins {
        writeln!(text, "{name} {digest}")?;
    }
    fs::write(lock, text).with_context(|| format!("cannot write {}", lock.display()))?;
    println!("pinned {} digests in {LOCK}", pins.len());
    Ok(())
}
