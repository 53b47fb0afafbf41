//! A temporary directory with a target to extract into and a canary tree beside it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use unlade_extract::{
    Error, Helpers, LayerReport, Options, Privilege, Progress, Whiteouts, compare_layer, extract_layer,
};
use unlade_oci::Algorithm;
use unlade_sys::Dir;
use unlade_test_support::{Compression, LayerBuilder, Node, NodeKind, TreeSnapshot};

/// A target directory, and around it what must not be touched.
#[derive(Debug)]
pub(crate) struct Sandbox {
    temp: TempDir,
    canary: Vec<String>,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| temp.path().join(path);
        for dir in ["target", "etc", "canary/deep/er", "canary/etc"] {
            fs::create_dir_all(at(dir)).unwrap();
        }
        for file in [
            "etc/passwd",
            "canary/file",
            "canary/deep/er/file",
            "canary/etc/passwd",
            "passwd",
        ] {
            fs::write(at(file), "untouched").unwrap();
            fs::set_permissions(at(file), fs::Permissions::from_mode(0o640)).unwrap();
        }
        symlink("file", at("canary/link")).unwrap();
        let canary = Self::outside(temp.path());
        Self { temp, canary }
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.temp.path().join("target")
    }

    /// Extracts a layer and checks that nothing outside the target has changed, and that the tree is what the layer says.
    pub(crate) fn extract_with(&self, blob: &[u8], options: &Options) -> Result<LayerReport, Error> {
        let outcome = self.extract_beside_others(blob, options);
        if let Ok(report) = &outcome {
            self.assert_as_the_layer_says(blob, options, report);
        }
        outcome
    }

    /// Extracts a layer into a tree that others change meanwhile, and checks that nothing outside of it has changed.
    pub(crate) fn extract_beside_others(&self, blob: &[u8], options: &Options) -> Result<LayerReport, Error> {
        let target = Dir::open(&self.target()).unwrap();
        // Where a test does not say otherwise, the second thread has to do all that it can.
        let mut options = options.clone();
        if options.helpers == Helpers::of_process() {
            options.helpers = Helpers::new(1).eager();
        }
        let outcome = extract_layer(
            blob,
            &target,
            Algorithm::Sha256,
            Algorithm::Sha256,
            &options,
            &Progress::new(),
        );
        let now = Self::outside(self.temp.path());
        assert_eq!(self.canary, now, "what is beside the target has changed");
        outcome
    }

    /// Whatever was extracted must be what the comparison expects.
    fn assert_as_the_layer_says(&self, blob: &[u8], options: &Options, report: &LayerReport) {
        let (again, comparison) = compare_layer(
            blob,
            &Dir::open(&self.target()).unwrap(),
            Algorithm::Sha256,
            Algorithm::Sha256,
            options,
            &report.summary,
            &Progress::new(),
        )
        .unwrap();
        assert_eq!((&again.blob, &again.raw), (&report.blob, &report.raw));
        assert_eq!(comparison.count, 0, "{:?}", comparison.differences);
    }

    pub(crate) fn extract(&self, layer: &LayerBuilder) -> Result<LayerReport, Error> {
        self.extract_with(&layer.build(Compression::Gzip).bytes, &Options::default())
    }

    pub(crate) fn extract_oci(&self, layer: &LayerBuilder) -> Result<LayerReport, Error> {
        let options = Options {
            whiteouts: Whiteouts::Oci,
            ..Options::default()
        };
        self.extract_with(&layer.build(Compression::None).bytes, &options)
    }

    /// Takes the tree in the target.
    pub(crate) fn tree(&self) -> Tree {
        Tree(TreeSnapshot::of(self.target()))
    }

    /// Takes all that is beside the target.
    fn outside(path: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        for name in names {
            let at = path.join(&name);
            lines.push(format!(
                "{} {:?}",
                name.display(),
                fs::symlink_metadata(&at).unwrap().file_type()
            ));
            if name == "target" {
                continue;
            }
            if at.is_dir() {
                lines.push(format!("{:?}", TreeSnapshot::of(&at)));
            } else {
                let stat = fs::metadata(&at).unwrap();
                lines.push(format!("{:o} {}", stat.permissions().mode(), stat.mtime_nsec()));
                lines.push(fs::read_to_string(&at).unwrap());
            }
        }
        lines
    }
}

/// A tree made by an extraction.
pub(crate) struct Tree(TreeSnapshot);

impl Tree {
    #[track_caller]
    pub(crate) fn node(&self, path: impl AsRef<[u8]>) -> &Node {
        let path = path.as_ref();
        self.0
            .get(path)
            .unwrap_or_else(|| panic!("there is no {} in\n{:?}", path.escape_ascii(), self.0))
    }

    pub(crate) fn has(&self, path: impl AsRef<[u8]>) -> bool {
        self.0.get(path).is_some()
    }

    /// Says whether overlayfs would take `path` for a whiteout.
    #[track_caller]
    pub(crate) fn is_whiteout(&self, path: &str) -> bool {
        self.0
            .get(path)
            .is_some_and(|node| node.kind == NodeKind::CharDevice && node.device == Some((0, 0)))
    }

    /// Says whether overlayfs would take the directory `path` for opaque.
    #[track_caller]
    pub(crate) fn is_opaque(&self, path: &str) -> bool {
        let name = if is_root() {
            "trusted.overlay.opaque"
        } else {
            "user.overlay.opaque"
        };
        self.node(path)
            .xattrs
            .get(name.as_bytes())
            .is_some_and(|value| value == b"y")
    }

    /// Returns all paths but the root.
    pub(crate) fn paths(&self) -> Vec<String> {
        let paths = self.0.iter().map(|(path, _)| path.escape_ascii().to_string());
        paths.filter(|path| path != ".").collect()
    }
}

/// Extracts `layer`, which must work, and returns the report and the tree.
pub(crate) fn extracted(layer: &LayerBuilder) -> (LayerReport, Tree) {
    let sandbox = Sandbox::new();
    let report = sandbox
        .extract(layer)
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    let tree = sandbox.tree();
    (report, tree)
}

/// Extracts `layer` and returns the message of the error that it must give.
pub(crate) fn refused(layer: &LayerBuilder) -> String {
    chain(&Sandbox::new().extract(layer).unwrap_err())
}

pub(crate) fn is_root() -> bool {
    Privilege::of_process() == Privilege::Root
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
