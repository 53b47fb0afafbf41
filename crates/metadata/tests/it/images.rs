//! Recording, finding, listing and inspecting images.

use serde_json::json;
use unlade_metadata::{ConfigRecord, Error, LayerForm, LayerOwnership, LayerPlace, Target};
use unlade_oci::{Digest, ErrorClass, MediaType};

use crate::support::{BOOT, Store, any_platform, diff_id, directory, image, index, key, layer_commit, name, platform};

#[test]
fn found_with_layers_in_order_and_their_directories() {
    let store = Store::new();
    let commit = image("app:1", "linux/amd64", &["c", "a", "b", "a"]);
    store.add(&commit);
    let found = store
        .database
        .find_image(&key("app:1", "linux/amd64"), Some(&store.place()))
        .unwrap()
        .unwrap();
    assert_eq!(found.name, commit.name);
    assert_eq!(
        (&found.manifest, &found.config),
        (&commit.manifest.digest, &commit.config.digest)
    );
    assert_eq!(
        found.layers.iter().map(|layer| layer.layer.clone()).collect::<Vec<_>>(),
        commit.layers
    );
    assert!(found.is_extracted());
    let first = found.layers[0].directory.clone().unwrap();
    assert_eq!(
        first.path,
        store
            .place()
            .root
            .join(format!("sha256-{}.extracted", diff_id("c").hex()))
    );
    assert!(first.durability.is_trusted(BOOT) && !first.durability.is_trusted("boot-2"));

    let elsewhere = LayerPlace {
        root: "/elsewhere".into(),
        form: LayerForm::Overlay,
        ownership: LayerOwnership::Preserve,
    };
    let other_form = LayerPlace {
        form: LayerForm::Oci,
        ownership: LayerOwnership::Preserve,
        ..store.place()
    };
    for place in [Some(&elsewhere), Some(&other_form), None] {
        let found = store
            .database
            .find_image(&key("app:1", "linux/amd64"), place)
            .unwrap()
            .unwrap();
        assert_eq!(found.layers.len(), 4);
        assert!(
            !found.is_extracted() && found.layers.iter().all(|layer| layer.directory.is_none()),
            "{place:?}"
        );
    }
}

#[test]
fn each_part_of_the_key_matters() {
    let store = Store::new();
    store.add(&image("app:1", "linux/amd64", &["a"]));
    let find = |text: &str, platform: &str| store.database.find_image(&key(text, platform), None).unwrap();
    assert!(find("app:1", "linux/amd64").is_some());
    assert!(find("app:1", "linux/x86_64").is_some(), "platforms are normalised");
    for (text, platform) in [
        ("app:2", "linux/amd64"),
        ("app", "linux/amd64"),
        ("apps:1", "linux/amd64"),
        ("app:1", "linux/arm64"),
        ("app:1@x", "linux/amd64"),
        ("app@x", "linux/amd64"),
    ] {
        assert!(find(text, platform).is_none(), "{text} {platform}");
    }
    let mut other = key("app:1", "linux/amd64");
    other.name.registry = "other.test".to_owned();
    assert!(store.database.find_image(&other, None).unwrap().is_none());
}

#[test]
fn one_tag_on_several_platforms() {
    let store = Store::new();
    let (amd, arm) = (
        image("app:1", "linux/amd64", &["a"]),
        image("app:1", "linux/arm64", &["b"]),
    );
    store.add(&amd);
    store.add(&arm);
    let manifest = |key| {
        store
            .database
            .find_image(&key, None)
            .unwrap()
            .map(|image| image.manifest)
    };
    assert_eq!(manifest(key("app:1", "linux/amd64")), Some(amd.manifest.digest));
    assert_eq!(manifest(key("app:1", "linux/arm64")), Some(arm.manifest.digest.clone()));
    assert_eq!(manifest(key("app:1", "linux/riscv64")), None);
    assert_eq!(
        manifest(any_platform("app:1")),
        Some(arm.manifest.digest),
        "the one pulled last"
    );
    assert_eq!(store.database.images().unwrap().len(), 2);
}

#[test]
fn a_platform_with_an_os_version_is_a_key_of_its_own() {
    let store = Store::new();
    let mut commit = image("app:1", "windows/amd64", &["a"]);
    commit.platform.os_version = Some("10.0.17763".to_owned());
    store.add(&commit);
    assert!(
        store
            .database
            .find_image(&key("app:1", "windows/amd64"), None)
            .unwrap()
            .is_none()
    );
    let found = store
        .database
        .find_image(&any_platform("app:1"), None)
        .unwrap()
        .unwrap();
    assert_eq!(found.platform, commit.platform);
}

#[test]
fn a_moved_tag_leads_to_the_new_manifest_only() {
    let store = Store::new();
    let (old, new) = (
        image("app:1", "linux/amd64", &["a"]),
        image("app:1", "linux/amd64", &["b"]),
    );
    let id = store.add(&old);
    store.add(&image("app:1", "linux/amd64", &["b"]));
    let again = store.database.commit_image(&new).unwrap();
    assert_eq!((again.id, again.replaced), (id, None));
    let back = store.database.commit_image(&old).unwrap();
    assert_eq!((back.id, back.replaced), (id, Some(new.manifest.digest)));
    let found = store
        .database
        .find_image(&key("app:1", "linux/amd64"), None)
        .unwrap()
        .unwrap();
    assert_eq!(found.manifest, old.manifest.digest);
    assert_eq!(store.database.images().unwrap().len(), 1);
}

#[test]
fn the_digest_decides_and_the_tag_is_kept() {
    let store = Store::new();
    let mut commit = image("app:1", "linux/amd64", &["a"]);
    commit.name.digest = Some(commit.manifest.digest.clone());
    store.add(&commit);
    assert!(
        store
            .database
            .find_image(&key("app:1", "linux/amd64"), None)
            .unwrap()
            .is_none(),
        "nobody asked the registry what this tag is"
    );
    let mut by_digest = key("app", "linux/amd64");
    by_digest.name.digest = commit.name.digest.clone();
    for tag in [None, Some("1".to_owned()), Some("2".to_owned())] {
        by_digest.name.tag = tag;
        let found = store.database.find_image(&by_digest, None).unwrap().unwrap();
        assert_eq!(found.name, commit.name, "whatever tag stands beside the digest");
    }
}

#[test]
fn a_digest_finds_what_a_tag_brought() {
    let store = Store::new();
    let mut commit = image("app:1", "linux/amd64", &["a"]);
    let top = index(&[(MediaType::OCI_MANIFEST, &commit.manifest.digest, Some("linux/amd64"))]);
    commit.indexes = vec![top.clone()];
    store.add(&commit);
    for digest in [&commit.manifest.digest, &top.digest] {
        let mut by_digest = key("app", "linux/amd64");
        by_digest.name.digest = Some(digest.clone());
        let found = store.database.find_image(&by_digest, None).unwrap().unwrap();
        assert_eq!(found.name, name("app:1"));
        assert_eq!(found.index, Some(top.digest.clone()));
        by_digest.name.repository = "other".to_owned();
        assert!(store.database.find_image(&by_digest, None).unwrap().is_none());
    }
    assert!(
        store
            .database
            .find_image(&key("app@else", "linux/amd64"), None)
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_commit_that_fails_leaves_nothing() {
    let store = Store::new();
    let mut commit = image("app:1", "linux/amd64", &["a", "b"]);
    commit.indexes = vec![index(&[(MediaType::OCI_MANIFEST, &commit.manifest.digest, None)])];
    store
        .database
        .record_layer(&layer_commit(&commit.layers[0], &store.place()))
        .unwrap();
    let error = store.database.commit_image(&commit).unwrap_err();
    assert!(matches!(&error, Error::MissingLayer { position: 1, diff_id, .. } if *diff_id == commit.layers[1].diff_id));
    assert!(error.is_missing_layer());
    assert_eq!(store.database.images().unwrap(), []);
    drop(store.database);
    let connection = rusqlite::Connection::open(store.directory.path().join("metadata.db")).unwrap();
    for table in [
        "images",
        "indexes",
        "index_entries",
        "manifests",
        "configs",
        "manifest_layers",
    ] {
        let rows: i64 = connection
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, 0, "{table}");
    }
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let store = Store::new();
    let good = image("app:1", "linux/amd64", &["a", "b"]);
    store.add(&good);
    let refused = |change: fn(&mut unlade_metadata::ImageCommit)| {
        let mut commit = good.clone();
        change(&mut commit);
        let error = store.database.commit_image(&commit).unwrap_err();
        assert!(matches!(error, Error::Mismatch { .. }), "{error:?}");
    };
    refused(|commit| commit.name.tag = None);
    refused(|commit| commit.manifest.config = Digest::sha256("else"));
    refused(|commit| commit.layers.truncate(1));
    refused(|commit| commit.layers.swap(0, 1));
}

#[test]
fn listing_and_names() {
    let store = Store::new();
    let mut two = image("b/two:1", "linux/arm64", &["a", "b"]);
    let top = index(&[(MediaType::OCI_MANIFEST, &two.manifest.digest, Some("linux/arm64"))]);
    two.indexes = vec![top.clone()];
    store.add(&two);
    store.add(&image("a/one:1", "linux/amd64", &[]));
    let images = store.database.images().unwrap();
    let lines: Vec<_> = images
        .iter()
        .map(|image| {
            (
                image.name.to_string(),
                image.layers,
                image.compressed_size,
                image.raw_size,
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            ("r.test/a/one:1".to_owned(), 0, 0, 0),
            ("r.test/b/two:1".to_owned(), 2, 200, 2000)
        ]
    );
    assert_eq!(images[1].actual_platform, platform("linux/arm64"));

    let names = store.database.names().unwrap();
    assert_eq!(names.len(), 2);
    let target = |digest: &Digest, media_type, size: usize| Target {
        digest: digest.clone(),
        media_type,
        size: size as u64,
    };
    assert_eq!(names[0].index, None);
    assert_eq!(
        names[1].index,
        Some(target(&top.digest, MediaType::OCI_INDEX, top.raw.len()))
    );
    let manifest = &two.manifest;
    assert_eq!(
        names[1].manifest,
        target(&manifest.digest, MediaType::OCI_MANIFEST, manifest.raw.len())
    );
}

#[test]
fn inspection_gives_back_what_was_recorded() {
    let store = Store::new();
    let mut commit = image("app:1", "linux/arm64/v9", &["a", "b"]);
    let attestation = Digest::sha256("attestation");
    let inner = index(&[
        (MediaType::OCI_MANIFEST, &attestation, Some("unknown/unknown")),
        (MediaType::OCI_MANIFEST, &commit.manifest.digest, Some("linux/arm64/v9")),
    ]);
    let side = index(&[(MediaType::OCI_MANIFEST, &attestation, None)]);
    let outer = index(&[
        (MediaType::OCI_INDEX, &side.digest, None),
        (MediaType::OCI_INDEX, &inner.digest, None),
    ]);
    commit.indexes = vec![outer, inner];
    let mut other = image("other:1", "linux/arm64", &["c"]);
    other.indexes = vec![side];
    store.add(&other);
    store.add(&commit);
    store.add(&image("app:2", "linux/arm64/v9", &["a", "b"]));

    let found = store
        .database
        .inspect(&key("app:1", "linux/arm64/v9"))
        .unwrap()
        .unwrap();
    assert_eq!(found.indexes, commit.indexes);
    assert_eq!(found.manifest, commit.manifest);
    assert_eq!(found.config, commit.config);
    assert_eq!(found.config.platform(), platform("linux/arm64/v9"));
    assert_eq!(found.names, [name("app:1"), name("app:2")]);
    assert_eq!(
        found
            .layers
            .iter()
            .map(|layer| layer.diff_id.clone())
            .collect::<Vec<_>>(),
        [diff_id("a"), diff_id("b")]
    );
    assert_eq!(found.layers[0].summary, json!({"dropped": 1}));
    assert_eq!(
        found.directories,
        [
            directory(&diff_id("a"), &store.place()),
            directory(&diff_id("b"), &store.place())
        ]
    );
    assert_eq!(store.database.inspect(&key("app:3", "linux/arm64")).unwrap(), None);
}

#[test]
fn every_field_of_a_configuration_survives() {
    let raw = json!({
        "created": "2024-01-02T03:04:05Z", "author": "someone", "architecture": "arm", "variant": "v7", "os": "linux",
        "os.version": "1", "os.features": ["f"], "docker_version": "27", "comment": "c", "container": "abc",
        "parent": "sha256:00", "id": "ignored",
        "config": {
            "Hostname": "h", "Domainname": "d", "User": "u:g", "AttachStdin": true, "AttachStdout": false,
            "AttachStderr": true, "ExposedPorts": {"80/tcp": {}}, "Tty": true, "OpenStdin": false, "StdinOnce": true,
            "Env": ["A=b"], "Cmd": ["c"], "Healthcheck": {"Test": ["CMD", "t"], "Interval": 1}, "ArgsEscaped": true,
            "Image": "sha256:1", "Volumes": {"/v": {}}, "WorkingDir": "/w", "Entrypoint": ["e"],
            "NetworkDisabled": true, "MacAddress": "02:42", "OnBuild": ["RUN x"], "Labels": {"l": "m"},
            "StopSignal": "SIGINT", "StopTimeout": 9, "Shell": ["/bin/sh", "-c"], "Memory": 1, "MemorySwap": -1,
            "CpuShares": 2,
        },
        "history": [{"created_by": "x", "empty_layer": true}],
        "rootfs": {"type": "layers", "diff_ids": []},
    })
    .to_string()
    .into_bytes();
    let config = ConfigRecord::parse(&Digest::sha256(&raw), &MediaType::DOCKER_CONFIG, &raw).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("None"), "each field was read: {shown}");
    let store = Store::new();
    let mut commit = image("app:1", "linux/arm/v7", &[]);
    commit.manifest.config = config.digest.clone();
    commit.config = config.clone();
    store.add(&commit);
    let found = store.database.inspect(&any_platform("app:1")).unwrap().unwrap();
    assert_eq!(found.config, config);
    assert_eq!(found.config.raw, raw);
}

#[test]
fn a_configuration_with_odd_types_is_read_as_far_as_it_goes() {
    let raw = br#"{"architecture": 1, "config": {"StopTimeout": "10", "Env": null, "User": "u"}, "history": null}"#;
    let config = ConfigRecord::parse(&Digest::sha256(raw), &MediaType::OCI_CONFIG, raw).unwrap();
    assert_eq!(
        (config.architecture.as_str(), config.run.stop_timeout, &config.run.env),
        ("", None, &None)
    );
    assert_eq!(config.run.user.as_deref(), Some("u"));
    for raw in [&b"[]"[..], b"", b"<html>"] {
        let error = ConfigRecord::parse(&Digest::sha256(raw), &MediaType::OCI_CONFIG, raw).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Rejected);
    }
}

#[test]
fn touched() {
    let store = Store::new();
    let id = store.add(&image("app:1", "linux/amd64", &["a"]));
    let used = || {
        store
            .database
            .find_image(&any_platform("app:1"), None)
            .unwrap()
            .unwrap()
            .last_used_at
    };
    let before = used();
    std::thread::sleep(std::time::Duration::from_millis(3));
    store.database.touch(&[id]).unwrap();
    assert!(used() > before);
    store.database.touch(&[id + 1]).unwrap();
}

#[test]
fn a_name_is_one_value() {
    let commit = image("a/b:1@x", "linux/amd64", &[]);
    assert_eq!(commit.name.to_string(), format!("r.test/a/b:1@{}", Digest::sha256("x")));
}
