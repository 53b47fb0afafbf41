//! More threads for small files.
//!
//! The writer reads the archive, and makes whatever is not a small file. Small files it hands over as a whole, in batches, to
//! threads that make, fill and finish them; while these have enough to do, it makes a batch by itself, so nobody waits.
//!
//! **What comes out is what one thread would make.** Files of different names do not depend on each other's order, so what
//! matters is who else has to do with a name:
//!
//! - Only a file whose name is new is handed over: nothing was made there, and nothing there was looked at on the way to a
//!   parent ([`Names`]). So nothing from before depends on it, neither a descriptor that is kept nor a record.
//! - Whoever comes to a name that is handed over, be it to make something there, to go through it to a parent, or to link to
//!   it, waits until all is made ([`DirectoryWriter::meet`]). So does whoever removes a directory, and the end of the layer.
//! - If something is in the way all the same, it was there before the writer. Then the file is left to the writer, which
//!   makes it as soon as it waits: until then nobody has to do with the name.
//!
//! **Which error is reported.** That of the entry that comes first in the archive, as if there were one thread: see
//! [`DirectoryWriter::first_failure`]. Notes go by the number of the entry, too ([`super::notes`]).
//!
//! Handed over is what is in memory as a whole, with a reference to the very buffer that the decompressor filled: nothing is
//! copied, and the number of those buffers bounds the memory. A batch is of one buffer, so that what has not been sent yet
//! holds on to one buffer alone, and the decompressor always gets others.

use std::any::Any;
use std::fs::File;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use rustix::io::Errno;
use unlade_sys::{Track, Wait};

use super::attributes::Finisher;
use super::names::{NameHash, Names};
use super::notes::Notes;
use super::parents::Parent;
use super::{DirectoryWriter, failed, is, split};
use crate::entry::{Content, Entry, Kind, SharedData, Time, Xattr};
use crate::helpers::{Helpers, Permit};
use crate::stages::SMALL_FILES;
use crate::{Error, Progress, RawPath};

/// Files handed over at once, so that waking a helper does not cost more than what it does.
const BATCH: usize = 16;

/// Batches that wait for the helpers of a layer.
const QUEUED: usize = 2;

/// Helpers of one layer at the most: the filesystem has locks.
const OF_ONE_LAYER: usize = 3;

/// How long a helper waits for more before another layer may have it.
const IDLE: Duration = Duration::from_millis(50);

/// A small file to be made.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) entry: u64,
    pub(super) hash: NameHash,
    pub(super) parent: Parent,
    pub(super) path: Box<[u8]>,
    pub(super) data: SharedData,
    pub(super) mode: u32,
    pub(super) created_mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) xattrs: Box<[Xattr]>,
}

impl Job {
    /// Makes the file. Says whether that was done: not if something is there.
    fn run(&self, finisher: &Finisher, notes: &mut Notes) -> Result<bool, Error> {
        let (_, name) = split(&self.path);
        match finisher.make_file(&self.parent.dir, name, self.created_mode) {
            Ok(file) => self.fill(&file, finisher, notes).map(|()| true),
            Err(error) if is(&error, Errno::EXIST) => Ok(false),
            Err(error) => Err(failed(&self.path)(error)),
        }
    }

    /// Fills the file that was made, and sets its attributes.
    fn fill(&self, mut file: &File, finisher: &Finisher, notes: &mut Notes) -> Result<(), Error> {
        let (dir, (_, name)) = (&self.parent.dir, split(&self.path));
        notes.set_entry(self.entry);
        file.write_all(&self.data).map_err(|source| Error::Write {
            path: RawPath::from(&self.path[..]),
            source: unlade_sys::Error::new("write", dir.path().join(name), source),
        })?;
        let entry = Entry {
            path: &self.path,
            kind: Kind::File {
                size: self.data.len() as u64,
            },
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            xattrs: &self.xattrs,
        };
        finisher.finish_file(notes, file, dir, &entry, self.created_mode, None)
    }
}

/// Some files, with a number by which they are known.
#[derive(Debug)]
struct Batch {
    number: u64,
    jobs: Vec<Job>,
}

/// What came of batches.
#[derive(Debug, Default)]
struct Outcome {
    notes: Notes,
    /// What failed at the first entry that did.
    failure: Option<(u64, Error)>,
    /// What something is in the way of.
    left: Vec<Job>,
}

impl Outcome {
    /// Does what comes before any failure.
    fn run(&mut self, jobs: Vec<Job>, finisher: &Finisher) {
        for job in jobs {
            if !self.wants(job.entry) {
                continue;
            }
            match job.run(finisher, &mut self.notes) {
                Ok(true) => {}
                Ok(false) => self.left.push(job),
                Err(error) => self.failure = Some((job.entry, error)),
            }
        }
    }

    fn absorb(&mut self, other: Self) {
        self.notes.absorb(other.notes);
        self.left.extend(other.left);
        if let Some((entry, error)) = other.failure {
            self.fail(entry, error);
        }
    }

    fn fail(&mut self, entry: u64, error: Error) {
        if self.wants(entry) {
            self.failure = Some((entry, error));
        }
    }

    /// Says whether it matters what becomes of an entry: nothing failed before it.
    fn wants(&self, entry: u64) -> bool {
        self.failure.as_ref().is_none_or(|(failed, _)| entry < *failed)
    }
}

/// What a helper says of a batch that it has worked on.
type Done = (u64, Result<Outcome, Box<dyn Any + Send>>);

/// The helpers of a writer.
#[derive(Debug)]
pub(super) struct Helper {
    helpers: Helpers,
    finisher: Arc<Finisher>,
    /// Where what the threads do is measured, if it is.
    progress: Option<Progress>,
    names: Names,
    /// What is not handed over yet.
    batch: Vec<Job>,
    /// How many batches there were.
    batches: u64,
    /// How many are with the threads, or wait for them.
    out: usize,
    /// The names in those, each with the number of its batch.
    pending: Vec<(u64, NameHash)>,
    threads: Vec<JoinHandle<()>>,
    queue: (Sender<Batch>, Receiver<Batch>),
    done: (Sender<Done>, Receiver<Done>),
    outcome: Outcome,
}

impl Helper {
    pub(super) fn new(helpers: &Helpers, finisher: &Arc<Finisher>) -> Self {
        Self {
            helpers: helpers.clone(),
            finisher: Arc::clone(finisher),
            progress: None,
            names: Names::default(),
            batch: Vec::new(),
            batches: 0,
            out: 0,
            pending: Vec::new(),
            threads: Vec::new(),
            queue: crossbeam_channel::bounded(QUEUED),
            done: crossbeam_channel::unbounded(),
            outcome: Outcome::default(),
        }
    }

    /// Lets what the threads do be measured as `progress` says.
    pub(super) fn timed(&mut self, progress: &Progress) {
        self.progress = Some(progress.clone());
    }

    /// Says whether there may be helpers at all, so that it matters which names are known.
    fn is_on(&self) -> bool {
        self.helpers.limit() > 0
    }

    /// Returns the data of a file of `size` bytes, if a helper is to make it.
    pub(super) fn takes(&mut self, size: u64, content: &dyn Content) -> Option<SharedData> {
        if !self.is_on() || (self.batch.is_empty() && !self.is_wanted(content)) {
            return None;
        }
        content.shared().filter(|data| data.len() as u64 == size)
    }

    /// Hands over a file.
    pub(super) fn take(&mut self, job: Job) {
        if let Some(last) = self.batch.last()
            && !last.data.is_beside(&job.data)
        {
            self.send();
        }
        self.batch.push(job);
        if self.batch.len() >= BATCH {
            self.send();
        }
    }

    /// Sends what there is, or does it if enough is waiting already.
    pub(super) fn send(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        while let Ok(done) = self.done.1.try_recv() {
            self.collect(done);
        }
        let jobs = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        if self.queue.0.is_full() {
            // What waits there was asked for, and nobody came to take it.
            self.start();
            self.outcome.run(jobs, &self.finisher);
            return;
        }
        let number = self.batches;
        self.batches += 1;
        self.pending.extend(jobs.iter().map(|job| (number, job.hash)));
        self.out += 1;
        // Nobody else sends, so there is still room; and this holds on to a receiver itself.
        if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) =
            self.queue.0.try_send(Batch { number, jobs })
        {
            self.run(batch);
        }
    }

    /// Says whether something has failed, so that the extraction may as well end.
    pub(super) fn has_failed(&self) -> bool {
        self.outcome.failure.is_some()
    }

    /// Says whether `name` is one that is not made yet.
    fn is_pending(&self, name: NameHash) -> bool {
        self.pending.iter().any(|(_, pending)| *pending == name)
            || self.batch.iter().any(|job| job.hash == name)
            || self.outcome.left.iter().any(|job| job.hash == name)
    }

    fn is_settled(&self) -> bool {
        self.out == 0 && self.batch.is_empty() && self.outcome.left.is_empty()
    }

    /// Waits until everything is done that was handed over, and does what nobody has begun.
    fn wait(&mut self) {
        let jobs = std::mem::take(&mut self.batch);
        self.outcome.run(jobs, &self.finisher);
        while let Ok(batch) = self.queue.1.try_recv() {
            self.run(batch);
        }
        while self.out > 0
            && let Ok(done) = self.done.1.recv()
        {
            self.collect(done);
        }
    }

    fn run(&mut self, batch: Batch) {
        self.outcome.run(batch.jobs, &self.finisher);
        self.retire(batch.number);
    }

    fn collect(&mut self, (number, done): Done) {
        self.retire(number);
        match done {
            Ok(outcome) => self.outcome.absorb(outcome),
            Err(panic) if !thread::panicking() => resume_unwind(panic),
            Err(_) => {}
        }
    }

    fn retire(&mut self, number: u64) {
        self.out -= 1;
        self.pending.retain(|(batch, _)| *batch != number);
    }

    /// Says whether a thread is there to be used, and starts one if need be and if there may be one more.
    fn is_wanted(&mut self, content: &dyn Content) -> bool {
        if (!self.helpers.is_eager() && !content.is_awaited()) || self.has_failed() {
            return false;
        }
        self.threads.retain(|thread| !thread.is_finished());
        if self.threads.is_empty() {
            self.start();
        }
        !self.threads.is_empty()
    }

    /// Starts a thread, if there may be one more.
    fn start(&mut self) {
        if self.threads.len() >= OF_ONE_LAYER {
            return;
        }
        let Some(permit) = self.helpers.take() else { return };
        let (jobs, done) = (self.queue.1.clone(), self.done.0.clone());
        let finisher = Arc::clone(&self.finisher);
        let track = self
            .progress
            .as_ref()
            .map_or(Track::off(), |progress| progress.track("small-files"));
        let thread = thread::Builder::new()
            .name("unlade-small".to_owned())
            .spawn(move || work(&jobs, &done, &finisher, track, &permit));
        // If there can be no thread, the work is done without it.
        self.threads.extend(thread);
    }

    /// Ends the threads.
    pub(super) fn dismiss(&mut self) {
        self.queue = crossbeam_channel::bounded(QUEUED);
        for thread in self.threads.drain(..) {
            // What it panicked with, if it did, was said by what it has done.
            let _ = thread.join().is_ok();
        }
    }
}

impl Drop for Helper {
    /// Nothing is written any more when the writer is gone.
    fn drop(&mut self) {
        while self.queue.1.try_recv().is_ok() {}
        self.dismiss();
    }
}

fn work(jobs: &Receiver<Batch>, done: &Sender<Done>, finisher: &Finisher, mut track: Track, _: &Permit) {
    loop {
        track.wait(SMALL_FILES, Wait::Input);
        match jobs.recv_timeout(IDLE) {
            Ok(Batch { number, jobs }) => {
                track.busy(SMALL_FILES);
                track.bytes(SMALL_FILES, jobs.iter().map(|job| job.data.len() as u64).sum());
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    let mut outcome = Outcome::default();
                    outcome.run(jobs, finisher);
                    outcome
                }));
                if done.send((number, outcome)).is_err() {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl DirectoryWriter<'_> {
    /// Comes to what is at `name` on disk, of which nothing may be under way then. Says whether the name is new.
    pub(super) fn meet(&mut self, name: NameHash) -> Result<bool, Error> {
        let is_new = self.helper.names.insert(name);
        if !is_new && self.helper.is_pending(name) {
            self.catch_up()?;
        }
        Ok(is_new)
    }

    /// Comes to all directories on the way to `path`, and to that itself.
    pub(super) fn meet_all(&mut self, path: &[u8]) -> Result<(), Error> {
        if self.helper.is_on() {
            for name in NameHash::of_all(path) {
                self.meet(name)?;
            }
        }
        Ok(())
    }

    /// Comes to `name` in `parent`. Returns what it is known by if it is new.
    pub(super) fn meet_child(&mut self, parent: &Parent, name: &std::ffi::OsStr) -> Result<Option<NameHash>, Error> {
        if !self.helper.is_on() {
            return Ok(None);
        }
        let hash = NameHash::of_child(&parent.path, name.as_encoded_bytes());
        Ok(self.meet(hash)?.then_some(hash))
    }

    /// Waits until everything is made that was handed over.
    ///
    /// If something of it has failed, the error is one that only ends what is being done: what counts is returned by
    /// [`settle`](Self::settle), which comes next. So nobody can take the one for a failure of its own.
    pub(super) fn catch_up(&mut self) -> Result<(), Error> {
        if self.helper.is_settled() {
            return Ok(());
        }
        self.helper.wait();
        let Outcome { notes, left, .. } = &mut self.helper.outcome;
        self.notes.absorb(std::mem::take(notes));
        let mut left = std::mem::take(left);
        left.sort_unstable_by_key(|job| job.entry);
        let entry = self.notes.entry();
        for job in left {
            if self.helper.outcome.wants(job.entry) {
                self.notes.set_entry(job.entry);
                if let Err(error) = self.make_in_the_way(&job) {
                    self.helper.outcome.fail(job.entry, error);
                }
            }
        }
        self.notes.set_entry(entry);
        if self.helper.has_failed() {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    /// Makes a file that something is in the way of.
    fn make_in_the_way(&mut self, job: &Job) -> Result<(), Error> {
        let (_, name) = split(&job.path);
        let file = self.create(&job.parent, name, &job.path, |writer, dir| {
            writer.finisher.make_file(dir, name, job.created_mode)
        })?;
        job.fill(&file, &self.finisher, &mut self.notes)
    }

    /// Waits until everything is made that was handed over. An error is that of the first entry of it that has failed.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        let caught_up = self.catch_up();
        match self.helper.outcome.failure.take() {
            Some((_, error)) => Err(error),
            None => caught_up,
        }
    }

    /// Returns what failed first, if the extraction failed with `error`: what was handed over comes before it in the archive.
    pub(crate) fn first_failure(&mut self, error: Error) -> Error {
        self.settle().err().unwrap_or(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_that_failed_is_what_counts() {
        let failed = |entry: u64| Error::refused(b"f", format!("it is number {entry}"));
        let mut outcome = Outcome::default();
        assert!(outcome.wants(9));
        outcome.fail(5, failed(5));
        assert!(outcome.wants(4) && !outcome.wants(6));
        for entry in [7, 3, 4] {
            let mut other = Outcome::default();
            other.fail(entry, failed(entry));
            outcome.absorb(other);
        }
        let (entry, error) = outcome.failure.unwrap();
        assert_eq!((entry, error.to_string()), (3, failed(3).to_string()));
    }
}
