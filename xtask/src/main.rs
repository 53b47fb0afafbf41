//! Chores of the workspace, run as `cargo xtask NAME`: tests, checks, demonstration, fixtures, migrations.
//!
//! Each command is a module; this file only names them.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "these commands talk to the person who runs them"
)]

mod bench;
mod demo;
mod fixtures;
mod fuzz;
mod migrations;
mod test;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    about = "Chores of the unlade workspace",
    disable_version_flag = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show an image's way from a registry to files, without a network
    Demo(demo::Args),
    /// Install what the tests need, run every tier, name what this machine cannot run
    Test(test::Args),
    /// Check the rules that no compiler or lint checks: crate edges, file heads, manifests, pages
    Tidy,
    Fixtures(fixtures::Args),
    /// Feed what reads untrusted bytes with what a fuzzer comes up with
    Fuzz(fuzz::Args),
    /// Measure what a pull costs: time, memory, processors
    Bench(bench::Args),
    /// Look after the history of the database's schema
    Migrations {
        #[command(subcommand)]
        command: migrations::Command,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the manifest has no directory above it")?;
    match cli.command {
        Command::Test(args) => return test::run(root, &args),
        Command::Bench(args) => return bench::run(root, &args),
        Command::Demo(args) => demo::run(root, &args)?,
        Command::Tidy => tidy::run(root)?,
        Command::Fixtures(args) => fixtures::run(&args)?,
        Command::Fuzz(args) => fuzz::run(root, &args)?,
        Command::Migrations { command } => migrations::run(command, root)?,
    }
    Ok(ExitCode::SUCCESS)
}
