//! Images into the store from files: what we have written, what others have, and what nobody should have.

mod archive;
mod docker;
mod hostile;
mod memory;
mod real;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::Value;
use unlade_test_support::{Artifact as _, Compression, Image, ImageBuilder, Layer, LayerBuilder, fixtures};
use unlade_tests::{Finished, Home, Pulled};

use self::archive::Archive;
use crate::support::{noise, serve};

const FORMS: [&str; 3] = ["oci-layout", "oci-archive", "docker-archive"];

fn import(home: &Home, path: &Path, options: &[&str]) -> Finished {
    let command = home.unlade(["--format", "json", "import"]).args([path]);
    command.args(options).run()
}

fn imported(home: &Home, path: &Path, options: &[&str]) -> Pulled {
    Pulled::of(&import(home, path, options).success().json())
}

fn small_layers(compression: Compression) -> [Layer; 3] {
    let base = LayerBuilder::new()
        .dir("etc", 0o755)
        .file("etc/hosts", "127.0.0.1 localhost")
        .file("etc/gone", noise("gone", 40_000))
        .symlink("lib", "etc");
    let middle = LayerBuilder::new()
        .dir("etc", 0o755)
        .whiteout("etc/gone")
        .file("etc/motd", "hello");
    let top = LayerBuilder::new()
        .file("data", noise("data", 300_000))
        .hardlink("again", "data");
    [base, middle, top].map(|layer| layer.build(compression))
}

/// An image of three small layers.
fn small(compression: Compression) -> Image {
    ImageBuilder::new().env("A=b").layers(small_layers(compression)).build()
}

/// The same in docker's media types.
fn small_docker() -> Image {
    let layers = small_layers(Compression::Gzip);
    ImageBuilder::new().docker_schema2(true).layers(layers).build()
}

/// Pulls the image and writes it in this form. Returns the home that has it, the reference and the file.
fn exported(image: &Image, form: &str) -> (Home, String, PathBuf) {
    let (_registry, reference) = serve(image);
    let home = Home::new();
    home.pull(&reference);
    let path = home.path("exported");
    let command = home
        .unlade(["export", &reference, "--format", form, "-o"])
        .args([&path]);
    command.run().success();
    (home, reference, path)
}

/// Fails the test unless the store is whole, and a layout that holds what its index says.
fn assert_sound(home: &Home) {
    home.leftovers().assert_nothing_half_done();
    home.unlade(["verify", "--deep"]).run().success();
    let index: Value = serde_json::from_slice(&fs::read(home.store().join("index.json")).unwrap()).unwrap();
    for entry in index["manifests"].as_array().unwrap() {
        let hex = entry["digest"].as_str().unwrap().replace(':', "/");
        let blob = home.store().join("blobs").join(hex);
        assert_eq!(blob.metadata().unwrap().len(), entry["size"].as_u64().unwrap());
    }
}

#[test]
fn what_is_exported_can_be_imported_and_the_digests_stay() {
    for image in [small(Compression::Gzip), small(Compression::Zstd), small_docker()] {
        for form in FORMS {
            let (from, reference, path) = exported(&image, form);
            let home = Home::new();
            let pulled = imported(&home, &path, &[]);
            assert_eq!(pulled.reference, reference, "{form}");
            assert!(!pulled.asked_registry);
            if form == "docker-archive" {
                let inspected = home.unlade(["inspect", &reference]).run().success().json();
                assert_eq!(inspected[0]["Id"], image.config_digest.to_string());
            } else {
                assert_eq!(pulled.manifest, image.digest.to_string(), "{form}");
                assert!(image.layers.iter().all(|layer| home.has_blob(layer)), "{form}");
            }
            let original = from.pull(&reference);
            assert_eq!(pulled.merged(), original.merged(), "{form}");
            // It is as if it had been pulled.
            let again = home.pull_with(&reference, &["--policy", "never"]);
            assert_eq!(again.directories, pulled.directories, "{form}");
            assert_sound(&home);
        }
    }
}

#[test]
fn archives_may_be_compressed_and_come_through_a_pipe() {
    for form in ["oci-archive", "docker-archive"] {
        let (_from, reference, path) = exported(&small(Compression::Gzip), form);
        for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
            let input = archive::compressed(&path, compression);
            let home = Home::new();
            let command = home.unlade(["--format", "json", "import", "-"]);
            let finished = command.stdin_from(File::open(&input).unwrap()).run();
            assert_eq!(Pulled::of(&finished.success().json()).reference, reference, "{form}");
            assert_sound(&home);
        }
    }
}

#[test]
fn the_order_of_an_archive_does_not_matter() {
    for form in ["oci-archive", "docker-archive"] {
        let (_from, reference, path) = exported(&small(Compression::Gzip), form);
        let mut archive = Archive::read(&path);
        archive.entries.reverse();
        let home = Home::new();
        let reversed = home.path("reversed.tar");
        archive.write(&reversed);
        assert_eq!(imported(&home, &reversed, &[]).reference, reference, "{form}");
        assert_sound(&home);
    }
}

#[test]
fn what_no_image_needs_does_not_stay() {
    let (_from, _reference, path) = exported(&small(Compression::Gzip), "oci-archive");
    let mut archive = Archive::read(&path);
    let stray = unlade_oci::Digest::sha256("stray");
    archive.file(&format!("blobs/sha256/{}", stray.hex()), b"stray");
    archive.file("README", b"read me");
    let home = Home::new();
    let more = home.path("more.tar");
    archive.write(&more);
    imported(&home, &more, &[]);
    assert!(!home.has_blob(&stray));
    assert_eq!(
        home.leftovers().blobs.len(),
        small(Compression::Gzip).blobs().len() + 1,
        "the layers, the configuration and the manifest"
    );
    assert_sound(&home);
}

#[test]
fn blobs_that_are_there_are_not_taken_again() {
    let (from, reference, path) = exported(&small(Compression::Gzip), "oci-archive");
    let before = from.leftovers();
    assert_eq!(imported(&from, &path, &[]).reference, reference);
    assert_eq!(from.leftovers(), before);
    // A layer that is damaged in the archive is not even looked at then.
    let mut archive = Archive::read(&path);
    for entry in &mut archive.entries {
        if entry.name == format!("blobs/sha256/{}", small(Compression::Gzip).layers[2].hex()) {
            entry.content[100] ^= 1;
        }
    }
    archive.write(&path);
    imported(&from, &path, &[]);
    assert_eq!(import(&Home::new(), &path, &[]).code(), Some(7));
    assert_sound(&from);
}

#[test]
fn an_image_gets_the_name_that_is_given() {
    let (_from, _reference, path) = exported(&small(Compression::Gzip), "oci-layout");
    let home = Home::new();
    import(&home, &path, &["--name", "ghcr.io/o/web:mine", "--no-extract"]).success();
    assert_eq!(home.images(), ["ghcr.io/o/web:mine"]);
    assert!(home.leftovers().layers.is_empty());
    // A lone word is a tag, and nothing says of what.
    let index = path.join("index.json");
    let text = fs::read_to_string(&index).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["manifests"][0]["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "v3"});
    fs::write(&index, value.to_string()).unwrap();
    let nameless = import(&home, &path, &[]).failure(2).error();
    assert!(
        nameless["message"].to_string().contains("only the tag v3"),
        "{nameless}"
    );
    assert!(nameless["hint"].to_string().contains("--name"), "{nameless}");
    assert_sound(&home);
}

#[test]
fn an_archive_that_is_both_is_read_as_a_layout() {
    let (_from, reference, path) = exported(&small(Compression::Gzip), "oci-archive");
    let mut archive = Archive::read(&path);
    // As docker writes it since version 25: the files that manifest.json names are blobs of the layout.
    let image = small(Compression::Gzip);
    let blob = |digest: &unlade_oci::Digest| format!("blobs/sha256/{}", digest.hex());
    let layers: Vec<String> = image.layers.iter().map(blob).collect();
    let manifest =
        serde_json::json!([{"Config": blob(&image.config_digest), "RepoTags": ["web:other"], "Layers": layers}]);
    archive.file("manifest.json", manifest.to_string().as_bytes());
    let home = Home::new();
    let both = home.path("both.tar");
    archive.write(&both);
    let pulled = imported(&home, &both, &[]);
    assert_eq!(
        (pulled.reference, pulled.manifest),
        (reference, image.digest.to_string())
    );
}

#[test]
fn a_store_is_a_layout_to_import_from() {
    let (from, reference, _) = exported(&small(Compression::Gzip), "oci-layout");
    let home = Home::new();
    assert_eq!(imported(&home, from.store(), &[]).reference, reference);
    assert_sound(&home);
}

#[test]
fn a_platform_is_chosen() {
    let (_registry, reference) = serve(&fixtures::platforms());
    let from = Home::new();
    from.pull_with(&reference, &["--platform", "linux/arm64"]);
    let path = from.path("layout");
    let export = from.unlade([
        "export",
        &reference,
        "--format",
        "oci-layout",
        "--platform",
        "linux/arm64",
        "-o",
    ]);
    export.args([&path]).run().success();
    let home = Home::new();
    let options = ["--platform", "linux/s390x"];
    let error = import(&home, &path, &options).failure(3).error();
    assert!(error["message"].as_str().unwrap().contains("linux/arm64"), "{error}");
    imported(&home, &path, &["--platform", "linux/arm64"]);
}
