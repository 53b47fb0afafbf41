//! Docker's archive as different tools write it.

use tar::EntryType;
use unlade_oci::Digest;
use unlade_test_support::{Artifact as _, Compression, Image, ImageBuilder, Layer, LayerBuilder};
use unlade_tests::Home;

use super::archive::Archive;
use super::{assert_sound, import, imported};

fn layer(name: &str) -> LayerBuilder {
    LayerBuilder::new().dir("etc", 0o755).file(format!("etc/{name}"), name)
}

fn image(layers: &[&LayerBuilder]) -> Image {
    let layers = layers.iter().map(|layer| layer.build(Compression::Gzip));
    ImageBuilder::new().layers(layers).build()
}

fn config(image: &Image) -> Vec<u8> {
    image.blobs()[&image.config_digest].to_vec()
}

fn names(home: &Home) -> Vec<String> {
    let mut names = home.images();
    names.sort();
    names
}

#[test]
fn several_images_share_layers_by_links() {
    let (base, one, two) = (layer("base"), layer("one"), layer("two"));
    let images = [image(&[&base, &one]), image(&[&base, &two])];
    // As docker wrote it up to version 24: a directory for each layer, a link where a layer came before.
    let mut archive = Archive::default();
    archive.file("a/VERSION", b"1.0");
    archive.file("a/json", b"{}");
    archive.file("a/layer.tar", &base.tar());
    archive.file("b/layer.tar", &one.tar());
    archive.link("c/layer.tar", EntryType::Symlink, "../a/layer.tar");
    archive.file("d/layer.tar", &two.tar());
    archive.link("e/layer.tar", EntryType::Link, "c/layer.tar");
    for (image, name) in images.iter().zip(["one.json", "two.json"]) {
        archive.file(name, &config(image));
    }
    archive.file(
        "manifest.json",
        br#"[{"Config": "one.json", "RepoTags": ["one:1", "ghcr.io/o/one:x"], "Layers": ["a/layer.tar", "b/layer.tar"]},
             {"Config": "two.json", "RepoTags": ["two"], "Layers": ["e/layer.tar", "d/layer.tar"]}]"#,
    );
    archive.file("repositories", br#"{"one": {"1": "b"}, "liar": {"latest": "d"}}"#);
    let home = Home::new();
    let path = home.path("images.tar");
    archive.write(&path);
    import(&home, &path, &[]).success();
    assert_eq!(
        names(&home),
        [
            "docker.io/library/one:1",
            "docker.io/library/two:latest",
            "ghcr.io/o/one:x"
        ]
    );
    for (image, name) in images.iter().zip(["one:1", "two"]) {
        let inspected = home.unlade(["inspect", name]).run().success().json();
        assert_eq!(inspected[0]["Id"], image.config_digest.to_string());
        let pulled = home.pull_with(name, &["--policy", "never"]);
        assert!(pulled.directories[0].join("etc/base").is_file());
    }
    assert_eq!(home.leftovers().layers.len(), 3);
    assert_sound(&home);
}

#[test]
fn the_manifest_that_is_made_is_always_the_same() {
    let (base, top) = (layer("base"), layer("top"));
    let built = image(&[&base, &top]);
    let mut archive = Archive::default();
    archive.file("config", &config(&built));
    archive.file("1.tar", &base.tar());
    archive.file("2.tar.gz", &top.build(Compression::Gzip).bytes);
    archive.file(
        "manifest.json",
        br#"[{"Config": "config", "RepoTags": ["x:1"], "Layers": ["1.tar", "2.tar.gz"]}]"#,
    );
    let mut digests = Vec::new();
    for _ in 0..2 {
        let home = Home::new();
        let path = home.path("image.tar");
        archive.write(&path);
        let pulled = imported(&home, &path, &[]);
        assert!(
            home.has_blob(&Digest::sha256(base.tar())),
            "an uncompressed layer is kept as it came"
        );
        assert!(
            home.has_blob(&top.build(Compression::Gzip).digest),
            "and so is a compressed one"
        );
        let inspected = home.unlade(["inspect", "x:1"]).run().success().json();
        let types: Vec<_> = inspected[0]["Unlade"]["Layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|layer| layer["MediaType"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            types,
            [
                "application/vnd.oci.image.layer.v1.tar",
                "application/vnd.oci.image.layer.v1.tar+gzip"
            ]
        );
        digests.push(pulled.digest);
        archive.entries.reverse();
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn an_image_without_a_name_is_given_one() {
    let top = layer("top");
    let mut archive = Archive::default();
    archive.file("config.json", &config(&image(&[&top])));
    archive.file("layer.tar", &top.tar());
    archive.file(
        "manifest.json",
        br#"[{"Config": "config.json", "RepoTags": null, "Layers": ["layer.tar"]}]"#,
    );
    let home = Home::new();
    let path = home.path("image.tar");
    archive.write(&path);
    import(&home, &path, &[]).failure(2);
    assert!(home.images().is_empty());
    imported(&home, &path, &["--name", "mine:1"]);
    assert_eq!(names(&home), ["docker.io/library/mine:1"]);
    assert_sound(&home);
}

#[test]
fn a_layer_that_is_not_the_configurations_is_refused() {
    let (right, wrong) = (layer("right"), layer("wrong"));
    let mut archive = Archive::default();
    archive.file("config.json", &config(&image(&[&right])));
    archive.file("layer.tar", &Layer::from_tar(wrong.tar(), Compression::None).bytes);
    archive.file(
        "manifest.json",
        br#"[{"Config": "config.json", "RepoTags": ["x:1"], "Layers": ["layer.tar"]}]"#,
    );
    let home = Home::new();
    let path = home.path("image.tar");
    archive.write(&path);
    import(&home, &path, &[]).failure(7);
    home.leftovers().assert_nothing();
    assert!(home.images().is_empty());
}
