//! Pulls after a power loss: what was lost is made again, from the blob where that is whole, else from the registry.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use unlade_images::{Store, StoreOptions};
use unlade_oci::ErrorClass;
use unlade_pull::{Options, Policy, Puller};
use unlade_reference::Reference;
use unlade_test_support::{Image, ImageBuilder};

use crate::support::{Home, blob_requests, client, entries, fat_layer, serve};

/// What ext4 and xfs leave of a file whose name was written and whose content was not.
fn lose(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::File::options().write(true).truncate(true).open(path).unwrap();
}

/// The same length, other bytes.
fn garble(path: &Path) {
    let length = fs::metadata(path).unwrap().len();
    lose(path);
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(length)
        .unwrap();
}

fn after_power_loss(home: &Home) -> Puller {
    let options = StoreOptions::at(home.directory.path());
    let store = Store::open_under_boot(&options, "another boot".to_owned()).unwrap();
    Puller::new(store, client()).with_observer(home.recorder.clone())
}

fn two_layers() -> Image {
    ImageBuilder::new()
        .layer(fat_layer("one", 50_000))
        .layer(fat_layer("two", 50_000))
        .build()
}

async fn pull(puller: &Puller, reference: &str, policy: Policy) -> Result<(), unlade_pull::Error> {
    let reference: Reference = reference.parse().unwrap();
    let options = Options {
        policy,
        ..Options::default()
    };
    puller.pull(&[reference], &options).await.map(|_| ())
}

#[tokio::test]
async fn what_was_lost_is_made_again_from_the_blobs_without_the_network() {
    let (registry, reference) = serve(&two_layers());
    let home = Home::new();
    let image = home.pull(&reference).await.unwrap().image;
    registry.clear();
    let file = image.layers[1].directory.clone().unwrap().join("two");
    lose(&file);
    pull(&after_power_loss(&home), &reference, Policy::Never).await.unwrap();
    assert_eq!(fs::metadata(&file).unwrap().len(), 50_000);
    assert!(registry.requests().is_empty());
    assert!(home.stray_files().is_empty(), "{:?}", home.stray_files());
}

#[tokio::test]
async fn of_the_blobs_only_those_that_were_lost_are_fetched_again() {
    for damage in [lose, garble] {
        let (registry, reference) = serve(&two_layers());
        let home = Home::new();
        let image = home.pull(&reference).await.unwrap().image;
        registry.clear();
        damage(&home.store.blobs().path(&image.layers[0].blob));
        damage(&home.store.blobs().path(&image.manifest));
        for directory in home.layer_directories() {
            for file in entries(&directory) {
                damage(&file);
            }
        }
        let error = pull(&after_power_loss(&home), &reference, Policy::Never)
            .await
            .unwrap_err();
        assert_eq!(error.class(), ErrorClass::NotFound, "{error:?}");
        pull(&after_power_loss(&home), &reference, Policy::Missing)
            .await
            .unwrap();
        assert_eq!(blob_requests(&registry), 1, "{:?}", registry.requests());
        for digest in [
            &image.layers[0].blob,
            &image.layers[1].blob,
            &image.manifest,
            &image.config,
        ] {
            home.store.blobs().verify(digest).unwrap();
        }
        for (layer, name) in image.layers.iter().zip(["one", "two"]) {
            let content = fs::read(layer.directory.as_deref().unwrap().join(name)).unwrap();
            assert!(
                content.len() == 50_000 && content.iter().any(|byte| *byte != 0),
                "{name}"
            );
        }
        assert!(home.stray_files().is_empty(), "{:?}", home.stray_files());
    }
}
