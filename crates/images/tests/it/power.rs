//! After a power loss: what was not flushed is not used before it was read again.

use std::fs;
use std::time::Duration;

use unlade_images::{Damage, DamageKind, Depth, DirectoryProblem, Durability, Settled, Store, StoreOptions};

use crate::support::{
    BOOT, Fixture, bring_in, bring_in_layer, image, layer, manifest_of, overwrite, platform, reference,
};

const LATER: &str = "the second boot";

fn is_complete(store: &Store, extracted: bool) -> bool {
    let lookup = store.look_up(&reference("app"), &platform(), extracted).unwrap();
    lookup.is_complete()
}

#[test]
fn what_was_not_flushed_is_not_trusted_under_another_boot() {
    let fixture = Fixture::new();
    let layer = layer("a");
    let image = image(std::slice::from_ref(&layer));
    bring_in(&fixture.store, "app", &image, true);
    assert!(is_complete(&fixture.store, true) && is_complete(&fixture.store, false));

    let later = fixture.under_boot(LATER);
    assert!(!is_complete(&later, true) && !is_complete(&later, false));
    let states = later
        .layer_states(&[(layer.digest.clone(), layer.diff_id.clone())])
        .unwrap();
    assert!(!states[0].directory && !states[0].blob && states[0].known);
    assert_eq!(
        later.inspect(&reference("app"), None).unwrap().image.layers[0].directory,
        None
    );

    // The directory lost a file's content, as a power loss does; it is made again from the blob.
    overwrite(&fixture.layer_directory(&layer).join("etc/name"), b"");
    let manifest = manifest_of(&image);
    let blob = &manifest.get().layers[0];
    assert!(bring_in_layer(&later, blob, &layer.diff_id, &[], true));
    assert_eq!(
        fs::read_to_string(fixture.layer_directory(&layer).join("etc/name")).unwrap(),
        "a"
    );
    assert!(is_complete(&later, true) && is_complete(&later, false));
    assert!(
        !bring_in_layer(&later, blob, &layer.diff_id, &[], true),
        "once is enough"
    );
}

#[test]
fn what_was_flushed_is_trusted_under_any_boot() {
    let fixture = Fixture::new();
    bring_in(&fixture.store, "app", &image(&[layer("a"), layer("b")]), true);
    assert_eq!(
        fixture.store.settle(Duration::from_hours(1)).unwrap(),
        Settled::default(),
        "nothing is old enough"
    );
    assert!(!is_complete(&fixture.under_boot(LATER), true));
    let settled = fixture.store.settle(Duration::ZERO).unwrap();
    assert_eq!((settled.blobs, settled.directories), (4, 2));
    let later = fixture.under_boot(LATER);
    assert!(is_complete(&later, true) && is_complete(&later, false));
    assert_eq!(fixture.store.settle(Duration::ZERO).unwrap(), Settled::default());
}

#[test]
fn what_nothing_can_be_held_against_is_not_taken_for_whole() {
    for damage in [true, false] {
        let fixture = Fixture::new();
        let layer = layer("a");
        bring_in(&fixture.store, "app", &image(std::slice::from_ref(&layer)), true);
        let blob = fixture.store.blobs().path(&layer.digest);
        if damage {
            overwrite(&blob, b"");
        } else {
            fs::remove_file(&blob).unwrap();
        }
        overwrite(&fixture.layer_directory(&layer).join("etc/name"), b"");
        let later = fixture.under_boot(LATER);
        let verification = later.verify(Depth::Deep).unwrap();
        let is_doubtful = |damage: &Damage| {
            matches!(
                damage.kind,
                DamageKind::Directory {
                    problem: DirectoryProblem::Doubtful,
                    ..
                }
            )
        };
        assert!(verification.damage.iter().any(is_doubtful), "{verification:?}");
        assert!(!is_complete(&later, true));
    }
}

#[test]
fn a_later_boot_does_not_flush_what_it_cannot_know() {
    let fixture = Fixture::new();
    bring_in(&fixture.store, "app", &image(&[layer("a")]), true);
    let later = fixture.under_boot(LATER);
    assert_eq!(later.settle(Duration::ZERO).unwrap(), Settled::default());
    assert!(!is_complete(&later, true));
}

#[test]
fn a_store_that_waits_for_the_disk_needs_no_settling() {
    let fixture = Fixture::new();
    let options = StoreOptions {
        durability: Durability::Sync,
        ..StoreOptions::at(fixture.store.root())
    };
    let store = Store::open_under_boot(&options, BOOT.to_owned()).unwrap();
    bring_in(&store, "app", &image(&[layer("a")]), true);
    assert_eq!(store.settle(Duration::ZERO).unwrap(), Settled::default());
    assert!(is_complete(&fixture.under_boot(LATER), true));
}

#[test]
fn a_use_is_noted_now_and_then() {
    let fixture = Fixture::new();
    let image = bring_in(&fixture.store, "app", &image(&[layer("a")]), true);
    let last_used = || fixture.store.images().unwrap()[0].last_used_at;
    let at_first = last_used();
    std::thread::sleep(Duration::from_millis(5));
    fixture.store.touch(std::slice::from_ref(&image)).unwrap();
    assert_eq!(last_used(), at_first);
    let mut old = image;
    old.last_used_at = at_first - Duration::from_mins(6);
    fixture.store.touch(&[old]).unwrap();
    assert!(last_used() > at_first);
}

#[test]
fn an_index_that_was_lost_is_made_from_the_database() {
    let fixture = Fixture::new();
    bring_in(&fixture.store, "app", &image(&[layer("a")]), true);
    let path = fixture.store.root().join("index.json");
    let before = fs::read(&path).unwrap();
    for lost in [true, false] {
        overwrite(&path, b"");
        if lost {
            fs::remove_file(&path).unwrap();
        }
        fixture.under_boot(LATER);
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

/// Whoever dies between the database and the index leaves word of it, and the next one writes the index.
#[test]
fn an_index_that_a_dead_process_has_not_come_to_is_written() {
    let fixture = Fixture::new();
    bring_in(&fixture.store, "app", &image(&[layer("a")]), true);
    let root = fixture.store.root();
    let (index, word) = (root.join("index.json"), root.join("locks/index"));
    let current = fs::read(&index).unwrap();
    assert_eq!(fs::read(&word).unwrap(), b"0");
    let verify = || fixture.store.verify(Depth::Quick).unwrap().damage.len();
    let earlier = br#"{"schemaVersion":2,"manifests":[]}"#;

    overwrite(&index, earlier);
    assert_eq!(verify(), 1, "nobody has said that there is something to do");

    let finished_by = |what: &str, act: &dyn Fn()| {
        overwrite(&index, earlier);
        fs::write(&word, "1").unwrap();
        act();
        assert_eq!(fs::read(&index).unwrap(), current, "{what}");
        assert_eq!(fs::read(&word).unwrap(), b"0", "{what}");
    };
    finished_by("a verification", &|| assert_eq!(verify(), 0));
    finished_by("a sweep", &|| assert_eq!(fixture.store.sweep().unwrap(), 0));
    finished_by("a removal of what is not there", &|| {
        drop(fixture.store.remove(&reference("unknown"), None).unwrap_err());
    });
}

#[test]
fn an_index_that_cannot_be_written_is_written_later() {
    let fixture = Fixture::new();
    let image = image(&[layer("a")]);
    bring_in(&fixture.store, "app", &image, true);
    let root = fixture.store.root();
    // Where the new index is made before it takes the place of the old one.
    let (ingest, away) = (root.join("ingest"), root.join("away"));
    fs::rename(&ingest, &away).unwrap();
    fixture.store.remove(&reference("app"), None).unwrap_err();
    assert_eq!(fs::read(root.join("locks/index")).unwrap(), b"1");
    fs::rename(&away, &ingest).unwrap();
    fixture.store.sweep().unwrap();
    assert!(
        !fs::read_to_string(root.join("index.json"))
            .unwrap()
            .contains("library/app")
    );
    let damage = fixture.store.verify(Depth::Quick).unwrap().damage;
    assert!(damage.is_empty(), "{damage:?}");

    fixture.store.remove(&reference("app"), None).unwrap_err();
    assert_eq!(
        fs::read(root.join("locks/index")).unwrap(),
        b"0",
        "there was nothing to remove"
    );
}
