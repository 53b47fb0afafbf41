//! An image's root filesystem as an overlay mount over its layer directories.
//!
//! A mount outlives the process that made it, and nothing in it tells the store what it needs. So there is a record of each
//! below `mounts/`, and a removal treats the layers of those that are still there as leased ([`Store::lease_mounted`]).
//! Whether one is there can be seen in the mount namespace that it was made in, and until the machine is started again; in
//! another namespace it is taken to be there.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use unlade_extract::RawPath;
use unlade_metadata::{LayerForm, Lease, LeaseTarget};
use unlade_oci::Digest;
use unlade_sys::Overlay;

use crate::commit::LEASE;
use crate::{Error, Image, Needed, Store};

/// How many directories overlayfs takes.
const MAX_LAYERS: usize = 500;

/// How a root filesystem is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// Where changes go; it is made if it is not there, and so is a directory beside it, `….work`, that overlayfs needs.
    /// Without it the mount is read-only.
    pub upper: Option<PathBuf>,
}

/// A command that runs where an image is mounted. The image stays in the store as long as this lives.
#[derive(Debug)]
pub struct MountedCommand {
    /// The process.
    pub child: Child,
    _lease: Lease,
}

/// What is known of a mount.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    target: RawPath,
    boot_id: String,
    namespace: String,
    /// The device number that files below the mount have.
    device: u64,
    diff_ids: Vec<Digest>,
}

impl Store {
    /// Mounts the root filesystem of an image at the directory `target`, which is made if it is not there. Returns its
    /// absolute path.
    ///
    /// It takes root, or root of a user namespace with a mount namespace of its own. The mount outlives this process. Until
    /// it ends, its layers stay in the store, even if the image is removed.
    ///
    /// # Errors
    /// A layer directory is missing or not in overlay form, there are too many layers, or the kernel does not let us.
    pub fn mount(&self, image: &Image, target: &Path, options: &MountOptions) -> Result<PathBuf, Error> {
        let _lease = self.lease(&needed(image))?;
        let overlay = self.overlay(image, options)?;
        let target = directory(target)?;
        unlade_sys::mount_overlay(&target, &overlay)?;
        let recorded = self.record_mount(image, &target);
        if recorded.is_err() {
            // What nobody knows of would lose its layers one day.
            unlade_sys::unmount_at(&target)?;
        }
        recorded?;
        Ok(target)
    }

    /// Starts `command` where, and only where, the root filesystem of an image is mounted at `target`: in a mount namespace,
    /// and if this is not root in a user namespace in which this user is root. The mount goes with the last process there.
    ///
    /// # Errors
    /// As [`mount`](Self::mount); or the kernel does not let this user have namespaces, or the command cannot be run.
    pub fn mount_for(
        &self,
        image: &Image,
        target: &Path,
        options: &MountOptions,
        command: &mut Command,
    ) -> Result<MountedCommand, Error> {
        let lease = self.lease(&needed(image))?;
        let overlay = Overlay {
            // Another namespace than the first cannot read the other kind.
            user_xattrs: !unlade_sys::is_root() || self.has_user_xattrs()?,
            ..self.overlay(image, options)?
        };
        let target = directory(target)?;
        let child = unlade_sys::spawn_with_overlay(command, &target, &overlay)?;
        Ok(MountedCommand { child, _lease: lease })
    }

    /// Ends a mount that [`mount`](Self::mount) has made. The directory stays, and so do changes.
    ///
    /// # Errors
    /// Nothing is mounted there, it is in use, or the kernel does not let us.
    pub fn unmount(&self, target: &Path) -> Result<(), Error> {
        let resolved = fs::canonicalize(target).map_err(|source| unlade_sys::Error::new("resolve", target, source))?;
        unlade_sys::unmount_at(&resolved)?;
        match fs::remove_file(self.mount_record(&resolved)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(unlade_sys::Error::new("remove", self.mount_record(&resolved), source).into())
            }
            _ => Ok(()),
        }
    }

    /// Takes a lease for the layers of all mounts, if there are any. The removal lock must be held, so that none is added.
    /// Records of mounts that are gone are removed.
    pub(crate) fn lease_mounted(&self) -> Result<Option<Lease>, Error> {
        let directory = self.mounts();
        let names = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            names => names.map_err(|source| unlade_sys::Error::new("list", &directory, source))?,
        };
        let mut layers = Vec::new();
        for entry in names {
            let path = entry
                .map_err(|source| unlade_sys::Error::new("list", &directory, source))?
                .path();
            let bytes = fs::read(&path).map_err(|source| unlade_sys::Error::new("read", &path, source))?;
            let record: Option<Record> = serde_json::from_slice(&bytes).ok();
            match record {
                Some(record) if self.is_mounted(&record)? => {
                    layers.extend(record.diff_ids.into_iter().map(LeaseTarget::Layer));
                }
                _ => {
                    fs::remove_file(&path).map_err(|source| unlade_sys::Error::new("remove", &path, source))?;
                }
            }
        }
        if layers.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.database.lease(&layers, LEASE)?))
    }

    fn is_mounted(&self, record: &Record) -> Result<bool, Error> {
        if record.boot_id != self.boot_id {
            return Ok(false);
        }
        if record.namespace != unlade_sys::mount_namespace()? {
            return Ok(true);
        }
        let target = Path::new(OsStr::from_bytes(record.target.as_bytes()));
        Ok(fs::metadata(target).is_ok_and(|found| found.dev() == record.device))
    }

    fn record_mount(&self, image: &Image, target: &Path) -> Result<(), Error> {
        let mounted = fs::metadata(target).map_err(|source| unlade_sys::Error::new("look at", target, source))?;
        let record = Record {
            target: RawPath::new(target.as_os_str().as_bytes()),
            boot_id: self.boot_id.clone(),
            namespace: unlade_sys::mount_namespace()?,
            device: mounted.dev(),
            diff_ids: image.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        };
        unlade_sys::create_private_dir(&self.mounts())?;
        let bytes = serde_json::to_vec(&record).unwrap_or_default();
        // It is of no use after a power loss.
        unlade_sys::write_atomic(&self.mount_record(target), &bytes, 0o600)?;
        Ok(())
    }

    fn mounts(&self) -> PathBuf {
        self.root.join("mounts")
    }

    fn mount_record(&self, target: &Path) -> PathBuf {
        let name = Digest::sha256(target.as_os_str().as_bytes());
        self.mounts().join(format!("{}.json", name.hex()))
    }

    fn overlay(&self, image: &Image, options: &MountOptions) -> Result<Overlay, Error> {
        if self.form != LayerForm::Overlay {
            return Err(Error::NotMountable {
                reason: "the layer directories are in OCI form, which overlayfs does not read",
            });
        }
        let Some(lower) = image.overlay_directories() else {
            return Err(Error::NotMountable {
                reason: "not every layer has its directory",
            });
        };
        let mut lower: Vec<PathBuf> = lower.into_iter().map(Path::to_owned).collect();
        // A mount without an upper directory needs two others; the lower of them may be empty.
        if options.upper.is_none() && lower.len() < 2 {
            let empty = self.root.join("empty");
            unlade_sys::create_dir(&empty, 0o755)?;
            lower.push(empty);
        }
        if lower.len() > MAX_LAYERS {
            return Err(Error::NotMountable {
                reason: "it has more layers than overlayfs takes, which are 500",
            });
        }
        let upper = match &options.upper {
            Some(upper) => Some(upper_directories(upper, &lower[0])?),
            None => None,
        };
        Ok(Overlay {
            lower,
            upper,
            user_xattrs: self.has_user_xattrs()?,
        })
    }

    /// Says whether the layer directories have the attributes that an unprivileged overlay reads: a user namespace cannot
    /// read others, and a store that is not root's was written without root.
    fn has_user_xattrs(&self) -> Result<bool, Error> {
        if !unlade_sys::is_initial_user_namespace() {
            return Ok(true);
        }
        let owner = fs::metadata(&self.root)
            .map_err(|source| unlade_sys::Error::new("look at", &self.root, source))?
            .uid();
        Ok(owner != 0)
    }
}

fn needed(image: &Image) -> Needed {
    Needed {
        blobs: std::collections::BTreeSet::new(),
        diff_ids: image.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
    }
}

/// Makes the directory for changes and the one beside it. A new one gets the attributes of the root, which it would hide.
fn upper_directories(upper: &Path, root: &Path) -> Result<(PathBuf, PathBuf), Error> {
    let upper = std::path::absolute(upper).map_err(|source| unlade_sys::Error::new("make absolute", upper, source))?;
    let mut work = upper.clone().into_os_string();
    work.push(".work");
    let work = PathBuf::from(work);
    if unlade_sys::create_dir(&upper, 0o700)? {
        let failed =
            |source: io::Error| Error::from(unlade_sys::Error::new("set the owner and mode of", &upper, source));
        let root = fs::metadata(root).map_err(failed)?;
        if unlade_sys::is_root() {
            chown(&upper, Some(root.uid()), Some(root.gid())).map_err(failed)?;
        }
        fs::set_permissions(&upper, fs::Permissions::from_mode(root.mode() & 0o7777)).map_err(failed)?;
    }
    unlade_sys::create_dir(&work, 0o700)?;
    Ok((upper, work))
}

/// Makes the directory for a mount, if it is not there, and returns its absolute path.
fn directory(target: &Path) -> Result<PathBuf, Error> {
    unlade_sys::create_dir(target, 0o755)?;
    Ok(fs::canonicalize(target).map_err(|source| unlade_sys::Error::new("resolve", target, source))?)
}
