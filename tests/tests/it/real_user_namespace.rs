//! `--ownership userns`: real owners without root, with the `newuidmap` of the system.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use unlade_test_support::{FakeRegistry, NodeKind, TreeSnapshot, fixtures};
use unlade_tests::{Command, Home, NOBODY, Pulled};

use crate::support::serve;

/// The first subordinate id, and how many there are.
const FIRST: u32 = 200_000;
const COUNT: u32 = 65_536;

/// A home of a user with subordinate ids.
struct Subject {
    home: Home,
    ids: PathBuf,
    _registry: FakeRegistry,
    reference: String,
}

impl Subject {
    fn new(ids: &str) -> Self {
        let (registry, reference) = serve(&fixtures::all_entry_types());
        let home = Home::of_nobody();
        let file = home.path("subordinate-ids");
        fs::write(&file, ids).expect("a file for the ids");
        Self {
            home,
            ids: file,
            _registry: registry,
            reference,
        }
    }

    fn unlade(&self, arguments: &[&str]) -> Command {
        let command = self.home.unlade(arguments.iter().copied());
        command.with_subordinate_ids(NOBODY, &self.ids)
    }

    fn pull(&self) -> Command {
        self.unlade(&["--format", "json", "pull", "--ownership", "userns", &self.reference])
    }
}

/// Returns who has an id of the image outside of the namespace: what has no place in it stays the caller's.
fn outside(id: u32) -> u32 {
    match id {
        1..=COUNT => FIRST + id - 1,
        _ => NOBODY,
    }
}

#[test]
fn privileged_real_files_have_their_owners_in_a_user_namespace() {
    let subject = Subject::new(&format!("nobody:{FIRST}:{COUNT}\n"));
    let json = subject.pull().run().success().json();
    let pulled = Pulled::of(&json);
    let root = Home::new();
    let as_root = root.pull(&subject.reference);
    let mut lost = 0;
    for (found, root) in pulled.directories.iter().zip(&as_root.directories) {
        let name = found.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        assert!(name.ends_with(".userns.extracted"), "{name}");
        let root = TreeSnapshot::of(root);
        let has_place = |id: u32| id <= COUNT;
        lost += root
            .iter()
            .filter(|(_, node)| node.same_inode_as.is_none() && !(has_place(node.uid) && has_place(node.gid)))
            .count();
        let expected = root.map(|_, node| {
            let is_whiteout = node.device == Some((0, 0));
            // The two ids are set at once, or neither is.
            let both = has_place(node.uid) && has_place(node.gid);
            (node.uid, node.gid) = if both {
                (outside(node.uid), outside(node.gid))
            } else {
                (NOBODY, NOBODY)
            };
            if matches!(node.kind, NodeKind::CharDevice | NodeKind::BlockDevice) && !is_whiteout {
                (node.kind, node.device) = (NodeKind::File, None);
                node.content = Some(unlade_oci::Digest::sha256(""));
            }
            if is_whiteout {
                node.mtime = (0, 0);
            }
            node.xattrs.retain(|name, _| name.starts_with(b"user."));
        });
        let found = TreeSnapshot::of(found).map(|_, node| {
            if node.device == Some((0, 0)) {
                node.mtime = (0, 0);
            }
            let kept = |name: &[u8]| {
                name.starts_with(b"user.") && name != b"user.containers.override_stat" && name != b"user.overlay.opaque"
            };
            node.xattrs.retain(|name, _| kept(name));
        });
        found.assert_same(&expected);
    }
    let notes = &json[0]["layers"][0]["summary"]["notes"];
    assert_eq!(notes["owner-lost"]["count"], lost, "{notes}");

    let again = subject.pull().run().success().json();
    assert_eq!(again[0]["asked_registry"], false, "{again}");
    let verified = subject.unlade(&["verify", "--deep"]).run().success();
    assert!(verified.stderr.is_empty(), "{verified}");

    // What a killed pull has left belongs to others as well.
    let stage = subject.home.store().join("staging/1-1/tree/closed");
    fs::create_dir_all(&stage).expect("a stage");
    for path in stage.ancestors().take(3) {
        chown(path, Some(FIRST + 6), Some(FIRST + 6)).expect("root can give it away");
    }
    chown(stage.join("../.."), Some(NOBODY), Some(NOBODY)).expect("root can give it back");
    subject.unlade(&["prune"]).run().success();
    assert!(subject.home.leftovers().staging.is_empty());
    subject.unlade(&["rm", &subject.reference]).run().success();
    subject.home.leftovers().assert_nothing();
}

#[test]
fn privileged_real_what_a_user_namespace_takes_is_named() {
    let subject = Subject::new("somebody:200000:65536\n");
    let error = subject.pull().run().failure(6).error();
    let message = error["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("nobody has no subordinate ids in /etc/subuid"),
        "{error}"
    );
    assert!(message.contains("usermod --add-subuids"), "{error}");

    let subject = Subject::new(&format!("{NOBODY}:{FIRST}:{COUNT}\n"));
    let command = subject
        .home
        .unlade(["--format", "json", "pull", "--ownership", "userns", &subject.reference]);
    let command = command.env("PATH", "/nowhere");
    let error = command
        .with_subordinate_ids(NOBODY, &subject.ids)
        .run()
        .failure(6)
        .error();
    let message = error["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("newuidmap is missing") && message.contains("uidmap"),
        "{error}"
    );
    assert!(subject.home.leftovers().layers.is_empty());

    let root = Home::new();
    let pull = ["--format", "json", "pull", "--ownership", "userns", &subject.reference];
    let error = root.unlade(pull).run().failure(6).error();
    assert!(
        error["message"]
            .as_str()
            .unwrap_or_default()
            .contains("root needs no user namespace"),
        "{error}"
    );
}
