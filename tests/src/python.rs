//! Python's reading of layers and of trees: a second opinion that shares no code with ours.
//!
//! `tarfile` reads the archives, which then go through a [`TreeModel`]. A tree that only another user's namespace shows is
//! read by a script there.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use unlade_test_support::{Change, Node, NodeKind, TreeModel, TreeSnapshot};

use crate::real::run;

/// Prints each entry of the archives that it is given: a JSON list of objects a line.
const LAYERS: &str = r#"
import hashlib, json, math, os, sys, tarfile
from decimal import Decimal

KINDS = {tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "hard link", tarfile.CHRTYPE: "character device",
         tarfile.BLKTYPE: "block device", tarfile.FIFOTYPE: "fifo", tarfile.DIRTYPE: "directory"}

for path in sys.argv[1:]:
    entries = []
    with tarfile.open(path, encoding="utf-8", errors="surrogateescape") as archive:
        for member in archive:
            time = Decimal(member.pax_headers.get("mtime", str(member.mtime)))
            seconds = math.floor(time)
            digest, size = None, 0
            if member.isreg():
                content = archive.extractfile(member)
                digest, size = hashlib.file_digest(content, "sha256").hexdigest(), member.size
            entries.append({
                "path": os.fsencode(member.name).hex(), "kind": "file" if member.isreg() else KINDS[member.type],
                "mode": member.mode & 0o7777, "uid": member.uid, "gid": member.gid,
                "mtime": [seconds, int((time - seconds) * 1000000000)], "size": size, "content": digest,
                "target": os.fsencode(member.linkname).hex(), "device": [member.devmajor, member.devminor],
                "xattrs": {os.fsencode(key[13:]).hex(): os.fsencode(value).hex()
                           for key, value in member.pax_headers.items() if key.startswith("SCHILY.xattr.")},
            })
    print(json.dumps(entries))
"#;

/// Prints what is below a directory, in the same form.
const TREE: &str = r#"
import hashlib, json, os, stat, sys

KINDS = {stat.S_IFLNK: "symlink", stat.S_IFCHR: "character device", stat.S_IFBLK: "block device", stat.S_IFIFO: "fifo",
         stat.S_IFDIR: "directory", stat.S_IFREG: "file"}
entries, todo = [], [b"."]
os.chdir(sys.argv[1])
while todo:
    path = todo.pop()
    found = os.lstat(path)
    kind = KINDS[stat.S_IFMT(found.st_mode)]
    digest, size, target = None, 0, b""
    if kind == "file":
        with open(path, "rb") as content:
            digest, size = hashlib.file_digest(content, "sha256").hexdigest(), found.st_size
    elif kind == "symlink":
        target = os.readlink(path)
    elif kind == "directory":
        todo += [path + b"/" + name for name in os.listdir(path)]
    seconds, nanoseconds = divmod(found.st_mtime_ns, 1000000000)
    entries.append({
        "path": path.removeprefix(b"./").hex(), "kind": kind, "mode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid, "gid": found.st_gid, "mtime": [seconds, nanoseconds], "size": size, "content": digest,
        "target": target.hex(), "device": [os.major(found.st_rdev), os.minor(found.st_rdev)],
        "inode": None if kind == "directory" else f"{found.st_dev} {found.st_ino}",
        "xattrs": {os.fsencode(name).hex(): os.getxattr(path, name, follow_symlinks=False).hex()
                   for name in os.listxattr(path, follow_symlinks=False)},
    })
print(json.dumps(entries))
"#;

/// Applies the layers of the image that a layout has under `tag` to a model.
pub fn model_of(layout: &Path, tag: &str) -> TreeModel {
    let blob = |descriptor: &Value| {
        let digest = text(&descriptor["digest"]);
        layout.join("blobs").join(digest.replace(':', "/"))
    };
    let document = |path: &Path| -> Value {
        let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_reader(file).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let index = document(&layout.join("index.json"));
    let named = list(&index["manifests"]).iter().find(|descriptor| {
        let name = &descriptor["annotations"]["org.opencontainers.image.ref.name"];
        name.as_str() == Some(tag)
    });
    let manifest = document(&blob(named.unwrap_or_else(|| panic!("{tag} is not in {index}"))));
    let layers = list(&manifest["layers"]).iter().map(blob);
    let mut model = TreeModel::new();
    let printed = run(Command::new("python3").args(["-c", LAYERS]).args(layers));
    for line in printed.lines() {
        let entries: Value = serde_json::from_str(line).expect("the script prints JSON");
        let changes: Vec<_> = list(&entries).iter().map(change).collect();
        let applied = model.apply(&changes);
        applied.unwrap_or_else(|at| panic!("no layer may have {:?}", changes[at]));
    }
    model
}

/// Returns the arguments of a command that prints the tree below `directory` for [`printed_tree`].
pub fn tree_printer(directory: &Path) -> [String; 4] {
    let directory = directory.to_str().expect("a path in UTF-8");
    ["python3", "-c", TREE, directory].map(ToOwned::to_owned)
}

/// Reads what [`tree_printer`] has printed.
pub fn printed_tree(printed: &str) -> TreeSnapshot {
    let entries: Value = serde_json::from_str(printed).expect("the script prints JSON");
    let mut nodes = BTreeMap::new();
    let mut inodes: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    for entry in list(&entries) {
        let path = bytes(&entry["path"]);
        if let Some(inode) = entry["inode"].as_str() {
            inodes.entry(inode).or_default().push(path.clone());
        }
        nodes.insert(path, node(entry));
    }
    for paths in inodes.values_mut() {
        paths.sort();
        for other in &paths[1..] {
            if let Some(node) = nodes.get_mut(other) {
                node.same_inode_as = Some(paths[0].clone());
            }
        }
    }
    nodes.into_iter().collect()
}

fn change(entry: &Value) -> Change {
    let path = bytes(&entry["path"]);
    let time = time(entry);
    let name_at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (parent, name) = path.split_at(name_at);
    if name == b".wh..wh..opq" {
        return Change::Opaque {
            path: parent.to_vec(),
            time,
        };
    }
    if let Some(name) = name.strip_prefix(b".wh.") {
        return Change::Whiteout {
            path: [parent, name].concat(),
            time,
        };
    }
    if entry["kind"] == "hard link" {
        let target = bytes(&entry["target"]);
        return Change::HardLink { path, target, time };
    }
    let node = node(entry);
    Change::Entry { path, node }
}

fn node(entry: &Value) -> Node {
    let kind = match text(&entry["kind"]) {
        "file" => NodeKind::File,
        "directory" => NodeKind::Directory,
        "symlink" => NodeKind::Symlink,
        "character device" => NodeKind::CharDevice,
        "block device" => NodeKind::BlockDevice,
        "fifo" => NodeKind::Fifo,
        other => panic!("{other} is no type"),
    };
    let is_device = matches!(kind, NodeKind::CharDevice | NodeKind::BlockDevice);
    let number = |value: &Value| u32::try_from(value.as_u64().expect("a number")).expect("32 bits");
    let xattrs = entry["xattrs"].as_object().expect("an object").iter();
    Node {
        mode: if kind == NodeKind::Symlink {
            0
        } else {
            number(&entry["mode"])
        },
        uid: number(&entry["uid"]),
        gid: number(&entry["gid"]),
        mtime: time(entry),
        size: entry["size"].as_u64().expect("a number"),
        content: entry["content"]
            .as_str()
            .map(|hex| format!("sha256:{hex}").parse().expect("a digest")),
        link_target: (kind == NodeKind::Symlink).then(|| bytes(&entry["target"])),
        device: is_device.then(|| (number(&entry["device"][0]), number(&entry["device"][1]))),
        xattrs: xattrs.map(|(name, value)| (unhexed(name), bytes(value))).collect(),
        ..Node::new(kind)
    }
}

fn time(entry: &Value) -> (i64, u32) {
    let nanoseconds = entry["mtime"][1].as_u64().and_then(|number| u32::try_from(number).ok());
    (
        entry["mtime"][0].as_i64().expect("seconds"),
        nanoseconds.expect("nanoseconds"),
    )
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn bytes(value: &Value) -> Vec<u8> {
    unhexed(text(value))
}

fn unhexed(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?);
    let bytes: Option<_> = text.as_bytes().chunks(2).map(pair).collect();
    bytes.unwrap_or_else(|| panic!("{text:?} is not in hexadecimal digits"))
}
