//! A process that holds what others wait for, and dies: one of the others takes its place, soon.
//!
//! How soon is measured by the machine: two seconds where a command that does nothing takes a tenth of a second, and as many
//! times longer as that takes longer. Who waited for a lock that nobody gives back would wait until the test is killed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use unlade_test_support::{FakeRegistry, Fault, Gate};
use unlade_tests::{Home, Running};

use crate::crashes::assert_whole;
use crate::support::{SOON, fat_layer, image_of, ingested, serve, wait_until};

/// How soon a dead holder is replaced.
const TAKEOVER: Duration = Duration::from_secs(2);
/// What a command may take that does nothing, for that to hold.
const NOTHING: Duration = Duration::from_millis(100);
/// How long it is watched that nobody takes what is held.
const HELD: Duration = Duration::from_millis(500);

/// Returns how soon a takeover must come on this machine, as busy as it is now.
fn limit(home: &Home) -> Duration {
    let slowest = (0..3).map(|_| home.unlade(["--version"]).run().success().took).max();
    let times = slowest.unwrap_or_default().as_secs_f64() / NOTHING.as_secs_f64();
    TAKEOVER.mul_f64(times.max(1.0))
}

/// Kills the holder and waits until somebody else does its work.
fn kill_and_wait(home: &Home, holder: Running, what: &str, taken_over: impl Fn() -> bool) {
    let limit = limit(home);
    holder.kill().killed();
    let since = Instant::now();
    while !taken_over() {
        assert!(
            since.elapsed() < limit,
            "{what}: nobody has taken over within {limit:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_killed_holder_of_a_download_is_replaced_within_two_seconds() {
    let layer = fat_layer("fat", 8 << 20);
    let (registry, reference) = serve(&image_of(&layer));
    let gate = Gate::new();
    let held = layer.size() / 2;
    registry.fault(Fault::on_blob(&layer.digest).nth(1).hold_after(held, &gate));
    let asked = |registry: &FakeRegistry, what: &str| {
        let requests = registry.requests().into_iter();
        requests.filter(|request| request.path.contains(what)).count()
    };
    let blob = layer.digest.to_string();
    let home = Home::new();
    let holder = home.unlade(["pull", &reference]).start();
    assert!(gate.wait_reached(SOON), "{}", holder.stderr());
    wait_until("it has arrived", || ingested(&home) + (256 << 10) >= held);
    let manifests = asked(&registry, "/manifests/");
    let mut follower = home.unlade(["pull", &reference]).start();
    wait_until("the other has come as far", || {
        asked(&registry, "/manifests/") > manifests
    });
    std::thread::sleep(HELD);
    assert!(follower.goes_on(), "{}", follower.stderr());
    assert_eq!(asked(&registry, &blob), 1, "what is held is nobody else's");

    kill_and_wait(&home, holder, "the download", || asked(&registry, &blob) > 1);
    drop(follower.wait().success());
    let served = registry.blob_bytes_served(&layer.digest);
    assert!(served * 100 <= layer.size() * 110, "{served} of {}", layer.size());
    assert_whole(&home, "after a takeover");
    gate.open();
}

#[test]
fn a_killed_holder_of_an_extraction_is_replaced_within_two_seconds() {
    let layer = fat_layer("fat", 48 << 20);
    let (_registry, reference) = serve(&image_of(&layer));
    let home = Home::new();
    home.unlade(["pull", &reference, "--no-extract"]).run().success();
    let stages = || BTreeSet::from_iter(home.leftovers().staging);
    let holder = home.unlade(["pull", &reference]).start();
    // A stage is made, then locked, and its tree comes after that: one that nobody has locked is there to be swept.
    let staging = home.store().join("staging");
    wait_until("it extracts", || {
        stages().iter().any(|stage| staging.join(stage).join("tree").exists())
    });
    holder.pause();
    assert!(home.leftovers().layers.is_empty(), "it was too fast");
    let before = stages();
    let mut follower = home.unlade(["pull", &reference]).start();
    std::thread::sleep(HELD);
    assert!(follower.goes_on(), "{}", follower.stderr());
    assert_eq!(stages(), before, "what is held is nobody else's");

    let is_done = || !home.leftovers().layers.is_empty();
    kill_and_wait(&home, holder, "the extraction", || {
        stages().difference(&before).next().is_some() || is_done()
    });
    drop(follower.wait().success());
    assert_whole(&home, "after a takeover");
}
