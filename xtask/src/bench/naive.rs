//! The simple way to pull an image, to be measured against: download all, verify, then extract layers in parallel.
//!
//! What it leaves out: diff IDs, owners, devices and FIFOs (they become empty files), extended attributes, the meaning of
//! whiteouts (they become files named `.wh.…`), limits, resuming, retries, TLS, authentication, more than one platform, a record of what it has done.
//! It checks the digest of each blob as it was downloaded, and it relies on the `tar` crate to stay inside the directory.
//! It inflates with the same library as unlade, so that the difference is one of method.

use std::fs::{self, File};
use std::io::{self, BufReader, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use flate2::bufread::MultiGzDecoder;
use unlade_oci::Hasher;

use super::http::{Layer, Source};

/// Blobs received at the same time, as many as unlade does.
const CONNECTIONS: usize = 6;
const BUFFER: usize = 256 * 1024;

/// Pulls `reference`, `host:port/repository:tag`, into `directory`: `blobs/HEX` and `layers/HEX`.
pub(super) fn pull(reference: &str, directory: &Path) -> Result<()> {
    let source = Source::parse(reference)?;
    let mut layers = source.layers()?;
    layers.sort_by(|a, b| a.digest.cmp(&b.digest));
    layers.dedup_by(|a, b| a.digest == b.digest);
    let (blobs, trees) = (directory.join("blobs"), directory.join("layers"));
    fs::create_dir_all(&blobs)?;
    fs::create_dir_all(&trees)?;
    let cores = thread::available_parallelism()?.get();
    in_parallel(CONNECTIONS, &layers, |layer| download(&source, layer, &blobs))?;
    in_parallel(cores, &layers, |layer| verify(layer, &blobs))?;
    in_parallel(cores, &layers, |layer| extract(layer, &blobs, &trees))
}

fn download(source: &Source, layer: &Layer, blobs: &Path) -> Result<()> {
    let path = blobs.join(layer.digest.hex());
    let mut file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut body = source.blob(layer)?;
    each_part(&mut body, |part| file.write_all(part)).with_context(|| format!("cannot download {}", layer.digest))
}

fn verify(layer: &Layer, blobs: &Path) -> Result<()> {
    let mut file = File::open(blobs.join(layer.digest.hex()))?;
    let mut hasher = Hasher::new(layer.digest.algorithm());
    each_part(&mut file, |part| {
        hasher.update(part);
        Ok(())
    })?;
    ensure!(hasher.finish() == layer.digest, "{} has another content", layer.digest);
    Ok(())
}

fn extract(layer: &Layer, blobs: &Path, trees: &Path) -> Result<()> {
    let file = BufReader::with_capacity(BUFFER, File::open(blobs.join(layer.digest.hex()))?);
    let tree = trees.join(layer.digest.hex());
    fs::create_dir(&tree)?;
    let mut archive = tar::Archive::new(MultiGzDecoder::new(file));
    archive.set_preserve_permissions(true);
    archive
        .unpack(&tree)
        .with_context(|| format!("cannot extract {}", layer.digest))
}

fn each_part(input: &mut impl io::Read, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => take(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Does `work` for each layer on up to `threads` threads.
fn in_parallel(threads: usize, layers: &[Layer], work: impl Fn(&Layer) -> Result<()> + Sync) -> Result<()> {
    let queue = Mutex::new(layers.iter());
    let next = || queue.lock().ok()?.next();
    let (work, next) = (&work, &next);
    thread::scope(|scope| {
        let worker = |_| scope.spawn(move || std::iter::from_fn(next).try_for_each(work));
        let workers: Vec<_> = (0..threads.min(layers.len())).map(worker).collect();
        for worker in workers {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    })
}
