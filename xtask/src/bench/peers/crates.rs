//! Programs over other crates that pull images: `tests/peers`, a workspace of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Builds the program over `name`, a crate and a feature, and returns where it is.
pub(super) fn build(root: &Path, target: &Path, name: &str) -> Result<PathBuf> {
    let directory = target.join("peers");
    println!("$ cargo build --release --manifest-path tests/peers/Cargo.toml --features {name}");
    let status = Command::new("cargo")
        .current_dir(root)
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--manifest-path",
            "tests/peers/Cargo.toml",
        ])
        .args(["--features", name, "--target-dir"])
        .arg(&directory)
        .stdin(Stdio::null())
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the program over {name} does not build");
    Ok(directory.join(format!("release/peer-{name}")))
}
