//! The schema's history, as far as the crate itself can tell; `xtask migrations check` tells the rest.

use std::fs;
use std::path::Path;

use unlade_metadata::schema::Scratch;
use unlade_metadata::{Database, latest_version, migrations};

#[test]
fn applied_twice_nothing_happens() {
    let mut scratch = Scratch::empty().unwrap();
    scratch.migrate(&migrations()).unwrap();
    let dump = scratch.dump().unwrap();
    scratch.migrate(&migrations()).unwrap();
    assert_eq!(scratch.dump().unwrap(), dump);
    assert_eq!(scratch.version().unwrap(), latest_version());
}

#[test]
fn a_store_of_every_earlier_version_opens_and_is_whole() {
    let snapshots = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/snapshots");
    for version in 1..=latest_version() {
        let dump = fs::read_to_string(snapshots.join(format!("{version:04}.sql"))).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metadata.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = OFF;")
            .unwrap();
        connection.execute_batch(&dump).unwrap();
        drop(connection);
        let database = Database::open(&path).unwrap();
        assert!(database.check().unwrap().is_empty(), "version {version}");
        let images = database.images().unwrap();
        assert!(!images.is_empty());
        for image in images {
            let key = unlade_metadata::ImageKey {
                name: image.name,
                platform: Some(image.platform),
            };
            let inspection = database.inspect(&key).unwrap().unwrap();
            assert_eq!(inspection.layers.len(), inspection.config.diff_ids.len());
            assert!(database.remove_image(&key).unwrap().is_some());
        }
        assert!(
            database.leases().unwrap().len() + database.blobs().unwrap().len() > 0,
            "rows that no image needs stay"
        );
    }
}
