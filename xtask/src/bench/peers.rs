//! The programs that are measured beside each other, and what each of them does in a run.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::child::{self, Usage};
use super::disk::Census;
use super::program::{self, Program};

/// A way from a registry to files.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    Unlade(Program),
    /// `skopeo copy` to an OCI layout, then `umoci raw unpack`.
    SkopeoUmoci,
    Podman,
    Buildah,
    /// [`super::naive`].
    Naive,
}

impl Peer {
    /// Returns what there is on this machine, and the names of what is not.
    pub(super) fn all(programs: &[Program]) -> (Vec<Self>, Vec<&'static str>) {
        let mut peers: Vec<_> = programs.iter().cloned().map(Self::Unlade).collect();
        let mut missing = Vec::new();
        let others = [
            (Self::SkopeoUmoci, &["skopeo", "umoci"][..]),
            (Self::Podman, &["podman"]),
            (Self::Buildah, &["buildah"]),
        ];
        for (peer, needed) in others {
            let absent: Vec<_> = needed.iter().copied().filter(|name| !is_installed(name)).collect();
            if absent.is_empty() {
                peers.push(peer);
            }
            missing.extend(absent);
        }
        peers.push(Self::Naive);
        (peers, missing)
    }

    /// Returns how tables call it.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Unlade(program) => program.label.clone(),
            Self::SkopeoUmoci => "skopeo + umoci".to_owned(),
            Self::Podman => "podman".to_owned(),
            Self::Buildah => "buildah".to_owned(),
            Self::Naive => "naive".to_owned(),
        }
    }

    /// Returns the versions of what runs.
    pub(super) fn version(&self) -> String {
        match self {
            Self::Unlade(program) => version(&program.path().to_string_lossy(), &["--version"]),
            Self::SkopeoUmoci => {
                let (skopeo, umoci) = (version("skopeo", &["--version"]), version("umoci", &["--version"]));
                format!("{skopeo}, {umoci}")
            }
            Self::Podman => version("podman", &["--version"]),
            Self::Buildah => version("buildah", &["--version"]),
            Self::Naive => "of this source tree".to_owned(),
        }
    }

    /// Says what it did.
    pub(super) fn does(&self) -> &'static str {
        match self {
            Self::Unlade(_) => {
                "blobs kept in an OCI layout; digests, sizes and diff IDs checked; a directory for each layer with owners, \
                 modes, times, attributes, devices, whiteouts as overlayfs has them; a database of images"
            }
            Self::SkopeoUmoci => {
                "blobs kept in an OCI layout; digests and diff IDs checked; one merged tree with owners, modes, times, \
                 attributes, devices; two programs, one after the other"
            }
            Self::Podman | Self::Buildah => {
                "no blobs kept; digests and diff IDs checked; a directory for each layer, as overlayfs has it, with owners, \
                 modes, times, attributes, devices; a database of images"
            }
            Self::Naive => {
                "blobs kept in files; digests checked; a directory for each layer with modes and times; download, \
                 verification and extraction one after the other, layers in parallel"
            }
        }
    }

    /// Says what of unlade's work it did not do.
    pub(super) fn leaves_out(&self) -> &'static str {
        match self {
            Self::Unlade(_) => "a merged tree (layer directories are merged by a mount)",
            Self::SkopeoUmoci => "separate layers; a record of images; resuming",
            Self::Podman | Self::Buildah => "the blobs",
            Self::Naive => {
                "diff IDs, owners, devices and FIFOs (empty files), attributes, whiteouts (files named .wh.…), limits, \
                 resuming, a record of images"
            }
        }
    }

    /// Pulls `reference` onto an empty filesystem.
    pub(super) fn pull(&self, reference: &str, disk: &Path) -> Result<Usage> {
        let begin = |name: &str| {
            let mut command = Command::new(name);
            program::isolate(&mut command, disk);
            command
        };
        match self {
            Self::Unlade(program) => child::watch(&mut program.pull(disk, reference)),
            Self::SkopeoUmoci => {
                let (layout, tree) = (disk.join("layout"), disk.join("tree"));
                let mut skopeo = begin("skopeo");
                skopeo
                    .args(["--insecure-policy", "--tmpdir"])
                    .arg(disk)
                    .args(["copy", "--src-tls-verify=false"]);
                skopeo.arg(format!("docker://{reference}"));
                let copied = child::watch(skopeo.arg(format!("oci:{}:bench", layout.display())))?;
                let mut umoci = begin("umoci");
                umoci.args(["raw", "unpack", "--image"]);
                let unpacked = child::watch(umoci.arg(format!("{}:bench", layout.display())).arg(&tree))?;
                Ok(copied.then(unpacked))
            }
            Self::Podman | Self::Buildah => {
                let mut command = begin(&self.label());
                command
                    .arg("--root")
                    .arg(disk.join("storage"))
                    .arg("--runroot")
                    .arg(disk.join("run"));
                command.args([
                    "--storage-driver",
                    "overlay",
                    "pull",
                    "--quiet",
                    "--tls-verify=false",
                    reference,
                ]);
                child::watch(&mut command)
            }
            Self::Naive => {
                let mut command =
                    Command::new(std::env::current_exe().context("this program does not know where it is")?);
                program::isolate(&mut command, disk);
                command.args(["bench", "--naive", reference]).arg(disk);
                child::watch(&mut command)
            }
        }
    }

    /// Counts the files that were made of the layers.
    pub(super) fn census(&self, disk: &Path) -> Result<Census> {
        Census::of(&match self {
            Self::Unlade(_) => disk.join("store/layers"),
            Self::SkopeoUmoci => disk.join("tree"),
            Self::Podman | Self::Buildah => disk.join("storage/overlay"),
            Self::Naive => disk.join("layers"),
        })
    }
}

fn is_installed(name: &str) -> bool {
    Command::new(name).arg("--version").output().is_ok()
}

/// Returns what a program calls its version: the first line that it prints.
pub(super) fn version(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name).args(arguments).output();
    let text = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    text.lines().next().unwrap_or("of an unknown version").trim().to_owned()
}
