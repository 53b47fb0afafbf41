//! `cargo xtask demo`: an image from a registry to files, seen from the outside, without a network and without root.
//!
//! The registry is the tests' fake one, in this process; everything else is the real command. What the text says is
//! checked on the way, so a demonstration that ends well is a test that passed.

mod view;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use cargo_metadata::MetadataCommand;
use unlade_oci::Digest;
use unlade_test_support::{FakeRegistry, Fault, Image, TreeSnapshot, fixtures};

/// How to run the demonstration.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Build and run the optimised program
    #[arg(long)]
    release: bool,
}

/// Variables that would let the person's own configuration into the demonstration.
const FOREIGN: [&str; 9] = [
    "UNLADE_CONFIG",
    "UNLADE_LOG",
    "OCI_REGISTRY_DOMAIN",
    "REGISTRY_AUTH_FILE",
    "DOCKER_CONFIG",
    "XDG_DATA_HOME",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_CACHE_HOME",
];

/// Shows all of it; fails if something is not as the text says.
pub(crate) fn run(root: &Path, args: &Args) -> Result<()> {
    section(1, "Build");
    let target = build(root, args.release)?;
    let stage = Stage::set(&target, args.release)?;

    section(2, "A registry");
    let image = fixtures::web();
    let registry = FakeRegistry::start();
    registry.push("web", "latest", &image);
    let name = registry.reference("web", "latest");
    println!("A small registry runs inside this program, on {}.", registry.host());
    println!(
        "It has one image, `web`: {} layers, of which the last one removes things.",
        image.layers.len()
    );
    println!("It sends slowly, so that there is something to see.");
    slow_down(&registry, &image);

    section(3, "Pull");
    stage.unlade(&["pull", &name])?;
    println!("\nThe registry saw {} requests.", registry.requests().len());
    registry.clear();

    section(4, "What is in the store");
    stage.unlade(&["images"])?;
    println!("\nThe same for programs:\n");
    stage.unlade(&["images", "--format", "json"])?;
    println!("\nThe store is {}:\n", stage.store.display());
    show_store(&stage.store)?;

    section(5, "Layer directories");
    let layers = show_layers(&stage.store, &image)?;

    section(6, "One root filesystem");
    let rootfs = stage.directory.join("rootfs");
    stage.unlade(&["unpack", &name, &rootfs.display().to_string()])?;
    show_merged(&layers, &rootfs)?;

    section(7, "Pull again");
    let started = Instant::now();
    stage.unlade(&["pull", &name])?;
    let elapsed = started.elapsed();
    let requests = registry.requests().len();
    ensure!(
        requests == 0,
        "a pull of a complete image asked the registry {requests} times"
    );
    println!(
        "\nThat took {} ms, start of the program included. The registry saw no request.",
        elapsed.as_millis()
    );

    section(8, "With a real registry");
    println!("The same with an image from Docker Hub, kept apart from the store of this user:\n");
    println!("    export UNLADE_HOME={}", stage.store.display());
    println!("    {} pull alpine", stage.program.display());
    println!("    {} images\n", stage.program.display());
    println!("The root filesystem of above without copying anything, as root:\n");
    println!("    {} mount {name} /mnt\n", stage.program.display());
    println!("Without UNLADE_HOME the store is /var/lib/unlade for root, ~/.local/share/unlade for others.");
    println!(
        "To remove all that this demonstration has made: rm -rf {}",
        stage.directory.display()
    );
    Ok(())
}

/// Builds the command and returns the target directory.
fn build(root: &Path, release: bool) -> Result<PathBuf> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cargo metadata cannot read the workspace")?;
    let mut command = Command::new("cargo");
    command
        .current_dir(root)
        .args(["build", "--package", "unlade"])
        .stdin(Stdio::null());
    if release {
        command.arg("--release");
    }
    println!(
        "$ cargo build --package unlade{}",
        if release { " --release" } else { "" }
    );
    ensure!(
        command.status().context("cannot run cargo")?.success(),
        "the command does not build"
    );
    Ok(metadata.target_directory.into())
}

/// Where the demonstration happens.
struct Stage {
    program: PathBuf,
    directory: PathBuf,
    store: PathBuf,
}

impl Stage {
    /// Clears away an earlier demonstration and makes the directories anew.
    fn set(target: &Path, release: bool) -> Result<Self> {
        let program = target.join(if release { "release" } else { "debug" }).join("unlade");
        ensure!(program.is_file(), "cargo built no {}", program.display());
        let directory = target.join("demo");
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let path = directory.display();
                return Err(error).with_context(|| format!("cannot remove {path}, left by an earlier run"));
            }
            _ => {}
        }
        fs::create_dir_all(directory.join("home")).with_context(|| format!("cannot make {}", directory.display()))?;
        let store = directory.join("store");
        Ok(Self {
            program,
            directory,
            store,
        })
    }

    /// Shows and runs one command. Its results and its progress go where ours go.
    fn unlade(&self, arguments: &[&str]) -> Result<()> {
        println!("$ unlade {}", arguments.join(" "));
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("UNLADE_HOME", &self.store)
            .env("HOME", self.directory.join("home"));
        for name in FOREIGN {
            command.env_remove(name);
        }
        let status = command.stdin(Stdio::null()).status().context("cannot run unlade")?;
        ensure!(status.success(), "unlade {} failed: {status}", arguments.join(" "));
        Ok(())
    }
}

/// Lets each layer take about a second and a half, the others of them at the same time.
fn slow_down(registry: &FakeRegistry, image: &Image) {
    const STEPS: usize = 30;
    for layer in &image.layers {
        let step = image.blobs[layer].len().div_ceil(STEPS).max(1);
        registry.fault(Fault::on_blob(layer).trickle(step, Duration::from_millis(50)));
    }
}

/// Lists the top of the store, with a word for each name.
fn show_store(store: &Path) -> Result<()> {
    let mut names = fs::read_dir(store)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.file_name()))
                .collect::<Result<Vec<_>, _>>()
        })
        .with_context(|| format!("cannot list {}", store.display()))?;
    names.sort();
    for name in names {
        let about = match name.to_str() {
            Some("blobs") => "what the registry served, byte for byte, by digest",
            Some("index.json" | "oci-layout") => "so that skopeo, umoci and others can read the store in place",
            Some("ingest") => "blobs that are arriving; a pull that was killed goes on from here",
            Some("layers") => "one directory for each layer",
            Some("locks") => "for several processes at once",
            Some("staging") => "layers that are being extracted",
            Some(name) if name.starts_with("metadata.db") => "the database",
            _ => "",
        };
        println!("    {:<16} {about}", name.display());
    }
    Ok(())
}

/// Shows what is in each layer directory. Returns the directories, the lowest layer first.
fn show_layers(store: &Path, image: &Image) -> Result<Vec<PathBuf>> {
    println!("Each layer is a directory of its own, named by the digest of its content:\n");
    let mut directories = Vec::new();
    for (number, diff_id) in image
        .diff_ids
        .iter()
        .enumerate()
        .map(|(index, diff_id)| (index + 1, diff_id))
    {
        let directory = store.join("layers").join(directory_name(diff_id));
        let layer = TreeSnapshot::try_of(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
        println!(
            "    layer {number}   layers/{}",
            directory.file_name().unwrap_or(OsStr::new("")).display()
        );
        println!("              {}", view::counts(&layer));
        for line in view::shorten(view::removals(&layer), 6) {
            println!("              {line}");
        }
        directories.push(directory);
    }
    println!("\nThis is what overlayfs takes: a character device 0:0 removes a path that a lower layer has.");
    Ok(directories)
}

fn directory_name(diff_id: &Digest) -> String {
    format!("{}-{}.extracted", diff_id.algorithm(), diff_id.hex())
}

/// Shows parts of the tree that the layers make together; checks that it is what the layer directories say, and that what
/// was removed is gone.
fn show_merged(directories: &[PathBuf], rootfs: &Path) -> Result<()> {
    println!("\nWhat the three make together:\n");
    let layers: Vec<TreeSnapshot> = directories.iter().map(TreeSnapshot::of).collect();
    // A mount shows the times that the topmost layer gave to directories it only passes through, `unpack` those of the
    // layer that declares them.
    let unpacked = TreeSnapshot::try_of(rootfs)
        .with_context(|| format!("cannot read {}", rootfs.display()))?
        .without_dir_mtimes();
    for directory in ["etc", "usr/share", "usr/share/doc", "usr/share/nginx/html"] {
        println!("    {directory}/");
        for line in view::shorten(view::merged_directory(&unpacked, &layers, directory), 10) {
            println!("        {line}");
        }
    }
    for gone in ["etc/motd", "usr/share/man", "usr/share/nginx/html/50x.html"] {
        if unpacked.get(gone).is_some() {
            bail!("{gone} is still there, and layer 3 removes it");
        }
    }
    println!("\n`etc/motd` and `usr/share/man` are gone, and of `usr/share/doc` only what layer 3 brings is left.");
    let merged = TreeSnapshot::try_merged(directories).context("cannot merge the layer directories")?;
    let merged = merged.without_dir_mtimes();
    same(
        &merged,
        &unpacked,
        "the unpacked tree is not what the layer directories say",
    )?;
    // The mount is attached nowhere. Without root, or on an older kernel, there is none to compare with.
    if let Ok(mounted) = TreeSnapshot::overlay_merged(directories) {
        let mounted = mounted.without_dir_mtimes();
        same(&unpacked, &mounted, "a mount of overlayfs shows another tree")?;
        println!("A mount of overlayfs shows the same {} paths.", mounted.len());
    }
    Ok(())
}

/// Fails with the differences when two trees are not the same.
fn same(expected: &TreeSnapshot, actual: &TreeSnapshot, otherwise: &str) -> Result<()> {
    let lines = expected.diff(actual);
    ensure!(lines.is_empty(), "{otherwise}:\n{}", lines.join("\n"));
    Ok(())
}

fn section(number: u8, title: &str) {
    println!("\n{number}. {title}\n");
}
