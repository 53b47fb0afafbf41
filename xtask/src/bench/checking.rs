//! What it costs that a pull checks everything: digest and size of each blob, and the diff ID of what is in it.
//!
//! It is the same pull without the digests that is held against it, by the same program: one built with the feature
//! `bench-skip-verify`, which nothing else is. Two builds would differ in more than the work that they do.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::child::{self, Usage};
use super::disk::{Census, Disk, Filesystem};
use super::images::Image;
use super::program::Program;
use super::registry::Registry;
use super::statistics::Spread;
use super::table::table;

/// How much longer a pull may take because it checks.
const BUDGET: f64 = 1.15;

/// One image, pulled with checks or without.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    image: &'static str,
    filesystem: Filesystem,
    program: String,
    checks: bool,
    wall_s: Spread,
    cpu_s: Spread,
    /// What it made.
    made: Census,
    /// Its wall time over that without checks in the same run; none for the latter.
    of_unchecked: Option<f64>,
}

impl Row {
    /// Says so if the checks take more than they may.
    pub(super) fn over_budget(&self) -> Option<String> {
        let ratio = self.of_unchecked.filter(|ratio| *ratio > BUDGET)?;
        Some(format!(
            "{}, pull of {} on {}: {ratio:.2} times as long as without checks, the budget is {BUDGET}",
            self.program, self.image, self.filesystem
        ))
    }
}

/// Pulls every image `runs` times with checks and without, in turns, each time onto a new filesystem.
pub(super) fn measure(
    root: &Path,
    programs: &[Program],
    work: &Path,
    images: &[Image],
    filesystem: Filesystem,
    runs: u32,
) -> Result<Vec<Row>> {
    println!(
        "\nChecking: pulls with all digests and without any, by one program, onto a new {filesystem}, {runs} runs, in turns"
    );
    let registry = Registry::start(work)?;
    let mut rows = Vec::new();
    for &image in images {
        let layout = image.prepare(root)?;
        let reference = registry.push(&layout, image.name())?;
        println!("\n{}: {}", image.name(), image.describe());
        for program in programs {
            let mut seen = [
                (true, Vec::new(), Census::default()),
                (false, Vec::new(), Census::default()),
            ];
            for _ in 0..runs {
                for (checks, usages, made) in &mut seen {
                    let disk = Disk::make(filesystem, work)?;
                    let mut command = program.pull(disk.path(), &reference);
                    if !*checks {
                        command.arg("--bench-skip-verify");
                    }
                    usages.push(child::watch(&mut command).context("cannot pull")?);
                    *made = Census::of(&disk.path().join("store/layers"))?;
                }
            }
            let of_program = seen.map(|(checks, usages, made)| row(image, filesystem, program, checks, &usages, made));
            let [checked, unchecked] = of_program;
            let of_unchecked = Some(checked.wall_s.median / unchecked.wall_s.median);
            rows.extend([
                Row {
                    of_unchecked,
                    ..checked
                },
                unchecked,
            ]);
        }
    }
    print(&rows);
    Ok(rows)
}

fn row(image: Image, filesystem: Filesystem, program: &Program, checks: bool, usages: &[Usage], made: Census) -> Row {
    Row {
        image: image.name(),
        filesystem,
        program: program.label.clone(),
        checks,
        wall_s: Spread::of(usages.iter().map(|usage| usage.wall.as_secs_f64())),
        cpu_s: Spread::of(usages.iter().map(|usage| usage.cpu.as_secs_f64())),
        made,
        of_unchecked: None,
    }
}

fn print(rows: &[Row]) {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let how = if row.checks { "checks" } else { "does not check" };
            vec![
                format!("{}: {} {how}", row.image, row.program),
                format!("{:.2}", row.wall_s.median),
                format!("{:.2}-{:.2}", row.wall_s.min, row.wall_s.max),
                row.of_unchecked
                    .map_or_else(String::new, |ratio| format!("{ratio:.2} (at most {BUDGET})")),
                format!("{:.2}", row.cpu_s.median),
                row.made.entries.to_string(),
            ]
        })
        .collect();
    print!(
        "\n{}",
        table(
            &["", "wall s", "range", "of unchecked", "cpu s", "entries made"],
            &cells
        )
    );
}
