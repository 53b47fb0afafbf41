//! Damage in a store made good: from the blobs where they are whole, from the registry only for what is damaged.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use unlade_extract::Limits;
use unlade_images::{Depth, LostLayer, Mending, Store, StoreOptions};
use unlade_oci::ErrorClass;
use unlade_pull::{Error, Puller};
use unlade_test_support::{FakeRegistry, Image, ImageBuilder};

use crate::support::{Home, blob_requests, client, fat_layer, serve};

fn three_layers() -> Image {
    ["one", "two", "three"]
        .into_iter()
        .fold(ImageBuilder::new(), |image, name| image.layer(fat_layer(name, 20_000)))
        .build()
}

fn truncate(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, "").unwrap();
}

async fn repair(store: &Store) -> Vec<Result<(), Error>> {
    let verification = store.verify(Depth::Deep).unwrap();
    let mendings = store.set_aside(&verification).unwrap();
    let lost = mendings.iter().filter_map(|mending| match mending {
        Mending::BringIn(layer) => Some(LostLayer::clone(layer)),
        _ => None,
    });
    let lost: Vec<LostLayer> = lost.collect();
    let results = Puller::new(store.clone(), client())
        .bring_back(&lost, &Limits::default())
        .await;
    assert_eq!(results.len(), lost.len());
    results
}

fn assert_whole(store: &Store, registry: &FakeRegistry, requests: usize) {
    let verification = store.verify(Depth::Deep).unwrap();
    assert!(verification.damage.is_empty(), "{:?}", verification.damage);
    assert_eq!(blob_requests(registry), requests, "{:?}", registry.requests());
}

#[tokio::test]
async fn a_directory_is_made_from_its_blob_and_a_blob_is_fetched() {
    let (registry, reference) = serve(&three_layers());
    let home = Home::new();
    let image = home.pull(&reference).await.unwrap().image;
    registry.clear();
    let file = image.layers[0].directory.as_deref().unwrap().join("one");
    truncate(&file);
    assert!(repair(&home.store).await.iter().all(Result::is_ok));
    assert_whole(&home.store, &registry, 0);

    truncate(&file);
    truncate(&home.store.blobs().path(&image.layers[0].blob));
    truncate(&home.store.blobs().path(&image.manifest));
    fs::remove_file(home.store.blobs().path(&image.layers[1].blob)).unwrap();
    // A directory can only be held against a blob that is whole, so its damage shows when the blob is back.
    assert!(repair(&home.store).await.iter().all(Result::is_ok));
    assert_eq!(repair(&home.store).await.len(), 1);
    assert_whole(&home.store, &registry, 2);
}

#[tokio::test]
async fn a_directory_elsewhere_is_made_again_where_it_was() {
    let (registry, reference) = serve(&three_layers());
    let home = Home::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        layer_path: Some(elsewhere.path().to_owned()),
        ..StoreOptions::at(home.directory.path())
    };
    let store = Store::open(&options).unwrap();
    let name = reference.parse().unwrap();
    let pulled = Puller::new(store, client())
        .pull(&[name], &unlade_pull::Options::default())
        .await
        .unwrap();
    let directory = pulled[0].image.layers[2].directory.clone().unwrap();
    fs::remove_dir_all(&directory).unwrap();
    registry.clear();
    assert!(repair(&home.store).await.iter().all(Result::is_ok));
    assert!(directory.join("three").is_file());
    assert_whole(&home.store, &registry, 0);
}

#[tokio::test]
async fn what_the_registry_does_not_give_does_not_stop_the_rest() {
    let (registry, reference) = serve(&three_layers());
    let home = Home::new();
    let image = home.pull(&reference).await.unwrap().image;
    for layer in &image.layers[..2] {
        truncate(&home.store.blobs().path(&layer.blob));
    }
    registry.remove_blob("app", &image.layers[0].blob);
    let results = repair(&home.store).await;
    let failed: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert_eq!((results.len(), failed.len()), (2, 1));
    assert_eq!(failed[0].class(), ErrorClass::NotFound);
    home.store.blobs().verify(&image.layers[1].blob).unwrap();
    assert!(!home.store.blobs().contains(&image.layers[0].blob).unwrap());
}
