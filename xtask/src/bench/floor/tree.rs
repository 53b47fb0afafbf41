//! A layer's files from memory, with as few system calls as there can be.
//!
//! For a file: one to create it with its mode, one to write it, one for its times, one to close it, and one for its owner if
//! that is not the owner of this process. A directory stays open while its entries follow each other. Extended attributes
//! are left out, they are rare.

use std::collections::HashSet;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use tar::EntryType;

/// What to make, in the order of the archive.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    steps: Vec<Step<'a>>,
}

#[derive(Debug)]
struct Step<'a> {
    parent: PathBuf,
    name: PathBuf,
    what: What<'a>,
    mode: Mode,
    owner: Option<(Uid, Gid)>,
    times: Timestamps,
}

#[derive(Debug)]
enum What<'a> {
    Directory,
    File(&'a [u8]),
    Symlink(PathBuf),
    HardLink(PathBuf),
    Node(FileType, u64),
}

impl<'a> Plan<'a> {
    /// Reads an archive.
    pub(super) fn of(archive: &'a [u8]) -> Result<Self> {
        let mut steps = Vec::new();
        let mut known: HashSet<PathBuf> = HashSet::from([PathBuf::new()]);
        for entry in tar::Archive::new(archive).entries()? {
            let entry = entry?;
            let header = entry.header();
            let path: PathBuf = entry.path()?.components().filter(|part| is_name(*part)).collect();
            let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
                continue;
            };
            let start = usize::try_from(entry.raw_file_position())?;
            let end = start + usize::try_from(entry.size())?;
            let target =
                || -> Result<PathBuf> { Ok(entry.link_name()?.context("a link without a target")?.into_owned()) };
            let device = || -> Result<u64> {
                let (major, minor) = (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0));
                Ok(rustix::fs::makedev(major, minor))
            };
            let removal = name.to_str().and_then(|name| name.strip_prefix(".wh."));
            let what = match (removal, header.entry_type()) {
                // An attribute of the directory: rare, and left out.
                (Some(".wh..opq"), _) => continue,
                (Some(_), _) => What::Node(FileType::CharacterDevice, 0),
                (None, EntryType::Directory) => What::Directory,
                (None, EntryType::Symlink) => What::Symlink(target()?),
                (None, EntryType::Link) => {
                    What::HardLink(target()?.components().filter(|part| is_name(*part)).collect())
                }
                (None, EntryType::Char) => What::Node(FileType::CharacterDevice, device()?),
                (None, EntryType::Block) => What::Node(FileType::BlockDevice, device()?),
                (None, EntryType::Fifo) => What::Node(FileType::Fifo, 0),
                (None, _) => What::File(archive.get(start..end).context("the archive is cut off")?),
            };
            // Parents that the layer does not declare.
            let undeclared: Vec<_> = parent
                .ancestors()
                .take_while(|parent| !known.contains(*parent))
                .collect();
            for parent in undeclared.into_iter().rev() {
                known.insert(parent.to_owned());
                steps.push(Step::directory(parent));
            }
            if matches!(what, What::Directory) && !known.insert(path.clone()) {
                continue;
            }
            let owner = (u32::try_from(header.uid()?)?, u32::try_from(header.gid()?)?);
            let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            steps.push(Step {
                parent: parent.to_owned(),
                name: removal.map_or_else(|| PathBuf::from(name), PathBuf::from),
                what,
                mode: Mode::from_raw_mode(header.mode()? & 0o7777),
                owner: (owner != own).then(|| (Uid::from_raw(owner.0), Gid::from_raw(owner.1))),
                times: times(i64::try_from(header.mtime()?)?),
            });
        }
        Ok(Self { steps })
    }

    /// Makes the files below `target`, which must not exist.
    pub(super) fn make(&self, target: &Path) -> Result<()> {
        rustix::process::umask(Mode::empty());
        fs::create_dir(target)?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let root = rustix::fs::open(target, flags, Mode::empty())?;
        let mut current: Option<(&Path, OwnedFd)> = None;
        for step in &self.steps {
            let directory = match current.take() {
                Some((path, open)) if path == step.parent => open,
                _ if step.parent.as_os_str().is_empty() => root.as_fd().try_clone_to_owned()?,
                _ => rustix::fs::openat(&root, &step.parent, flags, Mode::empty())
                    .with_context(|| format!("cannot open {}", step.parent.display()))?,
            };
            step.make(&root, &directory)
                .with_context(|| format!("cannot make {} in {}", step.name.display(), step.parent.display()))?;
            current = Some((&step.parent, directory));
        }
        // Entries change the times of their directory, so those come last.
        for step in self.steps.iter().filter(|step| matches!(step.what, What::Directory)) {
            rustix::fs::utimensat(
                &root,
                step.parent.join(&step.name),
                &step.times,
                AtFlags::SYMLINK_NOFOLLOW,
            )?;
        }
        Ok(())
    }
}

impl Step<'_> {
    fn directory(path: &Path) -> Self {
        Self {
            parent: path.parent().unwrap_or(Path::new("")).to_owned(),
            name: path.file_name().unwrap_or_default().into(),
            what: What::Directory,
            mode: Mode::from_raw_mode(0o755),
            owner: None,
            times: times(0),
        }
    }

    fn make(&self, root: &OwnedFd, directory: &OwnedFd) -> rustix::io::Result<()> {
        match &self.what {
            What::Directory => {
                rustix::fs::mkdirat(directory, &self.name, self.mode)?;
                self.set_owner(directory)
            }
            What::File(content) => {
                let mut content = *content;
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let file = rustix::fs::openat(directory, &self.name, flags, self.mode)?;
                while !content.is_empty() {
                    let written = rustix::io::write(&file, content)?;
                    content = &content[written..];
                }
                if let Some((uid, gid)) = self.owner {
                    rustix::fs::fchown(&file, Some(uid), Some(gid))?;
                    if self.mode.intersects(Mode::SUID | Mode::SGID) {
                        rustix::fs::fchmod(&file, self.mode)?;
                    }
                }
                rustix::fs::futimens(&file, &self.times)
            }
            What::Symlink(target) => {
                rustix::fs::symlinkat(target, directory, &self.name)?;
                self.set_owner(directory)?;
                self.set_times(directory)
            }
            What::HardLink(target) => rustix::fs::linkat(root, target, directory, &self.name, AtFlags::empty()),
            What::Node(kind, device) => {
                rustix::fs::mknodat(directory, &self.name, *kind, self.mode, *device)?;
                self.set_owner(directory)?;
                self.set_times(directory)
            }
        }
    }

    fn set_owner(&self, directory: &OwnedFd) -> rustix::io::Result<()> {
        self.owner.map_or(Ok(()), |(uid, gid)| {
            rustix::fs::chownat(directory, &self.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    fn set_times(&self, directory: &OwnedFd) -> rustix::io::Result<()> {
        rustix::fs::utimensat(directory, &self.name, &self.times, AtFlags::SYMLINK_NOFOLLOW)
    }
}

fn is_name(part: std::path::Component<'_>) -> bool {
    matches!(part, std::path::Component::Normal(_))
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use unlade_test_support::{Compression, LayerBuilder};

    #[test]
    fn privileged_a_tree_is_made_as_the_archive_has_it() {
        let layer = LayerBuilder::new()
            .dir("a/", 0o750)
            .file_with("a/file", "content", |entry| entry.mode(0o640).mtime(1_000))
            .symlink("a/link", "file")
            .hardlink("second", "a/file")
            .file("not/declared/file", "x")
            .build(Compression::None);
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("tree");
        Plan::of(&layer.bytes).unwrap().make(&target).unwrap();
        let file = fs::metadata(target.join("a/file")).unwrap();
        assert_eq!(file.permissions().mode() & 0o7777, 0o640);
        assert_eq!((file.mtime(), file.nlink()), (1_000, 2));
        assert_eq!(fs::read(target.join("a/link")).unwrap(), b"content");
        assert_eq!(
            fs::metadata(target.join("a")).unwrap().permissions().mode() & 0o7777,
            0o750
        );
        assert!(target.join("not/declared/file").is_file());
    }
}
