//! Pulls through mirrors that fail or lie.

use std::sync::{Arc, Mutex};

use unlade_pull::{Options, Puller};
use unlade_reference::{Reference, Registry};
use unlade_registry::{Client, ConfigError, EndpointSettings, EndpointSource, Origin, Role};
use unlade_test_support::{FakeRegistry, Fault, Image, ImageBuilder};

use crate::artifacts::{CHART, push_chart};
use crate::support::{Home, fat_layer, small_image};

/// One mirror for everything.
#[derive(Debug)]
struct Mirrored(EndpointSettings);

impl EndpointSource for Mirrored {
    fn endpoints(&self, registry: &Registry, _: &str) -> Result<Vec<EndpointSettings>, ConfigError> {
        Ok(vec![self.0.clone(), EndpointSettings::standard(registry)?])
    }
}

/// Makes a puller that asks `mirror` first, and returns what it warns of.
fn mirrored(home: &Home, mirror: &FakeRegistry) -> (Puller, Arc<Mutex<Vec<String>>>) {
    let mut settings = EndpointSettings::new(
        format!("{}/v2/", mirror.url()).parse().unwrap(),
        Origin::Given("the test".to_owned()),
    );
    settings.role = Role::Mirror;
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&warnings);
    let client = Client::builder()
        .endpoints(Arc::new(Mirrored(settings)))
        .on_warning(Arc::new(move |warning| heard.lock().unwrap().push(warning.to_string())))
        .build()
        .unwrap();
    let puller = Puller::new(home.store.clone(), client).with_observer(home.recorder.clone());
    (puller, warnings)
}

/// Pulls `image` from a registry with a mirror that `spoil` has had in its hands; returns the registry and the warnings.
async fn pull(image: &Image, spoil: impl FnOnce(&FakeRegistry)) -> (FakeRegistry, Vec<String>) {
    let (registry, mirror, home) = (FakeRegistry::start(), FakeRegistry::start(), Home::new());
    registry.push("app", "latest", image);
    mirror.push("app", "latest", image);
    spoil(&mirror);
    let (puller, warnings) = mirrored(&home, &mirror);
    let reference: Reference = registry.reference("app", "latest").parse().unwrap();
    let pulled = puller.pull(&[reference], &Options::default()).await.unwrap();
    assert_eq!(pulled[0].image.layers.len(), image.layers.len());
    for layer in &image.layers {
        assert!(home.store.blobs().contains(layer).unwrap());
    }
    assert!(home.stray_files().is_empty() && home.partial_downloads().is_empty());
    home.recorder.assert_balanced();
    let warnings = warnings.lock().unwrap().clone();
    (registry, warnings)
}

#[tokio::test]
async fn a_mirror_that_serves_other_layers_is_found_out() {
    let layers = [fat_layer("one", 300_000), fat_layer("two", 500_000)];
    let image = layers
        .iter()
        .fold(ImageBuilder::new(), |image, layer| image.layer(layer.clone()));
    let image = image.build();
    let (registry, warnings) = pull(&image, |mirror| {
        mirror.fault(Fault::on_blob(&layers[1].digest).corrupt_at(200_000));
    })
    .await;
    let expected = format!("served something else as {}", layers[1].digest);
    assert!(warnings.len() == 1 && warnings[0].contains(&expected), "{warnings:?}");
    assert_eq!(
        registry.requests().len(),
        1,
        "the registry is asked for that layer alone"
    );
}

#[tokio::test]
async fn a_mirror_that_serves_another_configuration_is_found_out() {
    let image = small_image();
    let (registry, warnings) = pull(&image, |mirror| {
        mirror.fault(Fault::on_blob(&image.config_digest).corrupt_at(5));
    })
    .await;
    assert!(
        warnings.len() == 1 && warnings[0].contains("served something else"),
        "{warnings:?}"
    );
    assert_eq!(registry.requests().len(), 1);
}

#[tokio::test]
async fn a_mirror_that_goes_away_in_mid_layer_costs_no_byte_twice() {
    let layer = fat_layer("one", 900_000);
    let image = ImageBuilder::new().layer(layer.clone()).build();
    let (registry, _) = pull(&image, |mirror| {
        mirror.fault(Fault::on_blob(&layer.digest).nth(1).cut_after(600_000));
        mirror.fault(Fault::on_blob(&layer.digest).from(2).status(503));
    })
    .await;
    let rest = layer.bytes.len() as u64 - 600_000;
    assert_eq!(registry.blob_bytes_served(&layer.digest), rest);
}

#[tokio::test]
async fn a_mirror_that_serves_another_blob_of_an_artifact_is_found_out() {
    let (registry, mirror, home) = (FakeRegistry::start(), FakeRegistry::start(), Home::new());
    let reference = push_chart(&registry);
    push_chart(&mirror);
    let chart = unlade_oci::Digest::sha256(CHART);
    mirror.fault(Fault::on_blob(&chart).corrupt_at(5));
    let (puller, warnings) = mirrored(&home, &mirror);
    puller.pull_artifacts(&[reference], &Options::default()).await.unwrap();
    home.store.blobs().verify(&chart).unwrap();
    let warnings = warnings.lock().unwrap().clone();
    let expected = format!("served something else as {chart}");
    assert!(warnings.len() == 1 && warnings[0].contains(&expected), "{warnings:?}");
    assert_eq!(
        registry.requests().len(),
        1,
        "the registry is asked for that blob alone"
    );
    assert!(home.partial_downloads().is_empty());
}
