//! The floor: the least that this machine needs for the same bytes, each piece of the work alone and at its best.
//!
//! It receives the blobs to nowhere, hashes them, inflates them, hashes the result, and makes the files from memory with as
//! few system calls as there can be. No pull can be faster than all of that spread evenly over the cores, nor than the
//! longest piece that has to happen in order. What a pull does beside that (keeping the blobs, a database, checking tar) is
//! not in the floor, and so is in the ratio.
//!
//! While one core does a piece the others are idle, and in that a machine is faster than with all of them at work: they share
//! caches, memory, the clock, and on virtual machines often the cores of the real one. So every piece is done a second time,
//! by every core at once. What that takes longer no program can help; it is shown beside the floor and is no part of it.
//!
//! One layer at a time is held in memory, compressed and raw, so that nothing else is measured with a piece: that takes as
//! many bytes, for a layer of a gigabyte some two.

mod tree;

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use flate2::bufread::MultiGzDecoder;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use unlade_oci::{Algorithm, Compression, Hasher};
use unlade_sys::sha256_of_two;

use super::disk::{Disk, Filesystem};
use super::http::{Layer, Source};
use super::interrupt;
use super::registry::Registry;
use super::table::table;

const BUFFER: usize = 256 * 1024;

/// The floor of one image on this machine.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Floor {
    cores: usize,
    #[serde(flatten)]
    alone: Sum,
    /// The same where every core does each piece at once.
    busy: Sum,
}

/// All pieces together.
#[derive(Clone, Debug, Serialize)]
struct Sum {
    stages: Vec<Stage>,
    /// Processor time of all stages over the cores.
    spread_s: f64,
    /// The longest stage of one layer that cannot be split.
    chain_s: f64,
    /// The larger of the two.
    wall_s: f64,
}

/// One piece of the work, over all layers, one after the other.
#[derive(Clone, Debug, Serialize)]
struct Stage {
    name: &'static str,
    wall_s: f64,
    cpu_s: f64,
    /// The time of the layer that took longest, if the work on one layer is a single chain.
    chain_s: Option<f64>,
}

/// Time that passed and time that a processor worked.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    wall: Duration,
    cpu: Duration,
    /// What of it cannot be split.
    chain: Duration,
}

const RECEIVE: &str = "receive the blobs (with the registry's part)";
const HASH_BLOBS: &str = "SHA-256 of the blobs (cpu: two at once)";
const INFLATE: &str = "decompress (gzip: zlib-rs, zstd: libzstd)";
const HASH_RAW: &str = "SHA-256 of the raw bytes (cpu: two at once)";
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
    let cores = thread::available_parallelism()?.get();
    let best = |threads| -> Result<Sum> {
        let mut best: Vec<Stage> = Vec::new();
        for _ in 0..runs {
            let stages = once(&source, &layers, registry, filesystem, work, threads)?;
            if best.is_empty() {
                best = stages;
            } else {
                best.iter_mut()
                    .zip(&stages)
                    .for_each(|(best, stage)| best.improve(stage));
            }
        }
        Sum::of(best, cores)
    };
    // One after the other: what many threads have made goes on being written to the disk for a while.
    Ok(Floor {
        cores,
        alone: best(1)?,
        busy: best(cores)?,
    })
}

/// Does every piece of the work on so many threads at once, each of which does all of it, and returns what one of them took.
fn once(
    source: &Source,
    layers: &[Layer],
    registry: &Registry,
    filesystem: Filesystem,
    work: &Path,
    threads: usize,
) -> Result<Vec<Stage>> {
    let disk = Disk::with_room_for(threads, filesystem, work)?;
    let mut spent: [Vec<Spent>; 5] = Default::default();
    let server = registry.cpu_time()?;
    for layer in layers {
        spent[0].push(together(threads, |_| read_all(source.blob(layer)?))?);
    }
    let server = registry.cpu_time()?.saturating_sub(server) / u32::try_from(threads)?;
    for (number, layer) in layers.iter().enumerate() {
        let mut blob = Vec::with_capacity(usize::try_from(layer.size)?);
        source.blob(layer)?.read_to_end(&mut blob)?;
        spent[1].push(hashed(&blob, threads)?);
        spent[2].push(together(threads, |_| read_all(decompressed(&blob)?))?);
        let mut raw = Vec::new();
        decompressed(&blob)?
            .read_to_end(&mut raw)
            .context("a layer cannot be decompressed")?;
        spent[3].push(hashed(&raw, threads)?);
        let plan = tree::Plan::of(&raw)?;
        let target = |thread| disk.path().join(format!("{number}-{thread}"));
        spent[4].push(together(threads, |thread| plan.make(&target(thread)))?);
    }
    let stage = |name, spent: &[Spent], is_chain: bool| {
        let chain = |spent: &Spent| spent.chain.as_secs_f64();
        Stage {
            name,
            wall_s: spent.iter().map(|spent| spent.wall.as_secs_f64()).sum(),
            cpu_s: spent.iter().map(|spent| spent.cpu.as_secs_f64()).sum(),
            chain_s: is_chain.then(|| spent.iter().map(chain).fold(0.0, f64::max)),
        }
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

/// Does `work` on so many threads, which begin at the same time, and returns what it took one of them on average.
fn together(threads: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<Spent> {
    interrupt::check()?;
    let (start, work) = (Barrier::new(threads), &work);
    let spent = thread::scope(|scope| {
        let one = |thread| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                spend(|| work(thread))
            })
        };
        let all: Vec<_> = (0..threads).map(one).collect();
        all.into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Result<Vec<_>>>()
    })?;
    let count = u32::try_from(threads)?;
    let wall = spent.iter().map(|(wall, _)| wall).sum::<Duration>() / count;
    let cpu = spent.iter().map(|(_, cpu)| cpu).sum::<Duration>() / count;
    // With all cores at work a thread waits for a core, too, and that is not the length of the chain.
    let chain = if threads == 1 { wall } else { cpu };
    Ok(Spent { wall, cpu, chain })
}

fn read_all(mut from: impl Read) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    while from.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Returns the raw bytes of a layer as they come.
fn decompressed(blob: &[u8]) -> Result<Box<dyn Read + '_>> {
    Ok(match Compression::of_magic(blob) {
        Compression::None => Box::new(blob),
        Compression::Gzip => Box::new(MultiGzDecoder::new(blob)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(blob)?),
    })
}

/// Returns what it takes to hash a stream: as a chain of its own, and the processor time of one that is hashed together with another.
fn hashed(bytes: &[u8], threads: usize) -> Result<Spent> {
    let alone = together(threads, |_| {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        bytes.chunks(BUFFER).for_each(|part| hasher.update(part));
        std::hint::black_box(hasher.finish());
        Ok(())
    })?;
    let Some(two) = sha256_of_two() else { return Ok(alone) };
    let (one, other) = bytes.split_at(bytes.len() / 2);
    let in_pairs = together(threads, |_| {
        let [mut first, mut second] = [(); 2].map(|()| Hasher::new(Algorithm::Sha256));
        for (one, other) in one.chunks(BUFFER).zip(other.chunks(BUFFER)) {
            Hasher::update_two([&mut first, &mut second], [one, other], two);
        }
        std::hint::black_box([first, second].map(Hasher::finish));
        Ok(())
    })?;
    Ok(Spent {
        cpu: in_pairs.cpu.min(alone.cpu),
        ..alone
    })
}

/// Does something on this thread and returns the time that passed, and that of the processor.
fn spend(work: impl FnOnce() -> Result<()>) -> Result<(Duration, Duration)> {
    let (started, processor) = (Instant::now(), processor_time()?);
    work()?;
    Ok((started.elapsed(), processor_time()?.saturating_sub(processor)))
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

impl Sum {
    fn of(stages: Vec<Stage>, cores: usize) -> Result<Self> {
        let spread_s = stages.iter().map(|stage| stage.cpu_s).sum::<f64>() / f64::from(u32::try_from(cores)?);
        let chain_s = stages.iter().filter_map(|stage| stage.chain_s).fold(0.0, f64::max);
        Ok(Self {
            stages,
            spread_s,
            chain_s,
            wall_s: spread_s.max(chain_s),
        })
    }
}

impl Floor {
    /// Has no stages, only their sums in seconds.
    #[cfg(test)]
    pub(super) fn made_up(alone: f64, busy: f64) -> Self {
        let sum = |wall_s| Sum {
            stages: Vec::new(),
            spread_s: wall_s,
            chain_s: 0.0,
            wall_s,
        };
        Self {
            cores: 2,
            alone: sum(alone),
            busy: sum(busy),
        }
    }

    /// Returns the floor in seconds.
    pub(super) fn wall_s(&self) -> f64 {
        self.alone.wall_s
    }

    /// Returns what it would be if every piece took as long as with all cores at work.
    pub(super) fn busy_wall_s(&self) -> f64 {
        self.busy.wall_s
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells: Vec<Vec<String>> = self
            .alone
            .stages
            .iter()
            .zip(&self.busy.stages)
            .map(|(stage, busy)| {
                vec![
                    stage.name.to_owned(),
                    format!("{:.3}", stage.wall_s),
                    format!("{:.3}", stage.cpu_s),
                    stage
                        .chain_s
                        .map_or_else(|| "can be split".to_owned(), |chain| format!("{chain:.3}")),
                    format!("{:.3}", busy.cpu_s),
                ]
            })
            .collect();
        let head = [
            "the floor, stage by stage",
            "wall s",
            "cpu s",
            "longest chain s",
            "cpu s, all cores at it",
        ];
        f.write_str(&table(&head, &cells))?;
        let Self { cores, alone, busy } = self;
        writeln!(
            f,
            "  All over {cores} cores {:.3} s, longest chain {:.3} s: the floor is {:.3} s",
            alone.spread_s, alone.chain_s, alone.wall_s
        )?;
        write!(
            f,
            "  With all cores at work: {:.3} s, {:.3} s: {:.3} s, which is {:.2} times the floor",
            busy.spread_s,
            busy.chain_s,
            busy.wall_s,
            busy.wall_s / alone.wall_s
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_work_over_the_cores_or_the_longest_chain() {
        let stage = |cpu_s, chain_s| Stage {
            name: "",
            wall_s: cpu_s,
            cpu_s,
            chain_s,
        };
        let stages = vec![stage(2.0, Some(1.5)), stage(6.0, None)];
        let on = |cores| Sum::of(stages.clone(), cores).unwrap().wall_s;
        assert_eq!(
            [on(1), on(2), on(8)].map(f64::to_bits),
            [8.0, 4.0, 1.5].map(f64::to_bits)
        );
    }

    #[test]
    fn what_threads_do_together_is_counted_for_one() {
        let count = std::sync::atomic::AtomicUsize::new(0);
        let spent = together(3, |thread| {
            count.fetch_add(1 + thread, std::sync::atomic::Ordering::Relaxed);
            thread::sleep(Duration::from_millis(5));
            Ok(())
        });
        assert!(spent.unwrap().wall >= Duration::from_millis(5));
        assert_eq!(count.into_inner(), 6);
        assert!(together(2, |_| anyhow::bail!("no")).is_err());
    }
}
