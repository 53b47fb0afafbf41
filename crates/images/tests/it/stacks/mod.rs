//! Stacks of layers, made into a tree in several ways, and in a model: all must agree.
//!
//! The ways: the layer directories as the kernel's overlayfs shows them, the same as our own view shows them, unpacked from
//! the directories, and unpacked from the blobs. And a deep look at the store must find each directory to be what its layer
//! makes, alone or on top of the others.
//!
//! The same stacks go through `umoci`, another program that was written from the same specification.
//!
//! `UNLADE_STACKS` sets how many stacks each test tries, for a longer run by hand.

mod cases;
pub(crate) mod generate;
mod model;
mod shown;
mod umoci;

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use unlade_extract::Progress;
use unlade_images::{Depth, Image, UnpackOptions, UnpackSource};
use unlade_test_support::TreeSnapshot;

use self::generate::{Bias, Op, pack, stacks};
use self::model::Model;
use self::shown::{Links, Shown};
use crate::support::{Fixture, bring_in, image};

/// How many stacks a test tries: the eight tests make 2,000.
const STACKS: u32 = 250;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns how many stacks a test shall try, if its caller says so.
fn told() -> Option<u32> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test may be told by its caller how long to run"
    )]
    let given = std::env::var("UNLADE_STACKS").ok();
    given.and_then(|text| text.parse().ok())
}

/// Makes every way's tree of a stack and compares it with the model's.
fn agree(fixture: &Fixture, stack: &[Vec<Op>], with_kernel: bool) -> Result<(), String> {
    let mut model = Model::new();
    let layers: Vec<_> = stack.iter().map(|layer| pack(&model.apply(layer))).collect();
    let brought = bring_in(&fixture.store, "stacks:1", &image(&layers), true);
    let outcome = compare(fixture, &brought, &model, with_kernel);
    // Also after a failure: what it leaves must not be there for the next stack.
    let removed = fixture
        .store
        .remove(&brought.reference, None)
        .map_err(|error| error.to_string());
    outcome.and(removed)?;
    let left = std::fs::read_dir(fixture.store.layer_root()).unwrap().count();
    if left == 0 {
        Ok(())
    } else {
        Err(format!("{left} layer directories are left"))
    }
}

fn compare(fixture: &Fixture, brought: &Image, model: &Model, with_kernel: bool) -> Result<(), String> {
    let expected = Shown::of_model(model);
    let same = |way: &str, shown: &Shown, links: Links, loose: bool| {
        let differences = expected.differences(shown, links, loose.then_some(&model.loose()));
        if differences.is_empty() {
            Ok(())
        } else {
            Err(format!("{way}:\n{}", differences.join("\n")))
        }
    };

    let view = fixture.store.view(brought).unwrap().ok_or("there is no view")?;
    let mut sink = shown::Collect::default();
    view.write_to(&mut sink, &Progress::new())
        .map_err(|error| error.to_string())?;
    drop(view);
    same("the view", &sink.shown(), Links::Some, false)?;

    // Where the kernel is asked as well, the stacks are of the same kinds.
    if !with_kernel {
        let verification = fixture.store.verify(Depth::Deep).map_err(|error| error.to_string())?;
        if !verification.damage.is_empty() || verification.not_compared > 0 {
            return Err(format!("a deep look:\n{verification:#?}"));
        }
    }

    if with_kernel {
        let mut directories = brought.overlay_directories().ok_or("a directory is missing")?;
        directories.reverse();
        let mounted = TreeSnapshot::overlay_merged(&directories).map_err(|error| error.to_string())?;
        same("overlayfs", &Shown::of_snapshot(&mounted), Links::Some, true)?;
    }

    let target = fixture.directory().join("unpacked");
    let options = UnpackOptions {
        replace: true,
        ..UnpackOptions::default()
    };
    for source in [UnpackSource::Directories, UnpackSource::Blobs] {
        let image = match source {
            UnpackSource::Directories => brought.clone(),
            UnpackSource::Blobs => cases::without_directories(brought),
        };
        let unpacked = fixture
            .store
            .unpack(&image, &target, &options, &Progress::new())
            .map_err(|error| format!("{source:?}: {error:?}"))?;
        assert_eq!(unpacked.source, source);
        let links = match source {
            UnpackSource::Directories => Links::Some,
            UnpackSource::Blobs => Links::All,
        };
        same(
            &format!("unpacked from {source:?}"),
            &Shown::of_snapshot(&TreeSnapshot::of(&target)),
            links,
            false,
        )?;
    }
    Ok(())
}

fn try_stacks(bias: Bias, with_kernel: bool) {
    let fixture = Fixture::in_memory();
    let config = Config {
        cases: told().unwrap_or(STACKS),
        max_shrink_iters: 4_000,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&stacks(bias, is_root()), |stack| {
        agree(&fixture, &stack, with_kernel).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, stack)) => {
            let mut model = Model::new();
            let applied: Vec<_> = stack.iter().map(|layer| model.apply(layer)).collect();
            panic!("{reason}\n\nthe stack: {applied:#?}");
        }
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

#[test]
fn stacks_of_anything() {
    try_stacks(Bias::Anything, false);
}

#[test]
fn stacks_of_links() {
    try_stacks(Bias::Links, false);
}

#[test]
fn stacks_of_removals() {
    try_stacks(Bias::Removals, false);
}

#[test]
fn stacks_of_hard_links() {
    try_stacks(Bias::HardLinks, false);
}

#[test]
fn privileged_stacks_of_anything_in_overlayfs() {
    try_stacks(Bias::Anything, true);
}

#[test]
fn privileged_stacks_of_links_in_overlayfs() {
    try_stacks(Bias::Links, true);
}

#[test]
fn privileged_stacks_of_removals_in_overlayfs() {
    try_stacks(Bias::Removals, true);
}

#[test]
fn privileged_stacks_of_hard_links_in_overlayfs() {
    try_stacks(Bias::HardLinks, true);
}
