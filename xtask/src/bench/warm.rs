//! The pull of an image that is complete in the store: the whole process, from before it starts until it was waited for.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use serde::Serialize;
use unlade_test_support::{FakeRegistry, fixtures};

use super::program::Program;
use super::statistics::{Spread, milliseconds};
use super::table::table;
use super::{child, filler, system_calls};

/// How often each thing is timed.
const RUNS: usize = 20;
/// What the pull of a complete image may take at the median, in milliseconds.
const BUDGET_MS: f64 = 10.0;

/// One command, timed.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    program: String,
    /// What was run, on which store.
    what: String,
    wall_ms: Spread,
    /// Requests that the registry saw, over all runs.
    requests: usize,
    /// System calls of one run, threads included; none where they could not be counted.
    system_calls: Option<u64>,
    /// The budget for the median; none for what is shown for comparison only.
    budget_ms: Option<f64>,
}

impl Row {
    /// Says so if the median is over the budget.
    pub(super) fn over_budget(&self) -> Option<String> {
        let budget = self.budget_ms.filter(|budget| self.wall_ms.median > *budget)?;
        Some(format!(
            "{}, {}: {:.2} ms at the median, the budget is {budget} ms",
            self.program, self.what, self.wall_ms.median
        ))
    }
}

/// Fills a store from a registry on loopback, then pulls again what is complete there.
///
/// Fails if the registry is asked for anything by such a pull: then it was not answered from the store.
pub(super) fn measure(programs: &[Program], work: &Path) -> Result<Vec<Row>> {
    println!("\nWarm: `unlade pull` of an image that is complete in the store, {RUNS} whole processes each");
    let registry = FakeRegistry::start();
    registry.push("web", "latest", &fixtures::web());
    registry.push("many", "latest", &fixtures::many());
    let mut rows = Vec::new();
    for program in programs {
        let home = tempfile::Builder::new().prefix("warm-").tempdir_in(work)?;
        rows.extend(measure_one(program, &registry, home.path())?);
    }
    print(&rows);
    Ok(rows)
}

fn measure_one(program: &Program, registry: &FakeRegistry, home: &Path) -> Result<Vec<Row>> {
    let (web, many) = (
        registry.reference("web", "latest"),
        registry.reference("many", "latest"),
    );
    let crowd = format!(
        "{} images, {} layers more",
        filler::IMAGES,
        filler::IMAGES * filler::LAYERS
    );
    let row = |what: String, command: &dyn Fn() -> Command, budget_ms| -> Result<Row> {
        registry.clear();
        let walls = (0..RUNS)
            .map(|_| child::time(&mut command()))
            .collect::<Result<Vec<_>>>()?;
        let requests = registry.requests().len();
        ensure!(
            requests == 0,
            "{}, {what}: the registry was asked {requests} times",
            program.label
        );
        Ok(Row {
            program: program.label.clone(),
            what,
            wall_ms: Spread::of(walls.into_iter().map(milliseconds)),
            requests,
            system_calls: system_calls::count(&command(), home)?,
            budget_ms,
        })
    };

    // The first time is a real pull. It also brings the program into memory.
    child::time(&mut program.pull(home, &web))?;
    let version = || {
        let mut command = program.command(home);
        command.arg("--version");
        command
    };
    let start = row("only its version (no store)".to_owned(), &version, None)?;
    let pull_web = || program.pull(home, &web);
    let alone = row("3 layers, alone in the store".to_owned(), &pull_web, Some(BUDGET_MS))?;
    child::time(&mut program.pull(home, &many))?;
    filler::fill(&home.join("store"))?;
    let crowded = row(format!("3 layers, {crowd}"), &pull_web, Some(BUDGET_MS))?;
    let pull_many = || program.pull(home, &many);
    let sixty = row(format!("60 layers, {crowd}"), &pull_many, Some(BUDGET_MS))?;
    Ok(vec![start, alone, crowded, sixty])
}

fn print(rows: &[Row]) {
    let ms = |value: f64| format!("{value:.2}");
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                format!("{}: {}", row.program, row.what),
                ms(row.wall_ms.median),
                ms(row.wall_ms.min),
                ms(row.wall_ms.max),
                row.budget_ms
                    .map_or_else(String::new, |budget| format!("{:.2}", row.wall_ms.median / budget)),
                row.requests.to_string(),
                row.system_calls
                    .map_or_else(|| "?".to_owned(), |calls| calls.to_string()),
            ]
        })
        .collect();
    let head = ["", "median ms", "min", "max", "of budget", "requests", "system calls"];
    print!("{}", table(&head, &cells));
}
