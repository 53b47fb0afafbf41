//! Owner, extended attributes, mode and times, in this order, and with the fewest calls.
//!
//! The data comes first, since writing changes times and takes set-id bits away; then the owner, since changing it takes
//! set-id bits and capabilities away; then extended attributes, which a mode may forbid to set; then the mode; then times.

use std::ffi::OsStr;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, Stat, Timespec, Timestamps};
use rustix::io::Errno;
use unlade_sys::Dir;

use super::notes::Notes;
use super::parents::Parent;
use super::{failed, is, split};
use crate::entry::{Entry, Kind, Time, Xattr};
use crate::lower::LowerNode;
use crate::{Error, Note, Ownership, Privilege, RawPath};

/// The attribute in which containers/storage, fuse-overlayfs and libkrun look for the owner and mode that a file is meant
/// to have: `uid:gid:mode`, the mode in octal; for an empty file that stands for something else, `:char-MAJOR-MINOR`,
/// `:block-MAJOR-MINOR` or `:pipe`.
///
/// A type may follow for files and directories, too. It is left out: all of them read the value without it, and libkrun reads
/// no more than 32 bytes.
pub(crate) const OVERRIDE_STAT: &str = "user.containers.override_stat";

/// Default access-control list of a directory, which what is made in it inherits.
const DEFAULT_ACL: &str = "system.posix_acl_default";

/// Attributes of an entry that can outlive it.
#[derive(Clone, Debug)]
pub(super) struct Attributes {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
    pub(super) mtime: Time,
    pub(super) xattrs: Box<[Xattr]>,
}

impl Attributes {
    pub(super) fn of(entry: &Entry<'_>) -> Self {
        Self {
            uid: entry.uid,
            gid: entry.gid,
            mode: entry.mode,
            mtime: entry.mtime,
            xattrs: entry.xattrs.into(),
        }
    }

    pub(super) fn of_lower(node: LowerNode) -> Self {
        Self {
            uid: node.uid,
            gid: node.gid,
            mode: node.mode,
            mtime: node.mtime,
            xattrs: node.xattrs,
        }
    }

    /// What a directory gets that no entry describes.
    pub(super) fn implied(mtime: Time) -> Self {
        Self {
            uid: 0,
            gid: 0,
            mode: 0o755,
            mtime,
            xattrs: Box::default(),
        }
    }

    fn owner(&self) -> Owner {
        Owner {
            uid: self.uid,
            gid: self.gid,
            mode: self.mode,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        let xattrs: usize = self
            .xattrs
            .iter()
            .map(|xattr| xattr.name.len() + xattr.value.len() + 32)
            .sum();
        (size_of::<Self>() + xattrs) as u64
    }
}

/// What the kernel gives a new file by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Environment {
    uid: u32,
    gid: u32,
    umask: Option<u32>,
    /// Whether directories made in `root` get its set-gid bit.
    set_gid: bool,
}

impl Environment {
    /// Finds out what files made in `root` get, and takes away what `root` would make them inherit.
    pub(super) fn of(root: &Dir) -> unlade_sys::Result<Self> {
        root.remove_own_xattr(OsStr::new(DEFAULT_ACL))?;
        let stat = root.stat_self()?;
        let set_gid = stat.st_mode & 0o2000 != 0;
        let gid = if set_gid {
            stat.st_gid
        } else {
            rustix::process::getegid().as_raw()
        };
        Ok(Self {
            uid: rustix::process::geteuid().as_raw(),
            gid,
            umask: unlade_sys::umask_of_thread(),
            set_gid,
        })
    }

    /// Says whether what was made with `created` needs its mode set to be `wanted`.
    fn needs_mode(self, created: u32, wanted: u32) -> bool {
        // An umask that is not known may take anything away.
        created & !self.umask.unwrap_or(0o777) != wanted
    }

    /// Says whether the umask takes from the owner what extraction itself needs.
    fn umask_hits_owner(self) -> bool {
        self.umask.is_some_and(|umask| umask & 0o700 != 0)
    }
}

/// Returns the mode to make a file with that is to have `mode`.
///
/// Without root, an owner without write permission could not set attributes, so it is added for the time being.
pub(super) fn creation_mode(mode: u32, privilege: Privilege) -> u32 {
    match privilege {
        Privilege::Root => mode & 0o777,
        Privilege::User => 0o600,
    }
}

/// Makes sure that there are symbolic links in the filesystem of `root`, and that it tells names apart that differ in case alone.
/// Where there are no links, as with FAT, modes are not kept either; where case does not count, one file of a layer would
/// replace another. Nobody says so then.
pub(super) fn probe(root: &Dir) -> Result<(), Error> {
    // Names that no entry of a layer gets.
    let (name, other) = (OsStr::new(".wh..wh.probe"), OsStr::new(".wh..wh.PROBE"));
    match root.make_symlink(name, OsStr::new("probe")) {
        Ok(()) => {
            let is_found = root.read_link(other).is_ok();
            root.remove_file(name).map_err(failed(b""))?;
            if is_found {
                let directory = root.path().to_owned();
                return Err(Error::CaseInsensitive { directory });
            }
            Ok(())
        }
        Err(error) if is(&error, Errno::EXIST) => Ok(()),
        Err(source)
            if [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS]
                .iter()
                .any(|errno| is(&source, *errno)) =>
        {
            Err(Error::NoLinks {
                directory: root.path().to_owned(),
                source,
            })
        }
        Err(error) => Err(failed(b"")(error)),
    }
}

/// Gives what was made its attributes. Threads can share it.
#[derive(Debug)]
pub(super) struct Finisher {
    pub(super) root: Arc<Dir>,
    pub(super) environment: Environment,
    pub(super) ownership: Ownership,
    pub(super) privilege: Privilege,
    /// Whether it was seen that times keep their nanoseconds.
    pub(super) keeps_nanoseconds: AtomicBool,
}

impl Finisher {
    /// Says whether the filesystem may not hold the time; the kernel makes one of it that it holds.
    fn may_be_clamped(&self, time: Time) -> bool {
        i32::try_from(time.seconds).is_err() || time.nanoseconds != 0 && !self.keeps_nanoseconds.load(Ordering::Relaxed)
    }

    fn note_clamped(&self, notes: &mut Notes, path: &[u8], wanted: Time, stat: &Stat) {
        let keeps_nanoseconds = u32::try_from(stat.st_mtime_nsec) == Ok(wanted.nanoseconds);
        if stat.st_mtime != wanted.seconds || !keeps_nanoseconds {
            notes.note(Note::TimeClamped, path);
        } else if wanted.nanoseconds != 0 {
            // What is seen once need not be looked at for each file.
            self.keeps_nanoseconds.store(true, Ordering::Relaxed);
        }
    }

    /// Makes the directory `name` that is to have `mode`, so that its owner may do everything in it for the time being.
    /// Returns the mode that it has now, if that is known.
    ///
    /// Nobody else may do anything in the directories of the root until the end. So nobody gets to what is below them, and
    /// that has its mode from the start.
    pub(super) fn make_directory(&self, parent: &Parent, name: &OsStr, mode: u32) -> unlade_sys::Result<Option<u32>> {
        let others = if parent.path.is_empty() { 0 } else { mode & 0o077 };
        let created = 0o700 | others;
        parent.dir.make_dir(name, created)?;
        if self.environment.umask_hits_owner() {
            parent.dir.set_mode(name, created)?;
            return Ok(None);
        }
        let umask = self.environment.umask.filter(|_| !self.environment.set_gid);
        Ok(umask.map(|umask| created & !umask))
    }

    /// Makes the file `name` with `mode`, of which the umask takes nothing from the owner.
    pub(super) fn make_file(&self, dir: &Dir, name: &OsStr, mode: u32) -> unlade_sys::Result<File> {
        let file = dir.create_file(name, mode)?;
        if self.environment.umask_hits_owner() {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
                .map_err(|errno| unlade_sys::Error::new("set the mode of", dir.path().join(name), errno))?;
        }
        Ok(file)
    }

    /// Sets the attributes of a regular file by its descriptor. `device` is what it stands for, if for a device.
    pub(super) fn finish_file(
        &self,
        notes: &mut Notes,
        file: &File,
        parent: &Dir,
        entry: &Entry<'_>,
        created_mode: u32,
        device: Option<&str>,
    ) -> Result<(), Error> {
        let (_, name) = split(entry.path);
        let failed = |operation: &'static str| {
            move |errno: Errno| failed(entry.path)(unlade_sys::Error::new(operation, parent.path().join(name), errno))
        };
        let attributes = Owner {
            uid: entry.uid,
            gid: entry.gid,
            mode: entry.mode,
        };
        let set_owner = |uid, gid| {
            rustix::fs::fchown(
                file,
                Some(rustix::fs::Uid::from_raw(uid)),
                Some(rustix::fs::Gid::from_raw(gid)),
            )
            .map_err(|errno| unlade_sys::Error::new("set the owner of", parent.path().join(name), errno))
        };
        let set_xattr = |attribute: &OsStr, value: &[u8]| unlade_sys::set_xattr(file, parent.path(), attribute, value);
        self.set_owner(notes, entry.path, attributes, device, set_owner, set_xattr)?;
        self.set_xattrs(notes, entry.path, entry.xattrs, set_xattr)?;
        if self.environment.needs_mode(created_mode, entry.mode) {
            rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(failed("set the mode of"))?;
        }
        rustix::fs::futimens(file, &timestamps(entry.mtime)).map_err(failed("set the times of"))?;
        if self.may_be_clamped(entry.mtime) {
            let stat = rustix::fs::fstat(file).map_err(failed("read the attributes of"))?;
            self.note_clamped(notes, entry.path, entry.mtime, &stat);
        }
        Ok(())
    }

    /// Sets the attributes of a link or special file by its name; `created_mode` is none for a link, which has no mode.
    pub(super) fn finish_name(
        &self,
        notes: &mut Notes,
        parent: &Parent,
        name: &OsStr,
        entry: &Entry<'_>,
        created_mode: Option<u32>,
    ) -> Result<(), Error> {
        let dir = &parent.dir;
        let owner = Owner {
            uid: entry.uid,
            gid: entry.gid,
            mode: entry.mode,
        };
        let set_xattr = |attribute: &OsStr, value: &[u8]| dir.set_xattr(name, attribute, value);
        self.set_owner(
            notes,
            entry.path,
            owner,
            None,
            |uid, gid| dir.set_owner(name, uid, gid),
            set_xattr,
        )?;
        self.set_xattrs(notes, entry.path, entry.xattrs, set_xattr)?;
        if let Some(created) = created_mode
            && self.environment.needs_mode(created, entry.mode)
        {
            dir.set_mode(name, entry.mode).map_err(failed(entry.path))?;
        }
        dir.set_times(name, &timestamps(entry.mtime))
            .map_err(failed(entry.path))?;
        if self.may_be_clamped(entry.mtime)
            && let Some(stat) = dir.stat(name).map_err(failed(entry.path))?
        {
            self.note_clamped(notes, entry.path, entry.mtime, &stat);
        }
        Ok(())
    }

    /// Sets the attributes of the directory `name`, which has the mode `made` if that is known: by its name if a name is
    /// enough, which it mostly is.
    pub(super) fn finish_child(
        &self,
        notes: &mut Notes,
        parent: &Parent,
        name: &OsStr,
        path: &[u8],
        made: Option<u32>,
        attributes: &Attributes,
    ) -> Result<(), Error> {
        let (owner, dir) = (attributes.owner(), &parent.dir);
        let by_name = made == Some(owner.mode)
            && self.ownership != Ownership::Record
            && attributes.xattrs.is_empty()
            && !self.may_be_clamped(attributes.mtime);
        if !by_name {
            let dir = dir.open_dir(name).map_err(failed(path))?;
            return self.finish_directory(notes, &dir, path, attributes);
        }
        let set_xattr = |attribute: &OsStr, value: &[u8]| dir.set_xattr(name, attribute, value);
        self.set_owner(
            notes,
            path,
            owner,
            None,
            |uid, gid| dir.set_owner(name, uid, gid),
            set_xattr,
        )?;
        dir.set_times(name, &timestamps(attributes.mtime)).map_err(failed(path))
    }

    /// Sets the attributes of a directory by its descriptor.
    pub(super) fn finish_directory(
        &self,
        notes: &mut Notes,
        dir: &Dir,
        path: &[u8],
        attributes: &Attributes,
    ) -> Result<(), Error> {
        let owner = attributes.owner();
        let set_xattr = |attribute: &OsStr, value: &[u8]| dir.set_own_xattr(attribute, value);
        if path.is_empty() && self.privilege == Privilege::Root && self.ownership.sets_owners() {
            // The root was not made here, so its owner is not known to be the default.
            dir.set_own_owner(owner.uid, owner.gid)
                .or_else(|error| self.owner_refused(notes, path, owner, error))?;
        } else {
            self.set_owner(
                notes,
                path,
                owner,
                None,
                |uid, gid| dir.set_own_owner(uid, gid),
                set_xattr,
            )?;
        }
        self.set_xattrs(notes, path, &attributes.xattrs, set_xattr)?;
        dir.set_own_mode(attributes.mode).map_err(failed(path))?;
        dir.set_own_times(&timestamps(attributes.mtime)).map_err(failed(path))?;
        if self.may_be_clamped(attributes.mtime) {
            let stat = dir.stat_self().map_err(failed(path))?;
            self.note_clamped(notes, path, attributes.mtime, &stat);
        }
        Ok(())
    }

    /// Sets the owner, or records it, or leaves it out, whatever is asked for.
    fn set_owner(
        &self,
        notes: &mut Notes,
        path: &[u8],
        owner: Owner,
        device: Option<&str>,
        set: impl FnOnce(u32, u32) -> unlade_sys::Result<()>,
        set_xattr: impl Fn(&OsStr, &[u8]) -> unlade_sys::Result<()>,
    ) -> Result<(), Error> {
        let is_ours = owner.uid == self.environment.uid && owner.gid == self.environment.gid;
        match self.ownership {
            Ownership::Record => {}
            Ownership::Squash => {
                if !is_ours {
                    notes.note(Note::OwnerSquashed, path);
                }
                return Ok(());
            }
            Ownership::Preserve | Ownership::Userns => {
                if !is_ours {
                    set(owner.uid, owner.gid).or_else(|error| self.owner_refused(notes, path, owner, error))?;
                }
                if device.is_none() {
                    return Ok(());
                }
            }
        }
        let value = owner.override_stat(device);
        match set_xattr(OsStr::new(OVERRIDE_STAT), value.as_bytes()) {
            Ok(()) if !is_ours && self.ownership == Ownership::Record => {
                notes.note(Note::OwnerRecorded, path);
            }
            Ok(()) => {}
            // Links and special files cannot have `user.` attributes, and some filesystems have none at all.
            Err(error)
                if [Errno::OPNOTSUPP, Errno::PERM, Errno::ACCESS]
                    .iter()
                    .any(|errno| is(&error, *errno)) =>
            {
                if !is_ours && self.ownership == Ownership::Record {
                    notes.note(Note::OwnerLost, path);
                }
            }
            Err(error) => return Err(failed(path)(error)),
        }
        Ok(())
    }

    /// Goes on where the kernel refuses an owner, as it does for one that has no place in the user namespace. A user who
    /// may give nothing away at all should not have asked for it.
    fn owner_refused(
        &self,
        notes: &mut Notes,
        path: &[u8],
        owner: Owner,
        error: unlade_sys::Error,
    ) -> Result<(), Error> {
        if is(&error, Errno::INVAL) || is(&error, Errno::PERM) {
            if self.privilege == Privilege::User {
                return Err(Error::OwnerRefused {
                    path: RawPath::from(path),
                    uid: owner.uid,
                    gid: owner.gid,
                    source: error,
                });
            }
            notes.note(Note::OwnerLost, path);
            return Ok(());
        }
        Err(failed(path)(error))
    }
}

/// Whom a file is meant to belong to, and with what mode.
#[derive(Clone, Copy, Debug)]
struct Owner {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Owner {
    fn override_stat(self, device: Option<&str>) -> String {
        let Self { uid, gid, mode } = self;
        match device {
            Some(device) => format!("{uid}:{gid}:{mode:04o}:{device}"),
            None => format!("{uid}:{gid}:{mode:04o}"),
        }
    }
}

/// Returns how `user.containers.override_stat` calls what an empty file stands for.
pub(crate) fn device_name(kind: Kind<'_>) -> Option<String> {
    match kind {
        Kind::CharDevice { major, minor } => Some(format!("char-{major}-{minor}")),
        Kind::BlockDevice { major, minor } => Some(format!("block-{major}-{minor}")),
        Kind::Fifo => Some("pipe".to_owned()),
        _ => None,
    }
}

fn timestamps(time: Time) -> Timestamps {
    let time = Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn override_stat_is_what_others_read() {
        let owner = Owner {
            uid: 1000,
            gid: 1001,
            mode: 0o644,
        };
        assert_eq!(owner.override_stat(None), "1000:1001:0644");
        let set_uid = Owner {
            uid: 0,
            gid: 0,
            mode: 0o4755,
        };
        assert_eq!(set_uid.override_stat(None), "0:0:4755");
        let device = device_name(Kind::CharDevice { major: 1, minor: 3 });
        assert_eq!(set_uid.override_stat(device.as_deref()), "0:0:4755:char-1-3");
        assert_eq!(
            device_name(Kind::BlockDevice { major: 8, minor: 0 }).as_deref(),
            Some("block-8-0")
        );
        assert_eq!(device_name(Kind::Fifo).as_deref(), Some("pipe"));
        assert_eq!(device_name(Kind::Directory), None);
        // What libkrun has room for.
        let largest = Owner {
            uid: u32::MAX - 1,
            gid: u32::MAX - 1,
            mode: 0o7777,
        };
        assert!(largest.override_stat(None).len() <= 32);
    }
}
