//! The schema's history on disk: migration files, their checksums, snapshots of every version, the schema they give.
//!
//! Below the crate's directory:
//!
//! ```text
//! schema.sql                     what all migrations give
//! migrations/NNNN_name.sql       from version NNNN - 1 to NNNN
//! migrations/checksums.txt       one line for each sealed file, in order
//! migrations/samples/NNNN.sql    rows to add to the snapshot of version NNNN (optional)
//! migrations/snapshots/NNNN.sql  a database of version NNNN with rows, as a dump
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use unlade_metadata::Migration;
use unlade_metadata::schema::Scratch;
use unlade_oci::Digest;

/// The longest name of a migration.
const LONGEST_NAME: usize = 60;

/// Stands on top of a file that this program writes.
const WRITTEN: &str = "-- Written by `cargo xtask migrations check --write`. Do not edit.\n\n";

/// One thing that is wrong with the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault(String);

impl Fault {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The history, as it was read.
#[derive(Debug)]
pub(crate) struct History {
    directory: PathBuf,
    steps: Vec<Migration>,
    sealed: Vec<(String, Digest)>,
    schema: Option<String>,
}

/// Makes the file of the next migration in the crate at `directory`; returns its path.
pub(crate) fn add(directory: &Path, name: &str) -> Result<PathBuf> {
    ensure!(
        name.len() <= LONGEST_NAME
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name
                .chars()
                .all(|character| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_'),
        "{name:?} is no name for a migration: lower-case words joined by underscores, at most {LONGEST_NAME} characters"
    );
    let history = History::read(directory)?;
    let taken = history
        .steps
        .iter()
        .find(|step| step.name.split_once('_').is_some_and(|(_, other)| other == name));
    if let Some(step) = taken {
        bail!("there is a migration of that name: {}", step.name);
    }
    let path = history
        .migrations()
        .join(format!("{:04}_{name}.sql", history.steps.len() + 1));
    let text = "-- What this changes, and why.\n";
    fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
    Ok(path)
}

impl History {
    /// Reads the history of the crate at `directory`.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let mut history = Self {
            directory: directory.to_owned(),
            steps: Vec::new(),
            sealed: Vec::new(),
            schema: None,
        };
        let migrations = history.migrations();
        let entries = fs::read_dir(&migrations).with_context(|| format!("could not list {}", migrations.display()))?;
        for entry in entries {
            let path = entry
                .with_context(|| format!("could not list {}", migrations.display()))?
                .path();
            let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            if let Some(name) = name.filter(|_| path.extension().is_some_and(|extension| extension == "sql")) {
                history.steps.push(Migration {
                    name,
                    sql: read(&path)?,
                });
            }
        }
        history.steps.sort_by(|left, right| left.name.cmp(&right.name));
        for (index, step) in history.steps.iter().enumerate() {
            let number = format!("{:04}_", index + 1);
            ensure!(
                step.name.starts_with(&number),
                "the migrations have a gap: {}.sql is number {} in order",
                step.name,
                index + 1
            );
        }
        let checksums = history.checksums();
        if checksums.exists() {
            for line in read(&checksums)?.lines() {
                let (digest, name) = line
                    .split_once("  ")
                    .with_context(|| format!("{}: {line:?} is not a checksum and a name", checksums.display()))?;
                let digest = digest
                    .parse()
                    .with_context(|| format!("{}: {line:?}", checksums.display()))?;
                history.sealed.push((name.to_owned(), digest));
            }
        }
        if history.schema_path().exists() {
            history.schema = Some(read(&history.schema_path())?);
        }
        Ok(history)
    }

    /// Returns the migrations in order.
    pub(crate) fn steps(&self) -> &[Migration] {
        &self.steps
    }

    /// Returns whether the migration is sealed.
    pub(crate) fn is_sealed(&self, name: &str) -> bool {
        self.sealed.iter().any(|(sealed, _)| sealed == name)
    }

    /// Returns the version of the committed schema.
    pub(crate) fn committed_version(&self) -> Option<i64> {
        let text = self.schema.as_deref()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("PRAGMA user_version = "))?;
        line.strip_suffix(';')?.parse().ok()
    }

    /// Returns everything that is wrong.
    pub(crate) fn check(&self) -> Vec<Fault> {
        let mut faults = self.broken_seals();
        for step in &self.steps {
            if !self.is_sealed(&step.name) {
                faults.push(Fault::new(format!("{}.sql is not sealed yet", step.name)));
            }
        }
        match self.target() {
            Err(error) => faults.push(Fault::new(format!(
                "the migrations do not apply to an empty file: {error:#}"
            ))),
            Ok(target) => {
                if self.schema.as_ref() != Some(&format!("{WRITTEN}{target}")) {
                    faults.push(Fault::new("schema.sql is not what the migrations give"));
                }
                for version in 1..=self.steps.len() {
                    faults.extend(self.check_snapshot(version, &target));
                }
            }
        }
        faults
    }

    /// Seals new migrations: writes what `check` will look for. What is sealed already is not touched.
    ///
    /// Returns the files written.
    pub(crate) fn seal(&self) -> Result<Vec<PathBuf>> {
        if let Some(fault) = self.broken_seals().first() {
            bail!("{fault}");
        }
        let mut written = Vec::new();
        let mut put = |path: PathBuf, text: &str| -> Result<()> {
            if fs::read_to_string(&path).is_ok_and(|present| present == text) {
                return Ok(());
            }
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).with_context(|| format!("could not make {}", parent.display()))?;
            }
            fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
            written.push(path);
            Ok(())
        };
        put(self.schema_path(), &format!("{WRITTEN}{}", self.target()?))?;
        for version in 1..=self.steps.len() {
            let path = self.snapshot(version);
            if !path.exists() {
                put(path, &format!("{WRITTEN}{}", self.make_snapshot(version)?))?;
            }
        }
        let lines = self
            .steps
            .iter()
            .map(|step| format!("{}  {}\n", Digest::sha256(&step.sql), step.name));
        put(self.checksums(), &lines.collect::<String>())?;
        Ok(written)
    }

    /// Returns a fault for each sealed file that is not as it was, or not where it was.
    fn broken_seals(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (index, (name, digest)) in self.sealed.iter().enumerate() {
            match self.steps.get(index) {
                Some(step) if step.name != *name => {
                    faults.push(Fault::new(format!(
                        "{name}.sql was version {}, now {}.sql is",
                        index + 1,
                        step.name
                    )));
                }
                Some(step) if Digest::sha256(&step.sql) != *digest => faults.push(Fault::new(format!(
                    "{name}.sql was changed after it was sealed; add another migration instead"
                ))),
                Some(_) => {}
                None => faults.push(Fault::new(format!("{name}.sql is gone"))),
            }
        }
        faults
    }

    /// Applies all migrations to an empty file, twice; returns the schema.
    fn target(&self) -> Result<String> {
        let mut scratch = Scratch::empty()?;
        scratch.migrate(&self.steps)?;
        let target = scratch.schema()?;
        scratch.migrate(&self.steps)?;
        ensure!(scratch.schema()? == target, "applied twice they give another schema");
        let faults = scratch.faults()?;
        ensure!(
            faults.is_empty(),
            "the database they give is not sound: {}",
            faults.join("; ")
        );
        Ok(target)
    }

    fn check_snapshot(&self, version: usize, target: &str) -> Vec<Fault> {
        let name = format!("snapshots/{version:04}.sql");
        let fault = |text: String| Fault::new(format!("{name}: {text}"));
        match self.follow_snapshot(version, target) {
            Ok(faults) => faults.into_iter().map(fault).collect(),
            Err(error) => vec![fault(format!("{error:#}"))],
        }
    }

    /// Takes the snapshot of `version` to the newest version; returns what is wrong before and after.
    fn follow_snapshot(&self, version: usize, target: &str) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        let mut scratch = Scratch::from_dump(&read(&self.snapshot(version))?)?;
        let mut genuine = Scratch::empty()?;
        genuine.migrate(&self.steps[..version])?;
        if scratch.schema()? != genuine.schema()? {
            faults.push(format!("it is no database of version {version}"));
        }
        let before = scratch.row_counts()?;
        if before.values().all(|rows| *rows == 0) {
            faults.push("it has no rows, so it shows nothing".to_owned());
        }
        scratch.migrate(&self.steps)?;
        if scratch.schema()? != target {
            faults.push("the migrations make another schema of it than of an empty file".to_owned());
        }
        faults.extend(lost_rows(&before, &scratch.row_counts()?));
        faults.extend(scratch.faults()?);
        let dump = scratch.dump()?;
        scratch.migrate(&self.steps)?;
        if scratch.dump()? != dump {
            faults.push("migrating it again changes it".to_owned());
        }
        Ok(faults)
    }

    /// Makes a database of `version` with rows: the one before, brought forward, with the samples of this version.
    fn make_snapshot(&self, version: usize) -> Result<String> {
        let mut scratch = match version {
            1 => Scratch::empty()?,
            _ => Scratch::from_dump(&read(&self.snapshot(version - 1))?)?,
        };
        scratch.migrate(&self.steps[..version])?;
        let samples = self.migrations().join(format!("samples/{version:04}.sql"));
        if samples.exists() {
            scratch
                .execute(&read(&samples)?)
                .with_context(|| format!("could not run {}", samples.display()))?;
        }
        Ok(scratch.dump()?)
    }

    fn migrations(&self) -> PathBuf {
        self.directory.join("migrations")
    }

    fn checksums(&self) -> PathBuf {
        self.migrations().join("checksums.txt")
    }

    fn snapshot(&self, version: usize) -> PathBuf {
        self.migrations().join(format!("snapshots/{version:04}.sql"))
    }

    fn schema_path(&self) -> PathBuf {
        self.directory.join("schema.sql")
    }
}

/// Returns a line for each table that is still there and has fewer rows than before.
fn lost_rows(before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>) -> Vec<String> {
    let lost = before.iter().filter_map(|(table, rows)| {
        let left = after.get(table)?;
        (left < rows).then(|| format!("{table} had {rows} rows, {left} are left"))
    });
    lost.collect()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "CREATE TABLE t (x INTEGER PRIMARY KEY, y TEXT) STRICT; -- the first\n";
    const SECOND: &str = "ALTER TABLE t ADD COLUMN z TEXT;\nUPDATE t SET z = y || '!';\nCREATE INDEX t_z ON t (z);\n";

    /// A crate with one sealed migration and one row.
    fn project() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("migrations/samples")).unwrap();
        let path = add(directory.path(), "first").unwrap();
        assert!(path.ends_with("migrations/0001_first.sql"));
        fs::write(path, FIRST).unwrap();
        fs::write(
            directory.path().join("migrations/samples/0001.sql"),
            "INSERT INTO t VALUES (1, 'a'), (2, 'b');",
        )
        .unwrap();
        seal(&directory);
        directory
    }

    fn seal(directory: &tempfile::TempDir) {
        History::read(directory.path()).unwrap().seal().unwrap();
        assert_eq!(faults(directory), [""; 0]);
    }

    fn faults(directory: &tempfile::TempDir) -> Vec<String> {
        History::read(directory.path())
            .unwrap()
            .check()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn edit(directory: &tempfile::TempDir, name: &str, change: impl Fn(String) -> String) {
        let path = directory.path().join(name);
        fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
    }

    #[test]
    fn a_second_migration_from_its_making_to_its_seal() {
        let project = project();
        let path = add(project.path(), "z_of_y").unwrap();
        assert!(path.ends_with("migrations/0002_z_of_y.sql"));
        fs::write(path, SECOND).unwrap();
        assert_eq!(
            faults(&project),
            [
                "0002_z_of_y.sql is not sealed yet",
                "schema.sql is not what the migrations give",
                "snapshots/0002.sql: could not read ".to_owned().as_str()
            ]
            .map(|start| faults(&project)
                .into_iter()
                .find(|fault| fault.starts_with(start))
                .unwrap())
        );
        assert_eq!(History::read(project.path()).unwrap().committed_version(), Some(1));
        seal(&project);
        assert_eq!(History::read(project.path()).unwrap().committed_version(), Some(2));
        let snapshot = fs::read_to_string(project.path().join("migrations/snapshots/0002.sql")).unwrap();
        assert!(
            snapshot.contains("INSERT INTO \"t\" VALUES (2, 'b', 'b!');"),
            "the first version's rows go on: {snapshot}"
        );
        assert_eq!(
            History::read(project.path()).unwrap().seal().unwrap(),
            [""; 0].map(PathBuf::from),
            "once is enough"
        );
    }

    #[test]
    fn names() {
        let project = project();
        for name in ["", "First", "1st", "a-b", "a b", "../a", "first", &"a".repeat(61)] {
            assert!(add(project.path(), name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn what_is_sealed_stays_as_it_is() {
        let project = project();
        edit(&project, "migrations/0001_first.sql", |text| {
            text.replace("the first", "another remark")
        });
        let changed = "0001_first.sql was changed after it was sealed; add another migration instead";
        assert_eq!(faults(&project), [changed]);
        assert_eq!(
            History::read(project.path()).unwrap().seal().unwrap_err().to_string(),
            changed
        );

        let from = project.path().join("migrations/0001_first.sql");
        fs::rename(from, project.path().join("migrations/0001_renamed.sql")).unwrap();
        assert_eq!(
            faults(&project)[0],
            "0001_first.sql was version 1, now 0001_renamed.sql is"
        );
        fs::remove_file(project.path().join("migrations/0001_renamed.sql")).unwrap();
        assert_eq!(faults(&project)[0], "0001_first.sql is gone");
    }

    #[test]
    fn a_gap_is_refused() {
        let project = project();
        fs::write(project.path().join("migrations/0003_third.sql"), SECOND).unwrap();
        let error = History::read(project.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the migrations have a gap: 0003_third.sql is number 2 in order"
        );
    }

    #[test]
    fn a_schema_edited_by_hand() {
        let project = project();
        edit(&project, "schema.sql", |text| text.replace("y TEXT", "y BLOB"));
        assert_eq!(faults(&project), ["schema.sql is not what the migrations give"]);
    }

    #[test]
    fn a_snapshot_that_is_none() {
        let project = project();
        edit(&project, "migrations/snapshots/0001.sql", |text| {
            text.replace("y TEXT", "y ANY")
        });
        let found = faults(&project);
        assert!(
            found.contains(&"snapshots/0001.sql: it is no database of version 1".to_owned()),
            "{found:?}"
        );
        edit(&project, "migrations/snapshots/0001.sql", |text| {
            text.replace("y ANY", "y TEXT")
                .lines()
                .filter(|line| !line.starts_with("INSERT"))
                .collect::<Vec<_>>()
                .join("\n")
        });
        assert_eq!(
            faults(&project),
            ["snapshots/0001.sql: it has no rows, so it shows nothing"]
        );
    }

    #[test]
    fn a_migration_that_loses_rows_or_only_works_on_an_empty_table() {
        for (sql, expected) in [
            (
                "DELETE FROM t WHERE x = 2;\n",
                "snapshots/0001.sql: t had 2 rows, 1 are left",
            ),
            (
                "CREATE UNIQUE INDEX i ON t (length(y));\n",
                "snapshots/0001.sql: could not bring the database",
            ),
            (
                "CREATE TABLE u (x REFERENCES t (x)); INSERT INTO u SELECT 7 FROM t;\n",
                "snapshots/0001.sql: could not",
            ),
        ] {
            let project = project();
            fs::write(add(project.path(), "bad").unwrap(), sql).unwrap();
            let found = faults(&project);
            assert!(
                found.iter().any(|fault| fault.starts_with(expected)),
                "{sql}: {found:?}"
            );
        }
    }
}
