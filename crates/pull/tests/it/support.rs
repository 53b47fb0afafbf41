//! A store in a temporary directory, a puller, and a recorder of events.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use unlade_images::{Store, StoreOptions};
use unlade_pull::{Error, Event, Observer, Options, Outcome, Planned, Pulled, Puller};
use unlade_reference::Reference;
use unlade_registry::{Client, RetryPolicy};
use unlade_test_support::{Compression, FakeRegistry, Image, ImageBuilder, Layer, LayerBuilder};

/// A store, and what is needed to pull into it.
pub(crate) struct Home {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) recorder: Arc<Recorder>,
}

impl Home {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreOptions::at(directory.path())).unwrap();
        Self {
            directory,
            store,
            recorder: Arc::new(Recorder::default()),
        }
    }

    pub(crate) fn puller(&self) -> Puller {
        self.puller_with(client())
    }

    pub(crate) fn puller_with(&self, client: Client) -> Puller {
        Puller::new(self.store.clone(), client).with_observer(self.recorder.clone())
    }

    pub(crate) async fn pull(&self, reference: &str) -> Result<Pulled, Error> {
        self.pull_with(reference, &Options::default()).await
    }

    pub(crate) async fn pull_with(&self, reference: &str, options: &Options) -> Result<Pulled, Error> {
        let reference: Reference = reference.parse().unwrap();
        self.puller()
            .pull(&[reference], options)
            .await
            .map(|mut pulled| pulled.remove(0))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What lies about and is neither published nor meant to be resumed.
    pub(crate) fn stray_files(&self) -> Vec<PathBuf> {
        let known = [
            "blobs",
            "index.json",
            "ingest",
            "layers",
            "locks",
            "metadata.db",
            "metadata.db-shm",
            "metadata.db-wal",
        ];
        let mut stray = entries(&self.path("staging"));
        stray.extend(entries(self.directory.path()).into_iter().filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            !known.contains(&name) && name != "oci-layout" && name != "staging"
        }));
        stray
    }

    pub(crate) fn partial_downloads(&self) -> Vec<PathBuf> {
        entries(&self.path("ingest"))
    }

    pub(crate) fn layer_directories(&self) -> Vec<PathBuf> {
        entries(&self.path("layers"))
    }
}

pub(crate) fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).map_or_else(
        |_| Vec::new(),
        |entries| entries.map(|entry| entry.unwrap().path()).collect(),
    )
}

/// A client that does not wait long between attempts.
pub(crate) fn client() -> Client {
    let policy = RetryPolicy {
        backoff: Duration::from_millis(5),
        ..RetryPolicy::default()
    };
    Client::builder().retry(policy).build().unwrap()
}

/// Remembers every event.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Seen>);

#[derive(Clone, Default)]
pub(crate) struct Seen {
    pub(crate) started: Vec<u64>,
    pub(crate) finished: Vec<(u64, Outcome)>,
    pub(crate) warnings: Vec<String>,
    pub(crate) planned: Option<Planned>,
}

impl Recorder {
    pub(crate) fn seen(&self) -> Seen {
        self.0.lock().unwrap().clone()
    }

    /// Fails unless every task that was started is finished, once.
    pub(crate) fn assert_balanced(&self) {
        let mut seen = self.seen();
        let mut finished: Vec<_> = seen.finished.iter().map(|(id, _)| *id).collect();
        seen.started.sort_unstable();
        finished.sort_unstable();
        assert_eq!(seen.started, finished);
    }
}

impl Observer for Recorder {
    fn event(&self, event: &Event<'_>) {
        let mut seen = self.0.lock().unwrap();
        match event {
            Event::Started { task } => seen.started.push(task.id()),
            Event::Finished { task, outcome } => seen.finished.push((task.id(), *outcome)),
            Event::Warning { warning } => seen.warnings.push(warning.to_string()),
            Event::Planned { plan } => seen.planned = Some((*plan).clone()),
            _ => {}
        }
    }
}

/// A layer with one file of incompressible content.
pub(crate) fn fat_layer(name: &str, bytes: usize) -> Layer {
    LayerBuilder::new()
        .file(name, noise(name, bytes))
        .build(Compression::Gzip)
}

/// Bytes that do not compress, the same for the same name.
fn noise(name: &str, bytes: usize) -> Vec<u8> {
    let mut state = name.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| {
        state.rotate_left(7) ^ u64::from(byte)
    });
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(bytes);
    content
}

/// Three small layers; the last removes something.
pub(crate) fn small_image() -> Image {
    ImageBuilder::new()
        .layer(
            LayerBuilder::new()
                .dir("etc", 0o755)
                .file("etc/motd", "one")
                .file("etc/old", "x")
                .build(Compression::Gzip),
        )
        .layer(
            LayerBuilder::new()
                .dir("usr", 0o755)
                .file("usr/file", "two")
                .build(Compression::Zstd),
        )
        .layer(LayerBuilder::new().whiteout("etc/old").build(Compression::None))
        .build()
}

/// Starts a registry that has `image` as `app:latest`.
pub(crate) fn serve(image: &Image) -> (FakeRegistry, String) {
    let registry = FakeRegistry::start();
    registry.push("app", "latest", image);
    let reference = registry.reference("app", "latest");
    (registry, reference)
}

pub(crate) fn blob_requests(registry: &FakeRegistry) -> usize {
    registry
        .requests()
        .iter()
        .filter(|request| request.path.contains("/blobs/"))
        .count()
}
