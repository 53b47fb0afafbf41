//! `cargo xtask test`: every tier of tests that this machine can run, and the names of those it cannot.
//!
//! What a test needs is told by its name (see [`tiers`]), so that the choice is made outside the tests: none looks at
//! the machine and passes without having tested anything.

mod machine;
mod runner;
mod tiers;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

pub(crate) use machine::has_program;
use machine::{Machine, OtherUser};
use runner::{Outcome, Runner, Selection};
use tiers::{Need, Tier};

/// How to run the tests.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not install missing packages, even as root on Debian
    #[arg(long)]
    no_install: bool,
    /// Use `cargo test`, even where cargo-nextest is installed
    #[arg(long)]
    no_nextest: bool,
}

/// Runs the tests of the workspace at `root`. The last line on stdout is the sum, so a failed test is told by the exit
/// code; an error means that the tests did not run.
pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    heading("What the tests need");
    let machine = Machine::prepare(!args.no_install)?;
    let runner = Runner::choose(root, !args.no_nextest)?;
    println!("tests run under {runner}");

    heading("Building");
    let tests = runner.list()?;
    let plan = Plan::of(&tests, &machine);

    let mut outcomes: BTreeMap<Tier, Outcome> = BTreeMap::new();
    for tier in [Tier::Plain, Tier::Privileged, Tier::Real] {
        heading(tier.title());
        outcomes.insert(tier, runner.run(&plan.selection(tier, &tests), None)?);
    }
    heading(Tier::OtherUser.title());
    outcomes.insert(
        Tier::OtherUser,
        run_as_other_user(root, &machine, &runner, &plan, &tests)?,
    );
    heading(Tier::Doc.title());
    outcomes.insert(Tier::Doc, runner.run_doctests()?);

    heading("Summary");
    let (failed, text) = summary(&outcomes, &plan);
    println!("{text}");
    Ok(if failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// As root, runs the plain tests again as a user without rights; otherwise they ran so already.
fn run_as_other_user(
    root: &Path,
    machine: &Machine,
    runner: &Runner,
    plan: &Plan,
    tests: &[String],
) -> Result<Outcome> {
    if !machine.is_root {
        println!("the tests above already ran without root's rights");
        return runner.run(&plan.selection(Tier::OtherUser, tests), None);
    }
    match OtherUser::prepare(root, runner.target_directory())? {
        Ok(user) => runner.run(&Plan::as_other_user(tests), Some(&user)),
        Err(reason) => {
            println!("left out: {reason}");
            Ok(Outcome::default())
        }
    }
}

/// Which tests run, and which cannot.
#[derive(Debug, Default)]
struct Plan {
    /// By tier: the tests that this machine cannot run, with what they lack.
    left_out: BTreeMap<Tier, Vec<(String, Need)>>,
}

impl Plan {
    fn of(tests: &[String], machine: &Machine) -> Self {
        let mut plan = Self::default();
        for test in tests {
            if let Some(need) = tiers::needs(test).into_iter().find(|need| !machine.has(*need)) {
                plan.left_out
                    .entry(tiers::tier(test))
                    .or_default()
                    .push((test.clone(), need));
            }
        }
        plan
    }

    fn is_left_out(&self, test: &str) -> bool {
        self.left_out
            .get(&tiers::tier(test))
            .is_some_and(|left| left.iter().any(|(name, _)| name == test))
    }

    /// The tests of one tier that can run.
    fn selection(&self, tier: Tier, tests: &[String]) -> Selection {
        if tier == Tier::Plain {
            return Selection::AllBut(tests.iter().filter(|test| tiers::tier(test) != tier).cloned().collect());
        }
        let can_run = |test: &&String| tiers::tier(test) == tier && !self.is_left_out(test);
        Selection::Only(tests.iter().filter(can_run).cloned().collect())
    }

    /// The plain tests, and those that must not run as root.
    fn as_other_user(tests: &[String]) -> Selection {
        let other = |test: &&String| !matches!(tiers::tier(test), Tier::Plain | Tier::OtherUser);
        Selection::AllBut(tests.iter().filter(other).cloned().collect())
    }
}

/// Returns how many tests failed, and the text that ends the run: a table, what was left out and why, and the sum.
fn summary(outcomes: &BTreeMap<Tier, Outcome>, plan: &Plan) -> (u64, String) {
    let mut lines = vec![format!(
        "{:<28}{:>8}{:>8}{:>12}",
        "tier", "passed", "failed", "cannot run"
    )];
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (tier, outcome) in outcomes {
        let left = plan.left_out.get(tier).map_or(0, Vec::len);
        lines.push(format!(
            "{:<28}{:>8}{:>8}{left:>12}",
            tier.title(),
            outcome.passed,
            outcome.failed
        ));
        passed += outcome.passed;
        failed += outcome.failed;
        skipped += left;
    }
    if skipped > 0 {
        lines.push("\nThis machine cannot run:".to_owned());
    }
    for (test, need) in plan.left_out.values().flatten() {
        lines.push(format!("  {test}: needs {need}"));
    }
    lines.push(format!("\n{passed} passed, {failed} failed, {skipped} skipped"));
    (failed, lines.join("\n"))
}

fn heading(title: &str) {
    println!("\n== {title}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn sample() -> Vec<String> {
        names(&[
            "a::plain",
            "b::privileged_mount",
            "real_pull",
            "privileged_real_overlay",
            "c::unprivileged_extract",
        ])
    }

    #[test]
    fn a_machine_that_has_all_leaves_nothing_out() {
        let machine = Machine::made_up(true, &[]);
        let plan = Plan::of(&sample(), &machine);
        assert!(plan.left_out.is_empty(), "{plan:?}");
        assert_eq!(
            plan.selection(Tier::Real, &sample()),
            Selection::Only(names(&["real_pull", "privileged_real_overlay"]))
        );
    }

    #[test]
    fn what_a_machine_lacks_is_named_and_counted() {
        let machine = Machine::made_up(false, &["skopeo"]);
        let plan = Plan::of(&sample(), &machine);
        let mut outcomes = BTreeMap::new();
        outcomes.insert(Tier::Plain, Outcome { passed: 5, failed: 0 });
        outcomes.insert(Tier::Privileged, Outcome::default());
        outcomes.insert(Tier::Real, Outcome { passed: 1, failed: 2 });
        let (failed, text) = summary(&outcomes, &plan);
        assert_eq!(failed, 2);
        assert!(text.contains("  b::privileged_mount: needs root"), "{text}");
        assert!(
            text.contains("  real_pull: needs docker-registry, nginx, skopeo, umoci, podman, python3, setfattr,"),
            "{text}"
        );
        assert_eq!(text.lines().last(), Some("6 passed, 2 failed, 3 skipped"));
        assert_eq!(plan.selection(Tier::Privileged, &sample()), Selection::Only(Vec::new()));
    }

    #[test]
    fn plain_tests_are_all_but_the_other_tiers() {
        let machine = Machine::made_up(true, &[]);
        let plan = Plan::of(&sample(), &machine);
        let rest = [
            "b::privileged_mount",
            "real_pull",
            "privileged_real_overlay",
            "c::unprivileged_extract",
        ];
        assert_eq!(plan.selection(Tier::Plain, &sample()), Selection::AllBut(names(&rest)));
        assert_eq!(Plan::as_other_user(&sample()), Selection::AllBut(names(&rest[..3])));
    }
}
