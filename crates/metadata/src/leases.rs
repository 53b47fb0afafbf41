//! Leases: what is in use, and by which process, so that nothing removes it.
//!
//! A lease lives as long as the value that holds it. If its process dies, it is known to be dead by the process's
//! identity (number, start time, boot), so no lease outlives its holder for long; a holder that cannot be looked at
//! from here, in another PID namespace, keeps its leases until they expire.

use std::collections::HashMap;
use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use rusqlite::{Transaction, named_params};
use unlade_oci::Digest;

use crate::error::{Failure, Result};
use crate::{Database, columns};

/// What a lease protects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeaseTarget {
    /// A blob, by its digest.
    Blob(Digest),
    /// A layer and all its directories, by its diff ID.
    Layer(Digest),
}

impl LeaseTarget {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Blob(_) => "blob",
            Self::Layer(_) => "layer",
        }
    }

    const fn digest(&self) -> &Digest {
        match self {
            Self::Blob(digest) | Self::Layer(digest) => digest,
        }
    }
}

/// The process that holds a lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
    /// The PID namespace that the number belongs to.
    pub namespace: String,
    /// The boot that it runs under.
    pub boot_id: String,
}

impl Holder {
    /// Returns this process.
    pub fn this_process() -> Self {
        Self {
            pid: std::process::id(),
            started: start_time("self").unwrap_or(0),
            namespace: own_namespace().to_owned(),
            boot_id: own_boot_id().to_owned(),
        }
    }

    /// Returns whether the process is known to have ended.
    pub fn is_dead(&self) -> bool {
        if self.boot_id != own_boot_id() {
            return true;
        }
        if self.namespace != own_namespace() {
            return false;
        }
        start_time(&self.pid.to_string()) != Some(self.started)
    }
}

/// A lease, held until it is dropped or released.
#[derive(Debug)]
#[must_use = "a lease that is dropped protects nothing"]
pub struct Lease {
    database: Database,
    id: i64,
    released: bool,
}

impl Lease {
    /// Protects more.
    pub fn add(&self, targets: &[LeaseTarget]) -> Result<()> {
        self.database.write("add to a lease", |transaction| {
            insert_items(transaction, self.id, targets)
        })
    }

    /// Lets the lease live for `duration` from now.
    pub fn renew(&self, duration: Duration) -> Result<()> {
        self.database.write("renew a lease", |transaction| {
            let mut statement = transaction.prepare_cached("UPDATE leases SET expires_at = ?2 WHERE id = ?1")?;
            statement.execute((self.id, expiry(duration)))?;
            Ok(())
        })
    }

    /// Ends the lease. Dropping does the same but can only log a failure.
    pub fn release(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.released = true;
        self.database.write("end a lease", |transaction| {
            transaction
                .prepare_cached("DELETE FROM leases WHERE id = ?1")?
                .execute([self.id])?;
            Ok(())
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.released
            && let Err(error) = self.end()
        {
            tracing::warn!(%error, "could not end a lease; it ends with this process");
        }
    }
}

/// A lease as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    /// The row.
    pub id: i64,
    /// The process that holds it.
    pub holder: Holder,
    /// When it was taken.
    pub created_at: SystemTime,
    /// When it ends if its holder cannot be looked at.
    pub expires_at: SystemTime,
    /// What it protects.
    pub targets: Vec<LeaseTarget>,
}

impl Database {
    /// Takes a lease on `targets`, whether they are there or not, for this process.
    ///
    /// It lives as long as the value and the process. `duration` only matters to processes that cannot see this one:
    /// after it, unless renewed, they take the lease for dead.
    pub fn lease(&self, targets: &[LeaseTarget], duration: Duration) -> Result<Lease> {
        let holder = Holder::this_process();
        let id = self.write("take a lease", |transaction| {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO leases (holder_pid, holder_started, holder_namespace, boot_id, created_at, expires_at)
                 VALUES (:pid, :started, :namespace, :boot_id, :now, :expires_at)",
            )?;
            statement.execute(named_params! {
                ":pid": holder.pid,
                ":started": columns::integer(holder.started),
                ":namespace": holder.namespace,
                ":boot_id": holder.boot_id,
                ":now": columns::now(),
                ":expires_at": expiry(duration),
            })?;
            let id = transaction.last_insert_rowid();
            insert_items(transaction, id, targets)?;
            Ok(id)
        })?;
        Ok(Lease {
            database: self.clone(),
            id,
            released: false,
        })
    }

    /// Lists all leases that are recorded, dead ones among them, oldest first.
    pub fn leases(&self) -> Result<Vec<LeaseRecord>> {
        self.read("list the leases", load)
    }

    /// Ends the leases whose holders are dead, or that have expired and whose holders cannot be looked at; returns how
    /// many.
    pub fn end_dead_leases(&self) -> Result<usize> {
        self.write("end dead leases", end_dead)
    }
}

/// Ends dead leases within a transaction.
pub(crate) fn end_dead(transaction: &Transaction<'_>) -> Result<usize, Failure> {
    let now = columns::now();
    let mut ended = 0;
    let mut verdicts: HashMap<Holder, bool> = HashMap::new();
    for lease in load(transaction)? {
        let unseen = lease.holder.boot_id == own_boot_id() && lease.holder.namespace != own_namespace();
        let dead = *verdicts
            .entry(lease.holder.clone())
            .or_insert_with(|| lease.holder.is_dead());
        if dead || (unseen && columns::milliseconds(lease.expires_at) < now) {
            ended += transaction
                .prepare_cached("DELETE FROM leases WHERE id = ?1")?
                .execute([lease.id])?;
        }
    }
    Ok(ended)
}

fn insert_items(transaction: &Transaction<'_>, id: i64, targets: &[LeaseTarget]) -> Result<(), Failure> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO lease_items (lease_id, kind, digest) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?;
    for target in targets {
        statement.execute((id, target.kind(), target.digest().to_string()))?;
    }
    Ok(())
}

fn load(transaction: &Transaction<'_>) -> Result<Vec<LeaseRecord>, Failure> {
    let mut statement = transaction.prepare_cached("SELECT * FROM leases ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut leases = Vec::new();
    while let Some(row) = rows.next()? {
        let id = row.get("id")?;
        leases.push(LeaseRecord {
            id,
            holder: Holder {
                pid: row.get("holder_pid")?,
                started: columns::count(row, "holder_started")?,
                namespace: row.get("holder_namespace")?,
                boot_id: row.get("boot_id")?,
            },
            created_at: columns::time(row, "created_at")?,
            expires_at: columns::time(row, "expires_at")?,
            targets: items(transaction, id)?,
        });
    }
    Ok(leases)
}

fn items(transaction: &Transaction<'_>, lease: i64) -> Result<Vec<LeaseTarget>, Failure> {
    let mut statement =
        transaction.prepare_cached("SELECT kind, digest FROM lease_items WHERE lease_id = ?1 ORDER BY kind, digest")?;
    let mut rows = statement.query([lease])?;
    let mut targets = Vec::new();
    while let Some(row) = rows.next()? {
        let digest = columns::digest(row, "digest")?;
        targets.push(match row.get_ref("kind")?.as_str().map_err(rusqlite::Error::from)? {
            "blob" => LeaseTarget::Blob(digest),
            "layer" => LeaseTarget::Layer(digest),
            other => return Err(columns::bad("the kind of a lease", other)),
        });
    }
    Ok(targets)
}

fn expiry(duration: Duration) -> i64 {
    columns::now().saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

/// Returns when a process started (`/proc/PID/stat`, field 22), if there is one that is no zombie.
fn start_time(pid: &str) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the command, may hold spaces and brackets; the last bracket ends it.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn own_namespace() -> &'static str {
    static NAMESPACE: OnceLock<String> = OnceLock::new();
    NAMESPACE.get_or_init(|| {
        fs::read_link("/proc/self/ns/pid")
            .map(|link| link.to_string_lossy().into_owned())
            .unwrap_or_default()
    })
}

fn own_boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_others_of_its_number_do_not() {
        let this = Holder::this_process();
        assert!(this.started > 0 && !this.boot_id.is_empty() && !this.namespace.is_empty());
        assert!(!this.is_dead());
        assert!(
            Holder {
                started: this.started - 1,
                ..this.clone()
            }
            .is_dead()
        );
        assert!(
            Holder {
                boot_id: "another".to_owned(),
                ..this.clone()
            }
            .is_dead()
        );
        assert!(
            !Holder {
                namespace: "pid:[1]".to_owned(),
                started: 0,
                ..this
            }
            .is_dead()
        );
    }
}
