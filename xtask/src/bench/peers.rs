//! The programs that are measured beside each other, and what each of them does in a run.

mod containerd;
mod crates;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use super::child::{self, Usage};
use super::disk::Census;
use super::images::Image;
use super::naive::Inflater;
use super::program::{self, Program};
use super::system_calls;
use containerd::Daemon;

/// What can be asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Name {
    /// This program, from the sources or as given by --binary
    Unlade,
    /// skopeo, then umoci
    Skopeo,
    Podman,
    Buildah,
    /// With a daemon of its own and `ctr`
    Containerd,
    /// The simple way, a part of this benchmark, with the inflater that is in Rust by default
    Naive,
    /// The same with the inflater that unlade has
    NaiveZlibRs,
    /// A program over the crate, built when it is asked for
    OciUnpack,
    /// A program over the crate, built when it is asked for
    MicrosandboxImage,
}

impl Name {
    /// Those that are measured if none is asked for.
    const USUAL: [Self; 7] = [
        Self::Unlade,
        Self::Skopeo,
        Self::Podman,
        Self::Buildah,
        Self::Containerd,
        Self::Naive,
        Self::NaiveZlibRs,
    ];

    /// The programs that have to be installed for it.
    fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Skopeo => &["skopeo", "umoci"],
            Self::Podman => &["podman"],
            Self::Buildah => &["buildah"],
            Self::Containerd => &["containerd", "ctr"],
            Self::Unlade | Self::Naive | Self::NaiveZlibRs | Self::OciUnpack | Self::MicrosandboxImage => &[],
        }
    }
}

/// A way from a registry to files.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    Unlade(Program),
    /// `skopeo copy` to an OCI layout, then `umoci raw unpack`.
    SkopeoUmoci,
    Podman,
    Buildah,
    Containerd,
    /// [`super::naive`].
    Naive(Inflater),
    /// A program of `tests/peers`, by its path.
    OciUnpack(PathBuf),
    /// A program of `tests/peers`, by its path.
    MicrosandboxImage(PathBuf),
}

impl Peer {
    /// Returns those `wanted`, or the usual ones that there are on this machine; and the names of what is not. What was
    /// asked for and is not there is an error.
    pub(super) fn all(
        root: &Path,
        target: &Path,
        programs: &[Program],
        wanted: &[Name],
    ) -> Result<(Vec<Self>, Vec<&'static str>)> {
        let (mut peers, mut missing) = (Vec::new(), Vec::new());
        for name in if wanted.is_empty() { &Name::USUAL[..] } else { wanted } {
            let absent = || name.needs().iter().copied().filter(|program| !is_installed(program));
            if absent().next().is_some() {
                missing.extend(absent());
                continue;
            }
            match name {
                Name::Unlade => peers.extend(programs.iter().cloned().map(Self::Unlade)),
                Name::Skopeo => peers.push(Self::SkopeoUmoci),
                Name::Podman => peers.push(Self::Podman),
                Name::Buildah => peers.push(Self::Buildah),
                Name::Containerd => peers.push(Self::Containerd),
                Name::Naive => peers.push(Self::Naive(Inflater::MinizOxide)),
                Name::NaiveZlibRs => peers.push(Self::Naive(Inflater::ZlibRs)),
                Name::OciUnpack => peers.push(Self::OciUnpack(crates::build(root, target, "oci-unpack")?)),
                Name::MicrosandboxImage => {
                    peers.push(Self::MicrosandboxImage(crates::build(
                        root,
                        target,
                        "microsandbox-image",
                    )?));
                }
            }
        }
        ensure!(
            wanted.is_empty() || missing.is_empty(),
            "not installed: {}",
            missing.join(", ")
        );
        Ok((peers, missing))
    }

    /// Returns how tables call it.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Unlade(program) => program.label.as_str(),
            Self::SkopeoUmoci => "skopeo + umoci",
            Self::Podman => "podman",
            Self::Buildah => "buildah",
            Self::Containerd => "containerd",
            Self::Naive(Inflater::MinizOxide) => "naive",
            Self::Naive(Inflater::ZlibRs) => "naive-zlib-rs",
            Self::OciUnpack(_) => "oci-unpack",
            Self::MicrosandboxImage(_) => "microsandbox-image",
        }
        .to_owned()
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
            Self::Containerd => version("containerd", &["--version"]),
            Self::Naive(inflater) => format!("of this source tree, with {}", inflater.name()),
            Self::OciUnpack(_) => "crate 0.2.0".to_owned(),
            Self::MicrosandboxImage(_) => "crate 0.7.13".to_owned(),
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
            Self::Containerd => {
                "blobs kept; digests and diff IDs checked; a directory for each layer, as overlayfs has it, with owners, \
                 modes, times, attributes, devices; a database of images; the start of the daemon is not counted"
            }
            Self::Naive(_) => {
                "blobs kept in files; digests checked; a directory for each layer with modes and times; download, \
                 verification and extraction one after the other, layers in parallel"
            }
            Self::OciUnpack(_) => {
                "digests checked; one merged tree with owners as root, modes, times; one layer after the other"
            }
            Self::MicrosandboxImage(_) => {
                "digests and diff IDs checked; an EROFS image for each layer, and one of the names of all; layers in parallel"
            }
        }
    }

    /// Says what of unlade's work it did not do.
    pub(super) fn leaves_out(&self) -> &'static str {
        match self {
            Self::Unlade(_) => "a merged tree (layer directories are merged by a mount)",
            Self::SkopeoUmoci => "separate layers; a record of images; resuming",
            Self::Podman | Self::Buildah => "the blobs",
            Self::Containerd => "work without a daemon",
            Self::Naive(_) => {
                "diff IDs, owners, devices and FIFOs (empty files), attributes, whiteouts (files named .wh.…), limits, \
                 resuming, a record of images"
            }
            Self::OciUnpack(_) => {
                "the blobs, diff IDs, FIFOs and devices, attributes, removal of whole directories (a whiteout of one is an \
                 error), separate layers, a record of images, resuming"
            }
            Self::MicrosandboxImage(_) => "files (none are made, the images have to be mounted), attributes",
        }
    }

    /// Says whether files are made, so that it can be held against others that make them.
    pub(super) fn makes_files(&self) -> bool {
        !matches!(self, Self::MicrosandboxImage(_))
    }

    /// Says what part of its wall time unlade is to take at most, for those that have such an aim by name.
    pub(super) fn aim(&self) -> Option<f64> {
        match self {
            Self::Containerd => Some(0.3),
            Self::SkopeoUmoci | Self::Podman | Self::Buildah => Some(0.25),
            Self::Unlade(_) | Self::Naive(_) | Self::OciUnpack(_) | Self::MicrosandboxImage(_) => None,
        }
    }

    /// Says whether it has something to show with `image` that no other has: what inflates gzip makes no difference to zstd.
    pub(super) fn differs_with(&self, image: Image) -> bool {
        !(image.is_zstd() && matches!(self, Self::Naive(Inflater::ZlibRs)))
    }

    /// Pulls `reference` onto an empty filesystem.
    pub(super) fn pull(&self, reference: &str, disk: &Path) -> Result<Usage> {
        if matches!(self, Self::Containerd) {
            return Daemon::start(disk)?.watch(reference);
        }
        let mut sum = Usage::default();
        for mut command in self.commands(reference, disk)? {
            sum = sum.then(child::watch(&mut command)?);
        }
        Ok(sum)
    }

    /// Pulls under strace and returns the number of system calls, or nothing where they cannot be counted.
    pub(super) fn count_calls(&self, reference: &str, disk: &Path) -> Result<Option<u64>> {
        if matches!(self, Self::Containerd) {
            return Daemon::start(disk)?.count_calls(reference);
        }
        let mut sum = 0;
        for command in self.commands(reference, disk)? {
            let Some(calls) = system_calls::count(&command, disk)? else {
                return Ok(None);
            };
            sum += calls;
        }
        Ok(Some(sum))
    }

    /// Returns the programs that pull `reference`, one after the other. Containerd's daemon is another matter.
    fn commands(&self, reference: &str, disk: &Path) -> Result<Vec<Command>> {
        let begin = |program: &Path| {
            let mut command = Command::new(program);
            program::isolate(&mut command, disk);
            command
        };
        Ok(match self {
            Self::Unlade(program) => vec![program.pull(disk, reference)],
            Self::SkopeoUmoci => {
                let (layout, tree) = (disk.join("layout"), disk.join("tree"));
                let mut skopeo = begin("skopeo".as_ref());
                skopeo
                    .args(["--insecure-policy", "--tmpdir"])
                    .arg(disk)
                    .args(["copy", "--src-tls-verify=false"]);
                skopeo.arg(format!("docker://{reference}"));
                skopeo.arg(format!("oci:{}:bench", layout.display()));
                let mut umoci = begin("umoci".as_ref());
                umoci.args(["raw", "unpack", "--image"]);
                umoci.arg(format!("{}:bench", layout.display())).arg(&tree);
                vec![skopeo, umoci]
            }
            Self::Podman | Self::Buildah => {
                let mut command = begin(self.label().as_ref());
                command.arg("--root").arg(disk.join("storage"));
                command.arg("--runroot").arg(disk.join("run"));
                command.args([
                    "--storage-driver",
                    "overlay",
                    "pull",
                    "--quiet",
                    "--tls-verify=false",
                    reference,
                ]);
                vec![command]
            }
            Self::Containerd => vec![],
            Self::Naive(inflater) => {
                let this = std::env::current_exe().context("this program does not know where it is")?;
                let mut command = begin(&this);
                command.args(["bench", "--naive", inflater.name(), reference]).arg(disk);
                vec![command]
            }
            Self::OciUnpack(program) | Self::MicrosandboxImage(program) => {
                let mut command = begin(program);
                command.arg(reference).arg(disk);
                vec![command]
            }
        })
    }

    /// Counts the files that were made of the layers.
    pub(super) fn census(&self, disk: &Path) -> Result<Census> {
        Census::of(&match self {
            Self::Unlade(_) => disk.join("store/layers"),
            Self::SkopeoUmoci => disk.join("tree"),
            Self::Podman | Self::Buildah => disk.join("storage/overlay"),
            Self::Containerd => containerd::snapshots(disk),
            Self::Naive(_) => disk.join("layers"),
            Self::OciUnpack(_) => disk.join("image"),
            Self::MicrosandboxImage(_) => disk.join("cache"),
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
