//! Devices and FIFOs.

use rustix::io::Errno;
use unlade_sys::NodeKind;

use super::attributes::{creation_mode, device_name};
use super::{DirectoryWriter, is};
use crate::entry::{Entry, Kind};
use crate::{Error, Note, Ownership, Whiteouts};

impl DirectoryWriter<'_> {
    pub(super) fn node(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        let kind = match entry.kind {
            Kind::CharDevice { major: 0, minor: 0 } if self.options.whiteouts == Whiteouts::Overlay => {
                return Err(Error::refused(
                    entry.path,
                    "a character device 0:0 would act as a whiteout",
                ));
            }
            Kind::CharDevice { major, minor } => NodeKind::CharDevice { major, minor },
            Kind::BlockDevice { major, minor } => NodeKind::BlockDevice { major, minor },
            _ => NodeKind::Fifo,
        };
        if self.options.ownership == Ownership::Record {
            return self.special_as_file(entry);
        }
        let created_mode = entry.mode & 0o777;
        let (parent, name) = self.place(entry.path)?;
        match self.create(&parent, name, entry.path, |_, dir| {
            dir.make_node(name, kind, created_mode)
        }) {
            // Neither a user nor root of a user namespace may make devices.
            Err(Error::Write { source, .. }) if kind != NodeKind::Fifo && is(&source, Errno::PERM) => {
                self.special_as_file(entry)
            }
            Err(error) => Err(error),
            Ok(()) => self
                .finisher
                .finish_name(&mut self.notes, &parent, name, entry, Some(created_mode)),
        }
    }

    /// Makes an empty file that says what it stands for.
    fn special_as_file(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        let (parent, name) = self.place(entry.path)?;
        let created_mode = creation_mode(entry.mode, self.options.privilege);
        let file = self.create(&parent, name, entry.path, |writer, dir| {
            writer.finisher.make_file(dir, name, created_mode)
        })?;
        let note = if entry.kind == Kind::Fifo {
            Note::FifoAsFile
        } else {
            Note::DeviceAsFile
        };
        self.notes.note(note, entry.path);
        self.finisher.finish_file(
            &mut self.notes,
            &file,
            &parent.dir,
            entry,
            created_mode,
            device_name(entry.kind).as_deref(),
        )
    }
}
