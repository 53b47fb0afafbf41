//! The simple way to pull an image, to be measured against: download all, verify, then extract layers in parallel.
//!
//! What it leaves out: diff IDs, owners, devices and FIFOs (they become empty files), extended attributes, the meaning of
//! whiteouts (they become files named `.wh.…`), limits, resuming, retries, TLS, authentication, more than one platform, a record of what it has done.
//! It checks the digest of each blob as it was downloaded, and it relies on the `tar` crate to stay inside the directory.
//!
//! There are two of it, which differ in how they inflate gzip: with `miniz_oxide`, as a program does that asks for nothing
//! better, and with the library that unlade has, so that the difference is one of method. zstd is libzstd in both.

mod miniz;

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use flate2::bufread::MultiGzDecoder;
use unlade_oci::{Compression, Hasher};

use super::http::{Layer, Source};

/// Blobs received at the same time, as many as unlade does.
const CONNECTIONS: usize = 6;
const BUFFER: usize = 256 * 1024;

/// What inflates gzip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Inflater {
    MinizOxide,
    ZlibRs,
}

impl Inflater {
    /// Returns its name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MinizOxide => "miniz-oxide",
            Self::ZlibRs => "zlib-rs",
        }
    }
}

/// Pulls `reference`, `host:port/repository:tag`, into `directory`: `blobs/HEX` and `layers/HEX`.
pub(super) fn pull(inflater: Inflater, reference: &str, directory: &Path) -> Result<()> {
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
    in_parallel(cores, &layers, |layer| extract(inflater, layer, &blobs, &trees))
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

fn extract(inflater: Inflater, layer: &Layer, blobs: &Path, trees: &Path) -> Result<()> {
    let mut file = BufReader::with_capacity(BUFFER, File::open(blobs.join(layer.digest.hex()))?);
    let tree = trees.join(layer.digest.hex());
    fs::create_dir(&tree)?;
    let raw: Box<dyn Read> = match (Compression::of_magic(file.fill_buf()?), inflater) {
        (Compression::None, _) => Box::new(file),
        (Compression::Gzip, Inflater::MinizOxide) => Box::new(miniz::Gzip::new(file)?),
        (Compression::Gzip, Inflater::ZlibRs) => Box::new(MultiGzDecoder::new(file)),
        (Compression::Zstd, _) => Box::new(zstd::stream::read::Decoder::with_buffer(file)?),
    };
    let mut archive = tar::Archive::new(raw);
    archive.set_preserve_permissions(true);
    archive
        .unpack(&tree)
        .with_context(|| format!("cannot extract {}", layer.digest))?;
    // A checksum of the raw bytes stands behind the last of them, and the archive ends before.
    io::copy(&mut archive.into_inner(), &mut io::sink())
        .with_context(|| format!("cannot read the end of {}", layer.digest))?;
    Ok(())
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
