//! Pulls that succeed, from the fake registry, by whoever runs the tests.

use std::fs;
use std::time::Duration;

use unlade_test_support::{
    Artifact, Compression, FakeRegistry, ImageBuilder, IndexBuilder, Layer, LayerBuilder, fixtures,
};
use unlade_tests::Home;

use crate::support::serve;

#[test]
fn a_complete_image_is_pulled_without_a_request() {
    let (registry, reference) = serve(&fixtures::web());
    let home = Home::new();
    let cold = home.pull(&reference);
    assert!(cold.asked_registry);
    registry.clear();
    let warm = home.pull(&reference);
    assert!(!warm.asked_registry);
    assert_eq!(warm.directories, cold.directories);
    // Not even a connection: the address may be gone for all we know.
    assert_eq!(registry.connections(), 0);
    drop(registry);
    let finished = home.unlade(["pull", &reference]).run().success();
    assert!(finished.took < Duration::from_secs(1), "{:?}", finished.took);
    home.leftovers().assert_nothing_half_done();
}

#[test]
fn every_form_of_an_image_gives_the_same_directories() {
    let layers = [
        LayerBuilder::new()
            .dir("etc/", 0o755)
            .file("etc/one", "1")
            .file("etc/two", "2"),
        LayerBuilder::new()
            .dir("etc/", 0o750)
            .whiteout("etc/one")
            .file("etc/three", "3"),
    ];
    let image = |compression| ImageBuilder::new().layers(layers.iter().map(|layer| layer.build(compression)));
    let in_pieces = |pieces: fn(&LayerBuilder) -> Layer| ImageBuilder::new().layers(layers.iter().map(pieces));
    let docker = image(Compression::Gzip).docker_schema2(true).build();
    let list = IndexBuilder::new().image(&docker).docker_list(true).build();
    let (plain, gzip, zstd) = (Compression::None, Compression::Gzip, Compression::Zstd);
    let forms: [(&str, Box<dyn Artifact>); 7] = [
        ("plain", Box::new(image(plain).build())),
        ("gzip", Box::new(image(gzip).build())),
        ("zstd", Box::new(image(zstd).build())),
        (
            "members",
            Box::new(in_pieces(|layer| layer.multi_member_gzip(3)).build()),
        ),
        ("frames", Box::new(in_pieces(|layer| layer.multi_frame_zstd(3)).build())),
        ("docker", Box::new(docker)),
        ("list", Box::new(list)),
    ];
    let registry = FakeRegistry::start();
    let home = Home::new();
    let mut seen = Vec::new();
    for (name, artifact) in &forms {
        registry.push(name, "latest", artifact.as_ref());
        let pulled = home.pull_with(&registry.reference(name, "latest"), &["--platform", "linux/amd64"]);
        assert_eq!(pulled.digest, artifact.digest().to_string(), "{name}");
        seen.push(pulled.directories);
    }
    assert!(seen.iter().all(|directories| *directories == seen[0]), "{seen:?}");
    assert_eq!(home.leftovers().layers.len(), layers.len());
    assert_eq!(home.images().len(), forms.len());
}

#[test]
fn a_removal_leaves_the_store_as_it_was() {
    let (registry, reference) = serve(&fixtures::web());
    let other = fixtures::empty_layers();
    registry.push("other", "latest", &other);
    let home = Home::new();
    home.pull(&registry.reference("other", "latest"));
    let before = home.leftovers();
    let pulled = home.pull(&reference);
    assert!(pulled.directories.iter().all(|directory| directory.is_dir()));
    assert_eq!(home.images().len(), 2);
    let removed = home.unlade(["rm", &reference]).run().success();
    assert!(removed.stdout.contains(&reference), "{removed}");
    assert_eq!(home.leftovers(), before);
    assert_eq!(home.images(), [registry.reference("other", "latest")]);
}

#[test]
fn a_long_log_is_emptied_beside_the_next_download() {
    /// From how many bytes on a log is long.
    const LONG: u64 = 256 << 10;
    let registry = FakeRegistry::start();
    let home = Home::new();
    let length = |name: &str| fs::metadata(home.store().join(name)).unwrap().len();
    let pull = |number: u32| {
        let layer = LayerBuilder::new().file("number", number.to_string());
        let image = ImageBuilder::new().layer(layer.build(Compression::Gzip)).build();
        registry.push("app", &number.to_string(), &image);
        home.pull(&registry.reference("app", &number.to_string()));
    };
    let mut pulled = 0;
    while pulled == 0 || length("metadata.db-wal") < LONG {
        pull(pulled);
        pulled += 1;
    }
    let before = length("metadata.db");
    pull(pulled);
    let after = length("metadata.db");
    assert!(
        after > before,
        "{after} bytes in the database as before, after {pulled} pulls"
    );
}

#[test]
fn layers_are_put_where_they_are_wanted() {
    let (_registry, reference) = serve(&fixtures::web());
    let home = Home::new();
    let elsewhere = home.path("elsewhere");
    let pulled = home.pull_with(&reference, &["-L", elsewhere.to_str().unwrap()]);
    assert_eq!(pulled.directories.len(), 3);
    for directory in &pulled.directories {
        assert_eq!(directory.parent(), Some(elsewhere.canonicalize().unwrap().as_path()));
        assert!(directory.is_dir());
    }
    assert!(home.leftovers().layers.is_empty());
    let merged = pulled.merged();
    let names = merged.iter().filter(|(path, _)| path.ends_with(b"nginx.conf")).count();
    assert_eq!(names, 1, "{merged:?}");
}

#[test]
fn results_are_on_stdout_and_everything_else_on_stderr() {
    let (_registry, reference) = serve(&fixtures::web());
    let home = Home::new();
    let cold = home.unlade(["pull", &reference, "--progress", "json"]).run().success();
    let first = cold.stdout.lines().next().unwrap_or_default();
    assert!(first.starts_with(&reference), "{cold}");
    assert_eq!(
        cold.stdout.lines().count(),
        4,
        "a line for the image and one for each layer: {cold}"
    );
    for line in cold.stderr.lines() {
        let event: serde_json::Value = line.parse().unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event["v"].is_u64(), "{line}");
    }
    let warm = home.unlade(["pull", &reference]).run().success();
    assert_eq!(warm.stdout, cold.stdout);
    assert!(warm.stderr.is_empty(), "{warm}");
}
