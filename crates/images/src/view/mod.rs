//! The merged view of layer directories: what a root filesystem is, apart from where it goes.
//!
//! [`View`] merges layer directories by the rules of overlayfs, in our own code, so that it needs no mount and no
//! privilege: the topmost layer that has a name decides; a whiteout hides what is below; directories of one name are one,
//! down to an opaque one or to something that is no directory. It reads both forms of whiteouts.
//!
//! It answers [`Lower::look_up`], by which a layer is extracted against those below it, and it gives itself to any
//! [`EntrySink`] as the entries of an archive ([`View::write_to`]): parents first, each directory's names in order. A writer
//! of a tar or of a disk image is another sink.
//!
//! **Attributes.** Where a layer only implies a directory, the attributes that count are those of the next layer below that
//! declares it. What the extraction has recorded without root is given as it was meant.

mod node;
mod open;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{FileType, Stat};
use unlade_extract::{Entry, EntrySink, FileContent, Kind as EntryKind, Lower, LowerKind, LowerNode, Progress};
use unlade_metadata::{LayerForm, LayerOwnership, LayerPlace};
use unlade_sys::{Dir, Links};

use self::open::Unlocked;
use crate::Error;

/// What makes a directory opaque in OCI form, and in overlay form where there are no attributes. No layer can bring a file of
/// that name.
const OPAQUE_FILE: &str = ".wh..wh..opq";

type SysResult<T> = unlade_sys::Result<T>;

/// A layer directory, and which of its directories say nothing about their attributes.
#[derive(Debug)]
pub(crate) struct ViewLayer {
    root: Arc<Dir>,
    form: LayerForm,
    ownership: LayerOwnership,
    /// Paths of directories that the layer implies; the root is the empty one.
    implied: HashSet<Vec<u8>>,
    /// Whether the root is opaque, once it was asked for: every look-up begins there, in every layer.
    is_opaque: OnceLock<bool>,
}

impl ViewLayer {
    pub(crate) fn open(directory: &Path, place: &LayerPlace, implied: HashSet<Vec<u8>>) -> SysResult<Self> {
        Ok(Self {
            root: Arc::new(Dir::open(directory)?),
            form: place.form,
            ownership: place.ownership,
            implied,
            is_opaque: OnceLock::new(),
        })
    }

    /// Says whether the root hides the layers below.
    fn is_opaque(&self) -> SysResult<bool> {
        if let Some(known) = self.is_opaque.get() {
            return Ok(*known);
        }
        let found = is_opaque(&self.root, self.form)?;
        Ok(*self.is_opaque.get_or_init(|| found))
    }
}

/// Layer directories, merged.
#[derive(Debug, Default)]
pub struct View {
    /// The lowest first.
    layers: Vec<ViewLayer>,
    unlocked: Unlocked,
    /// The directory looked into last, by path.
    last: Mutex<Option<(Vec<u8>, Level)>>,
}

/// One directory of the view: those of the layers that are merged in it, each with its layer, the topmost first.
type Level = Vec<(usize, Arc<Dir>)>;

enum Found {
    Nothing,
    Directory(Level),
    Other {
        layer: usize,
        dir: Arc<Dir>,
        stat: Box<Stat>,
    },
}

impl View {
    /// Puts a layer on top.
    pub(crate) fn push(&mut self, layer: ViewLayer) {
        self.layers.push(layer);
        *self.last.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns whether there are no layers.
    pub(crate) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Gives the whole view to `sink`, the root first. Returns how many entries that were.
    ///
    /// # Errors
    /// A layer directory cannot be read, the sink fails, or `progress` was cancelled.
    pub fn write_to(&self, sink: &mut dyn EntrySink, progress: &Progress) -> Result<u64, Error> {
        let mut walk = Walk {
            view: self,
            sink,
            entries: 0,
            inodes: HashMap::new(),
        };
        let top = self.root()?;
        let mut ahead: Vec<(Vec<u8>, Vec<usize>)> = vec![(Vec::new(), indices(&top))];
        while let Some((path, layers)) = ahead.pop() {
            if progress.is_cancelled() {
                return Err(unlade_extract::Error::Cancelled.into());
            }
            let level = self.reopen(&path, &layers)?;
            walk.directory(&path, &level)?;
            let mut directories = Vec::new();
            for name in self.names(&level)? {
                match self.child(&level, &name)? {
                    Found::Nothing => {}
                    Found::Directory(child) => directories.push((join(&path, &name), indices(&child))),
                    Found::Other { layer, dir, stat } => walk.other(&join(&path, &name), layer, &dir, &name, &stat)?,
                }
            }
            ahead.extend(directories.into_iter().rev());
        }
        walk.sink.finish()?;
        Ok(walk.entries)
    }

    /// Says whether the topmost layer that has the directory `path` hides there what is below.
    pub(crate) fn is_opaque_at(&self, path: &[u8]) -> SysResult<bool> {
        let level = self.level(path)?.unwrap_or_default();
        match level.first() {
            Some((at, dir)) => is_opaque(dir, self.layers[*at].form),
            None => Ok(false),
        }
    }

    fn root(&self) -> SysResult<Level> {
        let mut level = Level::new();
        for (at, layer) in self.layers.iter().enumerate().rev() {
            level.push((at, Arc::clone(&layer.root)));
            if layer.is_opaque()? {
                break;
            }
        }
        Ok(level)
    }

    /// Returns what the directory has at `name`.
    fn child(&self, level: &Level, name: &OsStr) -> SysResult<Found> {
        let mut merged = Level::new();
        for (at, dir) in level {
            let form = self.layers[*at].form;
            let is_mark = form == LayerForm::Overlay && name == OPAQUE_FILE;
            if is_mark || (form == LayerForm::Oci && name.as_bytes().starts_with(b".wh.")) {
                continue;
            }
            let stat = dir.stat(name)?;
            let hides = form == LayerForm::Oci && dir.stat(&plain_whiteout(name)).is_ok_and(|found| found.is_some());
            match stat {
                None => {}
                Some(stat) if is_whiteout(dir, name, &stat, form)? => break,
                Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    let child = self.unlocked.open_dir(dir, name, &stat)?;
                    let is_opaque = is_opaque(&child, form)?;
                    merged.push((*at, Arc::new(child)));
                    if is_opaque {
                        break;
                    }
                }
                // What is below something that is no directory cannot be seen, whatever covers it.
                Some(_) if !merged.is_empty() => break,
                Some(stat) => {
                    return Ok(Found::Other {
                        layer: *at,
                        dir: Arc::clone(dir),
                        stat: Box::new(stat),
                    });
                }
            }
            if hides {
                break;
            }
        }
        Ok(if merged.is_empty() {
            Found::Nothing
        } else {
            Found::Directory(merged)
        })
    }

    /// Opens a directory of the view again, of which it is known which layers are merged in it.
    fn reopen(&self, path: &[u8], layers: &[usize]) -> SysResult<Level> {
        let open = |at: &usize| {
            let root = &self.layers[*at].root;
            let dir = if path.is_empty() {
                Arc::clone(root)
            } else {
                Arc::new(root.resolve(Path::new(OsStr::from_bytes(path)), Links::Refuse)?)
            };
            Ok((*at, dir))
        };
        layers.iter().map(open).collect()
    }

    /// Returns the directory at `path`; nothing is followed.
    fn level(&self, path: &[u8]) -> SysResult<Option<Level>> {
        if let Some((last, level)) = &*self.last.lock().unwrap_or_else(PoisonError::into_inner)
            && last == path
        {
            return Ok(Some(level.clone()));
        }
        let mut level = self.root()?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            match self.child(&level, OsStr::from_bytes(name))? {
                Found::Directory(child) => level = child,
                Found::Nothing | Found::Other { .. } => return Ok(None),
            }
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((path.to_vec(), level.clone()));
        Ok(Some(level))
    }

    fn names(&self, level: &Level) -> SysResult<BTreeSet<OsString>> {
        let mut names = BTreeSet::new();
        for (at, dir) in level {
            let is_plain = self.layers[*at].form == LayerForm::Oci;
            let found = dir.read()?.into_iter().map(|(name, _)| name);
            names.extend(found.filter(|name| !(is_plain && name.as_bytes().starts_with(b".wh."))));
        }
        Ok(names)
    }

    /// Returns the attributes of a directory: of the topmost layer that declares it, else of the lowest that has it.
    fn directory_node(&self, path: &[u8], level: &Level) -> SysResult<LowerNode> {
        let declaring = level.iter().find(|(at, _)| !self.layers[*at].implied.contains(path));
        match declaring.or(level.last()) {
            Some((at, dir)) => {
                let mut stat = dir.stat_self()?;
                self.unlocked.restore(&mut stat);
                node::of_directory(dir, &stat, self.layers[*at].ownership)
            }
            None => Ok(node::default_root()),
        }
    }
}

impl Lower for View {
    fn look_up(&self, path: &[u8]) -> SysResult<Option<LowerNode>> {
        if self.layers.is_empty() {
            return Ok(None);
        }
        if path.is_empty() {
            return Ok(Some(self.directory_node(path, &self.root()?)?));
        }
        let (parent, name) = split(path);
        let Some(level) = self.level(parent)? else {
            return Ok(None);
        };
        match self.child(&level, name)? {
            Found::Nothing => Ok(None),
            Found::Directory(child) => Ok(Some(self.directory_node(path, &child)?)),
            Found::Other { layer, dir, stat } => Ok(node::of_other(&dir, name, &stat, self.layers[layer].ownership)?),
        }
    }

    fn names(&self, path: &[u8]) -> SysResult<Vec<Vec<u8>>> {
        let Some(level) = self.level(path)? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for name in View::names(self, &level)? {
            if !matches!(self.child(&level, &name)?, Found::Nothing) {
                found.push(name.into_vec());
            }
        }
        Ok(found)
    }

    fn open(&self, path: &[u8]) -> SysResult<File> {
        let (parent, name) = split(path);
        if let Some(level) = self.level(parent)?
            && let Found::Other { dir, stat, .. } = self.child(&level, name)?
        {
            return open::file(&dir, name, &stat);
        }
        let shown = Path::new(OsStr::from_bytes(path));
        Err(unlade_sys::Error::new("open", shown, rustix::io::Errno::NOENT))
    }
}

/// A view on its way into a sink.
struct Walk<'a> {
    view: &'a View,
    sink: &'a mut dyn EntrySink,
    entries: u64,
    /// The first path of each file that has several names: by layer, device and inode.
    inodes: HashMap<(usize, u64, u64), Vec<u8>>,
}

impl Walk<'_> {
    fn directory(&mut self, path: &[u8], level: &Level) -> Result<(), Error> {
        let node = self.view.directory_node(path, level)?;
        self.give(&node.entry(path), None)
    }

    fn other(&mut self, path: &[u8], layer: usize, dir: &Dir, name: &OsStr, stat: &Stat) -> Result<(), Error> {
        let Some(node) = node::of_other(dir, name, stat, self.view.layers[layer].ownership)? else {
            return Ok(());
        };
        let entry = node.entry(path);
        if stat.st_nlink > 1 {
            let inode = (layer, stat.st_dev, stat.st_ino);
            if let Some(first) = self.inodes.get(&inode) {
                let target = first.clone();
                let link = Entry {
                    kind: EntryKind::HardLink { target: &target },
                    ..entry
                };
                return self.give(&link, None);
            }
            self.inodes.insert(inode, path.to_vec());
        }
        let file = match node.kind {
            LowerKind::File { .. } => Some(open::file(dir, name, stat)?),
            _ => None,
        };
        self.give(&node.entry(path), file)
    }

    fn give(&mut self, entry: &Entry<'_>, file: Option<File>) -> Result<(), Error> {
        self.entries += 1;
        match file {
            Some(file) => self.sink.entry(entry, &mut FileContent::new(file))?,
            None => self.sink.entry(entry, &mut node::NoContent)?,
        }
        Ok(())
    }
}

fn indices(level: &Level) -> Vec<usize> {
    level.iter().map(|(at, _)| *at).collect()
}

fn plain_whiteout(name: &OsStr) -> OsString {
    let mut whiteout = OsString::from(".wh.");
    whiteout.push(name);
    whiteout
}

fn is_whiteout(dir: &Dir, name: &OsStr, stat: &Stat, form: LayerForm) -> SysResult<bool> {
    if form == LayerForm::Oci {
        return Ok(false);
    }
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => Ok(stat.st_rdev == 0),
        FileType::RegularFile if stat.st_size == 0 => {
            Ok(dir.xattr(name, OsStr::new("trusted.overlay.whiteout"))?.is_some()
                || dir.xattr(name, OsStr::new("user.overlay.whiteout"))?.is_some())
        }
        _ => Ok(false),
    }
}

/// Says whether a directory hides what is below. Both names of the attribute count: a layer never sets them.
fn is_opaque(dir: &Dir, form: LayerForm) -> SysResult<bool> {
    if form == LayerForm::Oci {
        return Ok(dir.stat(OsStr::new(OPAQUE_FILE))?.is_some());
    }
    for name in ["trusted.overlay.opaque", "user.overlay.opaque"] {
        if dir.own_xattr(OsStr::new(name))?.as_deref() == Some(b"y") {
            return Ok(true);
        }
    }
    // Where the filesystem has no attributes.
    Ok(dir.stat(OsStr::new(OPAQUE_FILE))?.is_some())
}

pub(crate) fn split(path: &[u8]) -> (&[u8], &OsStr) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], OsStr::from_bytes(&path[slash + 1..])),
        None => (&[], OsStr::from_bytes(path)),
    }
}

fn join(parent: &[u8], name: &OsStr) -> Vec<u8> {
    let mut path = parent.to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.as_bytes());
    path
}
