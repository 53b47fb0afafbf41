//! Pulls that succeed, and what they leave and ask for.

use std::fs;
use std::time::Duration;

use unlade_images::Lookup;
use unlade_oci::{ErrorClass, Platform};
use unlade_pull::{Activity, Event, Observer, Options, Policy, Puller, find_local};
use unlade_reference::Reference;
use unlade_test_support::{Compression, FakeRegistry, Fault, Gate, ImageBuilder, IndexBuilder, LayerBuilder};

use crate::support::{Home, blob_requests, client, fat_layer, serve, small_image};

#[tokio::test]
async fn an_image_becomes_layer_directories() {
    let image = small_image();
    let (registry, reference) = serve(&image);
    let home = Home::new();
    let pulled = home.pull(&reference).await.unwrap();

    assert_eq!(pulled.image.manifest, image.digest);
    assert_eq!(pulled.image.config, image.config_digest);
    let diff_ids: Vec<_> = pulled.image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    assert_eq!(diff_ids, image.diff_ids);
    let directories: Vec<_> = pulled
        .image
        .layers
        .iter()
        .map(|layer| layer.directory.clone().unwrap())
        .collect();
    assert_eq!(fs::read_to_string(directories[0].join("etc/motd")).unwrap(), "one");
    assert_eq!(fs::read_to_string(directories[1].join("usr/file")).unwrap(), "two");
    let name = directories[0].file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(name, format!("sha256-{}.extracted", image.diff_ids[0].hex()));
    assert_eq!(home.store.images().unwrap().len(), 1);
    assert_eq!(home.stray_files(), Vec::<std::path::PathBuf>::new());
    assert!(home.partial_downloads().is_empty());
    home.recorder.assert_balanced();

    // One request for the name, one for the configuration, one a layer. This one names no platforms.
    let requests = registry.requests();
    assert_eq!(
        requests
            .iter()
            .filter(|request| request.path.contains("/manifests/"))
            .count(),
        1
    );
    assert_eq!(blob_requests(&registry), 1 + 3);
}

#[tokio::test]
async fn a_second_pull_asks_nobody() {
    let (registry, reference) = serve(&small_image());
    let home = Home::new();
    home.pull(&reference).await.unwrap();
    registry.clear();
    let again = home.pull(&reference).await.unwrap();
    assert!(!again.asked_registry);
    assert!(registry.requests().is_empty());
    let reference: Reference = reference.parse().unwrap();
    let found = find_local(&home.store, std::slice::from_ref(&reference), &Options::default()).unwrap();
    assert_eq!(found.unwrap()[0].image, again.image);
    let always = Options {
        policy: Policy::Always,
        ..Options::default()
    };
    assert!(find_local(&home.store, &[reference], &always).unwrap().is_none());
}

#[tokio::test]
async fn always_asks_for_the_name_and_fetches_only_what_changed() {
    let shared = LayerBuilder::new().file("shared", "x").build(Compression::Gzip);
    let before = ImageBuilder::new().layer(shared.clone()).build();
    let after = ImageBuilder::new().layer(shared).layer(fat_layer("new", 1000)).build();
    let (registry, reference) = serve(&before);
    let home = Home::new();
    home.pull(&reference).await.unwrap();
    registry.push("app", "latest", &after);
    registry.clear();
    assert_eq!(home.pull(&reference).await.unwrap().image.manifest, before.digest);
    let always = Options {
        policy: Policy::Always,
        ..Options::default()
    };
    assert_eq!(
        home.pull_with(&reference, &always).await.unwrap().image.manifest,
        after.digest
    );
    assert_eq!(blob_requests(&registry), 2, "the new configuration and the new layer");
    assert_eq!(home.store.images().unwrap().len(), 1, "the name leads elsewhere now");
}

#[tokio::test]
async fn never_answers_from_the_store_or_not_at_all() {
    let (registry, reference) = serve(&small_image());
    let home = Home::new();
    let never = Options {
        policy: Policy::Never,
        ..Options::default()
    };
    let error = home.pull_with(&reference, &never).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::NotFound);
    assert!(registry.requests().is_empty());
    home.pull(&reference).await.unwrap();
    registry.clear();
    home.pull_with(&reference, &never).await.unwrap();
    assert!(registry.requests().is_empty());
}

#[tokio::test]
async fn a_lost_layer_directory_is_made_again_from_the_blob() {
    let (registry, reference) = serve(&small_image());
    let home = Home::new();
    let image = home.pull(&reference).await.unwrap().image;
    registry.clear();
    let lost = image.layers[0].directory.clone().unwrap();
    for emptied in [false, true] {
        fs::remove_dir_all(&lost).unwrap();
        if emptied {
            fs::create_dir(&lost).unwrap();
        }
        let name: Reference = reference.parse().unwrap();
        let looked_up = home.store.look_up(&name, &Platform::host(), true).unwrap();
        assert!(matches!(looked_up, Lookup::Incomplete { .. }), "{looked_up:?}");
        let never = Options {
            policy: Policy::Never,
            ..Options::default()
        };
        home.pull_with(&reference, &never).await.unwrap();
        assert_eq!(fs::read_to_string(lost.join("etc/motd")).unwrap(), "one");
    }
    assert!(registry.requests().is_empty());
}

#[tokio::test]
async fn an_empty_layer_may_have_an_empty_directory() {
    let image = ImageBuilder::new()
        .layer(LayerBuilder::new().build(Compression::Gzip))
        .layer(LayerBuilder::new().dir("./", 0o755).build(Compression::Gzip))
        .build();
    let (registry, reference) = serve(&image);
    let home = Home::new();
    home.pull(&reference).await.unwrap();
    registry.clear();
    assert!(!home.pull(&reference).await.unwrap().asked_registry);
    assert!(registry.requests().is_empty());
}

#[tokio::test]
async fn one_layer_listed_three_times_is_fetched_once() {
    let layer = fat_layer("file", 5000);
    let image = ImageBuilder::new()
        .layers([layer.clone(), layer.clone(), layer.clone()])
        .build();
    let (registry, reference) = serve(&image);
    let home = Home::new();
    let pulled = home.pull(&reference).await.unwrap();
    assert_eq!(pulled.image.layers.len(), 3);
    assert_eq!(registry.blob_bytes_served(&layer.digest), layer.size());
    assert_eq!(home.layer_directories().len(), 1);
}

#[tokio::test]
async fn two_images_in_one_pull_share_what_they_share() {
    let base = fat_layer("base", 5000);
    let one = ImageBuilder::new()
        .layer(base.clone())
        .layer(fat_layer("one", 10))
        .build();
    let two = ImageBuilder::new()
        .layer(base.clone())
        .layer(fat_layer("two", 10))
        .build();
    let registry = FakeRegistry::start();
    registry.push("one", "latest", &one);
    registry.push("two", "latest", &two);
    let home = Home::new();
    let references = ["one", "two"].map(|name| registry.reference(name, "latest").parse::<Reference>().unwrap());
    let pulled = home.puller().pull(&references, &Options::default()).await.unwrap();
    assert_eq!(pulled[0].image.manifest, one.digest);
    assert_eq!(pulled[1].image.manifest, two.digest);
    assert_eq!(registry.blob_bytes_served(&base.digest), base.size());
}

#[tokio::test]
async fn the_same_layer_in_two_compressions_has_one_directory() {
    let content = LayerBuilder::new().file("file", "content");
    let image = ImageBuilder::new()
        .layer(content.build(Compression::Gzip))
        .layer(content.build(Compression::Zstd))
        .layer(content.build(Compression::None))
        .layer(content.multi_member_gzip(3))
        .build();
    let (_registry, reference) = serve(&image);
    let home = Home::new();
    let pulled = home.pull(&reference).await.unwrap();
    assert_eq!(home.layer_directories().len(), 1);
    for layer in &pulled.image.layers {
        assert!(home.store.blobs().contains(&layer.blob).unwrap());
    }
}

#[tokio::test]
async fn without_extraction_only_blobs_are_kept_and_a_later_pull_extracts_them() {
    let (registry, reference) = serve(&small_image());
    let home = Home::new();
    let blobs = Options {
        extract: false,
        ..Options::default()
    };
    let pulled = home.pull_with(&reference, &blobs).await.unwrap();
    assert!(pulled.image.layers.iter().all(|layer| layer.directory.is_none()));
    assert!(home.layer_directories().is_empty());
    registry.clear();
    let pulled = home.pull(&reference).await.unwrap();
    assert!(pulled.image.layers.iter().all(|layer| layer.directory.is_some()));
    assert!(registry.requests().is_empty(), "everything was there already");
}

#[tokio::test]
async fn the_platform_is_chosen_from_the_index() {
    let layer = |name: &str| LayerBuilder::new().file("platform", name).build(Compression::Gzip);
    let image = |platform: &str| ImageBuilder::new().platform(platform).layer(layer(platform)).build();
    let index = IndexBuilder::new()
        .image(&image("linux/amd64"))
        .image(&image("linux/arm64"))
        .build();
    let nested = IndexBuilder::new().index(&index).build();
    let registry = FakeRegistry::start();
    registry.push("app", "latest", &index);
    registry.push("app", "nested", &nested);
    let home = Home::new();
    for tag in ["latest", "nested"] {
        for platform in ["linux/amd64", "linux/arm64/v8"] {
            let options = Options {
                platform: Some(platform.parse().unwrap()),
                ..Options::default()
            };
            let pulled = home.pull_with(&registry.reference("app", tag), &options).await.unwrap();
            let directory = pulled.image.layers[0].directory.clone().unwrap();
            let content = fs::read_to_string(directory.join("platform")).unwrap();
            assert!(platform.starts_with(&content), "{platform} got {content}");
        }
    }
    assert_eq!(home.store.images().unwrap().len(), 4);

    let options = Options {
        platform: Some("linux/riscv64".parse().unwrap()),
        ..Options::default()
    };
    let error = home
        .pull_with(&registry.reference("app", "latest"), &options)
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::NotFound);
    let message = error.to_string();
    assert!(
        message.contains("linux/riscv64") && message.contains("linux/amd64, linux/arm64"),
        "{message}"
    );
}

#[tokio::test]
async fn a_lone_image_for_another_platform_is_warned_of_or_refused() {
    let image = ImageBuilder::new()
        .platform("linux/s390x")
        .layer(fat_layer("x", 10))
        .build();
    let (_registry, reference) = serve(&image);
    let home = Home::new();
    let options = Options {
        platform: Some("linux/amd64".parse().unwrap()),
        ..Options::default()
    };
    let error = home.pull_with(&reference, &options).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::NotFound);
    home.pull(&reference).await.unwrap();
    let warnings = home.recorder.seen().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("linux/s390x"), "{warnings:?}");
}

#[tokio::test]
async fn the_bytes_of_a_layer_count_and_not_its_media_type() {
    let layer = |name: &str, compression, media_type: &str| {
        let layer = LayerBuilder::new().file(name, name).build(compression);
        layer.with_media_type(&format!("application/vnd.oci.image.layer.v1.{media_type}"))
    };
    let image = ImageBuilder::new()
        .layer(layer("gzip", Compression::Gzip, "tar+zstd"))
        .layer(layer("zstd", Compression::Zstd, "tar+gzip"))
        .layer(layer("none", Compression::None, "tar+gzip"))
        .layer(layer("right", Compression::Zstd, "tar+zstd"))
        .build();
    let (_registry, reference) = serve(&image);
    let home = Home::new();
    let pulled = home.pull(&reference).await.unwrap();
    for (layer, name) in pulled.image.layers.iter().zip(["gzip", "zstd", "none", "right"]) {
        let file = layer.directory.as_ref().unwrap().join(name);
        assert_eq!(fs::read_to_string(file).unwrap(), name);
    }
    let mut warnings = home.recorder.seen().warnings;
    warnings.sort_unstable_by_key(|warning| warning.split_once(" is ").map(|(_, rest)| rest.to_owned()));
    let endings = [
        "is compressed with gzip, though it is said to be application/vnd.oci.image.layer.v1.tar+zstd",
        "is compressed with zstd, though it is said to be application/vnd.oci.image.layer.v1.tar+gzip",
        "is not compressed, though it is said to be application/vnd.oci.image.layer.v1.tar+gzip",
    ];
    assert_eq!(warnings.len(), endings.len(), "{warnings:?}");
    for (warning, ending) in warnings.iter().zip(endings) {
        assert!(warning.ends_with(ending), "{warning}");
    }
}

#[tokio::test]
async fn tag_and_digest_are_both_recorded_and_the_digest_decides() {
    let image = small_image();
    let (registry, reference) = serve(&image);
    registry.push(
        "app",
        "latest",
        &ImageBuilder::new().layer(fat_layer("other", 10)).build(),
    );
    let home = Home::new();
    let pulled = home.pull(&format!("{reference}@{}", image.digest)).await.unwrap();
    assert_eq!(pulled.image.manifest, image.digest);
    let listed = home.store.images().unwrap();
    assert_eq!(listed[0].reference.to_string(), format!("{reference}@{}", image.digest));
}

#[tokio::test]
async fn layers_can_go_elsewhere() {
    let (_registry, reference) = serve(&small_image());
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = directory.path().join("else/where");
    let options = unlade_images::StoreOptions {
        layer_path: Some(elsewhere.clone()),
        ..unlade_images::StoreOptions::at(directory.path().join("store"))
    };
    let store = unlade_images::Store::open(&options).unwrap();
    let reference: Reference = reference.parse().unwrap();
    let pulled = Puller::new(store, client())
        .pull(&[reference], &Options::default())
        .await
        .unwrap();
    for layer in &pulled[0].image.layers {
        assert!(
            layer
                .directory
                .as_ref()
                .unwrap()
                .starts_with(fs::canonicalize(&elsewhere).unwrap())
        );
    }
    assert!(!directory.path().join("store/layers").exists());
}

#[tokio::test]
async fn layers_that_cannot_just_be_stacked_are_extracted_on_top_of_those_below() {
    let base = LayerBuilder::new()
        .dir("usr", 0o755)
        .dir("usr/lib", 0o755)
        .file("usr/lib/a", "a")
        .symlink("lib", "usr/lib")
        .dir("secret", 0o700)
        .dir("plain", 0o755);
    let build = |top: LayerBuilder| {
        let layers = [&base, &top].map(|layer| layer.build(Compression::Gzip));
        ImageBuilder::new().layers(layers).build()
    };
    let cases = [
        (LayerBuilder::new().file("lib/b", "b"), Some("usr/lib/b")),
        (LayerBuilder::new().file("secret/b", "b"), Some("secret/b")),
        (LayerBuilder::new().hardlink("hard", "lib/a"), Some("hard")),
        (LayerBuilder::new().file("plain/b", "b").file("new/b", "b"), None),
    ];
    for (top, expected) in cases {
        let (_registry, reference) = serve(&build(top));
        let home = Home::new();
        let pulled = home.pull(&reference).await.unwrap();
        let layer = &pulled.image.layers[1];
        assert_eq!(layer.chain_id.is_some(), expected.is_some(), "{expected:?}");
        let directory = layer.directory.as_deref().unwrap();
        if let Some(path) = expected {
            assert!(directory.join(path).is_file(), "{path}");
        }
        // The answer from the store is the same, and asks nobody.
        let again = home.pull(&reference).await.unwrap();
        assert!(!again.asked_registry);
        assert_eq!(again.image.layers[1].directory.as_deref(), Some(directory));

        // Where blobs are not kept, that of such a layer is fetched once more.
        let home = Home::new();
        let options = Options {
            discard_blobs: true,
            ..Options::default()
        };
        let pulled = home.pull_with(&reference, &options).await.unwrap();
        let layer = &pulled.image.layers[1];
        if let Some(path) = expected {
            assert!(layer.directory.as_deref().unwrap().join(path).is_file(), "{path}");
        }
        assert_eq!(
            home.store.blobs().size(&layer.blob).unwrap().is_some(),
            expected.is_some()
        );
    }
}

#[tokio::test]
async fn the_two_forms_of_a_layer_stand_side_by_side() {
    let image = ImageBuilder::new()
        .layer(LayerBuilder::new().file("gone", "x").build(Compression::Gzip))
        .layer(LayerBuilder::new().whiteout("gone").build(Compression::Gzip))
        .build();
    let (registry, reference) = serve(&image);
    let directory = tempfile::tempdir().unwrap();
    let reference: Reference = reference.parse().unwrap();
    let mut tops = Vec::new();
    for whiteouts in [unlade_extract::Whiteouts::Overlay, unlade_extract::Whiteouts::Oci] {
        let options = unlade_images::StoreOptions {
            whiteouts,
            ..unlade_images::StoreOptions::at(directory.path())
        };
        let store = unlade_images::Store::open(&options).unwrap();
        let pulled = Puller::new(store, client())
            .pull(std::slice::from_ref(&reference), &Options::default())
            .await
            .unwrap();
        tops.push(pulled[0].image.layers[1].directory.clone().unwrap());
        registry.clear();
    }
    assert!(!tops[0].join(".wh.gone").exists() && tops[0].join("gone").symlink_metadata().is_ok());
    assert!(tops[1].join(".wh.gone").exists() && tops[1].join("gone").symlink_metadata().is_err());
}

#[tokio::test]
async fn directories_of_another_ownership_stand_side_by_side() {
    use unlade_images::{Ownership, Store, StoreOptions};
    let layer = LayerBuilder::new().file_with("file", "x", |entry| entry.owner(5, 6));
    let image = ImageBuilder::new().layer(layer.build(Compression::Gzip)).build();
    let (registry, reference) = serve(&image);
    let home = tempfile::tempdir().unwrap();
    let reference: Reference = reference.parse().unwrap();
    let open = |ownership| {
        let options = StoreOptions {
            ownership,
            ..StoreOptions::at(home.path())
        };
        Store::open(&options).unwrap()
    };
    let mut directories = std::collections::BTreeSet::new();
    for ownership in [None, Some(Ownership::Record), Some(Ownership::Squash)] {
        for time in ["first", "again"] {
            let pulled = Puller::new(open(ownership), client())
                .pull(std::slice::from_ref(&reference), &Options::default())
                .await
                .unwrap();
            assert!(time == "first" || !pulled[0].asked_registry, "{ownership:?}");
            let directory = pulled[0].image.layers[0].directory.clone().unwrap();
            let summary = &open(ownership).summaries(&pulled[0].image).unwrap()[0];
            let squashed = summary.count(unlade_extract::Note::OwnerSquashed);
            assert_eq!(squashed > 0, ownership == Some(Ownership::Squash), "{summary:?}");
            directories.insert(directory);
        }
    }
    // To record is what anybody but root does in any case.
    let is_root = unlade_sys::is_root();
    assert_eq!(directories.len(), if is_root { 3 } else { 2 }, "{directories:?}");
    let blobs = registry
        .requests()
        .iter()
        .filter(|request| request.path.contains("/blobs/"))
        .count();
    assert_eq!(blobs, 2, "the layer and the configuration, once");

    open(None).remove(&reference, None).unwrap();
    assert!(directories.iter().all(|directory| !directory.exists()));
}

#[tokio::test]
async fn what_one_ownership_shows_of_a_stack_holds_for_the_others() {
    use unlade_images::{Ownership, Store, StoreOptions};
    // Squashed, both directories belong to the caller, and nothing tells that the upper one is merely implied.
    let lower = LayerBuilder::new().dir_with("d/", 0o755, |entry| entry.owner(5, 6));
    let upper = LayerBuilder::new().file("d/file", "x");
    let layers = [lower, upper].map(|layer| layer.build(Compression::Gzip));
    let image = ImageBuilder::new().layers(layers).build();
    let (_registry, reference) = serve(&image);
    let home = tempfile::tempdir().unwrap();
    let reference: Reference = reference.parse().unwrap();
    for ownership in [
        Ownership::Record,
        Ownership::Squash,
        Ownership::Record,
        Ownership::Squash,
    ] {
        let options = StoreOptions {
            ownership: Some(ownership),
            ..StoreOptions::at(home.path())
        };
        let pulled = Puller::new(Store::open(&options).unwrap(), client())
            .pull(std::slice::from_ref(&reference), &Options::default())
            .await
            .unwrap();
        let layer = &pulled[0].image.layers[1];
        assert!(layer.chain_id.is_some(), "{ownership:?}");
        let directory = layer.directory.as_ref().unwrap().to_str().unwrap();
        assert!(directory.contains(".chain."), "{ownership:?}: {directory}");
    }
}

/// Says when something is extracted.
struct Extracting(std::sync::Mutex<Vec<unlade_pull::Task>>);

impl Observer for Extracting {
    fn event(&self, event: &Event<'_>) {
        if let Event::Started { task } = event
            && matches!(task.activity(), Activity::Extract { .. })
        {
            self.0.lock().unwrap().push((*task).clone());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_is_extracted_while_it_arrives() {
    let mut builder = LayerBuilder::new();
    for number in 0..20 {
        builder = builder.file(format!("file-{number}"), vec![0; 100_000]);
    }
    let layer = builder.build(Compression::None);
    let image = ImageBuilder::new().layer(layer.clone()).build();
    let (registry, reference) = serve(&image);
    let gate = Gate::new();
    registry.fault(Fault::on_blob(&layer.digest).hold_after(layer.size() / 2, &gate));

    let home = Home::new();
    let extracting = std::sync::Arc::new(Extracting(std::sync::Mutex::new(Vec::new())));
    let puller = home.puller().with_observer(extracting.clone());
    let reference: Reference = reference.parse().unwrap();
    let mut pulls = tokio::task::JoinSet::new();
    pulls.spawn(async move { puller.pull(&[reference], &Options::default()).await });
    // The second half of the blob is held back, and yet files of the first half are made.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let entries = extracting
            .0
            .lock()
            .unwrap()
            .first()
            .map_or(0, unlade_pull::Task::entries);
        if entries >= 8 {
            assert!(entries < 12, "half of the layer cannot hold {entries} entries");
            break;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "nothing is extracted before the last byte is there"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    gate.open();
    pulls.join_next().await.unwrap().unwrap().unwrap();
}
