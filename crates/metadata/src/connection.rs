//! Opening, and transactions that wait their turn.
//!
//! # Connections
//! A [`Database`] has one connection from the start. It does all the writing, so that threads of one process queue on
//! a mutex, which is fair, and not on SQLite's lock, which is polled. A read takes it when it is free; only when it is
//! not is a pool of reading connections made. A command that looks one thing up and ends so never starts a thread.
//!
//! # Locking
//! The journal is a write-ahead log: readers never wait for the writer, nor it for them. Every write begins
//! `IMMEDIATE`, so it never has to turn a read lock into a write lock, which SQLite refuses at once when two try.
//! What remains is waiting for another process, and that is tried for [`PATIENCE`].
//!
//! # Durability
//! `synchronous = NORMAL`: a commit is not flushed. After a power failure the database is whole, but may lack the last
//! commits; what the lost rows named is then unknown to the store and fetched again. [`Database::flush_commits`] is for
//! those who would rather wait.
//!
//! Nor is the log moved into the file when the last connection closes, as SQLite does by itself: that waits for the disk
//! twice, behind all that a pull has just written. [`Database::checkpoint`] does it when there is time. Until then the log
//! is a part of the database; it is moved in any case when it has grown to 4 MiB.
//!
//! The next process to open the database reads all of the log once before it reads anything else. So a pull that fetches
//! something has a long log of earlier ones moved beside its work ([`Database::shorten_log`]), and a database without a
//! log is looked at without any of this ([`Database::at_rest`]).
//!
//! # Reading only
//! Where the file or its directory cannot be written, reads work and writes end in [`Error::ReadOnly`].

use std::ffi::OsString;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use r2d2::{ManageConnection as _, NopErrorHandler, Pool, PooledConnection};
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::error::{Error, Failure, Result, is_busy};
use crate::migrations;
use crate::rest::{Busy, Opened, Rest};

/// How long a call waits for other processes before it gives up with [`Error::Locked`].
pub const PATIENCE: Duration = Duration::from_mins(2);

/// The pause between tries where SQLite itself does not wait.
const PAUSE: Duration = Duration::from_millis(10);

/// A log of so many bytes is long: 64 pages.
const LONG_LOG: u64 = 256 << 10;

/// How many reading connections a process has at most, besides the first one.
const READERS: u32 = 8;

/// How long a read waits for a connection of the pool.
const POOL_WAIT: Duration = Duration::from_secs(30);

/// How much of a file at rest is mapped into memory: all of it, unless it is larger than this.
const MAPPED_BYTES: i64 = 1 << 30;

/// How many prepared statements a connection keeps: more than there are in this crate.
const STATEMENTS: usize = 96;

/// The database of a store. Clones share the connections.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    mode: Mode,
    first: Mutex<Connection>,
    readers: OnceLock<Pool<SqliteConnectionManager>>,
    /// What keeps others from changing the file, where it is read without SQLite's own locks.
    rest: Option<Rest>,
    _opened: Option<Opened>,
    /// There to be dropped last.
    closing: Option<Busy>,
}

/// How the file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// For reading and writing; made if it is not there.
    Write,
    /// For reading, beside other processes.
    Read,
    /// For reading where not even a lock can be taken: nobody may change the file meanwhile.
    Immutable,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Some(rest) = self.rest.take() else { return };
        if let Some(busy) = Busy::begin() {
            // The files are closed before the last field is dropped.
            (self.rest, self.closing) = (Some(rest), Some(busy));
            return;
        }
        rest.leak();
        if let Ok(stand_in) = Connection::open_in_memory() {
            let first = self.first.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(std::mem::replace(first, stand_in));
        }
        std::mem::forget(self.readers.take());
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("path", &self.inner.path)
            .field("mode", &self.inner.mode)
            .finish_non_exhaustive()
    }
}

impl Database {
    /// Opens the database at `path`, makes it if there is none, and brings an older schema forward.
    ///
    /// Nothing is written when the schema is current. Where the file is there but cannot be written, it is opened for
    /// reading only ([`Database::is_read_only`]). A relative `path` is made absolute.
    ///
    /// Fails with [`Error::Newer`], [`Error::Foreign`] or [`Error::Damaged`] and leaves the file as it is if it is not
    /// a database that this version of the crate can use.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = absolute(path.as_ref())?;
        patiently("open it", || match Self::open_in(&path, Mode::Write) {
            Err(error) if cannot_write(&error) && path.is_file() => {
                // The first failure tells more, unless reading works or finds something worse.
                Self::open_reading(&path).map_err(|second| match second {
                    // It could be brought forward, if the disk did not fail.
                    Error::Older { .. } if matches!(error, Error::Storage { .. }) => error,
                    second if cannot_write(&second) => error,
                    second => second,
                })
            }
            outcome => outcome,
        })
    }

    /// Opens the database at `path` for reading only; never makes or changes it.
    ///
    /// In a directory that cannot be written, by a process that leaves no log behind, this still works.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self> {
        let path = absolute(path.as_ref())?;
        if !path.is_file() {
            return Err(Error::Missing { path });
        }
        patiently("open it", || Self::open_reading(&path))
    }

    /// Returns the file's absolute path.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Returns whether the database can only be read.
    pub fn is_read_only(&self) -> bool {
        self.inner.mode != Mode::Write
    }

    /// Makes every later commit of this process wait until the disk has it.
    pub fn flush_commits(&self) -> Result<()> {
        self.first()
            .pragma_update(None, "synchronous", "FULL")
            .map_err(|error| Error::sqlite(self.path(), "make commits wait for the disk", Duration::ZERO, error))
    }

    /// Moves the write-ahead log into the file and empties it; waits for the disk.
    ///
    /// Where another process is reading or writing, as much is moved as can be without waiting for it, and the rest
    /// another time. Nothing is lost by leaving it out.
    pub fn checkpoint(&self) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        let started = Instant::now();
        let connection = self.first();
        let moved = connection
            .busy_timeout(Duration::ZERO)
            .and_then(|()| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
        let outcome = connection.busy_timeout(PATIENCE).and(moved);
        match outcome {
            Err(error) if is_busy(&error) => Ok(()),
            outcome => outcome.map_err(|error| Error::sqlite(self.path(), "empty its log", started.elapsed(), error)),
        }
    }

    /// Moves a log that has become long into the file, so that the next process has less to read; waits for the disk.
    ///
    /// Nobody waits for it meanwhile, neither readers nor the writers of this process: it has a connection of its own.
    /// What is still read by others stays for another time.
    pub fn shorten_log(&self) -> Result<()> {
        if self.is_read_only() || log_length(self.path()).unwrap_or(0) < LONG_LOG {
            return Ok(());
        }
        let started = Instant::now();
        let moved = manager(self.path(), self.inner.mode)
            .connect()
            .and_then(|connection| connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())));
        match moved {
            Err(error) if is_busy(&error) => Ok(()),
            moved => moved.map_err(|error| Error::sqlite(self.path(), "shorten its log", started.elapsed(), error)),
        }
    }

    /// Returns whether there is a log that nobody has written to for `age`.
    pub fn has_old_log(&self, age: Duration) -> bool {
        let is_old = |written: SystemTime| {
            SystemTime::now()
                .duration_since(written)
                .map_or(true, |found| found >= age)
        };
        !self.is_read_only()
            && std::fs::metadata(log_path(self.path()))
                .is_ok_and(|log| log.len() > 0 && log.modified().is_ok_and(is_old))
    }

    /// Checks the whole file and every reference in it; returns one line for each fault, so nothing if it is sound.
    ///
    /// Reads all of the database: for a command that verifies, not for every start.
    pub fn check(&self) -> Result<Vec<String>> {
        self.read("check it", |transaction| {
            let mut faults = Vec::new();
            let mut statement = transaction.prepare("PRAGMA integrity_check")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let line: String = row.get(0)?;
                if line != "ok" {
                    faults.push(line);
                }
            }
            let mut statement = transaction.prepare("PRAGMA foreign_key_check")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
                faults.push(format!(
                    "a row of {table} refers to a row of {parent} that is not there"
                ));
            }
            Ok(faults)
        })
    }

    fn open_reading(path: &Path) -> Result<Self> {
        match Self::open_in(path, Mode::Read) {
            // The log's index cannot be made here. Without a log, the file alone is the whole database.
            Err(error) if cannot_write(&error) && !has_log(path) => Self::open_in(path, Mode::Immutable),
            outcome => outcome,
        }
    }

    /// Opens the database at `path` for a look at it, if that takes no more than reading its file: it is of this version,
    /// and its log is empty. `None` if not, or if anything is out of the ordinary: then [`Database::open`] tells.
    ///
    /// Until this value is dropped nobody moves a log into the file, so it is to be dropped soon; what others record
    /// meanwhile is not seen, and nothing can be written. While this process has any database open in another way
    /// there is `None`, too.
    pub fn at_rest(path: impl AsRef<Path>) -> Option<Self> {
        let path = absolute(path.as_ref()).ok()?;
        let _busy = Busy::begin()?;
        let rest = Rest::of(&path)?;
        Self::open_with(&path, Mode::Immutable, Some(rest)).ok()
    }

    fn open_in(path: &Path, mode: Mode) -> Result<Self> {
        Self::open_with(path, mode, None)
    }

    fn open_with(path: &Path, mode: Mode, rest: Option<Rest>) -> Result<Self> {
        let opened = rest.is_none().then(Opened::new);
        let manager = manager(path, mode);
        let mut connection = manager.connect().map_err(|error| opening(path, error))?;
        if rest.is_some() {
            // The locks keep everybody from changing or shortening the file, so its pages need not be read one by one.
            connection
                .pragma_update(None, "mmap_size", MAPPED_BYTES)
                .map_err(|error| opening(path, error))?;
        }
        // Reading the header is what finds out whether this is a database, and whether it can be locked.
        let header = read_header(&mut connection).map_err(|error| opening(path, error))?;
        let found = header.version;
        let supported = migrations::latest_version();
        if found > supported {
            return Err(Error::Newer {
                path: path.to_owned(),
                found,
                supported,
            });
        }
        let (ours, tables) = (header.application == migrations::APPLICATION_ID, header.tables);
        let fresh = found == 0 && tables == 0;
        if !ours && !fresh {
            return Err(Error::Foreign { path: path.to_owned() });
        }
        let unwritable = mode != Mode::Write || connection.is_readonly("main").map_err(|error| opening(path, error))?;
        if found < supported {
            if unwritable {
                return Err(Error::Older {
                    path: path.to_owned(),
                    found,
                    supported,
                });
            }
            if fresh {
                use_log(&connection, path)?;
            }
            migrations::apply(&mut connection, path, found)?;
        } else if unwritable && mode == Mode::Write {
            return Err(Error::ReadOnly {
                path: path.to_owned(),
                operation: "open it for writing",
            });
        }
        let inner = Inner {
            path: path.to_owned(),
            mode,
            first: Mutex::new(connection),
            readers: OnceLock::new(),
            rest,
            _opened: opened,
            closing: None,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs `body` in one reading transaction: all it sees is of one moment.
    pub(crate) fn read<T>(
        &self,
        operation: &'static str,
        body: impl Fn(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T> {
        let started = Instant::now();
        let mut connection = self.reader()?;
        loop {
            let outcome = transaction(&mut connection, TransactionBehavior::Deferred, &body);
            match outcome {
                Err(Failure::Sql(error)) if is_busy(&error) && started.elapsed() < PATIENCE => {
                    std::thread::sleep(PAUSE);
                }
                outcome => return outcome.map_err(|failure| failure.at(self.path(), operation, started.elapsed())),
            }
        }
    }

    /// Runs `body` in one writing transaction, which is undone if it fails.
    pub(crate) fn write<T>(
        &self,
        operation: &'static str,
        body: impl Fn(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T> {
        if self.is_read_only() {
            return Err(Error::ReadOnly {
                path: self.path().to_owned(),
                operation,
            });
        }
        let started = Instant::now();
        let mut connection = self.first();
        loop {
            let outcome = transaction(&mut connection, TransactionBehavior::Immediate, &body);
            match outcome {
                Err(Failure::Sql(error)) if is_busy(&error) && started.elapsed() < PATIENCE => {
                    std::thread::sleep(PAUSE);
                }
                outcome => return outcome.map_err(|failure| failure.at(self.path(), operation, started.elapsed())),
            }
        }
    }

    /// Returns `root` as it is kept: relative to the database's directory when below it, so that a store can move.
    pub(crate) fn root_bytes(&self, root: &Path) -> Result<Vec<u8>> {
        let root = absolute(root)?;
        let below = self
            .inner
            .path
            .parent()
            .and_then(|directory| root.strip_prefix(directory).ok());
        Ok(below.unwrap_or(&root).as_os_str().as_bytes().to_vec())
    }

    /// Returns the absolute path of a root that was kept.
    pub(crate) fn root_path(&self, bytes: Vec<u8>) -> PathBuf {
        let kept = PathBuf::from(OsString::from_vec(bytes));
        self.inner
            .path
            .parent()
            .map_or_else(|| kept.clone(), |directory| directory.join(&kept))
    }

    fn first(&self) -> MutexGuard<'_, Connection> {
        // A panic in a body has undone its transaction by unwinding, so the connection is good.
        self.inner.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> Result<Reader<'_>> {
        match self.inner.first.try_lock() {
            Ok(first) => return Ok(Reader::First(first)),
            Err(TryLockError::Poisoned(poisoned)) => return Ok(Reader::First(poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => {}
        }
        let pool = self.inner.readers.get_or_init(|| {
            Pool::builder()
                .max_size(READERS)
                .min_idle(Some(0))
                .test_on_check_out(false)
                .max_lifetime(None)
                .idle_timeout(None)
                .connection_timeout(POOL_WAIT)
                .error_handler(Box::new(NopErrorHandler))
                .build_unchecked(manager(self.path(), self.inner.mode))
        });
        let pooled = pool.get().map_err(|source| Error::Connections {
            path: self.path().to_owned(),
            source,
        })?;
        Ok(Reader::Pooled(pooled))
    }
}

/// What the header of the file says, and how many tables there are.
struct Header {
    version: i64,
    application: i64,
    tables: i64,
}

/// Reads all of it in one transaction: each takes a lock, and gives it back.
fn read_header(connection: &mut Connection) -> rusqlite::Result<Header> {
    let transaction = connection.transaction()?;
    let read = |sql: &str| transaction.query_row(sql, [], |row| row.get(0));
    let header = Header {
        version: migrations::user_version(&transaction)?,
        application: read("PRAGMA application_id")?,
        tables: read("SELECT count(*) FROM sqlite_schema")?,
    };
    transaction.commit()?;
    Ok(header)
}

/// A connection for a read.
enum Reader<'a> {
    First(MutexGuard<'a, Connection>),
    Pooled(PooledConnection<SqliteConnectionManager>),
}

impl Deref for Reader<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match self {
            Self::First(connection) => connection,
            Self::Pooled(connection) => connection,
        }
    }
}

impl DerefMut for Reader<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        match self {
            Self::First(connection) => connection,
            Self::Pooled(connection) => connection,
        }
    }
}

fn transaction<T>(
    connection: &mut Connection,
    behavior: TransactionBehavior,
    body: impl Fn(&Transaction<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let transaction = connection.transaction_with_behavior(behavior)?;
    let value = body(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

/// Tries again while others are in the way.
fn patiently<T>(operation: &'static str, attempt: impl Fn() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match attempt() {
            Err(Error::Locked { path, source, .. }) => {
                let waited = started.elapsed();
                if waited >= PATIENCE {
                    return Err(Error::Locked {
                        path,
                        operation,
                        waited,
                        source,
                    });
                }
                std::thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}

fn manager(path: &Path, mode: Mode) -> SqliteConnectionManager {
    let flags = match mode {
        Mode::Write => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        Mode::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        Mode::Immutable => OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI,
    };
    let manager = match mode {
        Mode::Immutable => SqliteConnectionManager::file(immutable_uri(path)),
        Mode::Write | Mode::Read => SqliteConnectionManager::file(path),
    };
    manager
        .with_flags(flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .with_init(|connection| {
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            connection.busy_timeout(PATIENCE)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            connection
                .execute_batch("PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL; PRAGMA trusted_schema = OFF;")
        })
}

/// Switches a new file to a write-ahead log. On a filesystem without shared memory SQLite keeps its journal.
fn use_log(connection: &Connection, path: &Path) -> Result<()> {
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(|error| Error::sqlite(path, "set its journal", PATIENCE, error))?;
    if !mode.eq_ignore_ascii_case("wal") {
        tracing::warn!(path = %path.display(), mode, "the filesystem bears no write-ahead log, another journal is used");
    }
    Ok(())
}

fn opening(path: &Path, error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => Error::Open {
            path: path.to_owned(),
            source: error,
        },
        _ => Error::sqlite(path, "read its header", PATIENCE, error),
    }
}

/// Returns whether `error` may come from a file or directory that can be read but not written.
fn cannot_write(error: &Error) -> bool {
    matches!(
        error,
        Error::Open { .. } | Error::ReadOnly { .. } | Error::Storage { .. }
    )
}

/// Returns whether a log with something in it lies beside the database.
fn has_log(path: &Path) -> bool {
    log_length(path).is_some_and(|length| length > 0)
}

/// Returns the length of the log in bytes, if there is one.
pub(crate) fn log_length(path: &Path) -> Option<u64> {
    std::fs::metadata(log_path(path)).ok().map(|log| log.len())
}

fn log_path(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

fn immutable_uri(path: &Path) -> PathBuf {
    let mut uri = b"file:".to_vec();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' | b'?' | b'#' => uri.extend(format!("%{byte:02x}").bytes()),
            _ => uri.push(byte),
        }
    }
    uri.extend(b"?immutable=1");
    PathBuf::from(OsString::from_vec(uri))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|source| Error::Io {
        operation: "make absolute the path",
        path: path.to_owned(),
        source,
    })
}
