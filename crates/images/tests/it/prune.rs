//! What a prune takes and what it leaves.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use unlade_images::{Claim, Depth, Needed, PruneOptions, Pruned, Store};
use unlade_oci::Digest;

use crate::support::{Fixture, bring_in, image, layer, manifest_of, platform, reference};

fn names(pruned: &Pruned) -> Vec<String> {
    pruned.names.iter().map(|(name, _)| name.to_string()).collect()
}

fn is_complete(store: &Store, name: &str) -> bool {
    store
        .look_up(&reference(name), &platform(), true)
        .unwrap()
        .is_complete()
}

fn entries(directory: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(name).collect();
    names.sort();
    names
}

/// Fails unless nothing but the store's own files is left.
fn assert_empty(store: &Store) {
    for directory in ["blobs/sha256", "layers", "ingest", "staging"] {
        assert_eq!(entries(&store.root().join(directory)), [""; 0], "{directory}");
    }
    let locks = entries(&store.root().join("locks"));
    assert!(locks.iter().all(|lock| !lock.starts_with("layer-")), "{locks:?}");
}

const ALL: PruneOptions = PruneOptions {
    all: true,
    max_age: None,
    max_size: None,
    blobs: false,
    dry_run: false,
};

#[test]
fn what_a_name_has_moved_away_from_goes_and_the_rest_stays() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    bring_in(store, "app", &image(&[layer("base"), layer("old")]), true);
    bring_in(store, "app", &image(&[layer("base"), layer("new")]), true);
    let tried = store
        .prune(&PruneOptions {
            dry_run: true,
            ..PruneOptions::default()
        })
        .unwrap();
    assert_eq!(store.verify(Depth::Quick).unwrap().directories, 3, "it was only tried");
    let pruned = store.prune(&PruneOptions::default()).unwrap();
    assert_eq!(pruned.directories, [fixture.layer_directory(&layer("old"))]);
    assert_eq!(pruned.blobs.len(), 3, "a layer, a manifest, a configuration");
    assert!(names(&pruned).is_empty() && pruned.bytes > 0);
    assert_eq!(tried, pruned);
    assert!(is_complete(store, "app"));
    assert!(store.verify(Depth::Deep).unwrap().damage.is_empty());
    assert_eq!(store.prune(&PruneOptions::default()).unwrap(), Pruned::default());
}

#[test]
fn all_leaves_nothing_whatever_lies_about() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    bring_in(store, "app", &image(&[layer("a"), layer("b")]), true);
    let stray = Digest::sha256("stray").hex().to_owned();
    let root = store.root();
    fs::write(root.join("blobs/sha256").join(&stray), "x").unwrap();
    fs::create_dir_all(root.join("layers").join(format!("sha256-{stray}.extracted/etc"))).unwrap();
    fs::create_dir_all(root.join("layers").join(format!("sha256-{stray}.oci.extracted/etc"))).unwrap();
    fs::write(root.join("ingest").join(format!("sha256-{stray}")), "x").unwrap();
    fs::create_dir_all(root.join("staging/4711-0/tree/etc")).unwrap();
    fs::write(root.join("locks").join(format!("layer-sha256-{stray}")), "").unwrap();
    let pruned = store.prune(&ALL).unwrap();
    assert_eq!(names(&pruned), ["docker.io/library/app:latest"]);
    assert_eq!(
        (pruned.directories.len(), pruned.blobs.len(), pruned.partial.len()),
        (4, 5, 1)
    );
    assert_empty(store);
    assert!(store.images().unwrap().is_empty());
}

#[test]
fn a_download_that_was_cut_off_lately_is_kept_to_be_continued() {
    let fixture = Fixture::new();
    let path = fixture
        .store
        .root()
        .join("ingest")
        .join(format!("sha256-{}", Digest::sha256("x").hex()));
    fs::write(&path, "part").unwrap();
    assert!(
        fixture
            .store
            .prune(&PruneOptions::default())
            .unwrap()
            .partial
            .is_empty()
    );
    let old = std::time::SystemTime::now() - Duration::from_hours(25);
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(old)
        .unwrap();
    assert_eq!(fixture.store.prune(&PruneOptions::default()).unwrap().partial.len(), 1);
    assert!(!path.exists());
}

#[test]
fn what_is_leased_stays_until_the_lease_ends() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let (a, b) = (layer("a"), layer("b"));
    bring_in(store, "app", &image(&[a.clone(), b.clone()]), true);
    let lease = store
        .lease(&Needed {
            blobs: BTreeSet::from([a.digest.clone()]),
            diff_ids: BTreeSet::from([a.diff_id.clone()]),
        })
        .unwrap();
    let pruned = store.prune(&ALL).unwrap();
    assert_eq!(names(&pruned).len(), 1);
    assert_eq!(pruned.directories, [fixture.layer_directory(&b)]);
    assert!(fixture.layer_directory(&a).join("etc/name").is_file());
    assert!(store.blobs().contains(&a.digest).unwrap());
    drop(lease);
    store.prune(&PruneOptions::default()).unwrap();
    assert_empty(store);
}

#[test]
fn images_go_by_age_and_by_size_those_first_that_are_used_least() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    for name in ["a", "b", "c"] {
        bring_in(store, name, &image(&[layer("shared"), layer(name)]), true);
        std::thread::sleep(Duration::from_millis(5));
    }
    let usage = store.usage().unwrap();
    assert!(
        usage.images.iter().all(|image| image.own > 0 && image.shared > 0),
        "{usage:?}"
    );
    let pruned = |options| names(&store.prune(&options).unwrap());
    let content = usage.blobs + usage.directories;
    let by_size = |max_size, dry_run| PruneOptions {
        max_size: Some(max_size),
        dry_run,
        ..PruneOptions::default()
    };
    assert_eq!(pruned(by_size(content, true)), [""; 0]);
    assert_eq!(pruned(by_size(content - 1, true)), ["docker.io/library/a:latest"]);
    let two = usage.images[0].own + 1;
    assert_eq!(
        pruned(by_size(content - two, true)),
        ["docker.io/library/a:latest", "docker.io/library/b:latest"]
    );
    assert_eq!(pruned(by_size(content - 1, false)), ["docker.io/library/a:latest"]);
    assert!(!is_complete(store, "a") && is_complete(store, "b") && is_complete(store, "c"));
    let by_age = |age| PruneOptions {
        max_age: Some(age),
        ..PruneOptions::default()
    };
    assert_eq!(pruned(by_age(Duration::from_hours(1))), [""; 0]);
    assert_eq!(pruned(by_age(Duration::ZERO)).len(), 2);
    assert_empty(store);
}

#[test]
fn blobs_go_where_the_layers_are_extracted() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let (a, b) = (layer("a"), layer("b"));
    let app = image(std::slice::from_ref(&a));
    bring_in(store, "app", &app, true);
    bring_in(store, "blobs", &image(std::slice::from_ref(&b)), false);
    let options = PruneOptions {
        blobs: true,
        ..PruneOptions::default()
    };
    assert_eq!(store.prune(&options).unwrap().blobs, std::slice::from_ref(&a.digest));
    assert!(is_complete(store, "app") && store.blobs().contains(&b.digest).unwrap());
    let verification = store.verify(Depth::Deep).unwrap();
    assert!(verification.damage.is_empty(), "{:?}", verification.damage);
    assert_eq!(verification.not_compared, 1);
    // There is nothing to do for that layer, unless its blob is wanted.
    let manifest = manifest_of(&app);
    let blob = &manifest.get().layers[0];
    assert!(matches!(store.claim(blob, &a.diff_id, true).unwrap(), Claim::Present));
    assert!(matches!(store.claim(blob, &a.diff_id, false).unwrap(), Claim::Work(..)));
    assert_eq!(store.prune(&options).unwrap(), Pruned::default());
}

#[test]
fn usage_adds_up() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let shared = layer("shared");
    bring_in(store, "a", &image(&[shared.clone(), layer("a")]), true);
    bring_in(store, "b", &image(&[shared]), true);
    let before = store.usage().unwrap();
    let [a, b] = &before.images[..] else {
        panic!("two images: {before:?}")
    };
    assert_eq!(a.shared, b.shared);
    assert_eq!(a.own + b.own + a.shared, before.blobs + before.directories);
    assert_eq!(
        before.total,
        before.blobs + before.directories + before.partial + before.other
    );
    let freed = store.remove(&reference("a"), None).unwrap().bytes;
    assert_eq!(freed, a.own);
    let after = store.usage().unwrap();
    assert_eq!(
        before.blobs + before.directories - freed,
        after.blobs + after.directories
    );
}
