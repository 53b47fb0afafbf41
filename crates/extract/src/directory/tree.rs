//! Several layers, or the merged view of them, made into one tree.

use std::io::Read;

use unlade_oci::Algorithm;
use unlade_sys::Dir;

use super::attributes::Attributes;
use super::parents::Make;
use super::{DirectoryWriter, failed, split};
use crate::entry::EntrySink;
use crate::lower::Removals;
use crate::{Error, LayerReport, Options, Progress, Summary, pipeline};

/// Applies layers one by one to one directory.
///
/// Attributes of directories wait until [`finish`](Self::finish), so that a read-only directory of one layer gets the
/// children of the next, and so that a directory keeps its time when a layer above only adds to it.
#[derive(Debug)]
pub struct TreeWriter<'a>(DirectoryWriter<'a>);

impl<'a> TreeWriter<'a> {
    /// Makes a writer into `target`, which should be empty. The form of whiteouts does not matter: none are left.
    ///
    /// # Errors
    /// The directory cannot be looked at.
    pub fn new(target: &Dir, options: &'a Options) -> Result<Self, Error> {
        let mut writer = DirectoryWriter::new(target, options)?;
        writer.is_tree = true;
        Ok(Self(writer))
    }

    /// Lets a symbolic link to a directory stay when a layer has a directory in its place: what the layer has there goes
    /// where the link leads, attributes too.
    #[must_use]
    pub fn keep_directory_links(mut self, keep: bool) -> Self {
        self.0.keep_links = keep;
        self
    }

    /// Makes hard links of files that an entry's [`Content`](crate::EntryContent) has as files, where that can be done.
    /// They share data and attributes with the files they come from, so whoever changes one changes the other.
    #[must_use]
    pub fn link_files(mut self, link: bool) -> Self {
        self.0.link_files = link;
        self
    }

    /// Applies the layer that `input` delivers: first what it removes, as [`read_removals`](crate::read_removals) found,
    /// then its entries. The input is read to its end.
    ///
    /// # Errors
    /// As [`extract_layer`](crate::extract_layer); moreover a hard link whose target is nowhere in the tree is refused.
    pub fn apply<R: Read + Send>(
        &mut self,
        input: R,
        removals: &Removals,
        blob_algorithm: Algorithm,
        diff_algorithm: Algorithm,
        progress: &Progress,
    ) -> Result<LayerReport, Error> {
        self.0.remove(removals)?;
        let limits = &self.0.options.limits;
        let mut report = pipeline::run(input, &mut self.0, blob_algorithm, diff_algorithm, limits, progress)
            .map_err(|error| self.0.first_failure(error))?;
        let mut summary = self.0.take_summary();
        summary.absorb(report.summary);
        report.summary = summary;
        Ok(report)
    }

    /// Returns the sink for entries that come from elsewhere than a layer's stream: parents first, as in an archive.
    pub fn sink(&mut self) -> &mut dyn EntrySink {
        &mut self.0
    }

    /// Sets the attributes of all directories. Returns what was noted since the last layer.
    ///
    /// # Errors
    /// The filesystem does not let us.
    pub fn finish(mut self) -> Result<Summary, Error> {
        self.0.settle()?;
        self.0.apply_directories()?;
        let mut summary = self.0.into_summary();
        summary.implied_parents.clear();
        Ok(summary)
    }
}

impl DirectoryWriter<'_> {
    /// Ends one of several layers.
    pub(super) fn end_layer(&mut self) {
        if !self.directories.is_known(b"")
            && let Some(time) = self.first_time
        {
            self.directories.imply(b"", Some(Attributes::implied(time)), None);
        }
        self.first_time = None;
        self.fresh.clear();
    }

    /// Removes what a layer removes, in the order of paths, each found through the links that are left, but for those in the
    /// place of a directory of the layer.
    fn remove(&mut self, removals: &Removals) -> Result<(), Error> {
        self.parents.forget();
        self.unfollowed.clone_from(&removals.directories);
        let removed = self.remove_all(removals);
        self.unfollowed.clear();
        removed
    }

    fn remove_all(&mut self, removals: &Removals) -> Result<(), Error> {
        for (path, is_opaque) in removals.in_order() {
            if is_opaque {
                let Some(directory) = self.directory_at(path)? else {
                    continue;
                };
                for (name, _) in directory.dir.read().map_err(failed(path))? {
                    self.clear_way(&directory, &name, path)?;
                }
                continue;
            }
            let (parent, name) = split(path);
            if let Some(parent) = self.directory_at(parent)? {
                self.clear_way(&parent, name, path)?;
            }
        }
        Ok(())
    }

    /// Returns the directory at `path`, links followed. A circle of links leads nowhere.
    pub(super) fn directory_at(&mut self, path: &[u8]) -> Result<Option<super::parents::Parent>, Error> {
        match self.parent(path, Make::Nothing) {
            Err(Error::Refused { .. }) => Ok(None),
            other => other,
        }
    }
}
