//! How the time of a pull falls with the number of cores: measured for those that this machine has, simulated for more.

mod simulation;

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use super::child;
use super::disk::{Disk, Filesystem};
use super::images::Image;
use super::program::Program;
use super::registry::Registry;
use super::statistics::Spread;
use super::table::table;
use simulation::Work;

/// Numbers of cores that are looked at, measured or not.
const CORES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// One image on so many cores.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    program: String,
    image: &'static str,
    cores: usize,
    /// What pulls took that were kept to so many cores, the registry with them; none if the machine has fewer.
    measured_s: Option<Spread>,
    /// What the stages that one pull has timed would take.
    simulated_s: f64,
    /// What the simulated pull cannot be faster than, however many cores there are: seconds of the longest chain, and its name.
    chain_s: f64,
    chain: String,
}

/// Pulls each image `runs` times on each number of cores that the machine has, and simulates the rest.
pub(super) fn measure(
    root: &Path,
    programs: &[Program],
    work: &Path,
    images: &[Image],
    filesystem: Filesystem,
    runs: u32,
) -> Result<Vec<Row>> {
    let here = std::thread::available_parallelism()?.get();
    println!(
        "\nCores: pulls onto a new {filesystem}, kept to so many of the {here} cores, {runs} runs each; more are simulated"
    );
    let registry = Registry::start(work)?;
    let mut rows = Vec::new();
    for &image in images {
        let reference = registry.push(&image.prepare(root)?, image.name())?;
        for program in programs {
            let mut measured = Vec::new();
            for cores in CORES.into_iter().filter(|cores| *cores <= here) {
                registry.keep_to(cores)?;
                let times = (0..runs)
                    .map(|_| {
                        let disk = Disk::make(filesystem, work)?;
                        let mut command = keep_to(cores, &program.pull(disk.path(), &reference));
                        Ok(child::time(&mut command)?.as_secs_f64())
                    })
                    .collect::<Result<Vec<f64>>>()?;
                measured.push((cores, Spread::of(times)));
            }
            registry.keep_to(here)?;
            let timed = timed(program, &registry, &reference, filesystem, work)?;
            let chain = timed.chain();
            let of_image: Vec<Row> = CORES
                .into_iter()
                .map(|cores| Row {
                    program: program.label.clone(),
                    image: image.name(),
                    cores,
                    measured_s: measured.iter().find(|(of, _)| *of == cores).map(|(_, times)| *times),
                    simulated_s: timed.on(cores),
                    chain_s: chain.seconds,
                    chain: chain.name.clone(),
                })
                .collect();
            println!("\n{}: {}, {}", program.label, image.name(), image.describe());
            print(&of_image);
            rows.extend(of_image);
        }
    }
    Ok(rows)
}

/// Pulls once more with `--timings`, and returns the work that it reports. What the registry does is work, too.
fn timed(program: &Program, registry: &Registry, reference: &str, filesystem: Filesystem, work: &Path) -> Result<Work> {
    let disk = Disk::make(filesystem, work)?;
    let mut command = program.command(disk.path());
    command.args(["pull", "--progress", "json", "--timings", reference]);
    let before = registry.cpu_time()?;
    let output = command.output().context("cannot run unlade")?;
    let served = registry.cpu_time()?.saturating_sub(before);
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "unlade failed:\n{text}");
    let report = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|event| event["event"] == "timings")
        .context("unlade reports no timings")?;
    Work::of(&report, served.as_secs_f64())
}

/// Returns `command`, kept to the first `cores` cores.
fn keep_to(cores: usize, command: &Command) -> Command {
    let mut kept = Command::new("taskset");
    kept.arg("--cpu-list").arg(list(cores)).arg(command.get_program());
    kept.args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            kept.env(name, value);
        }
    }
    kept
}

/// The first `cores` cores, as taskset(1) wants them.
pub(super) fn list(cores: usize) -> String {
    format!("0-{}", cores.saturating_sub(1))
}

fn print(rows: &[Row]) {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let measured = |of: fn(&Spread) -> String| row.measured_s.as_ref().map_or_else(String::new, of);
            vec![
                row.cores.to_string(),
                measured(|times| format!("{:.2}", times.median)),
                measured(|times| format!("{:.2}-{:.2}", times.min, times.max)),
                format!("{:.2}", row.simulated_s),
            ]
        })
        .collect();
    print!("{}", table(&["cores", "measured s", "range", "simulated s"], &cells));
    if let Some(row) = rows.first() {
        println!("  the longest chain: {:.2} s, {}", row.chain_s, row.chain);
    }
}
