//! Damage in a store made good: from the blobs where they are whole, from the registry only for what is damaged.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use unlade_extract::Limits;
use unlade_images::{Depth, Lost, Mending, Store, StoreOptions};
use unlade_oci::{Digest, ErrorClass};
use unlade_pull::{Error, Options, Puller};
use unlade_test_support::{Compression, FakeRegistry, Image, ImageBuilder, LayerBuilder};

use crate::artifacts::{CHART, push_chart};
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
        Mending::BringIn(lost) => Some(Lost::clone(lost)),
        _ => None,
    });
    let lost: Vec<Lost> = lost.collect();
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

#[tokio::test]
async fn a_directory_on_top_of_others_is_made_again_with_them() {
    let base = LayerBuilder::new()
        .dir("usr", 0o755)
        .dir("usr/lib", 0o755)
        .symlink("lib", "usr/lib")
        .file("usr/lib/a", "a");
    let top = LayerBuilder::new().file("lib/b", "b");
    let image = [base, top]
        .iter()
        .fold(ImageBuilder::new(), |image, layer| {
            image.layer(layer.build(Compression::Gzip))
        })
        .build();
    let (registry, reference) = serve(&image);
    let home = Home::new();
    let pulled = home.pull(&reference).await.unwrap().image;
    assert!(pulled.layers[1].chain_id.is_some());
    let [below, above] = [0, 1].map(|at: usize| pulled.layers[at].directory.clone().unwrap());

    registry.clear();
    truncate(&above.join("usr/lib/b"));
    assert!(repair(&home.store).await.iter().all(Result::is_ok));
    assert_whole(&home.store, &registry, 0);

    // What it needs is brought in before it, and what of that is missing is fetched.
    fs::remove_dir_all(&above).unwrap();
    fs::remove_dir_all(&below).unwrap();
    fs::remove_file(home.store.blobs().path(&image.layers[1])).unwrap();
    let results = repair(&home.store).await;
    assert_eq!(results.len(), 3);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_whole(&home.store, &registry, 1);
    assert!(above.join("usr/lib/b").is_file());
}

#[tokio::test]
async fn what_an_artifact_lacks_is_fetched_and_nothing_else() {
    let (home, registry) = (Home::new(), FakeRegistry::start());
    let reference = push_chart(&registry);
    let puller = home.puller();
    let pulled = puller
        .pull_artifacts(std::slice::from_ref(&reference), &Options::default())
        .await
        .unwrap();
    let blobs = home.store.blobs();
    for (digest, requests) in [(Digest::sha256(CHART), 1), (pulled[0].artifact.manifest.clone(), 0)] {
        registry.clear();
        truncate(&blobs.path(&digest));
        assert!(repair(&home.store).await.iter().all(Result::is_ok));
        assert_whole(&home.store, &registry, requests);
        assert_eq!(registry.requests().len(), 1, "{:?}", registry.requests());
        fs::remove_file(blobs.path(&digest)).unwrap();
        assert!(repair(&home.store).await.iter().all(Result::is_ok));
        assert!(home.store.has_all_of(&pulled[0].artifact).unwrap());
    }
    // The registry may have lost it.
    truncate(&blobs.path(&Digest::sha256(CHART)));
    registry.remove_blob("app", &Digest::sha256(CHART));
    let results = repair(&home.store).await;
    assert_eq!(results[0].as_ref().unwrap_err().class(), ErrorClass::NotFound);
    assert!(!home.store.has_all_of(&pulled[0].artifact).unwrap());
}
