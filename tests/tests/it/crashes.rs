//! Processes that are killed at any moment: the next command works, nothing damaged is used, nothing stays behind.
//!
//! How often is set by `UNLADE_TEST_MOMENTS`, for all kinds of work together; `UNLADE_TEST_SEED` gives the moments of an
//! earlier run again.

use std::time::Duration;

use unlade_test_support::{Artifact, fixtures};
use unlade_tests::{Home, Random, count};

use crate::support::{fat_layer, image_of, serve};

/// Moments for all kinds of work together.
const MOMENTS: u32 = 60;
/// Kinds of work.
const KINDS: u32 = 5;
/// Runs that are measured before the moments are chosen.
const MEASURED: u32 = 3;
/// Times that one moment is tried, each earlier than the one before, until the work is still going on then.
const TRIES: u32 = 3;
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

/// What is killed, and what comes after it.
struct Work<'a> {
    /// Brings the store to where the work begins.
    prepare: &'a dyn Fn(),
    /// What is killed.
    arguments: &'a [&'a str],
    /// What must succeed then.
    next: &'a [&'a str],
}

impl Work<'_> {
    /// Kills it after so long, and looks whether what comes next works; returns false if it had ended by itself.
    fn kill_after(&self, home: &Home, after: Duration, seed: u64) -> bool {
        let Self {
            prepare,
            arguments,
            next,
        } = self;
        prepare();
        let running = home.unlade(arguments.iter().copied()).start();
        std::thread::sleep(after);
        let ended = running.kill_or_end();
        let was_killed = ended.code().is_none();
        assert!(was_killed || ended.code() == Some(0), "{ended}");
        let what = format!("{arguments:?}, killed after {after:?}, seed {seed}");
        let next = home.unlade(next.iter().copied()).run();
        assert_eq!(next.code(), Some(0), "{what}: {next}");
        assert_whole(home, &what);
        was_killed
    }

    /// Kills it at so many moments spread over it.
    fn kill_at_any_moment(&self, home: &Home, moments: u32) {
        let Self { prepare, arguments, .. } = self;
        let measure = |_| {
            prepare();
            home.unlade(arguments.iter().copied()).run().success().took
        };
        // The one in the middle: the first finds nothing in the caches.
        let mut took: Vec<Duration> = (0..MEASURED).map(measure).collect();
        took.sort();
        let whole = took[took.len() / 2];
        let mut random = Random::new();
        let moments = random.moments(moments, whole);
        let mut killed = 0;
        // Filesystems make files several times as fast at one time as at another: what was measured may be too long.
        let mut longest = whole;
        for moment in &moments {
            for _ in 0..TRIES {
                let after = moment.mul_f64(longest.div_duration_f64(whole));
                let was_killed = self.kill_after(home, after, random.seed());
                if was_killed {
                    killed += 1;
                    break;
                }
                longest = after;
            }
        }
        #[expect(clippy::print_stdout, reason = "a test's own output")]
        {
            let of = moments.len();
            println!("{arguments:?}: {killed} of {of} were at work when they were killed, within {whole:?}");
        }
        assert!(killed * 3 > moments.len(), "only {killed} of {}", moments.len());
        assert_nothing_after_prune(home);
    }
}

/// How many moments each kind of work gets.
fn moments() -> u32 {
    count("UNLADE_TEST_MOMENTS", MOMENTS).div_ceil(KINDS)
}

/// Kills `arguments`, of which `REF` is the image's name, each time after `prepare`, and then pulls.
fn kill_before_a_pull(artifact: &dyn Artifact, prepare: impl Fn(&Home, &str), arguments: &[&str]) {
    let (_registry, reference) = serve(artifact);
    let home = Home::new();
    let arguments: Vec<&str> = arguments
        .iter()
        .map(|word| if *word == "REF" { &reference } else { *word })
        .collect();
    let work = Work {
        prepare: &|| prepare(&home, &reference),
        arguments: &arguments,
        next: &["pull", &reference],
    };
    work.kill_at_any_moment(&home, moments());
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
    kill_before_a_pull(&fixtures::many(), nothing, &["pull", "REF"]);
}

#[test]
fn a_pull_of_a_fat_layer_may_be_killed_at_any_moment() {
    kill_before_a_pull(&image_of(&fat_layer("fat", FAT)), nothing, &["pull", "REF"]);
}

#[test]
fn a_prune_may_be_killed_at_any_moment() {
    kill_before_a_pull(&fixtures::many(), pulled, &["prune", "--all"]);
}

#[test]
fn a_removal_may_be_killed_at_any_moment() {
    kill_before_a_pull(&fixtures::many(), pulled, &["rm", "REF"]);
}

#[test]
fn an_import_may_be_killed_at_any_moment() {
    const FORMS: [&str; 3] = ["oci-archive", "docker-archive", "oci-layout"];
    let (_registry, reference) = serve(&fixtures::many());
    let from = Home::new();
    from.pull(&reference);
    for form in FORMS {
        let path = from.path(form);
        let path = path.to_str().unwrap();
        let export = ["export", &reference, "--format", form, "-o", path];
        from.unlade(export).run().success();
        let home = Home::new();
        let import = ["import", path];
        let work = Work {
            prepare: &|| nothing(&home, &reference),
            arguments: &import,
            // The same once more, which goes on with what is there.
            next: &import,
        };
        work.kill_at_any_moment(&home, moments().div_ceil(3));
    }
}
