//! A home for the command: its store, and what lies there.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use unlade_oci::Digest;
use unlade_test_support::TreeSnapshot;

use crate::binary;
use crate::command::Command;

/// A user without rights: Debian's `nobody`, group `nogroup`.
pub const NOBODY: u32 = 65534;

/// A temporary directory with a home and a store, for one test.
#[derive(Debug)]
pub struct Home {
    directory: TempDir,
    store: PathBuf,
    program: PathBuf,
    user: Option<u32>,
    boot: Option<PathBuf>,
}

impl Home {
    /// Makes an empty home for this user.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory for the home");
        fs::create_dir(directory.path().join("home")).expect("a home");
        Self {
            store: directory.path().join("store"),
            directory,
            program: binary().to_owned(),
            user: None,
            boot: None,
        }
    }

    /// Makes an empty home whose store is at `store`, for instance on a filesystem of its own.
    pub fn with_store(store: PathBuf) -> Self {
        Self { store, ..Self::new() }
    }

    /// Makes an empty home for [`NOBODY`], in which commands run as that user. Takes root.
    ///
    /// The store is where it is by default for a user. The command is copied: it may lie where others may not read.
    pub fn of_nobody() -> Self {
        let mut home = Self::new();
        let directory = home.directory.path();
        let program = directory.join("unlade");
        fs::copy(&home.program, &program).expect("a copy of the command");
        open_to_all(directory);
        open_to_all(&program);
        chown(directory.join("home"), Some(NOBODY), Some(NOBODY)).expect("root can give a home away");
        home.store = directory.join("home/.local/share/unlade");
        home.program = program;
        home.user = Some(NOBODY);
        home
    }

    /// From here on commands run as if the machine had been started under this identifier. Takes root.
    pub fn set_boot(&mut self, identifier: &str) {
        let file = self.path("boot_id");
        fs::write(&file, identifier).expect("a file for the identifier");
        self.boot = Some(file);
    }

    /// Begins a command line.
    pub fn unlade<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let command = Command::new(&self.program)
            .args(arguments)
            .env("HOME", self.directory.path().join("home"))
            .env("UNLADE_CERTS_DIRS", self.path("certs.d"))
            .env("CONTAINERS_REGISTRIES_CONF", self.path("registries.conf"));
        let command = match self.user {
            Some(id) => command.user(id),
            None => command.env("UNLADE_HOME", &self.store),
        };
        match &self.boot {
            Some(boot) => command.under_boot(boot),
            None => command,
        }
    }

    /// Pulls one image, which must succeed.
    pub fn pull(&self, reference: &str) -> Pulled {
        self.pull_with(reference, &[])
    }

    /// Pulls one image with options.
    pub fn pull_with(&self, reference: &str, options: &[&str]) -> Pulled {
        let command = self.unlade(["--format", "json", "pull", reference]).args(options);
        Pulled::of(&command.run().success().json())
    }

    /// Returns the store's directory.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// Returns a path beside the store, for what a test makes.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Looks at what a pull may leave behind.
    pub fn leftovers(&self) -> Leftovers {
        let names = |name: &str| {
            let Ok(entries) = fs::read_dir(self.store.join(name)) else {
                return Vec::new();
            };
            let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
            let mut names: Vec<_> = entries
                .map(|entry| name(entry).to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        };
        Leftovers {
            staging: names("staging"),
            ingest: names("ingest"),
            layers: names("layers"),
            blobs: names("blobs/sha256"),
        }
    }

    /// Tells whether the blob is published.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        let algorithm = digest.algorithm().as_str();
        self.store.join("blobs").join(algorithm).join(digest.hex()).exists()
    }

    /// Lists the names of the images in the store.
    pub fn images(&self) -> Vec<String> {
        let listed = self.unlade(["--format", "json", "images"]).run().success().json();
        let name = |image: &Value| text(&image["reference"]);
        listed.as_array().expect("a list of images").iter().map(name).collect()
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the mode can be set");
}

/// The names in those directories of the store that a pull writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftovers {
    /// Layers that are being extracted.
    pub staging: Vec<String>,
    /// Blobs that are arriving.
    pub ingest: Vec<String>,
    /// Layer directories.
    pub layers: Vec<String>,
    /// Published blobs with a SHA-256 digest.
    pub blobs: Vec<String>,
}

impl Leftovers {
    /// Fails the test unless nothing is half done.
    pub fn assert_nothing_half_done(&self) {
        assert!(self.staging.is_empty() && self.ingest.is_empty(), "{self:?}");
    }

    /// Fails the test unless there is nothing at all.
    pub fn assert_nothing(&self) {
        self.assert_nothing_half_done();
        assert!(self.layers.is_empty() && self.blobs.is_empty(), "{self:?}");
    }
}

/// An image as `unlade pull` tells of it.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The name.
    pub reference: String,
    /// What the name stands for: the digest of an index, or of the manifest where there is none.
    pub digest: String,
    /// The digest of the manifest.
    pub manifest: String,
    /// Whether the registry was asked.
    pub asked_registry: bool,
    /// The layer directories, the lowest first.
    pub directories: Vec<PathBuf>,
}

impl Pulled {
    /// Reads the result of a pull of one image.
    pub fn of(result: &Value) -> Self {
        let images = result.as_array().expect("a list of images");
        assert_eq!(images.len(), 1, "one image was asked for: {result}");
        let image = &images[0];
        let layers = image["layers"].as_array().expect("a list of layers");
        Self {
            reference: text(&image["reference"]),
            digest: text(&image["digest"]),
            manifest: text(&image["manifest"]),
            asked_registry: image["asked_registry"]
                .as_bool()
                .expect("whether the registry was asked"),
            directories: layers.iter().map(|layer| text(&layer["directory"]).into()).collect(),
        }
    }

    /// Returns the trees of the layer directories, merged by the rules written out.
    pub fn merged(&self) -> TreeSnapshot {
        TreeSnapshot::merged(&self.directories)
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
        .to_owned()
}
