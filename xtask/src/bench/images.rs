//! The images that are pulled, as OCI layouts below `target/fixtures`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

/// An image to pull; its tag is `latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Image {
    /// A real Debian with nginx, in three layers
    Debian,
    /// The same in zstd
    DebianZstd,
    /// A small web server of made-up files, in three layers
    Web,
    /// Sixty small layers
    Many,
    /// The same in zstd
    ManyZstd,
    /// One layer of 1 GiB in eight files
    Large,
    /// Compilers, a scientific Python and much JavaScript on a Debian, in five layers
    Dev,
    /// The same in zstd
    DevZstd,
    /// The same in one layer
    Mono,
    /// The same in one layer of zstd
    MonoZstd,
}

impl Image {
    /// Returns its name, which is also that of its layout and its repository.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::DebianZstd => "debian-zstd",
            Self::Web => "web",
            Self::Many => "many",
            Self::ManyZstd => "many-zstd",
            Self::Large => "large",
            Self::Dev => "dev",
            Self::DevZstd => "dev-zstd",
            Self::Mono => "mono",
            Self::MonoZstd => "mono-zstd",
        }
    }

    /// Says what it is.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Debian => "Debian with nginx, 3 gzip layers",
            Self::DebianZstd => "Debian with nginx, 3 zstd layers",
            Self::Web => "a made-up web server, 3 gzip layers",
            Self::Many => "60 small gzip layers",
            Self::ManyZstd => "60 small zstd layers",
            Self::Large => "one gzip layer of 1 GiB in 8 files",
            Self::Dev => "compilers, Python and JavaScript, 5 gzip layers",
            Self::DevZstd => "compilers, Python and JavaScript, 5 zstd layers",
            Self::Mono => "compilers, Python and JavaScript, one gzip layer",
            Self::MonoZstd => "compilers, Python and JavaScript, one zstd layer",
        }
    }

    /// Says whether its layers are in zstd.
    pub(super) fn is_zstd(self) -> bool {
        matches!(self, Self::DebianZstd | Self::ManyZstd | Self::DevZstd | Self::MonoZstd)
    }

    /// Says whether all of it is one layer, of which much has to happen in order.
    pub(super) fn has_one_layer(self) -> bool {
        matches!(self, Self::Large | Self::Mono | Self::MonoZstd)
    }

    /// Makes the layout unless it is there, and returns its directory.
    pub(super) fn prepare(self, root: &Path) -> Result<PathBuf> {
        let layout = root.join("target/fixtures").join(self.name());
        if layout.join("index.json").exists() {
            return Ok(layout);
        }
        let mut fixtures = Command::new(std::env::current_exe().context("this program does not know where it is")?);
        fixtures.arg("fixtures");
        match self {
            Self::Debian | Self::DebianZstd => fixtures.arg("--debian"),
            Self::Large => fixtures.arg("--large"),
            Self::Dev | Self::DevZstd | Self::Mono | Self::MonoZstd => fixtures.arg("--dev"),
            Self::Web | Self::Many | Self::ManyZstd => &mut fixtures,
        };
        let status = fixtures.status().context("cannot run this program a second time")?;
        ensure!(status.success(), "the image {} cannot be made", self.name());
        Ok(layout)
    }
}
