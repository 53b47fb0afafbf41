//! Pulls that end before they are done: killed, and interrupted.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use unlade_test_support::{Fault, Gate, fixtures};
use unlade_tests::Home;

use crate::support::{SOON, fat_layer, image_of, ingested, noise, serve, wait_until};

const FAT: usize = 8 << 20;
const LARGE: usize = 72 << 20;

#[test]
fn a_killed_pull_is_continued() {
    let layer = fat_layer("fat", FAT);
    let size = layer.size();
    let (registry, reference) = serve(&image_of(&layer));
    let gate = Gate::new();
    registry.fault(Fault::on_blob(&layer.digest).nth(1).hold_after(size * 60 / 100, &gate));
    let home = Home::new();
    let pull = home.unlade(["pull", &reference]).start();
    assert!(gate.wait_reached(SOON), "{}", pull.stderr());
    // The registry has sent 60 %; a kill in the same moment would find some of it on the way still.
    wait_until("the bytes are in the store", || ingested(&home) >= size * 59 / 100);
    pull.kill().killed();
    let left = home.leftovers();
    assert_eq!(
        (left.ingest.len(), left.staging.len()),
        (1, 1),
        "what was under way is there for the next one, to continue or to sweep"
    );
    assert!(!home.has_blob(&layer.digest) && left.layers.is_empty(), "{left:?}");
    assert!(home.images().is_empty());

    registry.clear();
    let kept = ingested(&home);
    let pulled = home.pull(&reference);
    let again = registry.blob_bytes_served(&layer.digest);
    assert!(again < size * 45 / 100, "{again} of {size} bytes are fetched again");
    let mut requests = registry.requests().into_iter();
    let first = requests.find(|request| request.path.ends_with(&layer.digest.to_string()));
    assert_eq!(first.unwrap().range, Some(format!("bytes={kept}-")));
    assert!(pulled.directories[0].join("fat").is_file());
    assert!(home.has_blob(&layer.digest));
    home.leftovers().assert_nothing_half_done();
    gate.open();
}

#[test]
fn a_killed_pull_of_ranges_is_continued_with_its_gaps() {
    // As much as ranges are worth it for.
    let layer = fat_layer("large", LARGE);
    let size = layer.size();
    let (registry, reference) = serve(&image_of(&layer));
    let gate = Gate::new();
    // The first range is held before its last MiB, which is too little to be shared, while others fetch everything behind it.
    registry.fault(Fault::on_blob(&layer.digest).nth(1).hold_after(3 << 20, &gate));
    let all_but_that = size - (1 << 20);
    let home = Home::new();
    let pull = home
        .unlade(["pull", &reference, "--ranges", "4", "--progress", "json"])
        .start();
    wait_until("all the rest is written", || received(&pull.stderr()) >= all_but_that);
    pull.kill().killed();
    assert_eq!(registry.blob_bytes_served(&layer.digest), all_but_that);
    assert!(!home.has_blob(&layer.digest) && home.leftovers().layers.is_empty());
    assert!(home.images().is_empty());

    registry.clear_faults();
    let pulled = home.pull_with(&reference, &["--ranges", "4"]);
    let served = registry.blob_bytes_served(&layer.digest);
    // What a kill costs, as docs/store.md says.
    assert!(
        served <= size + (4 << 20),
        "{served} bytes are served of a blob of {size}"
    );
    let mut parts = registry.requests();
    parts.retain(|request| request.path.ends_with(&layer.digest.to_string()));
    assert!(parts.iter().all(|request| request.status == 206), "{parts:?}");
    let file = fs::read(pulled.directories[0].join("large")).unwrap();
    assert!(file == noise("large", LARGE), "the file is another one");
    home.leftovers().assert_nothing_half_done();
    gate.open();
}

/// Returns how many bytes of a layer are in its file by what `--progress json` tells.
fn received(progress: &str) -> u64 {
    let events = progress.lines().filter_map(|line| line.parse::<Value>().ok());
    let downloads = events.filter(|event| event["activity"] == "download");
    let bytes = downloads.filter_map(|event| event["bytes"].as_u64());
    bytes.max().unwrap_or_default()
}

#[test]
fn a_killed_pull_of_many_layers_is_continued() {
    let (registry, reference) = serve(&fixtures::many());
    let last = fixtures::many().layers.last().unwrap().clone();
    let gate = Gate::new();
    registry.fault(Fault::on_blob(&last).nth(1).hold_after(10, &gate));
    let home = Home::new();
    let pull = home.unlade(["pull", &reference]).start();
    assert!(gate.wait_reached(SOON), "{}", pull.stderr());
    pull.kill().killed();
    assert!(home.images().is_empty());
    home.pull(&reference);
    assert_eq!(home.images(), [reference]);
    home.leftovers().assert_nothing_half_done();
    gate.open();
}

#[test]
fn when_one_process_is_killed_another_goes_on() {
    let layer = fat_layer("fat", FAT);
    let size = layer.size();
    let (registry, reference) = serve(&image_of(&layer));
    let gate = Gate::new();
    registry.fault(Fault::on_blob(&layer.digest).nth(1).hold_after(size / 2, &gate));
    let home = Home::new();
    let first = home.unlade(["pull", &reference]).start();
    assert!(gate.wait_reached(SOON), "{}", first.stderr());
    wait_until("half of the bytes are in the store", || {
        ingested(&home) >= size * 45 / 100
    });
    let second = home.unlade(["pull", &reference]).start();
    wait_until("the second one has resolved the image, too", || {
        let manifests = |path: &str| path.contains("/manifests/");
        registry
            .requests()
            .iter()
            .filter(|request| manifests(&request.path))
            .count()
            >= 2
    });
    first.kill().killed();
    second.wait_within(SOON).success();
    let served = registry.blob_bytes_served(&layer.digest);
    assert!(
        served < size * 110 / 100,
        "{served} bytes are served of a blob of {size}"
    );
    assert_eq!(home.images(), [reference]);
    // What the killed one was making is swept by the next that starts; the second had started before the kill.
    let always = home.unlade(["pull", "--policy", "always", &home.images()[0]]).run();
    always.success();
    home.leftovers().assert_nothing_half_done();
    gate.open();
}

#[test]
fn ctrl_c_ends_a_pull_within_a_second_and_cleanly() {
    let layer = fat_layer("fat", FAT);
    let size = layer.size();
    let (registry, reference) = serve(&image_of(&layer));
    let gate = Gate::new();
    registry.fault(Fault::on_blob(&layer.digest).nth(1).hold_after(size / 2, &gate));
    let home = Home::new();
    let pull = home.unlade(["--format", "json", "pull", &reference]).start();
    assert!(gate.wait_reached(SOON), "{}", pull.stderr());
    wait_until("half of the bytes are in the store", || {
        ingested(&home) >= size * 45 / 100
    });
    let since = Instant::now();
    pull.interrupt();
    let finished = pull.wait_within(SOON).failure(130);
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    assert_eq!(finished.error()["class"], "interrupted");
    let left = home.leftovers();
    assert!(left.staging.is_empty() && left.layers.is_empty(), "{left:?}");
    assert_eq!(left.ingest.len(), 1, "what is there is kept for later");

    registry.clear();
    home.pull(&reference);
    assert!(registry.blob_bytes_served(&layer.digest) < size * 60 / 100);
    home.leftovers().assert_nothing_half_done();
    gate.open();
}
