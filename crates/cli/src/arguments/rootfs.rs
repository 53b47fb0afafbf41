//! The commands that make a root filesystem of an image.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use unlade_oci::Platform;

use super::{Durability, Limits, Login, Ownership, Policy, Progress};
use crate::network::{DownloadFlags, NetworkFlags};
use crate::registries::RegistryFlags;

/// How the image is found, and what is missing of it fetched.
#[derive(Debug, Args)]
pub(crate) struct Obtain {
    /// Look for layer directories below DIR instead of in the store
    #[arg(short = 'L', long, value_name = "DIR")]
    pub(crate) layer_path: Option<PathBuf>,
    /// The platform wanted, instead of this machine's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,
    /// When to ask the registry
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub(crate) policy: Policy,
    /// Whom the files belong to; by default root preserves owners, anybody else records them
    #[arg(long, value_name = "HOW")]
    pub(crate) ownership: Option<Ownership>,
    /// Whether to wait until the disk has it all, lazy by default
    #[arg(long, value_name = "HOW")]
    pub(crate) durability: Option<Durability>,
    /// How progress is shown on stderr
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) progress: Progress,
    #[command(flatten)]
    pub(crate) login: Login,
    #[command(flatten)]
    pub(crate) registries: RegistryFlags,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) network: NetworkFlags,
    #[command(flatten)]
    pub(crate) downloads: DownloadFlags,
}

/// `unpack`
#[derive(Debug, Args)]
pub(crate) struct Unpack {
    /// An image reference
    #[arg(value_name = "REF")]
    pub(crate) name: OsString,
    /// Where the root filesystem goes: a directory that does not exist, or is empty
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Put it in the place of a directory that is not empty, in one step
    #[arg(long)]
    pub(crate) replace: bool,
    /// Let a symbolic link to a directory stay where a layer has a directory, as for /lib with a merged /usr
    #[arg(long)]
    pub(crate) keep_dirlinks: bool,
    /// Make hard links into the store instead of copies: for reading only, a change would change the store
    #[arg(long, conflicts_with = "keep_dirlinks")]
    pub(crate) hardlink: bool,
    /// Write the image's configuration, and what to start in it, to FILE as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) image_config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) obtain: Obtain,
}

/// `mount`
#[derive(Debug, Args)]
pub(crate) struct Mount {
    /// An image reference
    #[arg(value_name = "REF")]
    pub(crate) name: OsString,
    /// Where it is mounted; the directory is made if it is not there
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Mount it for this command alone, in namespaces of its own; takes no root
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
    /// Let it be written to: changes go to UPPER, and UPPER.work is the kernel's
    #[arg(long, value_name = "UPPER")]
    pub(crate) rw: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) obtain: Obtain,
}

/// `umount`
#[derive(Debug, Args)]
pub(crate) struct Unmount {
    /// Where the image is mounted
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}
