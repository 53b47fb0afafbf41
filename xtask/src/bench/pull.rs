//! Pulls from a real registry onto a new filesystem: unlade, its peers, and the floor, all on the same bytes in one run.

mod ratios;

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::child::Usage;
use super::disk::{Census, Disk, Filesystem};
use super::floor::{self, Floor};
use super::images::Image;
use super::interrupt;
use super::machine::busy_time;
use super::peers::Peer;
use super::registry::Registry;
use super::statistics::{Spread, mebibytes};
use super::table::table;
use ratios::Comparison;

/// All pulls of one run of the benchmark.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    registry: String,
    filesystem: Filesystem,
    runs: u32,
    images: Vec<Figures>,
}

/// One image, pulled by everybody.
#[derive(Debug, Serialize)]
struct Figures {
    name: &'static str,
    image: String,
    rows: Vec<Row>,
    /// Programs that cannot pull it.
    failed: Vec<Failure>,
    floor: Floor,
    ratios: Vec<Comparison>,
}

/// A program that cannot pull an image.
#[derive(Debug, Serialize)]
struct Failure {
    program: String,
    reason: String,
}

/// One program on one image.
#[derive(Debug, Serialize)]
struct Row {
    program: String,
    #[serde(skip)]
    is_unlade: bool,
    /// What part of its wall time unlade is to take at most.
    #[serde(skip)]
    aim: Option<f64>,
    version: String,
    does: &'static str,
    leaves_out: &'static str,
    wall_s: Spread,
    /// Processor time of the program, or of both.
    cpu_s: Spread,
    /// Processor time of the whole machine while it ran: the registry's, and that of kernel threads, is in it.
    machine_cpu_s: Spread,
    peak_mib: Spread,
    /// What it has made the kernel write, now or later.
    written_mib: Spread,
    /// System calls of one run, threads and children included; none if they were not counted.
    system_calls: Option<u64>,
    /// Whether there are files afterwards.
    makes_files: bool,
    /// The files that it made.
    made: Census,
    /// Its wall time over the floor.
    over_floor: f64,
}

impl Outcome {
    /// Says what took more than it may.
    pub(super) fn over_budget(&self) -> impl Iterator<Item = String> {
        self.images
            .iter()
            .flat_map(|figures| ratios::over_budget(figures.name, &figures.rows, &figures.ratios))
    }
}

/// What was seen of one peer so far.
struct Seen {
    peer: Peer,
    usages: Vec<(Usage, f64)>,
    made: Census,
    system_calls: Option<u64>,
    failure: Option<String>,
}

/// What to run on every image.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) peers: Vec<Peer>,
    /// What would be measured if it were installed.
    pub(super) missing: Vec<&'static str>,
    pub(super) filesystem: Filesystem,
    pub(super) runs: u32,
    pub(super) system_calls: bool,
}

/// Measures every image. The programs take turns, so that a slow minute of the machine is everybody's.
pub(super) fn measure(root: &Path, plan: &Plan, work: &Path, images: &[Image]) -> Result<Outcome> {
    let Plan {
        peers,
        missing,
        filesystem,
        runs,
        ..
    } = plan;
    println!("\nPull: from docker-registry on loopback onto a new {filesystem} for every run, {runs} runs, in turns");
    println!("  The blobs are in the page cache when a run begins, and nobody waits for the disk at its end.");
    if !missing.is_empty() {
        println!("  Not installed, so not measured: {}", missing.join(", "));
    }
    let registry = Registry::start(work)?;
    let mut outcome = Outcome {
        registry: Registry::version(),
        filesystem: *filesystem,
        runs: *runs,
        images: Vec::new(),
    };
    for &image in images {
        let reference = registry.push(&image.prepare(root)?, image.name())?;
        println!("\n{}: {}", image.name(), image.describe());
        let mut seen: Vec<Seen> = peers
            .iter()
            .filter(|peer| peer.differs_with(image))
            .cloned()
            .map(Seen::nothing)
            .collect();
        for _ in 0..*runs {
            for seen in seen.iter_mut().filter(|seen| seen.failure.is_none()) {
                let pulled = seen.pull(&reference, *filesystem, work);
                interrupt::check()?;
                match pulled {
                    // What others cannot do is a result, what unlade cannot do is not.
                    Err(error) if !matches!(seen.peer, Peer::Unlade(_)) => seen.failure = Some(format!("{error:#}")),
                    pulled => pulled?,
                }
            }
        }
        let (mut seen, failed): (Vec<_>, Vec<_>) = seen.into_iter().partition(|seen| seen.failure.is_none());
        let failed: Vec<Failure> = failed.into_iter().filter_map(Seen::into_failure).collect();
        if plan.system_calls {
            for seen in &mut seen {
                let disk = Disk::make(*filesystem, work)?;
                seen.system_calls = seen.peer.count_calls(&reference, disk.path())?;
            }
        }
        let floor = floor::measure(&reference, &registry, *filesystem, work, *runs)?;
        let rows: Vec<Row> = seen.into_iter().map(|seen| seen.into_row(&floor)).collect();
        print(&rows);
        for Failure { reason, .. } in &failed {
            println!("  {reason}");
        }
        println!("\n{floor}");
        let ratios = ratios::compare(image, &rows, &floor);
        ratios::print(&ratios);
        outcome.images.push(Figures {
            name: image.name(),
            image: image.describe().to_owned(),
            rows,
            failed,
            floor,
            ratios,
        });
    }
    println!("\nWhat each did, and what of unlade's work it did not:");
    for peer in peers {
        println!("  {} ({})", peer.label(), peer.version());
        println!("    did: {}", peer.does());
        println!("    did not: {}", peer.leaves_out());
    }
    Ok(outcome)
}

impl Seen {
    fn nothing(peer: Peer) -> Self {
        Self {
            peer,
            usages: Vec::new(),
            made: Census::default(),
            system_calls: None,
            failure: None,
        }
    }

    fn into_failure(self) -> Option<Failure> {
        Some(Failure {
            program: self.peer.label(),
            reason: self.failure?,
        })
    }

    fn pull(&mut self, reference: &str, filesystem: Filesystem, work: &Path) -> Result<()> {
        let disk = Disk::make(filesystem, work)?;
        let before = busy_time()?;
        let usage = self
            .peer
            .pull(reference, disk.path())
            .with_context(|| format!("{} cannot pull {reference}", self.peer.label()))?;
        let machine = busy_time()?.saturating_sub(before);
        self.usages.push((usage, machine.as_secs_f64()));
        if self.made == Census::default() {
            self.made = self.peer.census(disk.path())?;
        }
        Ok(())
    }

    fn into_row(self, floor: &Floor) -> Row {
        let usages = || self.usages.iter().map(|(usage, _)| usage);
        let wall_s = Spread::of(usages().map(|usage| usage.wall.as_secs_f64()));
        Row {
            program: self.peer.label(),
            is_unlade: matches!(self.peer, Peer::Unlade(_)),
            aim: self.peer.aim(),
            version: self.peer.version(),
            does: self.peer.does(),
            leaves_out: self.peer.leaves_out(),
            over_floor: wall_s.median / floor.wall_s(),
            cpu_s: Spread::of(usages().map(|usage| usage.cpu.as_secs_f64())),
            machine_cpu_s: Spread::of(self.usages.iter().map(|(_, machine)| *machine)),
            peak_mib: Spread::of(usages().map(|usage| mebibytes(usage.peak))),
            // The filesystem that was made for this takes root, and root is told.
            written_mib: Spread::of(usages().map(|usage| mebibytes(usage.written.unwrap_or_default()))),
            system_calls: self.system_calls,
            makes_files: self.peer.makes_files(),
            made: self.made,
            wall_s,
        }
    }
}

fn print(rows: &[Row]) {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.program.clone(),
                format!("{:.2}", row.wall_s.median),
                format!("{:.2}-{:.2}", row.wall_s.min, row.wall_s.max),
                format!("{:.2}", row.over_floor),
                format!("{:.2}", row.cpu_s.median),
                format!("{:.2}", row.machine_cpu_s.median),
                format!("{:.0}", row.peak_mib.max),
                format!("{:.0}", row.written_mib.median),
                row.system_calls.map_or_else(String::new, |calls| calls.to_string()),
                row.made.entries.to_string(),
                format!("{:.0}", mebibytes(row.made.bytes)),
            ]
        })
        .collect();
    let head = [
        "",
        "wall s",
        "range",
        "of floor",
        "cpu s",
        "machine cpu s",
        "peak MiB",
        "MiB written",
        "system calls",
        "entries made",
        "MiB made",
    ];
    print!("{}", table(&head, &cells));
}
