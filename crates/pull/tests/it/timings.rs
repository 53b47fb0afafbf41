//! What is measured of a pull.

use std::time::Duration;

use unlade_images::{Durability, Store, StoreOptions};
use unlade_pull::{Options, PartTimes, Puller, TimedStage, Timings, TimingsReport, Wait, stages};
use unlade_test_support::{Image, ImageBuilder, Layer};

use crate::support::{Home, client, fat_layer, serve};

fn layers() -> [Layer; 2] {
    [fat_layer("one", 3_000_000), fat_layer("two", 700_000)]
}

fn image() -> Image {
    let [one, two] = layers();
    ImageBuilder::new().layer(one).layer(two).build()
}

async fn measure(puller: Puller, reference: &str) -> TimingsReport {
    let timings = Timings::with_spans();
    let reference = reference.parse().unwrap();
    let puller = puller.with_timings(timings.clone());
    puller.pull(&[reference], &Options::default()).await.unwrap();
    timings.report()
}

/// The stages of a part but for `small-files`, which is there if a helper was.
fn names(part: &PartTimes) -> Vec<&str> {
    let stages = part.stages.iter().map(|times| times.stage);
    stages
        .filter(|stage| *stage != stages::SMALL_FILES)
        .map(TimedStage::name)
        .collect()
}

fn bytes(part: &PartTimes, stage: TimedStage) -> u64 {
    part.stages.iter().find(|times| times.stage == stage).unwrap().bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_names_every_stage_of_every_layer() {
    let (_registry, reference) = serve(&image());
    let report = measure(Home::new().puller(), &reference).await;

    let [whole, parts @ ..] = &report.parts[..] else {
        panic!("{report:?}")
    };
    assert_eq!(whole.name, stages::WHOLE);
    assert_eq!(
        names(whole),
        ["look-up", "resolve", "plan", "stack", "record", "sweep", "flush"]
    );
    let digests: Vec<_> = parts.iter().map(|part| &part.name[..]).collect();
    let expected: Vec<_> = layers().iter().map(|layer| layer.digest.to_string()).collect();
    assert_eq!(digests, expected, "in the order of the layers, whichever began first");
    for (part, layer) in parts.iter().zip(layers()) {
        assert_eq!(
            names(part),
            [
                "claim", "receive", "write", "read", "hash", "inflate", "files", "commit"
            ]
        );
        let (compressed, raw) = (layer.bytes.len() as u64, layer.raw.len() as u64);
        assert_eq!(bytes(part, stages::HASH), compressed + raw);
        for stage in [stages::RECEIVE, stages::WRITE, stages::READ] {
            assert_eq!(bytes(part, stage), compressed, "{stage:?}");
        }
        for stage in [stages::INFLATE, stages::FILES] {
            assert_eq!(bytes(part, stage), raw, "{stage:?}");
        }
    }
    let mut cpu = Duration::ZERO;
    for part in &report.parts {
        for times in &part.stages {
            let waited: Duration = Wait::ALL.into_iter().map(|wait| times.waited(wait)).sum();
            assert!(times.ended >= times.began && times.ended <= report.wall, "{times:?}");
            assert!(
                times.busy + waited <= times.ended.saturating_sub(times.began),
                "{times:?}"
            );
            cpu += times.cpu;
        }
        for track in &part.tracks {
            assert!(
                track.spans.is_sorted_by(|one, next| one.ended <= next.began),
                "{track:?}"
            );
        }
    }
    assert!(cpu <= report.cpu, "{report:?}");
}

#[tokio::test]
async fn what_is_there_is_looked_up_and_no_more() {
    let (_registry, reference) = serve(&image());
    let home = Home::new();
    home.pull(&reference).await.unwrap();
    let report = measure(home.puller(), &reference).await;
    assert_eq!(report.parts.len(), 1);
    assert_eq!(names(&report.parts[0]), ["look-up"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_connections_are_several_tracks() {
    let blob = fat_layer("one", 9_000_000);
    let size = blob.bytes.len() as u64;
    let (_registry, reference) = serve(&ImageBuilder::new().layer(blob).build());
    let budget = unlade_pull::Budget::new(unlade_pull::Limits {
        ranges_from: 1 << 20,
        ..unlade_pull::Limits::default()
    });
    let report = measure(Home::new().puller().with_budget(budget), &reference).await;
    let layer = &report.parts[1];
    let receive = layer
        .stages
        .iter()
        .find(|times| times.stage == stages::RECEIVE)
        .unwrap();
    assert!(receive.tracks > 1, "{layer:?}");
    for track in &layer.tracks {
        assert!(
            track.spans.is_sorted_by(|one, next| one.ended <= next.began),
            "{track:?}"
        );
    }
    assert_eq!(bytes(layer, stages::WRITE), size);
}

#[tokio::test]
async fn waiting_for_the_disk_is_measured_where_it_is_asked_for() {
    let (_registry, reference) = serve(&image());
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreOptions {
        durability: Durability::Sync,
        ..StoreOptions::at(directory.path())
    });
    let report = measure(Puller::new(store.unwrap(), client()), &reference).await;
    for layer in &report.parts[1..] {
        let flush = layer.stages.iter().find(|times| times.stage == stages::FLUSH).unwrap();
        assert!(!flush.busy.is_zero(), "{layer:?}");
    }
}

#[cfg(feature = "bench-skip-verify")]
#[tokio::test(flavor = "multi_thread")]
async fn without_digests_the_same_files_are_made() {
    let (_registry, reference) = serve(&image());
    let (checked, believed) = (Home::new(), Home::new());
    checked.pull(&reference).await.unwrap();
    let timings = Timings::new();
    let options = Options {
        unverified: true,
        ..Options::default()
    };
    let puller = believed.puller().with_timings(timings.clone());
    puller.pull(&[reference.parse().unwrap()], &options).await.unwrap();
    for part in &timings.report().parts[1..] {
        let mut hashes = part
            .stages
            .iter()
            .filter(|times| times.stage.name().starts_with("hash-"));
        assert!(hashes.all(|times| times.bytes == 0 && times.busy.is_zero()), "{part:?}");
    }
    let names = |home: &Home| {
        let mut names: Vec<_> = home.layer_directories();
        names.sort_unstable();
        names
            .iter()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&believed), names(&checked));
}
