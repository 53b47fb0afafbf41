//! Processes that are killed at any moment: the next command works, nothing damaged is used, nothing stays behind.
//!
//! How often is set by `UNLADE_TEST_MOMENTS`, for all kinds of work together; `UNLADE_TEST_SEED` gives the moments of an
//! earlier run again.

use unlade_test_support::{Artifact, fixtures};
use unlade_tests::{Home, Random, count};

use crate::support::{fat_layer, image_of, serve};

/// Moments for all kinds of work together.
const MOMENTS: u32 = 60;
/// Kinds of work.
const KINDS: u32 = 4;
/// Runs that are measured before the moments are chosen.
const MEASURED: u32 = 3;
/// A layer that arrives over several connections, at several places of its file at once.
const FAT: usize = 66 << 20;

/// Fails the test unless the store is whole and every path in it is accounted for.
pub(crate) fn assert_whole(home: &Home, what: &str) {
    let pruned = home.unlade(["prune"]).run();
    assert_eq!(pruned.code(), Some(0), "{what}: {pruned}");
    let report = home.unlade(["verify", "--deep"]).run();
    assert_eq!(report.code(), Some(0), "{what}: {report}");
    let strays = home.strays();
    assert!(strays.is_empty(), "{what}: nothing accounts for {strays:?}");
}

/// Fails the test unless what is left of the store after all is removed is its frame.
pub(crate) fn assert_nothing_after_prune(home: &Home) {
    home.unlade(["prune", "--all"]).run().success();
    assert!(home.images().is_empty());
    let strays = home.strays();
    assert!(strays.is_empty(), "nothing accounts for {strays:?}");
    home.leftovers().assert_nothing();
}

/// Kills `arguments` at moments spread over its work, each time after `prepare`, and then pulls.
fn kill_at_any_moment(artifact: &dyn Artifact, prepare: impl Fn(&Home, &str), arguments: &[&str]) {
    let (_registry, reference) = serve(artifact);
    let home = Home::new();
    let arguments: Vec<&str> = arguments
        .iter()
        .map(|word| if *word == "REF" { &reference } else { *word })
        .collect();
    let measure = |_| {
        prepare(&home, &reference);
        home.unlade(arguments.iter().copied()).run().success().took
    };
    // The one in the middle: the first finds nothing in the caches.
    let mut took: Vec<_> = (0..MEASURED).map(measure).collect();
    took.sort();
    let whole = took[took.len() / 2];
    let mut random = Random::new();
    let moments = random.moments(count("UNLADE_TEST_MOMENTS", MOMENTS).div_ceil(KINDS), whole);
    let mut killed = 0;
    for after in &moments {
        prepare(&home, &reference);
        let running = home.unlade(arguments.iter().copied()).start();
        std::thread::sleep(*after);
        let ended = running.kill_or_end();
        match ended.code() {
            None => killed += 1,
            code => assert_eq!(code, Some(0), "{ended}"),
        }
        let what = format!(
            "{arguments:?}, killed after {after:?} of {whole:?}, seed {}",
            random.seed()
        );
        let next = home.unlade(["pull", &reference]).run();
        assert_eq!(next.code(), Some(0), "{what}: {next}");
        assert_whole(&home, &what);
    }
    #[expect(clippy::print_stdout, reason = "a test's own output")]
    {
        let of = moments.len();
        println!("{killed} of {of} were at work when they were killed, within {whole:?}");
    }
    assert!(killed * 3 > moments.len(), "only {killed} of {}", moments.len());
    assert_nothing_after_prune(&home);
}

/// Takes away what there is, so that a pull has all its work before it.
fn nothing(home: &Home, _reference: &str) {
    home.unlade(["prune", "--all"]).run().success();
}

fn pulled(home: &Home, reference: &str) {
    home.pull(reference);
}

#[test]
fn a_pull_of_many_layers_may_be_killed_at_any_moment() {
    kill_at_any_moment(&fixtures::many(), nothing, &["pull", "REF"]);
}

#[test]
fn a_pull_of_a_fat_layer_may_be_killed_at_any_moment() {
    kill_at_any_moment(&image_of(&fat_layer("fat", FAT)), nothing, &["pull", "REF"]);
}

#[test]
fn a_prune_may_be_killed_at_any_moment() {
    kill_at_any_moment(&fixtures::many(), pulled, &["prune", "--all"]);
}

#[test]
fn a_removal_may_be_killed_at_any_moment() {
    kill_at_any_moment(&fixtures::many(), pulled, &["rm", "REF"]);
}
