//! The floor: the least that this machine needs for the same bytes, each piece of the work alone and at its best.
//!
//! It receives the blobs to nowhere, hashes them, inflates them, hashes the result, and makes the files from memory with as
//! few system calls as there can be. No pull can be faster than all of that spread evenly over the cores, nor than the
//! longest piece that has to happen in order. What a pull does beside that (keeping the blobs, a database, checking tar) is
//! not in the floor, and so is in the ratio.
//!
//! One layer at a time is held in memory, compressed and raw, so that nothing else is measured with a piece: that takes as
//! many bytes, for a layer of a gigabyte some two.

mod tree;

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use flate2::bufread::MultiGzDecoder;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use unlade_oci::{Algorithm, Compression, Hasher};

use super::disk::{Disk, Filesystem};
use super::http::{Layer, Source};
use super::registry::Registry;
use super::table::table;

const BUFFER: usize = 256 * 1024;

/// The floor of one image on this machine.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Floor {
    stages: Vec<Stage>,
    cores: usize,
    /// Processor time of all stages over the cores.
    spread_s: f64,
    /// The longest stage of one layer that cannot be split.
    chain_s: f64,
    /// The larger of the two.
    pub(super) wall_s: f64,
}

/// One piece of the work, over all layers, one after the other.
#[derive(Clone, Debug, Serialize)]
struct Stage {
    name: &'static str,
    wall_s: f64,
    cpu_s: f64,
    /// The wall time of the layer that took longest, if the work on one layer is a single chain.
    chain_s: Option<f64>,
}

/// Time that passed and time that a processor worked.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    wall: Duration,
    cpu: Duration,
}

const RECEIVE: &str = "receive the blobs (with the registry's part)";
const HASH_BLOBS: &str = "SHA-256 of the blobs";
const INFLATE: &str = "decompress (gzip: zlib-rs, zstd: libzstd)";
const HASH_RAW: &str = "SHA-256 of the raw bytes";
const FILES: &str = "make the files from memory";

/// Measures every stage `runs` times and keeps the best of each.
pub(super) fn measure(
    reference: &str,
    registry: &Registry,
    filesystem: Filesystem,
    work: &Path,
    runs: u32,
) -> Result<Floor> {
    let source = Source::parse(reference)?;
    let layers = source.layers()?;
    let mut best: Vec<Stage> = Vec::new();
    for _ in 0..runs {
        let stages = once(&source, &layers, registry, filesystem, work)?;
        if best.is_empty() {
            best = stages;
        } else {
            best.iter_mut()
                .zip(&stages)
                .for_each(|(best, stage)| best.improve(stage));
        }
    }
    let cores = std::thread::available_parallelism()?.get();
    let spread_s = best.iter().map(|stage| stage.cpu_s).sum::<f64>() / f64::from(u32::try_from(cores)?);
    let chain_s = best.iter().filter_map(|stage| stage.chain_s).fold(0.0, f64::max);
    Ok(Floor {
        stages: best,
        cores,
        spread_s,
        chain_s,
        wall_s: spread_s.max(chain_s),
    })
}

fn once(
    source: &Source,
    layers: &[Layer],
    registry: &Registry,
    filesystem: Filesystem,
    work: &Path,
) -> Result<Vec<Stage>> {
    let disk = Disk::make(filesystem, work)?;
    let mut spent: [Vec<Spent>; 5] = Default::default();
    let mut buffer = vec![0; BUFFER];
    let server = registry.cpu_time()?;
    for layer in layers {
        spent[0].push(spend(|| {
            let mut body = source.blob(layer)?;
            while body.read(&mut buffer)? > 0 {}
            Ok(())
        })?);
    }
    let server = registry.cpu_time()?.saturating_sub(server);
    for (number, layer) in layers.iter().enumerate() {
        let mut blob = Vec::with_capacity(usize::try_from(layer.size)?);
        source.blob(layer)?.read_to_end(&mut blob)?;
        spent[1].push(hash(&blob)?);
        spent[2].push(spend(|| {
            let mut raw = decompressed(&blob)?;
            while raw.read(&mut buffer)? > 0 {}
            Ok(())
        })?);
        let mut raw = Vec::new();
        decompressed(&blob)?
            .read_to_end(&mut raw)
            .context("a layer cannot be decompressed")?;
        spent[3].push(hash(&raw)?);
        let target = disk.path().join(number.to_string());
        let plan = tree::Plan::of(&raw)?;
        spent[4].push(spend(|| plan.make(&target))?);
    }
    let stage = |name, spent: &[Spent], is_chain: bool| Stage {
        name,
        wall_s: spent.iter().map(|spent| spent.wall.as_secs_f64()).sum(),
        cpu_s: spent.iter().map(|spent| spent.cpu.as_secs_f64()).sum(),
        chain_s: is_chain.then(|| spent.iter().map(|spent| spent.wall.as_secs_f64()).fold(0.0, f64::max)),
    };
    let [receive, hash_blobs, inflate, hash_raw, files] = &spent;
    let mut receive = stage(RECEIVE, receive, true);
    receive.cpu_s += server.as_secs_f64();
    Ok(vec![
        receive,
        stage(HASH_BLOBS, hash_blobs, true),
        stage(INFLATE, inflate, true),
        stage(HASH_RAW, hash_raw, true),
        // Files can be made by several threads, so that one layer's are no chain.
        stage(FILES, files, false),
    ])
}

/// Returns the raw bytes of a layer as they come.
fn decompressed(blob: &[u8]) -> Result<Box<dyn Read + '_>> {
    Ok(match Compression::of_magic(blob) {
        Compression::None => Box::new(blob),
        Compression::Gzip => Box::new(MultiGzDecoder::new(blob)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(blob)?),
    })
}

fn hash(bytes: &[u8]) -> Result<Spent> {
    spend(|| {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        bytes.chunks(BUFFER).for_each(|part| hasher.update(part));
        std::hint::black_box(hasher.finish());
        Ok(())
    })
}

/// Does something on this thread and says what it took.
fn spend(work: impl FnOnce() -> Result<()>) -> Result<Spent> {
    let (started, processor) = (Instant::now(), processor_time()?);
    work()?;
    Ok(Spent {
        wall: started.elapsed(),
        cpu: processor_time()?.saturating_sub(processor),
    })
}

/// Returns the processor time of this thread, in the kernel or not.
fn processor_time() -> Result<Duration> {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Ok(Duration::new(u64::try_from(time.tv_sec)?, u32::try_from(time.tv_nsec)?))
}

impl Stage {
    fn improve(&mut self, other: &Self) {
        self.wall_s = self.wall_s.min(other.wall_s);
        self.cpu_s = self.cpu_s.min(other.cpu_s);
        self.chain_s = self.chain_s.zip(other.chain_s).map(|(a, b)| a.min(b));
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells: Vec<Vec<String>> = self
            .stages
            .iter()
            .map(|stage| {
                vec![
                    stage.name.to_owned(),
                    format!("{:.3}", stage.wall_s),
                    format!("{:.3}", stage.cpu_s),
                    stage
                        .chain_s
                        .map_or_else(|| "can be split".to_owned(), |chain| format!("{chain:.3}")),
                ]
            })
            .collect();
        let head = ["the floor, stage by stage", "wall s", "cpu s", "longest chain s"];
        f.write_str(&table(&head, &cells))?;
        write!(
            f,
            "  All over {} cores {:.3} s, longest chain {:.3} s: the floor is {:.3} s",
            self.cores, self.spread_s, self.chain_s, self.wall_s
        )
    }
}
