//! The program that is measured: built from the sources, or given.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};
use cargo_metadata::MetadataCommand;

/// An `unlade`.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// How tables call it.
    pub(super) label: String,
    path: PathBuf,
}

impl Program {
    /// Returns the programs given, or the one of the sources, built as it is shipped.
    pub(super) fn all(root: &Path, target: &Path, given: &[PathBuf]) -> Result<Vec<Self>> {
        if given.is_empty() {
            build(root, "unlade")?;
            return Ok(vec![Self {
                label: "unlade".to_owned(),
                path: target.join("release/unlade"),
            }]);
        }
        Self::given(given)
    }

    /// Returns the programs given, or the one of the sources, built with what lets digests be left out, in a place of its own:
    /// nobody is to take it for the one that is shipped.
    pub(super) fn unverifying(root: &Path, target: &Path, given: &[PathBuf]) -> Result<Vec<Self>> {
        if !given.is_empty() {
            return Self::given(given);
        }
        let target = target.join("bench-skip-verify");
        let place = target.to_str().context("the target directory is not text")?;
        build_with(
            root,
            "unlade",
            &["--features", "bench-skip-verify", "--target-dir", place],
        )?;
        Ok(vec![Self {
            label: "unlade".to_owned(),
            path: target.join("release/unlade"),
        }])
    }

    fn given(given: &[PathBuf]) -> Result<Vec<Self>> {
        let program = |path: &PathBuf| {
            ensure!(path.is_file(), "{} is not a program", path.display());
            Ok(Self {
                label: match given {
                    [_] => "unlade".to_owned(),
                    _ => format!("unlade ({})", path.display()),
                },
                path: std::path::absolute(path)?,
            })
        };
        given.iter().map(program).collect()
    }

    /// Returns the one of the sources as the tests run it.
    pub(super) fn unoptimised(root: &Path, target: &Path) -> Result<Self> {
        let mut command = Command::new("cargo");
        command
            .current_dir(root)
            .args(["build", "--quiet", "--package", "unlade"]);
        let status = command.stdin(Stdio::null()).status().context("cannot run cargo")?;
        ensure!(status.success(), "unlade does not build");
        Ok(Self {
            label: "unlade".to_owned(),
            path: target.join("debug/unlade"),
        })
    }

    /// Begins a command on the store `home`, with nothing of the person's own configuration.
    pub(super) fn command(&self, home: &Path) -> Command {
        let mut command = Command::new(&self.path);
        isolate(&mut command, home);
        command.env("UNLADE_HOME", home.join("store"));
        command
    }

    /// Begins the command that is measured everywhere here.
    pub(super) fn pull(&self, home: &Path, reference: &str) -> Command {
        let mut command = self.command(home);
        command.args(["pull", "--progress", "none", reference]);
        command
    }

    /// Returns the path of the program.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Where programs are looked for: where Debian's packages put them.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Takes the environment away and gives `home` as the home directory: nobody's configuration takes part.
pub(super) fn isolate(command: &mut Command, home: &Path) {
    command.env_clear().env("HOME", home).env("PATH", SEARCH_PATH);
}

/// Begins a program that is not to outlive this one, even if this one is killed.
pub(super) fn daemon(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", name]);
    command
}

/// Returns the directory where cargo puts what it builds.
pub(super) fn target_directory(root: &Path) -> Result<PathBuf> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cargo metadata cannot read the workspace")?;
    Ok(metadata.target_directory.into())
}

/// Builds this very program with optimisations and lets it do what was asked.
pub(super) fn run_optimised(root: &Path, target: &Path) -> Result<ExitCode> {
    build(root, "xtask")?;
    let mut command = Command::new(target.join("release/xtask"));
    // In place of this process, which would not hand on the signals that it gets.
    let error = command.args(std::env::args_os().skip(1)).exec();
    Err(error).with_context(|| format!("cannot run {}", command.get_program().display()))
}

/// Each package alone: built together, one would get what the other wants of their dependencies.
fn build(root: &Path, package: &str) -> Result<()> {
    build_with(root, package, &[])
}

fn build_with(root: &Path, package: &str, more: &[&str]) -> Result<()> {
    let line = [&["build", "--release", "--package", package], more].concat().join(" ");
    println!("$ cargo {line}");
    let status = Command::new("cargo")
        .current_dir(root)
        .args(["build", "--quiet", "--release", "--package", package])
        .args(more)
        .stdin(Stdio::null())
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "{package} does not build");
    Ok(())
}
