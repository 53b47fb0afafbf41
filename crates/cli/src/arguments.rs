//! The command line, as clap reads it: plain values, nothing decided yet.

mod rootfs;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use unlade_oci::Platform;

pub(crate) use self::rootfs::{Mount, Obtain, Unmount, Unpack};
use crate::network::{DownloadFlags, NetworkFlags};
use crate::quantity::{Age, ByteSize};
use crate::registries::RegistryFlags;

/// Pulls container images and turns them into files, without a daemon.
#[derive(Debug, Parser)]
#[command(
    name = "unlade",
    version,
    max_term_width = 100,
    styles = STYLES,
    after_long_help = crate::environment::help(),
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The form of results, and of errors
    #[arg(long, global = true, value_name = "FORM", default_value = "text")]
    pub(crate) format: FormatWord,
    /// Whether that was given.
    #[arg(skip)]
    pub(crate) has_format: bool,
    /// The store: where images, blobs and layers are kept
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// The configuration file, instead of the user's and the system's
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Neither progress nor warnings, only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Log what happens to stderr; twice or three times for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// What `--format` can be. With `export` it also is the form of what is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatWord {
    /// For people
    Text,
    /// For programs: one JSON document; an error is one JSON object on stderr
    Json,
    /// An OCI image layout
    #[value(hide = true)]
    OciLayout,
    /// An OCI image layout in a tar archive
    #[value(hide = true)]
    OciArchive,
    /// What `docker save` writes
    #[value(hide = true)]
    DockerArchive,
    /// The root filesystem
    #[value(hide = true)]
    Tar,
}

/// The form of what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// The form of what is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExportForm {
    OciLayout,
    OciArchive,
    DockerArchive,
    Tar,
}

impl FormatWord {
    /// Returns the form of what is printed, and of what is exported, if that is named.
    pub(crate) const fn split(self) -> (Format, Option<ExportForm>) {
        match self {
            Self::Text => (Format::Text, None),
            Self::Json => (Format::Json, None),
            Self::OciLayout => (Format::Text, Some(ExportForm::OciLayout)),
            Self::OciArchive => (Format::Text, Some(ExportForm::OciArchive)),
            Self::DockerArchive => (Format::Text, Some(ExportForm::DockerArchive)),
            Self::Tar => (Format::Text, Some(ExportForm::Tar)),
        }
    }
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Pull images from a registry and extract their layers
    Pull(Box<Pull>),
    /// List the images in the store
    #[command(visible_alias = "ls")]
    Images,
    /// Show all that is known of images in the store, as JSON
    ///
    /// With --format text: what each name stands for, its layer directories, and what their extraction did other than the
    /// layers say
    Inspect(Inspect),
    /// Remove images, and what no other image needs
    Rm(Remove),
    /// Make a directory of an image: its root filesystem
    Unpack(Box<Unpack>),
    /// Mount an image over its layer directories: its root filesystem
    Mount(Box<Mount>),
    /// End such a mount
    Umount(Unmount),
    /// Write an image to files that other tools read
    #[command(after_help = EXPORT_FORMS)]
    Export(Export),
    /// Bring images in from files that other tools, or `export`, have written
    Import(Box<Import>),
    /// Remove what no image needs, and images by age or size
    Prune(Prune),
    /// Show how much room the store takes, and each image of it
    Df,
    /// Look whether everything in the store is there and as it should be
    Verify(Verify),
    /// Ask the registry what a name stands for
    Resolve(Resolve),
    /// Show what a pull would do: servers, logins, platform, and what would be fetched
    Explain(Explain),
    /// List the tags of a repository
    Tags(Tags),
    /// List what refers to an image: signatures, attestations, bills of materials
    Referrers(Referrers),
    /// Log in to a registry: check the login and keep it
    Login(LogIn),
    /// Remove a login that is kept
    Logout(LogOut),
    /// Show which logins there are
    Auth(Auth),
    /// Print a completion script for a shell
    Completions(Completions),
}

/// The login for the registry that a command is about.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Login options")]
pub(crate) struct Login {
    /// Log in as USER, whatever is kept
    #[arg(short, long, value_name = "USER", requires = "password_stdin")]
    pub(crate) username: Option<String>,
    /// Read the password or access token from stdin
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
    #[command(flatten)]
    pub(crate) authfile: AuthFile,
    /// Send no login, whatever is kept
    #[arg(long, conflicts_with_all = ["username", "authfile"])]
    pub(crate) no_creds: bool,
}

/// Where logins are.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AuthFile {
    /// The file with logins that goes before all others
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
}

/// The platforms wanted, as they are typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Platforms {
    /// All of them.
    All,
    /// This one.
    One(Platform),
}

impl Platforms {
    /// Returns the one that is wanted.
    pub(crate) const fn one(&self) -> Option<&Platform> {
        match self {
            Self::All => None,
            Self::One(platform) => Some(platform),
        }
    }
}

impl std::str::FromStr for Platforms {
    type Err = unlade_oci::PlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" {
            Ok(Self::All)
        } else {
            text.parse().map(Self::One)
        }
    }
}

/// `pull`
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Pull {
    /// Image references, or names of image groups with -G
    #[arg(required = true, value_name = "REF")]
    pub(crate) names: Vec<OsString>,
    /// Each REF is an image; this is the default
    #[arg(short, long, conflicts_with = "image_group")]
    pub(crate) image: bool,
    /// Each REF is the name of an image group in the configuration file
    #[arg(short = 'G', long)]
    pub(crate) image_group: bool,
    /// Extract the layers below DIR instead of in the store
    #[arg(short = 'L', long, value_name = "DIR")]
    pub(crate) layer_path: Option<PathBuf>,
    /// The platform wanted, instead of this machine's; `all` keeps the index whole, and extracts nothing
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platforms>,
    /// When to ask the registry
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub(crate) policy: Policy,
    /// Keep the blobs, do not extract them
    #[arg(long)]
    pub(crate) no_extract: bool,
    /// Each REF is an artifact (a chart, a model, a signature …): keep its blobs as they are
    #[arg(long, conflicts_with_all = ["image", "image_group", "layer_path", "no_extract", "whiteouts", "ownership"])]
    pub(crate) artifact: bool,
    /// Keep the layer directories, throw the blobs of layers away
    #[arg(long, conflicts_with = "no_extract")]
    pub(crate) discard_blobs: bool,
    /// If the pull fails, remove what has arrived of layers; it is kept by default, and a later pull continues it
    #[arg(long, conflicts_with = "artifact")]
    pub(crate) discard_partial: bool,
    /// How a layer's removals are kept in its directory, overlay by default
    #[arg(long, value_name = "FORM")]
    pub(crate) whiteouts: Option<Whiteouts>,
    /// Whom the files of layers belong to; by default root preserves owners, anybody else records them
    #[arg(long, value_name = "HOW")]
    pub(crate) ownership: Option<Ownership>,
    /// Whether to wait until the disk has it all, lazy by default
    #[arg(long, value_name = "HOW")]
    pub(crate) durability: Option<Durability>,
    /// How progress is shown on stderr
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) progress: Progress,
    /// When it is done, say on stderr where the time went: each stage of each layer, busy and waiting
    #[arg(long)]
    pub(crate) timings: bool,
    /// Write the times to FILE, in the form that Perfetto and Chrome show
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Compute no digest of a layer and believe it, to measure what that costs
    #[cfg(feature = "bench-skip-verify")]
    #[arg(long)]
    pub(crate) bench_skip_verify: bool,
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

/// When the registry is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// If the store does not have the whole image
    Missing,
    /// Always; only what is missing is fetched
    Always,
    /// Never; fail if the store does not have the whole image
    Never,
}

impl From<Policy> for unlade_pull::Policy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Missing => Self::Missing,
            Policy::Always => Self::Always,
            Policy::Never => Self::Never,
        }
    }
}

/// How removals are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Whiteouts {
    /// As overlayfs reads them
    Overlay,
    /// As files named .wh.NAME, as in the layer
    Oci,
}

/// Whom files belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ownership {
    /// To whom the layer says; takes root
    Preserve,
    /// To you, and an attribute of each file has what the layer says
    Record,
    /// To you
    Squash,
    /// To whom the layer says, with your subordinate ids in a user namespace
    Userns,
}

impl From<Ownership> for unlade_images::Ownership {
    fn from(ownership: Ownership) -> Self {
        match ownership {
            Ownership::Preserve => Self::Preserve,
            Ownership::Record => Self::Record,
            Ownership::Squash => Self::Squash,
            Ownership::Userns => Self::Userns,
        }
    }
}

/// Whether a command waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    /// No; after a power loss what was lost is found and made again
    Lazy,
    /// Yes
    Sync,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// Bars on a terminal, a line now and then elsewhere
    Auto,
    /// Bars
    Tty,
    /// A line now and then
    Plain,
    /// One JSON object a line
    Json,
    /// Not at all
    None,
}

/// Where extraction gives up; each is `unlade_extract::Limits`'s field of that name.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Limits for what is extracted")]
#[expect(clippy::struct_field_names, reason = "clap names the flags after the fields")]
pub(crate) struct Limits {
    /// Uncompressed size of a layer; not limited by default
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_raw_bytes: Option<ByteSize>,
    /// Uncompressed size of all layers that the pull extracts; not limited by default
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_total_raw_bytes: Option<ByteSize>,
    /// Uncompressed bytes for each compressed byte, beyond the first 16 MiB; not limited by default
    #[arg(long, value_name = "FACTOR")]
    pub(crate) max_ratio: Option<u64>,
    /// Length of a file, its holes included; not limited by default
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_file_bytes: Option<ByteSize>,
    /// Entries of a layer
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_entries: Option<u64>,
    /// Length of an entry's path, and of a link's target
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_path_bytes: Option<ByteSize>,
    /// Components of an entry's path
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_depth: Option<u64>,
    /// Size of an entry's extended attributes
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_xattr_bytes: Option<ByteSize>,
    /// Size of an entry's extension records
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_extension_bytes: Option<ByteSize>,
    /// Memory for what must be remembered to the end of a layer
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_deferred_bytes: Option<ByteSize>,
    /// Base-2 logarithm of the largest zstd window, at most 31
    #[arg(long, value_name = "LOG", value_parser = clap::value_parser!(u32).range(10..=31))]
    pub(crate) max_zstd_window_log: Option<u32>,
}

/// `inspect`
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Image references
    #[arg(required = true, value_name = "REF")]
    pub(crate) names: Vec<OsString>,
    /// The image for this platform alone, if there are several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,
}

/// `rm`
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Image references
    #[arg(required = true, value_name = "REF")]
    pub(crate) names: Vec<OsString>,
    /// The image for this platform alone, if there are several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,
}

const EXPORT_FORMS: &str = "Forms (--format):
  oci-archive     an OCI image layout in a tar archive; the default
  oci-layout      an OCI image layout, a directory
  docker-archive  what `docker save` writes
  tar             the root filesystem, of an image whose layers are extracted";

/// `export`
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// An image reference
    #[arg(value_name = "REF")]
    pub(crate) name: OsString,
    /// Where to; - is the standard output
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: PathBuf,
    /// The image for this platform, if there are several; `all` is the whole index
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platforms>,
}

/// `import`
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// An OCI layout (a directory), an archive of one, or docker's archive; - is the standard input
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// What the image is called, instead of what it is called there
    #[arg(long, value_name = "REF")]
    pub(crate) name: Option<OsString>,
    /// Extract the layers below DIR instead of in the store
    #[arg(short = 'L', long, value_name = "DIR")]
    pub(crate) layer_path: Option<PathBuf>,
    /// The platform wanted, instead of this machine's; `all` keeps the index whole, and extracts nothing
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platforms>,
    /// Keep the blobs, do not extract them
    #[arg(long)]
    pub(crate) no_extract: bool,
    /// If the import fails, remove what has come in of layers; it is kept by default, and a later import or pull continues it
    #[arg(long)]
    pub(crate) discard_partial: bool,
    /// How a layer's removals are kept in its directory, overlay by default
    #[arg(long, value_name = "FORM")]
    pub(crate) whiteouts: Option<Whiteouts>,
    /// Whom the files of layers belong to; by default root preserves owners, anybody else records them
    #[arg(long, value_name = "HOW")]
    pub(crate) ownership: Option<Ownership>,
    /// Whether to wait until the disk has it all, lazy by default
    #[arg(long, value_name = "HOW")]
    pub(crate) durability: Option<Durability>,
    /// How progress is shown on stderr
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) progress: Progress,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

/// `prune`
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Only say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Remove images that were not used for AGE, such as 30d or 12h
    #[arg(long, value_name = "AGE")]
    pub(crate) max_age: Option<Age>,
    /// Remove images, those first that were not used for longest, until the rest takes at most SIZE
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_size: Option<ByteSize>,
    /// Remove all images and artifacts, and downloads that were cut off
    #[arg(long, conflicts_with_all = ["max_age", "max_size"])]
    pub(crate) all: bool,
    /// Remove the blobs of layers that are extracted
    #[arg(long)]
    pub(crate) blobs: bool,
}

/// `verify`
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Read every blob, and hold every layer directory against its blob
    #[arg(long)]
    pub(crate) deep: bool,
    /// Make good what is damaged: from the blobs, or else from the registry
    #[arg(long)]
    pub(crate) repair: bool,
    #[command(flatten)]
    pub(crate) login: Login,
    #[command(flatten)]
    pub(crate) registries: RegistryFlags,
    #[command(flatten)]
    pub(crate) network: NetworkFlags,
}

/// `resolve`
#[derive(Debug, Args)]
pub(crate) struct Resolve {
    /// An image reference
    #[arg(value_name = "REF")]
    pub(crate) name: OsString,
    /// The platform wanted, instead of this machine's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) login: Login,
    #[command(flatten)]
    pub(crate) registries: RegistryFlags,
    #[command(flatten)]
    pub(crate) network: NetworkFlags,
}

/// `explain`
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// An image reference
    #[arg(value_name = "REF")]
    pub(crate) name: OsString,
    /// The platform wanted, instead of this machine's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,
    /// When the pull would ask the registry
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub(crate) policy: Policy,
    /// A pull that keeps the blobs and does not extract them
    #[arg(long)]
    pub(crate) no_extract: bool,
    #[command(flatten)]
    pub(crate) login: Login,
    #[command(flatten)]
    pub(crate) registries: RegistryFlags,
    #[command(flatten)]
    pub(crate) network: NetworkFlags,
}

/// `tags`
#[derive(Debug, Args)]
pub(crate) struct Tags {
    /// A repository, as in an image reference
    #[arg(value_name = "REPOSITORY")]
    pub(crate) repository: OsString,
    #[command(flatten)]
    pub(crate) login: Login,
    #[command(flatten)]
    pub(crate) registries: RegistryFlags,
    #[command(flatten)]
    pub(crate) network: NetworkFlags,
}

/// `referrers`
#[derive(Debug, Args)]
pub(crate) struct Referrers {
    /// An image reference
    #[arg(value_name = "REF")]
    pub(crate) name: OsString,
    /// Those of this type alone
    #[arg(long, value_name = "TYPE")]
    pub(crate) artifact_type: Option<String>,
    /// What refers to the image of this platform, instead of to what the name itself stands for
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) login: Login,
    #[command(flatten)]
    pub(crate) registries: RegistryFlags,
    #[command(flatten)]
    pub(crate) network: NetworkFlags,
}

/// `login`
#[derive(Debug, Args)]
pub(crate) struct LogIn {
    /// The registry, docker.io by default
    #[arg(value_name = "REGISTRY")]
    pub(crate) registry: Option<OsString>,
    /// The user; asked for at the terminal if not given
    #[arg(short, long, value_name = "USER")]
    pub(crate) username: Option<String>,
    /// Read the password or access token from stdin, instead of asking at the terminal
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
    /// The file to keep the login in, instead of docker's config.json
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) registries: RegistryFlags,
    #[command(flatten)]
    pub(crate) network: NetworkFlags,
}

/// `logout`
#[derive(Debug, Args)]
pub(crate) struct LogOut {
    /// The registry, docker.io by default
    #[arg(value_name = "REGISTRY", conflicts_with = "all")]
    pub(crate) registry: Option<OsString>,
    /// Remove every login of the file, and those of the helpers that it names
    #[arg(long)]
    pub(crate) all: bool,
    /// The file to remove the login from, instead of docker's config.json
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
}

/// `auth`
#[derive(Debug, Args)]
pub(crate) struct Auth {
    #[command(subcommand)]
    pub(crate) command: AuthCommand,
}

/// What is asked about logins.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// Show which logins there are, where, and which of several is used; never a password
    Status(AuthStatus),
}

/// `auth status`
#[derive(Debug, Args)]
pub(crate) struct AuthStatus {
    /// This registry alone
    #[arg(value_name = "REGISTRY")]
    pub(crate) registry: Option<OsString>,
    #[command(flatten)]
    pub(crate) authfile: AuthFile,
}

/// `completions`
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// Finds `--format json` on a command line that clap could not read, for the form of that very error.
pub(crate) fn asks_for_json(arguments: &[OsString]) -> bool {
    let mut arguments = arguments.iter().take_while(|argument| *argument != "--");
    let mut json = false;
    while let Some(argument) = arguments.next() {
        if argument == "--format" {
            json = arguments.next().is_some_and(|value| value == "json");
        } else if let Some(value) = argument
            .to_str()
            .and_then(|argument| argument.strip_prefix("--format="))
        {
            json = value == "json";
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn json_is_found_in_what_cannot_be_read() {
        let asks = |line: &str| asks_for_json(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(asks("unlade --format json nonsense"));
        assert!(asks("unlade --format=json --nonsense"));
        assert!(!asks("unlade --format text --nonsense"));
        assert!(!asks("unlade pull -- --format json"));
        assert!(!asks("unlade --format"));
    }
}
