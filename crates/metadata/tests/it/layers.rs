//! Layers, their blobs and their directories.

use std::fs;

use serde_json::json;
use unlade_metadata::{Database, ImageLayer, LayerCommit, LayerForm, LayerOwnership, LayerPlace};
use unlade_oci::{Digest, MediaType};

use crate::support::{BOOT, Store, any_platform, blob, diff_id, directory, image, key, layer_blob, layer_commit};

#[test]
fn layer_states_say_what_is_missing() {
    let store = Store::new();
    let commit = image("app:1", "linux/amd64", &["whole", "no directory", "no blob"]);
    let [whole, no_directory, no_blob] =
        [0, 1, 2].map(|position: usize| layer_commit(&commit.layers[position], &store.place()));
    store.database.record_layer(&whole).unwrap();
    store
        .database
        .record_layer(&LayerCommit {
            directory: None,
            ..no_directory.clone()
        })
        .unwrap();
    store
        .database
        .record_layer(&LayerCommit { blob: None, ..no_blob })
        .unwrap();
    let pairs: Vec<_> = ["whole", "no blob", "no directory", "unknown"]
        .map(|content| (layer_blob(content), diff_id(content)))
        .into();
    let states = store.database.layer_states(&pairs, Some(&store.place())).unwrap();
    let shape: Vec<_> = states
        .iter()
        .map(|state| (state.layer.is_some(), state.directory.is_some(), state.blob.is_some()))
        .collect();
    assert_eq!(
        shape,
        [
            (true, true, true),
            (true, true, false),
            (true, false, true),
            (false, false, false)
        ]
    );
    assert_eq!(states[0].layer, Some(whole.layer));
    let linked: Vec<_> = states.iter().map(|state| state.is_linked).collect();
    assert_eq!(linked, [true, true, true, false]);
    let swapped = [(layer_blob("whole"), diff_id("no blob"))];
    let swapped = store.database.layer_states(&swapped, None).unwrap();
    assert!(
        swapped[0].layer.is_some() && swapped[0].blob.is_some() && !swapped[0].is_linked,
        "both are known, but not that one holds the other"
    );
    assert_eq!(
        store.database.layers_of_blob(&layer_blob("whole")).unwrap(),
        [whole.source]
    );

    let id = states[0].directory.as_ref().unwrap().id;
    assert!(store.database.forget_layer_directory(id).unwrap());
    assert!(!store.database.forget_layer_directory(id).unwrap());
    assert_eq!(
        store
            .database
            .layer_directory(&diff_id("whole"), None, &store.place())
            .unwrap(),
        None
    );
    assert_eq!(
        store
            .database
            .forget_blobs(&[layer_blob("whole"), layer_blob("unknown")])
            .unwrap(),
        1
    );
    assert_eq!(store.database.blob(&layer_blob("whole")).unwrap(), None);
}

#[test]
fn a_layer_extracted_against_a_stack_has_a_directory_of_its_own() {
    let store = Store::new();
    let mut commit = image("app:1", "linux/amd64", &["base", "top"]);
    let chain_id = Digest::sha256("base + top");
    commit.layers[1].chain_id = Some(chain_id.clone());
    store.add(&commit);
    let found = || {
        store
            .database
            .find_image(&key("app:1", "linux/amd64"), Some(&store.place()))
            .unwrap()
            .unwrap()
    };
    assert!(
        !found().is_extracted(),
        "the directory of the layer alone does not count"
    );
    let mut stacked = directory(&diff_id("top"), &store.place());
    stacked.chain_id = Some(chain_id.clone());
    stacked.name = "stacked".to_owned();
    store.database.record_layer_directory(&stacked, &json!({})).unwrap();
    assert!(found().is_extracted());
    assert_eq!(
        found().layers[1].directory.as_ref().unwrap().path,
        store.place().root.join("stacked")
    );

    let unknowing = image("app:1", "linux/amd64", &["base", "top"]);
    store.database.commit_image(&unknowing).unwrap();
    assert_eq!(
        found().layers[1].layer.chain_id,
        Some(chain_id.clone()),
        "a later commit does not lose it"
    );
    let mut in_another_form = image("app:1", "linux/amd64", &["base", "top"]);
    in_another_form
        .layers
        .iter_mut()
        .for_each(|layer| layer.is_stacked = true);
    store.database.commit_image(&in_another_form).unwrap();
    assert_eq!(found().layers[1].layer.chain_id, Some(chain_id.clone()));
    assert!(found().layers[0].layer.is_stacked);
    let stack = [(diff_id("base"), diff_id("base")), (diff_id("top"), chain_id)];
    let of_stack = store.database.stack_layers(&stack, &store.place()).unwrap();
    assert_eq!([of_stack[0].is_needed, of_stack[1].is_needed], [false, true]);
}

#[test]
fn directories_below_the_store_move_with_it() {
    let outer = tempfile::tempdir().unwrap();
    let (before, after) = (outer.path().join("before"), outer.path().join("after"));
    fs::create_dir(&before).unwrap();
    let database = Database::open(before.join("metadata.db")).unwrap();
    let place = |root: &std::path::Path| LayerPlace {
        root: root.join("layers"),
        form: LayerForm::Oci,
        ownership: LayerOwnership::Preserve,
    };
    let layer = ImageLayer {
        blob: layer_blob("a"),
        diff_id: diff_id("a"),
        media_type: MediaType::OCI_LAYER,
        size: 1,
        chain_id: None,
        is_stacked: true,
    };
    database.record_layer(&layer_commit(&layer, &place(&before))).unwrap();
    database
        .record_layer_directory(&directory(&layer.diff_id, &place(outer.path())), &json!({}))
        .unwrap();
    drop(database);
    fs::rename(&before, &after).unwrap();
    let database = Database::open(after.join("metadata.db")).unwrap();
    let path = |root: &std::path::Path| {
        database
            .layer_directory(&layer.diff_id, None, &place(root))
            .unwrap()
            .map(|directory| directory.path)
    };
    let name = format!("sha256-{}.extracted", layer.diff_id.hex());
    assert_eq!(path(&after), Some(after.join("layers").join(&name)));
    assert_eq!(path(outer.path()), Some(outer.path().join("layers").join(&name)));
    assert_eq!(path(&before), None);
}

#[test]
fn what_is_flushed_is_marked_unless_written_again() {
    let store = Store::new();
    let commit = image("app:1", "linux/amd64", &["a", "b"]);
    store.add(&commit);
    assert!(store.database.unsynced("boot-0").unwrap().is_empty());
    let unsynced = store.database.unsynced(BOOT).unwrap();
    assert_eq!((unsynced.blobs.len(), unsynced.directories.len()), (4, 2));
    assert_eq!(unsynced.roots(), [store.place().root]);

    let mut rewritten = blob(&layer_blob("a"), 100);
    rewritten.durability.boot_id = "boot-2".to_owned();
    store.database.record_blob(&rewritten).unwrap();
    store.database.mark_synced(&unsynced).unwrap();
    assert!(store.database.unsynced(BOOT).unwrap().is_empty());
    assert_eq!(store.database.unsynced("boot-2").unwrap().blobs, [rewritten]);
    let found = store
        .database
        .find_image(&any_platform("app:1"), Some(&store.place()))
        .unwrap()
        .unwrap();
    assert!(
        found
            .layers
            .iter()
            .all(|layer| layer.directory.as_ref().unwrap().durability.is_trusted("boot-9"))
    );
    assert_eq!(
        store
            .database
            .blobs()
            .unwrap()
            .iter()
            .filter(|blob| blob.durability.synced)
            .count(),
        3
    );
}

#[test]
fn every_directory_has_the_summary_of_its_own_extraction() {
    let store = Store::new();
    let commit = image("app:1", "linux/amd64", &["a"]);
    let layer = &commit.layers[0];
    let squashed = LayerPlace {
        ownership: LayerOwnership::Squash,
        ..store.place()
    };
    let unused = LayerPlace {
        form: LayerForm::Oci,
        ..store.place()
    };
    for (place, name, summary) in [
        (store.place(), "one", json!({"n": 1})),
        (squashed.clone(), "two", json!({"n": 2})),
    ] {
        let mut commit = layer_commit(layer, &place);
        commit.layer.summary = summary;
        commit.directory.as_mut().unwrap().name = name.to_owned();
        store.database.record_layer(&commit).unwrap();
    }
    // Whoever only reads a layer learns less than who extracted it.
    let mut read = layer_commit(layer, &store.place());
    (read.layer.summary, read.directory) = (json!({"n": 3}), None);
    store.database.record_layer(&read).unwrap();
    store.database.commit_image(&commit).unwrap();

    let summaries = |place: &LayerPlace| store.database.layer_summaries(&commit.manifest.digest, place).unwrap();
    assert_eq!(summaries(&store.place()), [json!({"n": 1})]);
    assert_eq!(summaries(&squashed), [json!({"n": 2})]);
    assert_eq!(summaries(&unused), [json!({"n": 2})], "the last extraction's");
    let id = |place: &LayerPlace| {
        store
            .database
            .layer_directory(&layer.diff_id, None, place)
            .unwrap()
            .unwrap()
            .id
    };
    let in_stack = |place: &LayerPlace| {
        let layers = [
            (layer.diff_id.clone(), layer.diff_id.clone()),
            (diff_id("unknown"), diff_id("unknown")),
        ];
        store.database.stack_layers(&layers, place).unwrap()
    };
    let summaries_in_stack = |place: &LayerPlace| {
        in_stack(place)
            .into_iter()
            .map(|layer| layer.summary)
            .collect::<Vec<_>>()
    };
    assert_eq!(summaries_in_stack(&store.place()), [Some(json!({"n": 1})), None]);
    assert_eq!(summaries_in_stack(&unused), [None, None], "no directory was made there");
    assert!(
        in_stack(&unused)
            .iter()
            .all(|layer| !layer.has_no_entries && !layer.is_needed)
    );
    let mut empty = layer_commit(layer, &store.place());
    empty.layer.entries = 0;
    store.database.record_layer(&empty).unwrap();
    assert!(in_stack(&unused)[0].has_no_entries);
    let of_row = |id| store.database.directory_summary(id).unwrap();
    assert_eq!(of_row(id(&squashed)), Some(json!({"n": 2})));
    assert_eq!(of_row(1000), None);
}

#[test]
fn a_name_is_that_of_one_tree() {
    let store = Store::new();
    let commit = image("app:1", "linux/amd64", &["a"]);
    store.add(&commit);
    let recorded = LayerPlace {
        ownership: LayerOwnership::Record,
        ..store.place()
    };
    let record = directory(&diff_id("a"), &recorded);
    // The new tree has taken the place of the old one, so the old row names nothing any more.
    store.database.record_layer_directory(&record, &json!({})).unwrap();
    let rows = store.database.layer_directories().unwrap();
    assert_eq!(rows.iter().map(|(_, row)| row).collect::<Vec<_>>(), [&record]);
    let found = |place: &LayerPlace| {
        store
            .database
            .find_image(&any_platform("app:1"), Some(place))
            .unwrap()
            .unwrap()
    };
    assert!(!found(&store.place()).is_extracted() && found(&recorded).is_extracted());
}
