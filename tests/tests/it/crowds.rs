//! Many processes on one store that come, go and die: each thing is fetched once, and the store is whole at the end.
//!
//! How long they work at random is set by `UNLADE_TEST_SECONDS`; `UNLADE_TEST_SEED` makes the same choices again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use unlade_test_support::{FakeRegistry, Fault, ImageBuilder};
use unlade_tests::{Finished, Home, Random, setting};

use crate::crashes::{assert_nothing_after_prune, assert_whole};
use crate::support::{blob_requests, fat_layer};

const SECONDS: u64 = 20;
/// How many commands it must be in three minutes, at the least.
const COMMANDS: u64 = 200;

/// Eight images of layers of which each is in two of them.
fn eight_images(registry: &FakeRegistry, bytes: usize) -> Vec<String> {
    let layer = |number: usize| fat_layer(&format!("layer-{number}"), bytes);
    let image = |number: usize| {
        let image = ImageBuilder::new()
            .layer(layer(number))
            .layer(layer((number + 1) % 8))
            .build();
        let name = format!("app-{number}");
        registry.push(&name, "latest", &image);
        registry.reference(&name, "latest")
    };
    (0..8).map(image).collect()
}

#[test]
fn sixteen_processes_of_which_one_dies_every_200_ms_fetch_everything_once() {
    const BYTES: usize = 3 << 20;
    const KILLS: usize = 12;
    let registry = FakeRegistry::start();
    let references = eight_images(&registry, BYTES);
    registry.fault(Fault::on_blobs().trickle(16 << 10, Duration::from_millis(4)));
    let home = Home::new();
    let pull = |at: usize| {
        let order = (0..8).map(|step| references[(at + step) % 8].as_str());
        home.unlade(["pull"]).args(order).start()
    };
    let mut running: Vec<_> = (0..16).map(pull).collect();
    let mut random = Random::new();
    let mut killed = 0;
    for kill in 0..KILLS {
        std::thread::sleep(Duration::from_millis(200));
        let at = random.below(running.len());
        let finished = running.swap_remove(at).kill_or_end();
        match finished.code() {
            None => killed += 1,
            code => assert_eq!(code, Some(0), "{finished}"),
        }
        running.push(pull(kill));
    }
    for finished in running.into_iter().map(unlade_tests::Running::wait) {
        drop(finished.success());
    }
    assert!(killed > 0);
    let served = registry.all_blob_bytes_served();
    let once = 8 * BYTES as u64;
    assert!(
        served * 10 <= once * 11,
        "{served} bytes for {once}, {killed} were killed: {:?}",
        blob_requests(&registry)
    );
    assert_whole(&home, "after sixteen processes");
    assert_nothing_after_prune(&home);
}

fn assert_code(finished: &Finished, codes: &[i32]) {
    let code = finished.code().unwrap_or(-1);
    assert!(codes.contains(&code), "{finished}");
}

#[test]
fn pulls_removals_and_prunes_at_random_leave_a_whole_store() {
    let registry = FakeRegistry::start();
    let references = eight_images(&registry, 200_000);
    let home = Home::new();
    home.pull(&references[0]);
    let seconds = setting("UNLADE_TEST_SECONDS", SECONDS);
    let until = Instant::now() + Duration::from_secs(seconds);
    let least = COMMANDS * seconds / 180;
    let done = AtomicU64::new(0);
    let mut seeds = Random::new();
    let seeds = [(); 4].map(|()| seeds.number());
    std::thread::scope(|scope| {
        for seed in seeds {
            let (references, home, done) = (&references, &home, &done);
            scope.spawn(move || {
                let mut random = Random::from_seed(seed);
                while Instant::now() < until || done.load(Ordering::Relaxed) < least {
                    let one = &references[random.below(8)];
                    let other = &references[random.below(8)];
                    match random.below(8) {
                        0..=2 => assert_code(&home.unlade(["pull", one]).run(), &[0]),
                        3 => assert_code(&home.unlade(["pull", one, other]).run(), &[0]),
                        4 => assert_code(&home.unlade(["rm", one]).run(), &[0, 3]),
                        5 => assert_code(&home.unlade(["prune"]).run(), &[0]),
                        6 => assert_code(&home.unlade(["prune", "--max-size", "1M"]).run(), &[0]),
                        _ => assert_code(&home.unlade(["prune", "--blobs"]).run(), &[0]),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    println!("{} commands in {seconds} s", done.into_inner());
    assert_whole(&home, "after work at random");
    assert_nothing_after_prune(&home);
}
