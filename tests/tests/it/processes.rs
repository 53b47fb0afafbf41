//! Several processes on one store: what one does, the others do not do again.

use unlade_test_support::{Artifact as _, fixtures};
use unlade_tests::{Home, Pulled};

use crate::support::{blob_requests, serve};

fn pull_at_once(processes: usize) {
    let image = fixtures::web();
    let (registry, reference) = serve(&image);
    let home = Home::new();
    let running: Vec<_> = (0..processes)
        .map(|_| home.unlade(["--format", "json", "pull", &reference]).start())
        .collect();
    let pulled: Vec<_> = running
        .into_iter()
        .map(|running| Pulled::of(&running.wait().success().json()))
        .collect();
    for one in &pulled {
        assert_eq!(one.directories, pulled[0].directories);
        assert_eq!(one.manifest, image.digest().to_string());
    }
    for layer in &image.layers {
        let size = image.blobs[layer].len() as u64;
        assert_eq!(registry.blob_bytes_served(layer), size, "{layer} is fetched once");
    }
    let layers: Vec<_> = image.layers.iter().map(ToString::to_string).collect();
    for (path, count) in blob_requests(&registry) {
        let is_layer = layers.iter().any(|layer| path.ends_with(layer));
        assert!(!is_layer || count == 1, "{path} is asked for {count} times");
    }
    assert_eq!(home.images(), [reference]);
    home.leftovers().assert_nothing_half_done();
}

#[test]
fn two_processes_fetch_an_image_once() {
    pull_at_once(2);
}

#[test]
fn eight_processes_fetch_an_image_once() {
    pull_at_once(8);
}
