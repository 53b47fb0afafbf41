//! A second thread for the data and the attributes of small files.
//!
//! The writer itself makes every file, so that names come to be in the order of the archive, and what is in the way of what
//! is found out as ever. What is left to do, it may hand over: that goes by descriptor, so it is right whatever becomes of
//! the name meanwhile, and nobody has to wait for it before the end. A file that is replaced is then filled all the same, a
//! hard link is one to a file that is still empty, and a directory's time is set when all its files are made.
//!
//! Handed over is what is in memory as a whole, in batches, with a reference to the very buffer that the decompressor filled:
//! nothing is copied, and the number of those buffers bounds the memory. A batch is of one buffer, so that what has not
//! been sent yet holds on to one buffer alone, and the decompressor always gets others. When the helper has enough to do, the
//! writer goes on by itself, so neither waits for the other.
//!
//! **Which error is reported.** That of the entry that comes first in the archive, as if there were one thread: see
//! [`DirectoryWriter::first_failure`]. Notes go by the number of the entry, too ([`super::notes`]).

use std::fs::File;
use std::io::Write as _;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use unlade_sys::{Dir, Track, Wait};

use super::attributes::Finisher;
use super::notes::Notes;
use super::{DirectoryWriter, split};
use crate::entry::{Content, Entry, Kind, SharedData, Time, Xattr};
use crate::helpers::{Helpers, Permit};
use crate::stages::FILL;
use crate::{Error, Progress, RawPath};

/// Files handed over at once, so that waking the helper does not cost more than what it does.
const BATCH: usize = 8;

/// Batches that wait for the helper.
const QUEUED: usize = 2;

/// How long a helper waits for more before another layer may have it.
const IDLE: Duration = Duration::from_millis(50);

/// What is left to do for a file that was made.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) entry: u64,
    pub(super) file: File,
    pub(super) data: SharedData,
    pub(super) parent: Arc<Dir>,
    pub(super) path: Box<[u8]>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) xattrs: Box<[Xattr]>,
    pub(super) created_mode: u32,
}

impl Job {
    fn run(&self, finisher: &Finisher, notes: &mut Notes) -> Result<(), Error> {
        let (_, name) = split(&self.path);
        notes.set_entry(self.entry);
        (&self.file).write_all(&self.data).map_err(|source| Error::Write {
            path: RawPath::from(&self.path[..]),
            source: unlade_sys::Error::new("write", self.parent.path().join(name), source),
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
        finisher.finish_file(notes, &self.file, &self.parent, &entry, self.created_mode, None)
    }
}

/// What a thread did.
#[derive(Debug, Default)]
struct Outcome {
    notes: Notes,
    /// What failed at the first entry that did.
    failure: Option<(u64, Error)>,
}

impl Outcome {
    /// Does what is to do, unless something has failed before.
    fn run(&mut self, batch: Vec<Job>, finisher: &Finisher) {
        for job in batch {
            if self.failure.is_some() {
                return;
            }
            if let Err(error) = job.run(finisher, &mut self.notes) {
                self.failure = Some((job.entry, error));
            }
        }
    }

    fn absorb(&mut self, other: Self) {
        self.notes.absorb(other.notes);
        let ours = self.failure.as_ref().map(|(entry, _)| *entry);
        if let Some((entry, error)) = other.failure
            && ours.is_none_or(|ours| entry < ours)
        {
            self.failure = Some((entry, error));
        }
    }
}

/// The second thread of a writer, while there is one.
#[derive(Debug)]
pub(super) struct Helper {
    helpers: Helpers,
    finisher: Arc<Finisher>,
    /// Where what the thread does is measured, if it is.
    progress: Option<Progress>,
    /// What is not handed over yet.
    batch: Vec<Job>,
    running: Option<Running>,
    outcome: Outcome,
}

#[derive(Debug)]
struct Running {
    thread: JoinHandle<Outcome>,
    to_thread: Sender<Vec<Job>>,
    /// To take back what a thread has left that ended since it had nothing to do.
    taken_back: Receiver<Vec<Job>>,
    failed: Arc<AtomicBool>,
}

impl Helper {
    pub(super) fn new(helpers: &Helpers, finisher: &Arc<Finisher>) -> Self {
        Self {
            helpers: helpers.clone(),
            finisher: Arc::clone(finisher),
            progress: None,
            batch: Vec::new(),
            running: None,
            outcome: Outcome::default(),
        }
    }

    /// Lets what the thread does be measured as `progress` says.
    pub(super) fn timed(&mut self, progress: &Progress) {
        self.progress = Some(progress.clone());
    }

    /// Returns the data of a file of `size` bytes, if a helper is to write it.
    pub(super) fn takes(&mut self, size: u64, content: &dyn Content) -> Option<SharedData> {
        if self.helpers.limit() == 0 || (self.batch.is_empty() && !self.is_wanted(content)) {
            return None;
        }
        content.shared().filter(|data| data.len() as u64 == size)
    }

    /// Hands over what is left to do for a file.
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
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        let back = match &self.running {
            Some(running) => match running.to_thread.try_send(batch) {
                Ok(()) => return,
                Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => batch,
            },
            None => batch,
        };
        self.outcome.run(back, &self.finisher);
    }

    /// Says whether something has failed, so that the extraction may as well end.
    pub(super) fn has_failed(&self) -> bool {
        let elsewhere = self.running.as_ref().map(|running| &running.failed);
        self.outcome.failure.is_some() || elsewhere.is_some_and(|failed| failed.load(Ordering::Relaxed))
    }

    /// Waits until everything is done that was handed over. Returns what was noted, and the first failure.
    pub(super) fn settle(&mut self) -> (Notes, Option<Error>) {
        self.send();
        self.join();
        let Outcome { notes, failure } = std::mem::take(&mut self.outcome);
        (notes, failure.map(|(_, error)| error))
    }

    /// Says whether a thread is there to be used, and starts one if need be and if there may be one more.
    fn is_wanted(&mut self, content: &dyn Content) -> bool {
        if !self.helpers.is_eager() && !content.is_awaited() {
            return false;
        }
        if self
            .running
            .as_ref()
            .is_some_and(|running| running.thread.is_finished())
        {
            self.join();
        }
        if self.running.is_none() && !self.has_failed() {
            self.running = self.start();
        }
        self.running.is_some()
    }

    fn start(&self) -> Option<Running> {
        let permit = self.helpers.take()?;
        let (to_thread, jobs) = crossbeam_channel::bounded(QUEUED);
        let taken_back = jobs.clone();
        let failed = Arc::new(AtomicBool::new(false));
        let (finisher, fails) = (Arc::clone(&self.finisher), Arc::clone(&failed));
        let track = self
            .progress
            .as_ref()
            .map_or(Track::off(), |progress| progress.track("fill"));
        // If there can be no thread, the work is done without it.
        let thread = thread::Builder::new()
            .name("unlade-content".to_owned())
            .spawn(move || work(&jobs, &finisher, &fails, track, &permit))
            .ok()?;
        Some(Running {
            thread,
            to_thread,
            taken_back,
            failed,
        })
    }

    fn join(&mut self) {
        let Some(running) = self.running.take() else { return };
        drop(running.to_thread);
        match running.thread.join() {
            Ok(outcome) => self.outcome.absorb(outcome),
            Err(panic) if !thread::panicking() => resume_unwind(panic),
            Err(_) => {}
        }
        // The writer may have sent something in the moment in which the thread ended.
        for batch in running.taken_back.try_iter() {
            self.outcome.run(batch, &self.finisher);
        }
    }
}

impl Drop for Helper {
    /// Nothing is written any more when the writer is gone.
    fn drop(&mut self) {
        self.batch.clear();
        self.join();
    }
}

fn work(jobs: &Receiver<Vec<Job>>, finisher: &Finisher, failed: &AtomicBool, mut track: Track, _: &Permit) -> Outcome {
    let mut outcome = Outcome::default();
    loop {
        track.wait(FILL, Wait::Input);
        match jobs.recv_timeout(IDLE) {
            Ok(batch) => {
                track.busy(FILL);
                track.bytes(FILL, batch.iter().map(|job| job.data.len() as u64).sum());
                outcome.run(batch, finisher);
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return outcome,
        }
        if outcome.failure.is_some() {
            failed.store(true, Ordering::Relaxed);
        }
    }
}

impl DirectoryWriter<'_> {
    /// Waits until everything is done that was handed over.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        let (notes, failure) = self.helper.settle();
        self.notes.absorb(notes);
        failure.map_or(Ok(()), Err)
    }

    /// Returns what failed first, if the extraction failed with `error`: what was handed over comes before it in the archive.
    pub(crate) fn first_failure(&mut self, error: Error) -> Error {
        self.settle().err().unwrap_or(error)
    }
}
