//! A store with images in it.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use unlade_extract::{Helpers, Limits, Progress};
use unlade_images::{Claim, ImageCommit, LayerWork, Needed, Source, Store, StoreOptions};
use unlade_oci::{Descriptor, Digest, Document, Manifest, Parsed, Platform, parse_config, parse_manifest};
use unlade_reference::Reference;
use unlade_test_support::{Compression, Image, ImageBuilder, Layer, LayerBuilder};

pub(crate) const BOOT: &str = "the first boot";

/// A store in a directory of its own, under a boot of its own.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    directory: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    /// Makes one in memory, where the system has a place for that which takes attributes: there thousands of small stores
    /// cost seconds. Elsewhere it is as any other.
    pub(crate) fn in_memory() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").ok();
        let takes_attributes = |directory: &TempDir| {
            let opened = std::fs::File::open(directory.path()).unwrap();
            rustix::fs::fsetxattr(opened, "user.test", b"", rustix::fs::XattrFlags::empty()).is_ok()
        };
        directory.filter(takes_attributes).map_or_else(Self::new, Self::within)
    }

    fn within(directory: TempDir) -> Self {
        // Where a test does not say otherwise, layers have as many threads as they can.
        let options = StoreOptions {
            helpers: Some(Helpers::new(2).eager()),
            ..StoreOptions::at(directory.path().join("store"))
        };
        let store = Store::open_under_boot(&options, BOOT.to_owned()).unwrap();
        Self { store, directory }
    }

    /// Opens the same store as another process would after the machine was started again.
    pub(crate) fn under_boot(&self, boot_id: &str) -> Store {
        let options = StoreOptions::at(self.store.root());
        Store::open_under_boot(&options, boot_id.to_owned()).unwrap()
    }

    /// Returns a directory beside the store.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn layer_directory(&self, layer: &Layer) -> PathBuf {
        self.store
            .layer_root()
            .join(format!("sha256-{}.extracted", layer.diff_id.hex()))
    }
}

pub(crate) fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

pub(crate) fn platform() -> Platform {
    "linux/amd64".parse().unwrap()
}

/// A layer with a bit of everything; `name` makes it another one.
pub(crate) fn layer(name: &str) -> Layer {
    LayerBuilder::new()
        .dir("etc", 0o755)
        .file("etc/name", name)
        .file("etc/data", vec![b'x'; 10_000])
        .hardlink("etc/again", "etc/data")
        .symlink("etc/link", "name")
        .dir("var/empty", 0o700)
        .build(Compression::Gzip)
}

pub(crate) fn image(layers: &[Layer]) -> Image {
    ImageBuilder::new().layers(layers.iter().cloned()).build()
}

pub(crate) fn manifest_of(image: &Image) -> Document<Manifest> {
    match parse_manifest(image.manifest.clone(), None, Some(&image.digest)).unwrap() {
        Parsed::Manifest(manifest) => manifest,
        Parsed::Index(_) => panic!("an index, not a manifest"),
    }
}

/// Brings an image in as a pull does, and records it.
pub(crate) fn bring_in(store: &Store, name: &str, image: &Image, extract: bool) -> unlade_images::Image {
    let manifest = manifest_of(image);
    let config = parse_config(image.config.clone(), &manifest.get().config).unwrap();
    let mut needed = Needed::default();
    needed.blobs.extend([image.digest.clone(), image.config_digest.clone()]);
    needed.blobs.extend(image.layers.iter().cloned());
    needed.diff_ids.extend(image.diff_ids.iter().cloned());
    let _lease = store.lease(&needed).unwrap();
    for (blob, diff_id) in manifest.get().layers.iter().zip(&image.diff_ids) {
        bring_in_layer(store, blob, diff_id, &image.blobs[&blob.digest], extract);
    }
    let commit = ImageCommit {
        reference: &reference(name),
        platform: &platform(),
        indexes: &[],
        manifest: &manifest,
        config: &config,
    };
    let layers: Vec<_> = manifest.get().layers.iter().zip(&image.diff_ids).collect();
    let stack = extract.then(|| store.stack(&layers, &Limits::default(), &Progress::new()).unwrap());
    store.commit(&commit, stack.as_ref()).unwrap()
}

/// Brings one layer in; says whether there was anything to do.
pub(crate) fn bring_in_layer(store: &Store, blob: &Descriptor, diff_id: &Digest, bytes: &[u8], extract: bool) -> bool {
    match store.claim(blob, diff_id, extract).unwrap() {
        Claim::Present => return false,
        Claim::Busy => panic!("nobody else is at it"),
        Claim::Work(work, Source::Local(file)) => {
            let (report, staged) = read(store, &work, blob, file);
            work.commit(None, staged, &report).unwrap();
        }
        Claim::Work(work, Source::Remote(mut ingest)) => {
            let follower = ingest.follower().unwrap();
            let at = usize::try_from(ingest.offset()).unwrap();
            ingest.append(&bytes[at..]).unwrap();
            ingest.complete().unwrap();
            let (report, staged) = read(store, &work, blob, follower);
            work.commit(Some(ingest), staged, &report).unwrap();
        }
    }
    true
}

fn read(
    store: &Store,
    work: &LayerWork,
    blob: &Descriptor,
    input: impl std::io::Read + Send,
) -> (unlade_extract::LayerReport, Option<unlade_images::StagedLayer>) {
    let (blob, diff) = (blob.digest.algorithm(), work.diff_id().algorithm());
    let progress = Progress::default();
    let options = store.extract_options(Limits::default());
    match work.stager() {
        None => {
            let report = unlade_extract::digest_layer(input, blob, diff, &options.limits, &progress).unwrap();
            (report, None)
        }
        Some(stager) => {
            let staged = stager.stage().unwrap();
            let report =
                unlade_extract::extract_layer(input, staged.directory(), blob, diff, &options, &progress).unwrap();
            (report, Some(staged))
        }
    }
}

/// Makes a published blob's file have other bytes.
pub(crate) fn overwrite(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}
