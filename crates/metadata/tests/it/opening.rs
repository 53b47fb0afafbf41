//! What is opened, what is refused, and what opening leaves behind.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use unlade_metadata::{Database, Error, latest_version};
use unlade_oci::ErrorClass;

use crate::support::{Store, any_platform, image};

/// Set for the copy of this test binary that reads as another user.
const CHILD: &str = "UNLADE_METADATA_READING_CHILD";

fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

#[test]
fn made_once_and_only_read_when_opened_again() {
    let store = Store::new();
    store.add(&image("app:1", "linux/amd64", &["a"]));
    let directory = store.directory;
    drop(store.database);
    let content = || {
        let mut content = files(directory.path());
        content.retain(|(name, _)| !name.ends_with("-shm"));
        content
    };
    let before = content();
    let modified = || {
        fs::metadata(directory.path().join("metadata.db"))
            .unwrap()
            .modified()
            .unwrap()
    };
    let time = modified();
    let database = Database::open(directory.path().join("metadata.db")).unwrap();
    assert!(!database.is_read_only());
    assert!(database.find_image(&any_platform("app:1"), None).unwrap().is_some());
    drop(database);
    assert_eq!(content(), before);
    assert_eq!(modified(), time);
}

#[test]
fn the_log_stays_until_there_is_time_for_it() {
    let store = Store::new();
    store.add(&image("app:1", "linux/amd64", &["a"]));
    let (directory, path) = (store.directory, store.database.path().to_owned());
    let length = |name: &str| fs::metadata(directory.path().join(name)).unwrap().len();
    drop(store.database);
    let (file, log) = (length("metadata.db"), length("metadata.db-wal"));
    assert!(log > file, "{log} bytes of log, {file} of database");

    // Beside somebody who reads it nothing is waited for, and nothing is lost.
    let database = Database::open(&path).unwrap();
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM images").unwrap();
    database.touch(&[1]).unwrap();
    database.checkpoint().unwrap();
    drop(reader);
    database.checkpoint().unwrap();
    assert_eq!(length("metadata.db-wal"), 0);
    assert!(length("metadata.db") > file);
    drop(database);
    assert_eq!(Database::open(&path).unwrap().images().unwrap().len(), 1);
}

#[test]
fn a_newer_database_is_refused_and_left_as_it_is() {
    let store = Store::new();
    let directory = store.directory;
    drop(store.database);
    let path = directory.path().join("metadata.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .pragma_update(None, "user_version", latest_version() + 1)
        .unwrap();
    connection.execute_batch("CREATE TABLE of_the_future (x)").unwrap();
    drop(connection);
    let before = files(directory.path());
    for open in [Database::open, Database::open_read_only] {
        let error = open(&path).unwrap_err();
        assert!(error.is_newer(), "{error:?}");
        assert_eq!(error.class(), ErrorClass::Store);
        let text = error.to_string();
        assert!(
            text.contains(&format!("schema version {}", latest_version() + 1)) && text.contains("metadata.db"),
            "{text}"
        );
        let after: Vec<_> = files(directory.path())
            .into_iter()
            .filter(|(_, content)| !content.is_empty())
            .collect();
        assert_eq!(
            after
                .iter()
                .filter(|(name, _)| !name.ends_with("-shm"))
                .collect::<Vec<_>>(),
            before.iter().collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_newer_database_with_a_log_keeps_both() {
    let store = Store::new();
    let path = store.path();
    drop(store.database);
    // A copy of a database in use is what a killed process leaves: content in the log, none of it in the file.
    let connection = Connection::open(&path).unwrap();
    connection
        .pragma_update(None, "user_version", latest_version() + 1)
        .unwrap();
    let copy = tempfile::tempdir().unwrap();
    for (name, content) in files(store.directory.path()) {
        fs::write(copy.path().join(name), content).unwrap();
    }
    drop(connection);
    let contents = || {
        let files = files(copy.path()).into_iter();
        files.filter(|(name, _)| !name.ends_with("-shm")).collect::<Vec<_>>()
    };
    let before = contents();
    assert_eq!(before.len(), 2);
    assert!(Database::open(copy.path().join("metadata.db")).unwrap_err().is_newer());
    assert_eq!(contents(), before);
}

#[test]
fn what_is_no_database_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metadata.db");
    fs::write(
        &path,
        "certainly not a database, whatever its name says, and long enough for a header".repeat(20),
    )
    .unwrap();
    let before = files(directory.path());
    for open in [Database::open, Database::open_read_only] {
        let error = open(&path).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        assert_eq!(error.class(), ErrorClass::Store);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(files(directory.path()), before);
    }
}

#[test]
fn a_database_of_another_program_is_refused_and_left_as_it_is() {
    for sql in [
        "CREATE TABLE theirs (x)",
        "CREATE TABLE theirs (x); PRAGMA user_version = 1",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metadata.db");
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let before = files(directory.path());
        let error = Database::open(&path).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
        assert_eq!(error.class(), ErrorClass::Store);
        assert_eq!(files(directory.path()), before);
    }
}

#[test]
fn damage_inside_is_found_and_has_its_class() {
    let store = Store::new();
    for number in 0..50 {
        store.add(&image(&format!("app{number}:1"), "linux/amd64", &["a", "b"]));
    }
    let path = store.path();
    store.database.checkpoint().unwrap();
    drop(store.database);
    let mut content = fs::read(&path).unwrap();
    for page in content.chunks_mut(4096).skip(1) {
        page.fill(0xa5);
    }
    fs::write(&path, content).unwrap();
    let outcome = Database::open(&path).and_then(|database| database.images());
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    assert_eq!(error.class(), ErrorClass::Store);
}

#[test]
fn a_value_that_breaks_the_schema_is_named() {
    let store = Store::new();
    store.add(&image("app:1", "linux/amd64", &["a"]));
    let connection = Connection::open(store.path()).unwrap();
    connection
        .execute_batch("PRAGMA foreign_keys = OFF; UPDATE manifest_layers SET blob_digest = 'sha256:zz'")
        .unwrap();
    let error = store.database.find_image(&any_platform("app:1"), None).unwrap_err();
    assert!(
        matches!(&error, Error::BadValue { value, .. } if value == "sha256:zz"),
        "{error:?}"
    );
    assert_eq!(error.class(), ErrorClass::Store);
}

#[test]
fn check_finds_a_reference_to_nothing() {
    let store = Store::new();
    store.add(&image("app:1", "linux/amd64", &["a"]));
    assert!(store.database.check().unwrap().is_empty());
    let connection = Connection::open(store.path()).unwrap();
    connection
        .execute_batch("PRAGMA foreign_keys = OFF; DELETE FROM manifests")
        .unwrap();
    let faults = store.database.check().unwrap();
    assert!(
        faults
            .iter()
            .any(|fault| fault == "a row of images refers to a row of manifests that is not there"),
        "{faults:?}"
    );
}

#[test]
fn nothing_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metadata.db");
    let error = Database::open_read_only(&path).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error:?}");
    assert!(!path.exists());
    let error = Database::open(directory.path().join("no/such/directory/metadata.db")).unwrap_err();
    assert!(matches!(error, Error::Open { .. }), "{error:?}");
    assert_eq!(error.class(), ErrorClass::Storage);
    // An empty file is what a process leaves that is killed as it makes the database.
    fs::write(&path, "").unwrap();
    assert!(Database::open(&path).unwrap().images().unwrap().is_empty());
}

#[test]
fn opened_read_only_it_refuses_to_write() {
    let store = Store::new();
    store.add(&image("app:1", "linux/amd64", &["a"]));
    let database = Database::open_read_only(store.path()).unwrap();
    assert!(database.is_read_only());
    assert_eq!(database.images().unwrap().len(), 1);
    let error = database.remove_image(&any_platform("app:1")).unwrap_err();
    assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
    assert_eq!(error.class(), ErrorClass::Storage);
    // It sees what others write.
    store.add(&image("app:2", "linux/amd64", &["a"]));
    assert_eq!(database.images().unwrap().len(), 2);
}

#[test]
fn a_path_with_odd_characters() {
    let directory = tempfile::tempdir().unwrap();
    let odd = directory.path().join("a?b#c%41 d");
    fs::create_dir(&odd).unwrap();
    drop(Database::open(odd.join("metadata.db")).unwrap());
    assert!(Database::open_read_only(odd.join("metadata.db")).is_ok());
    assert!(files(&odd).iter().all(|(name, _)| name.starts_with("metadata.db")));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the parent passes the path to its copy in the environment"
)]
fn child_that_reads() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    for open in [Database::open, Database::open_read_only] {
        let database = open(Path::new(&path)).unwrap();
        assert!(database.is_read_only());
        assert_eq!(database.images().unwrap().len(), 1);
        // More readers than one, so that the pool opens the file the same way.
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        assert_eq!(database.images().unwrap().len(), 1);
                    }
                });
            }
        });
        let error = database.touch(&[1]).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Storage, "{error:?}");
    }
}

#[test]
fn a_directory_that_cannot_be_written_can_be_read() {
    let store = Store::new();
    store.add(&image("app:1", "linux/amd64", &["a"]));
    let directory = store.directory;
    drop(store.database);
    let path = directory.path().join("metadata.db");
    let before: Vec<String> = files(directory.path()).into_iter().map(|(name, _)| name).collect();
    for name in &before {
        fs::set_permissions(directory.path().join(name), fs::Permissions::from_mode(0o444)).unwrap();
    }
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let program = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    // Root may write everywhere, so as root this is run by somebody else, who must reach the program and the file.
    if is_root() {
        let copy = program.path().join("it");
        fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        fs::set_permissions(program.path(), fs::Permissions::from_mode(0o755)).unwrap();
        command = Command::new(copy);
        command.uid(65534).gid(65534);
    }
    let output = command
        .args(["--exact", "opening::child_that_reads", "--nocapture"])
        .env(CHILD, &path)
        .current_dir("/")
        .output()
        .unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    let after: Vec<String> = files(directory.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(after, before);
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").unwrap().uid() == 0
}
