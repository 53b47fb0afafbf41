//! Runs chosen tests under cargo-nextest or `cargo test`, and counts what passed.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use cargo_metadata::MetadataCommand;

use super::machine::{OtherUser, has_program};

/// What the tests run under.
#[derive(Debug)]
pub(crate) struct Runner {
    kind: Kind,
    root: PathBuf,
    target_directory: PathBuf,
    host: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// cargo-nextest: a process for each test, with time limits.
    Nextest,
    /// The harness that comes with Rust.
    Libtest,
}

/// Which tests to run, by their full names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// These and no others.
    Only(Vec<String>),
    /// Everything but these.
    AllBut(Vec<String>),
}

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl fmt::Display for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Nextest => "cargo nextest",
            Kind::Libtest => "cargo test (cargo-nextest would add time limits)",
        })
    }
}

impl Runner {
    /// Takes cargo-nextest if it is wanted and there.
    pub(crate) fn choose(root: &Path, nextest: bool) -> Result<Self> {
        let kind = if nextest && has_program("cargo-nextest") {
            Kind::Nextest
        } else {
            Kind::Libtest
        };
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .no_deps()
            .exec()
            .context("cargo metadata cannot read the workspace")?;
        let rustc = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
        let host = String::from_utf8_lossy(&rustc.stdout)
            .lines()
            .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
            .context("rustc -vV names no host")?;
        Ok(Self {
            kind,
            root: root.to_owned(),
            target_directory: metadata.target_directory.into(),
            host,
        })
    }

    /// Where the tests are built.
    pub(crate) fn target_directory(&self) -> &Path {
        &self.target_directory
    }

    /// Builds every test and returns their names, each once, in order.
    pub(crate) fn list(&self) -> Result<Vec<String>> {
        if self.kind == Kind::Libtest {
            // Tests run the command and the examples. Without a choice of targets `cargo test` would build them, but then
            // it would also run the documentation's tests.
            let mut build = self.cargo();
            build.args(["build", "--workspace", "--bins", "--examples"]);
            ensure!(
                build.status().context("cannot run cargo")?.success(),
                "the programs that tests run do not build"
            );
        }
        let mut command = self.cargo();
        match self.kind {
            Kind::Nextest => command.args(["nextest", "list", "--workspace", "--message-format", "json"]),
            Kind::Libtest => command
                .args(LIBTEST_TARGETS)
                .args(["--", "--list", "--format", "terse"]),
        };
        let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
        if !output.status.success() {
            bail!("the tests do not build");
        }
        let text = String::from_utf8(output.stdout).context("the list of tests is not UTF-8")?;
        match self.kind {
            Kind::Nextest => names_of_nextest(&text),
            Kind::Libtest => Ok(names_of_libtest(&text)),
        }
    }

    /// Runs the chosen tests, as another user if one is given.
    pub(crate) fn run(&self, selection: &Selection, user: Option<&OtherUser>) -> Result<Outcome> {
        if *selection == Selection::Only(Vec::new()) {
            println!("none to run");
            return Ok(Outcome::default());
        }
        let mut command = self.cargo();
        match self.kind {
            Kind::Nextest => {
                command.args(["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests", "pass"]);
                command.args([
                    "--color",
                    "never",
                    "--status-level",
                    "slow",
                    "--final-status-level",
                    "slow",
                ]);
                command.args(["-E", &selection.nextest_filter()]);
            }
            Kind::Libtest => {
                command.args(LIBTEST_TARGETS).args(["--no-fail-fast", "--", "--exact"]);
                command.args(selection.libtest_arguments());
            }
        }
        if let Some(user) = user {
            let triple = self.host.to_uppercase().replace('-', "_");
            command.env(format!("CARGO_TARGET_{triple}_RUNNER"), user.runner());
            // Snapshots are looked for below the workspace, which insta asks cargo for, and that user may have none.
            command.env("INSTA_WORKSPACE_ROOT", &self.root);
        }
        Self::count(command, self.kind)
    }

    /// Runs the examples in the documentation, which only `cargo test` can.
    pub(crate) fn run_doctests(&self) -> Result<Outcome> {
        let mut command = self.cargo();
        command.args(["test", "--workspace", "--doc", "--no-fail-fast"]);
        Self::count(command, Kind::Libtest)
    }

    fn cargo(&self) -> Command {
        let mut command = Command::new("cargo");
        command.current_dir(&self.root).stdin(Stdio::null());
        command
    }

    /// Runs `command`, passes on what it prints, and reads the counts from it.
    fn count(mut command: Command, kind: Kind) -> Result<Outcome> {
        // Each of the two prints its results on another stream; the other one goes straight through.
        match kind {
            Kind::Nextest => command.stderr(Stdio::piped()),
            Kind::Libtest => command.stdout(Stdio::piped()),
        };
        let mut child = command.spawn().context("cannot run cargo")?;
        let stream: Box<dyn Read> = match (child.stdout.take(), child.stderr.take()) {
            (Some(stdout), _) => Box::new(stdout),
            (_, Some(stderr)) => Box::new(stderr),
            _ => bail!("cargo has no output to read"),
        };
        let mut found = None;
        for line in BufReader::new(stream).split(b'\n') {
            let line = line.context("cannot read what cargo prints")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            let counted = match kind {
                Kind::Nextest => outcome_of_nextest(&line),
                Kind::Libtest => outcome_of_libtest(&line),
            };
            if let Some(outcome) = counted {
                let sum: &mut Outcome = found.get_or_insert_default();
                sum.passed += outcome.passed;
                sum.failed += outcome.failed;
            }
        }
        let status = child.wait().context("cannot wait for cargo")?;
        match found {
            Some(outcome) if status.success() || outcome.failed > 0 => Ok(outcome),
            Some(_) => bail!("every test passed, yet cargo failed: {status}"),
            None if status.success() => Ok(Outcome::default()),
            None => bail!("the tests did not run: {status}"),
        }
    }
}

/// What `cargo test` runs to cover what nextest does.
const LIBTEST_TARGETS: [&str; 5] = ["test", "--workspace", "--lib", "--bins", "--tests"];

impl Selection {
    /// The selection in nextest's filter language.
    fn nextest_filter(&self) -> String {
        let any_of = |names: &[String]| {
            names
                .iter()
                .map(|name| format!("test(={name})"))
                .collect::<Vec<_>>()
                .join(" + ")
        };
        match self {
            Self::Only(names) => any_of(names),
            Self::AllBut(names) if names.is_empty() => "all()".to_owned(),
            Self::AllBut(names) => format!("all() - ({})", any_of(names)),
        }
    }

    /// The selection as arguments of a test program that was given `--exact`.
    fn libtest_arguments(&self) -> Vec<String> {
        match self {
            Self::Only(names) => names.clone(),
            Self::AllBut(names) => names
                .iter()
                .flat_map(|name| ["--skip".to_owned(), name.clone()])
                .collect(),
        }
    }
}

fn names_of_nextest(json: &str) -> Result<Vec<String>> {
    let list: serde_json::Value = serde_json::from_str(json).context("cargo nextest lists no JSON")?;
    let suites = list["rust-suites"]
        .as_object()
        .context("cargo nextest lists no suites")?;
    let names: BTreeSet<String> = suites
        .values()
        .filter_map(|suite| suite["testcases"].as_object())
        .flat_map(|cases| cases.keys().cloned())
        .collect();
    Ok(names.into_iter().collect())
}

fn names_of_libtest(list: &str) -> Vec<String> {
    let names: BTreeSet<String> = list
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect();
    names.into_iter().collect()
}

/// Reads `Summary [ 0.2s] 12 tests run: 10 passed (1 slow), 1 failed, 1 timed out, 3 skipped`.
fn outcome_of_nextest(line: &str) -> Option<Outcome> {
    let (_, counts) = line.trim_start().strip_prefix("Summary [")?.split_once(']')?;
    let run: u64 = counts.split_whitespace().next()?.split('/').next()?.parse().ok()?;
    let passed = number_before(counts, " passed")?;
    Some(Outcome {
        passed,
        failed: run.saturating_sub(passed),
    })
}

/// Reads `test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 5 filtered out; finished in 0.00s`.
fn outcome_of_libtest(line: &str) -> Option<Outcome> {
    let counts = line.strip_prefix("test result: ")?;
    Some(Outcome {
        passed: number_before(counts, " passed")?,
        failed: number_before(counts, " failed")?,
    })
}

fn number_before(text: &str, word: &str) -> Option<u64> {
    let (before, _) = text.split_once(word)?;
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn summaries_of_nextest_are_read() {
        for (line, expected) in [
            (
                "     Summary [   0.010s] 12 tests run: 12 passed, 0 skipped",
                Some((12, 0)),
            ),
            (
                "     Summary [  61.010s] 12 tests run: 10 passed (1 slow), 1 failed, 1 timed out, 5 skipped",
                Some((10, 2)),
            ),
            (
                "     Summary [   0.000s] 0 tests run: 0 passed, 340 skipped",
                Some((0, 0)),
            ),
            (
                "     Summary [   0.000s] 5/10 tests run: 4 passed, 1 failed, 3 skipped",
                Some((4, 1)),
            ),
            ("        PASS [   0.010s] unlade-oci digest::tests::parses", None),
        ] {
            let outcome = outcome_of_nextest(line).map(|outcome| (outcome.passed, outcome.failed));
            assert_eq!(outcome, expected, "{line}");
        }
    }

    #[test]
    fn summaries_of_libtest_are_read() {
        let line = "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 5 filtered out; finished in 0.00s";
        assert_eq!(outcome_of_libtest(line), Some(Outcome { passed: 3, failed: 2 }));
        assert_eq!(outcome_of_libtest("running 5 tests"), None);
    }

    #[test]
    fn lists_are_read() {
        let json =
            r#"{"rust-suites": {"a": {"testcases": {"x::one": {}, "two": {}}}, "b": {"testcases": {"two": {}}}}}"#;
        assert_eq!(names_of_nextest(json).unwrap(), ["two", "x::one"]);
        assert_eq!(
            names_of_libtest("x::one: test\ntwo: test\nbench: benchmark\ntwo: test\n"),
            ["two", "x::one"]
        );
        assert!(names_of_nextest("[]").is_err());
    }

    #[test]
    fn selections_become_arguments() {
        let only = Selection::Only(names(&["a::b", "c"]));
        assert_eq!(only.nextest_filter(), "test(=a::b) + test(=c)");
        assert_eq!(only.libtest_arguments(), ["a::b", "c"]);
        let but = Selection::AllBut(names(&["a::b", "c"]));
        assert_eq!(but.nextest_filter(), "all() - (test(=a::b) + test(=c))");
        assert_eq!(but.libtest_arguments(), ["--skip", "a::b", "--skip", "c"]);
        assert_eq!(Selection::AllBut(Vec::new()).nextest_filter(), "all()");
    }
}
