//! Several pulls at once on one store: what one does, the others do not do again.

use std::path::Path;
use std::time::Duration;

use tokio::task::JoinSet;
use unlade_images::{Store, StoreOptions};
use unlade_pull::{Options, Puller};
use unlade_reference::Reference;
use unlade_test_support::{Fault, Gate, ImageBuilder};

use crate::support::{Home, client, fat_layer, serve};

/// A puller that shares nothing with others but the directory, as another process would.
fn stranger(directory: &Path) -> Puller {
    Puller::new(Store::open(&StoreOptions::at(directory)).unwrap(), client())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_pulls_of_one_image_fetch_it_once() {
    let layers: Vec<_> = (0..6)
        .map(|number| fat_layer(&format!("layer-{number}"), 100_000))
        .collect();
    let (registry, reference) = serve(&ImageBuilder::new().layers(layers.clone()).build());
    let home = Home::new();
    let reference: Reference = reference.parse().unwrap();
    let mut pulls = JoinSet::new();
    for _ in 0..8 {
        let (puller, reference) = (stranger(home.directory.path()), reference.clone());
        pulls.spawn(async move { puller.pull(&[reference], &Options::default()).await.map(drop) });
    }
    while let Some(pull) = pulls.join_next().await {
        pull.unwrap().unwrap();
    }
    for layer in &layers {
        assert_eq!(registry.blob_bytes_served(&layer.digest), layer.size());
    }
    assert!(home.stray_files().is_empty());
    assert_eq!(home.store.images().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_one_who_fetches_gives_up_another_goes_on() {
    let layer = fat_layer("file", 1_000_000);
    let (registry, reference) = serve(&ImageBuilder::new().layer(layer.clone()).build());
    let gate = Gate::new();
    registry.fault(Fault::on_blob(&layer.digest).nth(1).hold_after(500_000, &gate));
    let home = Home::new();
    let reference: Reference = reference.parse().unwrap();
    let mut first = JoinSet::new();
    let (puller, name) = (stranger(home.directory.path()), reference.clone());
    first.spawn(async move { puller.pull(&[name], &Options::default()).await.map(drop) });
    assert!(gate.wait_reached(Duration::from_secs(20)));

    let mut second = JoinSet::new();
    let puller = stranger(home.directory.path());
    second.spawn(async move { puller.pull(&[reference], &Options::default()).await.map(drop) });
    let waiting = tokio::time::timeout(Duration::from_millis(300), second.join_next()).await;
    assert!(waiting.is_err(), "the second waits for the first");
    first.abort_all();
    let ended = tokio::time::timeout(Duration::from_secs(2), second.join_next()).await;
    ended
        .expect("another takes over within two seconds")
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(registry.blob_bytes_served(&layer.digest) <= layer.size() * 105 / 100);
    gate.open();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removals_beside_pulls_leave_whole_images_only() {
    let shared = fat_layer("shared", 50_000);
    let one = ImageBuilder::new()
        .layer(shared.clone())
        .layer(fat_layer("one", 10_000))
        .build();
    let two = ImageBuilder::new()
        .layer(shared)
        .layer(fat_layer("two", 10_000))
        .build();
    let (registry, first) = serve(&one);
    registry.push("app", "two", &two);
    let second = registry.reference("app", "two");
    let home = Home::new();
    let [first, second] = [first, second].map(|text| text.parse::<Reference>().unwrap());
    let mut work = JoinSet::new();
    for reference in [first, second] {
        let directory = home.directory.path().to_owned();
        work.spawn(async move {
            for _ in 0..15 {
                let (puller, name) = (stranger(&directory), reference.clone());
                let pulled = puller.pull(&[name], &Options::default()).await.unwrap();
                for layer in &pulled[0].image.layers {
                    assert!(layer.directory.as_ref().unwrap().read_dir().unwrap().next().is_some());
                }
                let (directory, name) = (directory.clone(), reference.clone());
                let remove = move || {
                    Store::open(&StoreOptions::at(directory))
                        .unwrap()
                        .remove(&name, None)
                        .unwrap()
                };
                tokio::task::spawn_blocking(remove).await.unwrap();
            }
        });
    }
    while let Some(ended) = work.join_next().await {
        ended.unwrap();
    }
    assert!(home.layer_directories().is_empty(), "{:?}", home.layer_directories());
    assert!(
        home.store.blobs().list().unwrap().is_empty(),
        "{:?}",
        home.store.blobs().list()
    );
    assert!(home.stray_files().is_empty());
}
