//! Leases: how long they live.

use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use unlade_metadata::{Database, Holder, LeaseTarget};

use crate::support::{Store, any_platform, diff_id, image};

/// Set for the copy of this test binary that takes a lease and is killed.
const CHILD: &str = "UNLADE_METADATA_LEASE_CHILD";

#[test]
fn a_lease_lives_as_long_as_its_value() {
    let store = Store::new();
    let targets = [LeaseTarget::Blob(diff_id("a")), LeaseTarget::Layer(diff_id("a"))];
    let lease = store.database.lease(&targets[..1], Duration::from_mins(1)).unwrap();
    lease.add(&targets).unwrap();
    let recorded = store.database.leases().unwrap();
    assert_eq!(recorded.len(), 1);
    assert_eq!(recorded[0].targets, targets);
    assert_eq!(recorded[0].holder, Holder::this_process());
    lease.renew(Duration::from_hours(1)).unwrap();
    let renewed = store.database.leases().unwrap().remove(0);
    assert!(renewed.expires_at > SystemTime::now() + Duration::from_mins(30));
    assert_eq!(store.database.end_dead_leases().unwrap(), 0);
    drop(lease);
    assert_eq!(store.database.leases().unwrap(), []);
}

#[test]
fn a_living_holder_keeps_a_lease_beyond_its_time() {
    let store = Store::new();
    let lease = store
        .database
        .lease(&[LeaseTarget::Layer(diff_id("a"))], Duration::ZERO)
        .unwrap();
    std::thread::sleep(Duration::from_millis(3));
    assert_eq!(store.database.end_dead_leases().unwrap(), 0);
    lease.release().unwrap();
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the parent passes the path to its copy in the environment"
)]
fn child_that_holds_a_lease() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let database = Database::open(path).unwrap();
    let lease = database
        .lease(&[LeaseTarget::Layer(diff_id("a"))], Duration::from_hours(1))
        .unwrap();
    std::thread::sleep(Duration::from_mins(1));
    drop(lease);
}

#[test]
fn a_killed_holder_protects_nothing() {
    let store = Store::new();
    store.add(&image("app:1", "linux/amd64", &["a"]));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "leases::child_that_holds_a_lease", "--nocapture"])
        .env(CHILD, store.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while store.database.leases().unwrap().is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "the child ended early");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(store.database.end_dead_leases().unwrap(), 0, "its holder lives");
    assert_eq!(store.database.leases().unwrap()[0].holder.pid, child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    let removed = store.database.remove_image(&any_platform("app:1")).unwrap().unwrap();
    assert_eq!(removed.diff_ids, [diff_id("a")]);
    assert_eq!(store.database.leases().unwrap(), []);
}

#[test]
fn a_holder_that_cannot_be_seen_has_until_its_time() {
    let store = Store::new();
    let insert = |expires_at: i64| {
        let connection = rusqlite::Connection::open(store.path()).unwrap();
        let boot_id = Holder::this_process().boot_id;
        connection
            .execute(
                "INSERT INTO leases (holder_pid, holder_started, holder_namespace, boot_id, created_at, expires_at)
                 VALUES (1, 1, 'pid:[elsewhere]', ?1, 0, ?2)",
                (boot_id, expires_at),
            )
            .unwrap();
    };
    insert(i64::MAX / 2);
    assert_eq!(store.database.end_dead_leases().unwrap(), 0);
    insert(1);
    assert_eq!(store.database.end_dead_leases().unwrap(), 1);
    assert_eq!(store.database.leases().unwrap().len(), 1);
}
