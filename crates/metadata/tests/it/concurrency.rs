//! Many threads and many processes on one database: nobody is told that it is locked.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use unlade_metadata::Database;

use crate::support::{Store, any_platform, blob, diff_id, image, layer_commit};

/// Set for the copies of this test binary that write.
const CHILD: &str = "UNLADE_METADATA_WRITING_CHILD";

/// Opens, writes and reads `rounds` times, each time with a connection of its own.
fn work(path: &Path, who: u32, rounds: u32) {
    for round in 0..rounds {
        let database = Database::open(path).unwrap();
        let content = format!("{who} {round}");
        database
            .record_blob(&blob(&diff_id(&content), u64::from(round)))
            .unwrap();
        let commit = image(&format!("app{who}:1"), "linux/amd64", &["base", &content]);
        let place = unlade_metadata::LayerPlace {
            root: "/layers".into(),
            form: unlade_metadata::LayerForm::Overlay,
            ownership: unlade_metadata::LayerOwnership::Preserve,
        };
        for layer in &commit.layers {
            database.record_layer(&layer_commit(layer, &place)).unwrap();
        }
        let committed = database.commit_image(&commit).unwrap();
        let found = database
            .find_image(&any_platform(&format!("app{who}:1")), Some(&place))
            .unwrap()
            .unwrap();
        assert_eq!((found.id, found.layers.len()), (committed.id, 2));
        database.touch(&[found.id]).unwrap();
    }
}

#[test]
fn threads_with_databases_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metadata.db");
    std::thread::scope(|scope| {
        for who in 0..16 {
            let path = &path;
            scope.spawn(move || work(path, who, 8));
        }
    });
    let database = Database::open(&path).unwrap();
    assert_eq!(database.images().unwrap().len(), 16);
    assert!(database.check().unwrap().is_empty());
}

#[test]
fn threads_that_share_one() {
    let store = Store::new();
    store.add(&image("app:1", "linux/amd64", &["a"]));
    std::thread::scope(|scope| {
        for who in 0..24_u64 {
            let database = store.database.clone();
            scope.spawn(move || {
                for round in 0..40 {
                    database
                        .record_blob(&blob(&diff_id(&format!("{who} {round}")), who))
                        .unwrap();
                    assert!(database.find_image(&any_platform("app:1"), None).unwrap().is_some());
                }
            });
        }
    });
    assert_eq!(store.database.blobs().unwrap().len(), 24 * 40 + 3);
}

#[test]
fn a_read_does_not_wait_for_a_write_of_its_own_process() {
    let store = Store::new();
    store.add(&image("app:1", "linux/amd64", &["a"]));
    // Another process holds the write lock, so the writing thread waits with the first connection in hand.
    let mut other = rusqlite::Connection::open(store.path()).unwrap();
    let transaction = other
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| store.database.record_blob(&blob(&diff_id("x"), 1)));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!writer.is_finished());
        assert!(
            store
                .database
                .find_image(&any_platform("app:1"), None)
                .unwrap()
                .is_some()
        );
        assert!(!writer.is_finished());
        transaction.commit().unwrap();
        writer.join().unwrap().unwrap();
    });
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the parent passes the path to its copy in the environment"
)]
fn child_that_writes() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    work(Path::new(&path), std::process::id(), 6);
}

#[test]
fn processes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metadata.db");
    let children: Vec<Child> = (0..64)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "concurrency::child_that_writes", "--nocapture"])
                .env(CHILD, &path)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
    let database = Database::open(&path).unwrap();
    assert_eq!(database.images().unwrap().len(), 64);
    assert!(database.check().unwrap().is_empty());
}
