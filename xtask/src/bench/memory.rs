//! The pull of a layer of 1 GiB: how much memory the program has at most.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use unlade_test_support::FakeRegistry;

use super::child::{self, Usage};
use super::images::Image;
use super::program::Program;
use super::statistics::{Spread, mebibytes};
use super::table::table;

/// What a pull may have resident at its peak, in MiB.
pub(super) const BUDGET_MIB: f64 = 64.0;

/// One image, pulled several times into empty stores.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    program: String,
    image: String,
    peak_mib: Spread,
    wall_s: Spread,
    cpu_s: Spread,
    budget_mib: f64,
}

impl Row {
    /// Says so if the highest peak is over the budget.
    pub(super) fn over_budget(&self) -> Option<String> {
        (self.peak_mib.max > self.budget_mib).then(|| {
            format!(
                "{}, {}: {:.1} MiB at the peak, the budget is {} MiB",
                self.program, self.image, self.peak_mib.max, self.budget_mib
            )
        })
    }
}

/// Pulls from a registry in this process, which streams from files; only the child's memory is measured.
pub(super) fn measure(root: &Path, programs: &[Program], work: &Path, runs: u32) -> Result<Vec<Row>> {
    println!("\nMemory: `unlade pull` into an empty store, {runs} times each");
    let registry = FakeRegistry::start();
    let mut rows = Vec::new();
    for image in [Image::Large, Image::Many] {
        let layout = image.prepare(root)?;
        registry.serve_layout(&layout, image.name())?;
        let reference = registry.reference(image.name(), "latest");
        for program in programs {
            let usages = (0..runs)
                .map(|_| pull(program, &reference, work))
                .collect::<Result<Vec<_>>>()?;
            rows.push(Row {
                program: program.label.clone(),
                image: image.describe().to_owned(),
                peak_mib: Spread::of(usages.iter().map(|usage| mebibytes(usage.peak))),
                wall_s: Spread::of(usages.iter().map(|usage| usage.wall.as_secs_f64())),
                cpu_s: Spread::of(usages.iter().map(|usage| usage.cpu.as_secs_f64())),
                budget_mib: BUDGET_MIB,
            });
        }
    }
    print(&rows);
    Ok(rows)
}

fn pull(program: &Program, reference: &str, work: &Path) -> Result<Usage> {
    let home = tempfile::Builder::new().prefix("memory-").tempdir_in(work)?;
    child::watch(&mut program.pull(home.path(), reference))
}

fn print(rows: &[Row]) {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                format!("{}: {}", row.program, row.image),
                format!("{:.1}", row.peak_mib.max),
                format!("{:.1}", row.peak_mib.median),
                format!("{:.2}", row.peak_mib.max / row.budget_mib),
                format!("{:.2}", row.wall_s.median),
                format!("{:.2}", row.cpu_s.median),
            ]
        })
        .collect();
    let head = ["", "highest peak MiB", "median", "of budget", "wall s", "processor s"];
    print!("{}", table(&head, &cells));
    println!("  Wall time includes the registry's, which shares the machine; processor time is the program's alone.");
}
