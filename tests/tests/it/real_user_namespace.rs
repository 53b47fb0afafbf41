//! `--ownership userns`: real owners without root, with the `newuidmap` of the system.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

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
fn privileged_real_a_mount_shows_the_owners_of_a_user_namespace() {
    const LIST: &str = r#"cd "$1" && find . -fprintf "$2" '%U %G %m %y %P\0'"#;
    let subject = Subject::new(&format!("nobody:{FIRST}:{COUNT}\n"));
    let root = Home::new();
    let tree = root.path("rootfs");
    root.unlade(["unpack", &subject.reference])
        .args([&tree])
        .run()
        .success();
    let list = root.path("list");
    let mut listing = std::process::Command::new("sh");
    listing.args(["-euc", LIST, "sh"]).args([&tree, &list]);
    assert!(listing.status().expect("a shell").success());
    let mut expected = files_of(&list);
    expected.iter_mut().for_each(to_namespace);
    assert!(
        expected.iter().any(|file| file.owner == ["1000", "1000"]),
        "{expected:?}"
    );

    // The first pulls, the second finds what is there.
    let target = subject.home.path("home/mounted");
    let shown = target.to_str().unwrap_or_default();
    let list = subject.home.path("home/list");
    let list = list.to_str().unwrap_or_default();
    for _ in 0..2 {
        let mount = ["mount", "--ownership", "userns", &subject.reference, shown, "--"];
        let command = [&mount[..], &["sh", "-euc", LIST, "sh", shown, list]].concat();
        subject.unlade(&command).run().success();
        assert_eq!(files_of(Path::new(list)), expected);
    }

    let upper = subject.home.path("home/changes");
    let mount = ["mount", "--ownership", "userns", &subject.reference, shown];
    let change = "cd \"$1\" && echo new > new && chown 5:6 new && chmod 4711 new && rm -r deep && test ! -e deep";
    let changed = [
        "--rw",
        upper.to_str().unwrap_or_default(),
        "--",
        "sh",
        "-euc",
        change,
        "sh",
        shown,
    ];
    subject.unlade(&[&mount[..], &changed].concat()).run().success();
    let new = fs::metadata(upper.join("new")).expect("what was written is in the upper directory");
    let attributes = (new.uid(), new.gid(), new.mode() & 0o7777);
    assert_eq!(attributes, (outside(5), outside(6), 0o4711));

    // A directory has them, too.
    let tree = subject.home.path("home/rootfs");
    let unpack = [
        "unpack",
        "--ownership",
        "userns",
        "--policy",
        "never",
        &subject.reference,
    ];
    let unpack = [&unpack[..], &[tree.to_str().unwrap_or_default()]].concat();
    subject.unlade(&unpack).run().success();
    let mut listing = std::process::Command::new("sh");
    listing.args(["-euc", LIST, "sh"]).arg(&tree).arg(list);
    assert!(listing.status().expect("a shell").success());
    for file in &mut expected {
        file.owner = file.owner.each_ref().map(|id| match id.parse() {
            Ok(id) => outside(id).to_string(),
            Err(_) => id.clone(),
        });
    }
    assert_eq!(files_of(Path::new(list)), expected);

    // Outside of a namespace of its own nobody but root may mount.
    let refused = subject.unlade(&mount).run().failure(9);
    assert!(refused.stderr.contains("-- COMMAND"), "{refused}");
}

/// What a list says of a file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    path: String,
    owner: [String; 2],
    mode: String,
    kind: String,
}

/// Reads a list, in the order of the paths.
fn files_of(list: &Path) -> Vec<Listed> {
    let list = fs::read(list).expect("a list");
    let file = |line: &[u8]| {
        let line = line.escape_ascii().to_string();
        let mut fields = line.splitn(5, ' ').map(ToOwned::to_owned);
        let mut next = || fields.next().expect("owner, group, mode, type, path");
        let owner = [next(), next()];
        let (mode, kind, path) = (next(), next(), next());
        Listed {
            path,
            owner,
            mode,
            kind,
        }
    };
    let mut files: Vec<_> = list.split_inclusive(|byte| *byte == 0).map(file).collect();
    files.sort();
    files
}

/// Makes of what root has unpacked what the user namespace has: no owners that have no place there, and no devices.
fn to_namespace(file: &mut Listed) {
    let has_place = |id: &String| id.parse::<u32>().is_ok_and(|id| id <= COUNT);
    // The two ids are set at once, or neither is.
    if !file.owner.iter().all(has_place) {
        file.owner = ["0", "0"].map(ToOwned::to_owned);
    }
    if ["b", "c"].contains(&file.kind.as_str()) {
        "f".clone_into(&mut file.kind);
    }
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
