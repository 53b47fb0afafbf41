//! Reading a database at rest, and the length of its log.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rusqlite::Connection;
use unlade_metadata::{Database, Error};

use crate::support::{Store, any_platform, blob, diff_id, image};

/// Set for the copy of this test binary that wants a database for itself.
const CHILD: &str = "UNLADE_METADATA_ALONE_CHILD";

/// A database that has one image, closed and without a log.
fn at_rest() -> tempfile::TempDir {
    let store = Store::new();
    store.add(&image("app:1", "linux/amd64", &["a"]));
    store.database.checkpoint().unwrap();
    store.directory
}

#[test]
fn a_database_without_a_log_is_read_alone() {
    let directory = at_rest();
    let path = directory.path().join("metadata.db");
    let database = Database::at_rest(&path).unwrap();
    assert!(database.is_read_only());
    assert!(database.find_image(&any_platform("app:1"), None).unwrap().is_some());
    assert!(matches!(database.touch(&[1]), Err(Error::ReadOnly { .. })));
    // Several at once, threads of one process included.
    assert!(
        Database::at_rest(&path)
            .unwrap()
            .find_image(&any_platform("app:1"), None)
            .unwrap()
            .is_some()
    );
}

#[test]
fn what_has_a_log_or_is_not_there_is_not_at_rest() {
    let directory = at_rest();
    let path = directory.path().join("metadata.db");
    assert!(Database::at_rest(directory.path().join("another.db")).is_none());
    let database = Database::open(&path).unwrap();
    assert!(Database::at_rest(&path).is_none(), "this process has it open");
    database.touch(&[1]).unwrap();
    drop(database);
    assert!(Database::at_rest(&path).is_none(), "there is a log");
    let database = Database::open(&path).unwrap();
    database.checkpoint().unwrap();
    drop(database);
    assert!(Database::at_rest(&path).is_some());
    fs::remove_file(directory.path().join("metadata.db-shm")).unwrap();
    assert!(Database::at_rest(&path).is_none(), "nothing keeps others out");
}

/// Others go on: what they record is in the log, and stays there for as long as somebody reads the file alone.
#[test]
fn others_write_meanwhile_and_leave_the_file_as_it_is() {
    let directory = at_rest();
    let path = directory.path().join("metadata.db");
    let database = Database::at_rest(&path).unwrap();
    let before = fs::read(&path).unwrap();
    let checkpoint = |other: &Connection, kind: &str| -> (i64, i64, i64) {
        other
            .query_row(&format!("PRAGMA wal_checkpoint({kind})"), [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap()
    };
    // Another connection without the settings of ours, as another program has it: it would empty the log as it closes.
    let other = Connection::open(&path).unwrap();
    other.busy_timeout(Duration::ZERO).unwrap();
    other.execute("UPDATE images SET last_used_at = 7", []).unwrap();
    let (_, pages, moved) = checkpoint(&other, "PASSIVE");
    assert!(pages > 0 && moved == 0, "{pages} {moved}");
    assert_eq!(checkpoint(&other, "TRUNCATE").0, 1, "somebody is in the way");
    drop(other);
    assert_eq!(fs::read(&path).unwrap(), before);
    let found = database.find_image(&any_platform("app:1"), None).unwrap().unwrap();
    assert_ne!(found.last_used_at, std::time::UNIX_EPOCH + Duration::from_millis(7));
    drop(database);

    let other = Connection::open(&path).unwrap();
    let (busy, pages, _) = checkpoint(&other, "TRUNCATE");
    assert_eq!((busy, pages), (0, 0));
    drop(other);
    assert_ne!(fs::read(&path).unwrap(), before);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the parent passes the path to its copy in the environment"
)]
fn child_that_wants_it_alone() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let other = Connection::open(path).unwrap();
    other.busy_timeout(Duration::ZERO).unwrap();
    let alone = other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE");
    let error = alone.unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
}

/// The locks of SQLite in this process outlive a reader of the file alone.
#[test]
fn a_database_that_is_opened_meanwhile_keeps_its_locks() {
    let directory = at_rest();
    let path = directory.path().join("metadata.db");
    let alone = Database::at_rest(&path).unwrap();
    let database = Database::open(&path).unwrap();
    database.touch(&[1]).unwrap();
    drop(alone);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "rest::child_that_wants_it_alone"])
        .env(CHILD, &path)
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"), "{child:?}");
    // And gives them back.
    database.checkpoint().unwrap();
    drop(database);
    assert!(Database::at_rest(&path).is_some());
}

#[test]
fn a_long_log_is_moved_beside_readers_and_writers() {
    let store = Store::new();
    store.add(&image("app:1", "linux/amd64", &["a"]));
    store.database.checkpoint().unwrap();
    let log = store.directory.path().join("metadata.db-wal");
    let length = || fs::metadata(&log).unwrap().len();
    let write = |round: usize| {
        let digest = diff_id(&round.to_string());
        store.database.record_blob(&blob(&digest, 1)).unwrap();
    };
    write(0);
    assert!(length() > 0 && !store.database.has_old_log(Duration::from_hours(1)));
    assert!(store.database.has_old_log(Duration::ZERO));
    let short = length();
    store.database.shorten_log().unwrap();
    // What is short stays: the next write goes behind it.
    write(1);
    assert!(length() > short);
    for round in 2..200 {
        write(round);
    }
    let long = length();
    assert!(long > 256 << 10, "{long}");
    store.database.shorten_log().unwrap();
    // It begins anew, in the same file.
    for round in 200..210 {
        write(round);
    }
    assert_eq!(length(), long);
}
