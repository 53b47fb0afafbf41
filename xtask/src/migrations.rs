//! `xtask migrations`: the history of the database's schema – add to it, look at it, check it.
//!
//! The history is append-only. A migration that was released has run on databases that nobody here can reach, so its
//! file is sealed by a checksum, and a mistake in it is mended by another migration. `check` proves that every way
//! leads to the committed schema: from an empty file, and from a database of each earlier version with rows in it.

mod history;

use std::io::{Write as _, stdout};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use self::history::{Fault, History};

/// What to do with the schema's history.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make the file of the next migration
    New {
        /// What it does, in lower case: words joined by underscores
        name: String,
    },
    /// List the migrations, with the schema version that each gives
    Status,
    /// Check that all migrations lead to the committed schema, from every earlier version
    Check {
        /// Seal new migrations: write their checksums, snapshots and the schema
        #[arg(long)]
        write: bool,
    },
}

/// Runs the command in the repository at `root`.
pub(crate) fn run(command: Command, root: &Path) -> Result<()> {
    let directory = root.join("crates/metadata");
    match command {
        Command::New { name } => {
            let path = history::add(&directory, &name)?;
            say(&format!(
                "made {}; write its statements, then seal it: cargo xtask migrations check --write",
                path.strip_prefix(root).unwrap_or(&path).display()
            ))
        }
        Command::Status => status(&History::read(&directory)?),
        Command::Check { write } => {
            if write {
                for path in History::read(&directory)?.seal()? {
                    say(&format!("wrote {}", path.strip_prefix(root).unwrap_or(&path).display()))?;
                }
            }
            let history = History::read(&directory)?;
            let mut faults = history.check();
            // Freshly sealed files are not in this program yet.
            if !write && history.steps() != unlade_metadata::migrations() {
                faults.push(Fault::new("this program was built from other migration files"));
            }
            report(&history, &faults)
        }
    }
}

fn status(history: &History) -> Result<()> {
    for (index, step) in history.steps().iter().enumerate() {
        let seal = if history.is_sealed(&step.name) { "sealed" } else { "new" };
        say(&format!("version {:<4} {:<6} {}", index + 1, seal, step.name))?;
    }
    match history.committed_version() {
        Some(version) => say(&format!("the committed schema is version {version}")),
        None => say("there is no committed schema"),
    }
}

fn report(history: &History, faults: &[Fault]) -> Result<()> {
    if faults.is_empty() {
        let version = history.steps().len();
        return say(&format!(
            "version {version} of the schema is what the migrations give, from an empty file and from every version"
        ));
    }
    for fault in faults {
        say(&format!("fault: {fault}"))?;
    }
    bail!("the schema's history is not sound (faults: {})", faults.len());
}

fn say(line: &str) -> Result<()> {
    writeln!(stdout(), "{line}").context("could not write to standard output")
}
