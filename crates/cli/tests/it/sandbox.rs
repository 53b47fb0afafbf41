//! What every test needs: a private home, the binary with an empty environment, and small images.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use unlade_test_support::{Compression, FakeRegistry, Image, ImageBuilder, Layer, LayerBuilder};

/// A home with a store and an empty configuration.
pub(crate) struct Sandbox {
    directory: tempfile::TempDir,
}

/// What a run of the command did.
#[must_use]
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let sandbox = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        sandbox.configure("");
        sandbox
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the configuration file.
    pub(crate) fn configure(&self, text: &str) {
        fs::write(self.path("config.toml"), text).unwrap();
    }

    /// The command with an environment of its own.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_unlade"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path("home"))
            .env("UNLADE_HOME", self.path("store"))
            .env("UNLADE_CONFIG", self.path("config.toml"))
            .env("UNLADE_CERTS_DIRS", self.path("certs.d"))
            .env("CONTAINERS_REGISTRIES_CONF", self.path("registries.conf"))
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the command with arguments that are separated by blanks.
    pub(crate) fn run(&self, line: &str) -> Ran {
        Ran::of(&mut self.command(line.split(' ')))
    }

    /// Runs the command, which must succeed, and returns its standard output.
    pub(crate) fn ok(&self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!(ran.code, Some(0), "{line}: {}", ran.stderr);
        ran.stdout
    }

    /// Runs the command, which must succeed, and reads its standard output.
    pub(crate) fn json(&self, line: &str) -> Value {
        self.ok(line).parse().unwrap()
    }

    /// The names in a directory of the store; none if it is not there.
    pub(crate) fn entries(&self, directory: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("store").join(directory)) else {
            return Vec::new();
        };
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Returns a text without what differs from run to run.
    pub(crate) fn steady(&self, text: &str, registry: &FakeRegistry) -> String {
        self.steady_path(&text.replace(&registry.host(), "REGISTRY"))
    }

    /// Returns a text without the path of the sandbox.
    pub(crate) fn steady_path(&self, text: &str) -> String {
        text.replace(self.directory.path().to_str().unwrap(), "HOME")
    }
}

impl Ran {
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A layer with one file.
pub(crate) fn layer(name: &str, content: &str) -> Layer {
    LayerBuilder::new().file(name, content).build(Compression::Gzip)
}

/// An image of two layers, for the machine that runs the tests.
pub(crate) fn image() -> Image {
    ImageBuilder::new()
        .platform(&platform())
        .layer(layer("lower", "below"))
        .layer(layer("upper", "above"))
        .env("PATH=/bin")
        .cmd(&["/bin/true"])
        .label("who", "somebody")
        .build()
}

/// The platform of this machine, without a variant.
pub(crate) fn platform() -> String {
    let host = unlade_oci::Platform::host();
    format!("{}/{}", host.os, host.architecture)
}

/// A registry that has [`image`] as `x:1`.
pub(crate) fn registry() -> FakeRegistry {
    let registry = FakeRegistry::start();
    registry.push("x", "1", &image());
    registry
}

/// All files of a directory as `name: content`.
pub(crate) fn files(directory: &Path) -> Vec<String> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            format!(
                "{}: {}",
                path.file_name().unwrap().to_str().unwrap(),
                fs::read_to_string(&path).unwrap()
            )
        })
        .collect();
    files.sort();
    files
}
