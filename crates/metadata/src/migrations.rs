//! The schema's history: SQL files in order, forward only, applied by `user_version`.
//!
//! The files are `migrations/NNNN_name.sql`; file number *n* takes a database from version *n − 1* to *n*. They are
//! compiled in. A file that has been released is never changed: databases with its effects are out there.
//!
//! Any number of processes may find an old database at the same moment. Each tries inside one immediate transaction,
//! and a hook in that transaction looks again at the version that the plan was made for, so that a migration is never
//! applied twice, not even one that could be.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use rusqlite_migration::{HookError, M, Migrations};

use crate::error::{Error, Result, is_busy};

/// What `application_id` says in a database of a store: `unld`.
pub(crate) const APPLICATION_ID: i64 = 0x756E_6C64;

/// The compiled-in migrations: file stem and SQL, in order.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// One step of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// The file's name without `.sql`, `NNNN_name`.
    pub name: String,
    /// Its SQL statements.
    pub sql: String,
}

/// Returns the migrations that this version of the crate knows, in order.
///
/// The first takes an empty database to version 1, and so on.
pub fn migrations() -> Vec<Migration> {
    FILES
        .iter()
        .map(|(name, sql)| Migration {
            name: (*name).to_owned(),
            sql: (*sql).to_owned(),
        })
        .collect()
}

/// Returns the newest schema version known here.
pub fn latest_version() -> i64 {
    i64::try_from(FILES.len()).unwrap_or(i64::MAX)
}

/// Brings the database from version `from` to the newest one, or does nothing if another process just did.
pub(crate) fn apply(connection: &mut Connection, path: &Path, from: i64) -> Result<()> {
    let steps: Vec<&str> = FILES.iter().map(|(_, sql)| *sql).collect();
    apply_steps(connection, path, from, &steps)
}

/// Like [`apply`], for any list of steps.
///
/// References are not enforced while a step runs: to rebuild a table it has to drop it, and with enforcement that would
/// delete what refers to it. They are checked after each step instead.
pub(crate) fn apply_steps(connection: &mut Connection, path: &Path, from: i64, steps: &[&str]) -> Result<()> {
    let enforce = |connection: &Connection, on: bool| {
        connection
            .pragma_update(None, "foreign_keys", on)
            .map_err(|error| Error::sqlite(path, "bring the schema forward", Duration::ZERO, error))
    };
    enforce(connection, false)?;
    connection.set_transaction_behavior(TransactionBehavior::Immediate);
    let outcome = apply_until_done(connection, path, from, steps);
    connection.set_transaction_behavior(TransactionBehavior::Deferred);
    enforce(connection, true)?;
    outcome
}

fn apply_until_done(connection: &mut Connection, path: &Path, from: i64, steps: &[&str]) -> Result<()> {
    let to = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    let mut from = from;
    loop {
        let outcome = plan(from, steps).to_latest(connection);
        let found = user_version(connection)
            .map_err(|error| Error::sqlite(path, "read the schema version", Duration::ZERO, error))?;
        match outcome {
            _ if found == to => return Ok(()),
            _ if found > to => {
                return Err(Error::Newer {
                    path: path.to_owned(),
                    found,
                    supported: to,
                });
            }
            Err(rusqlite_migration::Error::RusqliteError { err, .. }) if is_busy(&err) => {
                return Err(Error::sqlite(path, "bring the schema forward", Duration::ZERO, err));
            }
            // Another process got ahead of this plan and may not have reached the end.
            _ if found != from => from = found,
            Ok(()) => {}
            Err(source) => {
                return Err(Error::Migrate {
                    path: path.to_owned(),
                    from,
                    to,
                    source: Box::new(source),
                });
            }
        }
    }
}

/// Returns the steps with a guard each: the version is still `from`, so nobody else has applied any of them.
fn plan<'a>(from: i64, steps: &[&'a str]) -> Migrations<'a> {
    Migrations::new(
        steps
            .iter()
            .map(|sql| {
                M::up_with_hook(sql, move |transaction: &rusqlite::Transaction<'_>| {
                    if user_version(transaction)? == from {
                        Ok(())
                    } else {
                        Err(HookError::Hook("another process has migrated the database".to_owned()))
                    }
                })
                .foreign_key_check()
            })
            .collect(),
    )
}

/// Reads the schema version.
pub(crate) fn user_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_numbered_without_gap() {
        for (index, (name, _)) in FILES.iter().enumerate() {
            assert!(
                name.starts_with(&format!("{:04}_", index + 1)),
                "{name} is file number {}",
                index + 1
            );
        }
    }

    #[test]
    fn a_plan_for_an_outdated_version_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let mut connection = Connection::open(&path).unwrap();
        // Not idempotent and never failing: applied twice it would leave two rows.
        let steps = ["CREATE TABLE t (x)", "INSERT INTO t VALUES (1)"];
        apply_steps(&mut connection, &path, 0, &steps).unwrap();
        let late = plan(1, &steps).to_version(&mut connection, 2);
        assert!(late.is_ok(), "nothing to do at the newest version");

        connection.pragma_update(None, "user_version", 1).unwrap();
        let error = plan(0, &steps).to_latest(&mut connection).unwrap_err();
        assert!(matches!(error, rusqlite_migration::Error::Hook(_)), "{error:?}");
        let rows: i64 = connection
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, 1);
    }

    #[test]
    fn a_table_can_be_rebuilt_under_those_that_refer_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let mut connection = Connection::open(&path).unwrap();
        let first = "CREATE TABLE parent (x INTEGER PRIMARY KEY);
                     CREATE TABLE child (x REFERENCES parent (x) ON DELETE CASCADE);
                     INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1)";
        let rebuild = "CREATE TABLE new (x INTEGER PRIMARY KEY, y); INSERT INTO new SELECT x, 0 FROM parent;
                       DROP TABLE parent; ALTER TABLE new RENAME TO parent";
        apply_steps(&mut connection, &path, 0, &[first]).unwrap();
        apply_steps(&mut connection, &path, 1, &[first, rebuild]).unwrap();
        let rows: i64 = connection
            .query_row("SELECT count(*) FROM child", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, 1);
        let enforced: bool = connection
            .query_row("PRAGMA foreign_keys", [], |row| row.get(0))
            .unwrap();
        assert!(enforced);

        let dangling = "DELETE FROM parent";
        let error = apply_steps(&mut connection, &path, 2, &[first, rebuild, dangling]).unwrap_err();
        assert!(matches!(error, Error::Migrate { from: 2, .. }), "{error:?}");
        assert_eq!(user_version(&connection).unwrap(), 2);
    }

    #[test]
    fn a_failing_step_leaves_the_version_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let mut connection = Connection::open(&path).unwrap();
        let error = apply_steps(&mut connection, &path, 0, &["CREATE TABLE t (x)", "NONSENSE"]).unwrap_err();
        assert!(matches!(error, Error::Migrate { from: 0, to: 2, .. }), "{error:?}");
        assert_eq!(user_version(&connection).unwrap(), 0);
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .unwrap();
        assert_eq!(tables, 0);
    }
}
