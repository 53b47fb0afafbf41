//! `cargo xtask bench`: what a pull costs, beside other programs and beside what the machine can do at best.
//!
//! A benchmark that compares different work misleads, so every row comes with what was done in it. What the figures mean
//! and what they do not is written in `docs/performance.md`.

mod chart;
mod checking;
mod child;
mod cores;
mod disk;
mod filler;
mod floor;
mod http;
mod images;
mod instructions;
mod interrupt;
mod leftovers;
mod machine;
mod memory;
mod naive;
mod peers;
mod program;
mod pull;
mod ranges;
mod registry;
mod statistics;
mod system_calls;
mod table;
mod unpack;
mod warm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::Serialize;

use disk::Filesystem;
use images::Image;
use machine::Machine;
use program::Program;

/// Measure what a pull costs: time, memory, processors
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure [default: warm and memory; with --check instructions]
    #[arg(value_enum)]
    what: Vec<What>,
    /// An image for `pull`, `unpack`, `checking` and `cores`, repeatable [default: debian, many and large]
    #[arg(long = "image", value_name = "NAME", value_enum)]
    images: Vec<Image>,
    /// A program for `pull`, repeatable [default: all that are installed, without the two over crates]
    #[arg(long = "program", value_name = "NAME", value_enum)]
    programs: Vec<peers::Name>,
    /// Let `pull` count system calls, too, in one more run of each program
    #[arg(long)]
    system_calls: bool,
    /// The filesystem for `pull`, `unpack`, `checking` and `cores`, made anew for every run; takes root
    #[arg(long, value_enum, default_value_t = Filesystem::Ext4)]
    fs: Filesystem,
    /// How often `memory`, `pull`, `unpack`, `checking` and `cores` measure each thing
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Write all figures to a file as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the figures of `pull` into an SVG file
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    /// Measure nothing and draw what an earlier run has written with --json, repeatable
    #[arg(long = "from", value_name = "FILE", requires = "chart", conflicts_with_all = ["what", "json", "bless", "check"])]
    from: Vec<PathBuf>,
    /// Measure this program instead of building one; repeat it to compare builds
    #[arg(long = "binary", value_name = "PATH")]
    binaries: Vec<PathBuf>,
    /// Fail when something is over its budget
    #[arg(long)]
    check: bool,
    /// Make the counts of `instructions` the committed numbers
    #[arg(long, conflicts_with = "check")]
    bless: bool,
    /// Be the naive program for one run: pull REFERENCE into DIRECTORY
    #[arg(long, hide = true, num_args = 3, value_names = ["INFLATER", "REFERENCE", "DIRECTORY"], exclusive = true)]
    naive: Vec<String>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Instructions of fixed pieces of the work, under valgrind, beside committed numbers
    Instructions,
    /// The pull of an image that is complete in the store: time, requests, system calls
    Warm,
    /// The pull of a layer of 1 GiB: peak memory
    Memory,
    /// Pulls from a real registry onto a new filesystem, beside other programs and beside the machine's floor
    Pull,
    /// A root filesystem of an image that is there, beside umoci's from a layout
    Unpack,
    /// Pulls kept to fewer cores, and a simulation of more
    Cores,
    /// Pulls with all digests and without any, by a program that is built for this alone
    Checking,
    /// One large blob over one connection and over several, from a server that caps each connection and from one that does not
    Ranges,
}

/// All figures of one run.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    instructions: Vec<instructions::Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warm: Vec<warm::Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    memory: Vec<memory::Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pull: Option<pull::Outcome>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unpack: Vec<unpack::Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cores: Vec<cores::Row>,
    checking: Vec<checking::Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<ranges::Row>,
}

impl Report {
    /// Has no figures yet, but says what machine they are of.
    fn new() -> Result<Self> {
        Ok(Self {
            machine: Machine::look()?,
            instructions: Vec::new(),
            warm: Vec::new(),
            memory: Vec::new(),
            pull: None,
            unpack: Vec::new(),
            cores: Vec::new(),
            checking: Vec::new(),
            ranges: Vec::new(),
        })
    }
}

/// Measures and prints. Returns failure if a budget is exceeded and that was to be checked, or if somebody has interrupted it.
pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    match measure(root, args) {
        Err(_) if interrupt::is_seen() => {
            println!("Interrupted.");
            Ok(ExitCode::from(interrupt::EXIT))
        }
        measured => measured,
    }
}

fn measure(root: &Path, args: &Args) -> Result<ExitCode> {
    if let [inflater, reference, directory] = &args.naive[..] {
        let inflater = naive::Inflater::from_str(inflater, false).map_err(anyhow::Error::msg)?;
        naive::pull(inflater, reference, Path::new(directory))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(chart), [_, ..]) = (&args.chart, &args.from[..]) {
        let reports = args
            .from
            .iter()
            .map(|path| chart::read(path))
            .collect::<Result<Vec<_>>>()?;
        chart::write(chart, &reports)?;
        return Ok(ExitCode::SUCCESS);
    }
    let what = match &args.what[..] {
        [] if args.check || args.bless => &[What::Instructions],
        [] => &[What::Warm, What::Memory][..],
        what => what,
    };
    let target = program::target_directory(root)?;
    if (what.contains(&What::Pull) || what.contains(&What::Ranges)) && cfg!(debug_assertions) {
        // The naive program, the floor and the server of `ranges` are this program: they have to be as optimised as what they are held against.
        return program::run_optimised(root, &target);
    }
    let programs = if what
        .iter()
        .all(|what| matches!(what, What::Instructions | What::Checking))
    {
        Vec::new()
    } else {
        Program::all(root, &target, &args.binaries)?
    };
    let work = target.join("bench");
    let _claim = leftovers::claim(&work)?;
    interrupt::listen()?;

    let mut report = Report::new()?;
    println!("{}", report.machine);
    if what.contains(&What::Instructions) {
        report.instructions = instructions::measure(root, &target, &work, args.bless)?;
    }
    if what.contains(&What::Warm) {
        report.warm = warm::measure(&programs, &work)?;
    }
    if what.contains(&What::Memory) {
        report.memory = memory::measure(root, &programs, &work, args.runs)?;
    }
    let images = if args.images.is_empty() {
        &[Image::Debian, Image::Many, Image::Large]
    } else {
        &args.images[..]
    };
    if what.contains(&What::Pull) {
        let (peers, missing) = peers::Peer::all(root, &target, &programs, &args.programs)?;
        let plan = pull::Plan {
            peers,
            missing,
            filesystem: args.fs,
            runs: args.runs,
            system_calls: args.system_calls,
        };
        report.pull = Some(pull::measure(root, &plan, &work, images)?);
    }
    if what.contains(&What::Unpack) {
        report.unpack = unpack::measure(root, &programs, &work, images, args.fs, args.runs)?;
    }
    if what.contains(&What::Cores) {
        report.cores = cores::measure(root, &programs, &work, images, args.fs, args.runs)?;
    }
    if what.contains(&What::Checking) {
        let programs = Program::unverifying(root, &target, &args.binaries)?;
        report.checking = checking::measure(root, &programs, &work, images, args.fs, args.runs)?;
    }
    if what.contains(&What::Ranges) {
        report.ranges = ranges::measure(&programs, &work, args.runs)?;
    }
    if let Some(path) = &args.json {
        let mut text = serde_json::to_string_pretty(&report)?;
        text.push('\n');
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("\nAll figures are in {}.", path.display());
    }
    if let Some(path) = &args.chart {
        chart::write(path, &[serde_json::to_value(&report)?])?;
    }

    let over = over_budget(&report);
    if over.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("\nOver budget:");
    for line in &over {
        println!("  {line}");
    }
    Ok(if args.check {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Says what is over its budget.
fn over_budget(report: &Report) -> Vec<String> {
    let mut over = Vec::new();
    over.extend(report.instructions.iter().filter_map(instructions::Row::over_budget));
    over.extend(report.warm.iter().filter_map(warm::Row::over_budget));
    over.extend(report.memory.iter().filter_map(memory::Row::over_budget));
    over.extend(report.pull.iter().flat_map(pull::Outcome::over_budget));
    over.extend(report.unpack.iter().filter_map(unpack::Row::over_budget));
    over.extend(report.checking.iter().filter_map(checking::Row::over_budget));
    over.extend(ranges::over_budget(&report.ranges));
    over
}
