//! What a pull tells the one who watches it.
//!
//! Every [`Event::Started`] meets an [`Event::Finished`] with the same task, also when the work fails or is
//! cancelled: a guard sends it when it is dropped. Bytes are not events: they are atomics behind [`Task::bytes`], which
//! an observer samples as often as it likes, so that a slow display never slows the transfer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use unlade_extract::Progress;
use unlade_oci::Digest;
use unlade_reference::Reference;
use unlade_sys::{Part, Timings, Track};

use crate::Warning;
use crate::stages::WHOLE;

/// Watches a pull.
///
/// The calls come from the threads that do the work, so an observer must return at once and must not block.
pub trait Observer: Send + Sync {
    /// Takes note of an event.
    fn event(&self, event: &Event<'_>);
}

/// The observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _event: &Event<'_>) {}
}

/// Something that happened in a pull.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The names are resolved and it is known what has to be done. Comes once, before the first layer starts.
    Planned {
        /// What is about to be done.
        plan: &'a Planned,
    },
    /// A task has begun.
    Started {
        /// The task; keep a clone to sample its bytes.
        task: &'a Task,
    },
    /// A task has ended.
    Finished {
        /// The task that was started.
        task: &'a Task,
        /// How it ended.
        outcome: Outcome,
    },
    /// Something a person should know, which did not stop the pull.
    Warning {
        /// What it is.
        warning: &'a Warning,
    },
}

/// The size of the work ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Planned {
    /// Layers of all images asked for, each content counted once.
    pub layers: usize,
    /// Of these, how many are in the store already.
    pub layers_present: usize,
    /// Compressed bytes that have to come over the network, partial downloads taken off.
    pub bytes_to_fetch: u64,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It did what it was for.
    Done,
    /// It failed, or was stopped because something else did.
    Stopped,
}

/// A piece of work in a pull. Cloning gives another handle on the same task.
#[derive(Clone, Debug)]
pub struct Task {
    id: u64,
    activity: Arc<Activity>,
    gauge: Gauge,
}

/// What a task does.
#[derive(Debug)]
#[non_exhaustive]
pub enum Activity {
    /// Asks the registry what a name means.
    Resolve {
        /// The name.
        reference: Reference,
    },
    /// Receives a blob. Bytes are those of the blob, compressed.
    Download {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// Checks a layer and makes its files. Bytes are those of the blob, compressed.
    Extract {
        /// The layer's blob.
        digest: Digest,
        /// The digest of the layer's uncompressed content.
        diff_id: Digest,
        /// The blob's size in bytes.
        size: u64,
    },
}

#[derive(Clone, Debug)]
enum Gauge {
    Nothing,
    Received(Arc<AtomicU64>),
    Extracted(Progress),
}

impl Task {
    /// Returns a number that no other task of this process has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns what the task does.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Returns how many bytes of [`total`](Self::total) are done. Never goes back.
    pub fn bytes(&self) -> u64 {
        match &self.gauge {
            Gauge::Nothing => 0,
            Gauge::Received(bytes) => bytes.load(Ordering::Relaxed),
            Gauge::Extracted(progress) => progress.compressed(),
        }
    }

    /// Returns how many bytes there are to do; 0 for a task without bytes.
    pub fn total(&self) -> u64 {
        match *self.activity {
            Activity::Resolve { .. } => 0,
            Activity::Download { size, .. } | Activity::Extract { size, .. } => size,
        }
    }

    /// Returns how many tar entries are extracted; 0 for a task that extracts nothing.
    pub fn entries(&self) -> u64 {
        match &self.gauge {
            Gauge::Extracted(progress) => progress.entries(),
            Gauge::Nothing | Gauge::Received(_) => 0,
        }
    }
}

/// Sends `Finished` for a started task when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Started {
    watch: Watch,
    task: Task,
    outcome: Outcome,
}

impl Started {
    pub(crate) fn done(mut self) {
        self.outcome = Outcome::Done;
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.watch.observer.event(&Event::Finished {
            task: &self.task,
            outcome: self.outcome,
        });
    }
}

/// The observer as the stages of a pull use it.
#[derive(Clone)]
pub(crate) struct Watch {
    observer: Arc<dyn Observer>,
    timings: Option<Timings>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl Watch {
    pub(crate) fn new(observer: Arc<dyn Observer>) -> Self {
        Self {
            observer,
            timings: None,
        }
    }

    #[must_use]
    pub(crate) fn observed_by(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer, ..self }
    }

    #[must_use]
    pub(crate) fn timed_by(self, timings: Timings) -> Self {
        Self {
            timings: Some(timings),
            ..self
        }
    }

    /// Says whether times are measured.
    pub(crate) fn is_timed(&self) -> bool {
        self.timings.is_some()
    }

    /// Returns where the times of the whole go, if they are measured.
    pub(crate) fn whole(&self) -> Option<Part> {
        self.timings.as_ref().map(|timings| timings.part(WHOLE))
    }

    /// Returns where the times of a blob go, if they are measured.
    pub(crate) fn part(&self, blob: &Digest) -> Option<Part> {
        self.timings.as_ref().map(|timings| timings.part(&blob.to_string()))
    }

    /// Begins a track of the whole.
    pub(crate) fn whole_track(&self) -> Track {
        Track::of(self.whole().as_ref(), "pull")
    }

    /// Begins a track of a blob.
    pub(crate) fn track(&self, blob: &Digest, name: &'static str, number: usize) -> Track {
        self.part(blob)
            .map_or(Track::off(), |part| part.numbered_track(name, number))
    }

    pub(crate) fn warn(&self, warning: &Warning) {
        self.observer.event(&Event::Warning { warning });
    }

    pub(crate) fn planned(&self, plan: &Planned) {
        self.observer.event(&Event::Planned { plan });
    }

    pub(crate) fn resolve(&self, reference: &Reference) -> Started {
        self.start(
            Activity::Resolve {
                reference: reference.clone(),
            },
            Gauge::Nothing,
        )
    }

    pub(crate) fn download(&self, digest: &Digest, size: u64, received: Arc<AtomicU64>) -> Started {
        self.start(
            Activity::Download {
                digest: digest.clone(),
                size,
            },
            Gauge::Received(received),
        )
    }

    pub(crate) fn extract(&self, digest: &Digest, diff_id: &Digest, size: u64, progress: &Progress) -> Started {
        let activity = Activity::Extract {
            digest: digest.clone(),
            diff_id: diff_id.clone(),
            size,
        };
        self.start(activity, Gauge::Extracted(progress.clone()))
    }

    fn start(&self, activity: Activity, gauge: Gauge) -> Started {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let task = Task {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            activity: Arc::new(activity),
            gauge,
        };
        self.observer.event(&Event::Started { task: &task });
        Started {
            watch: self.clone(),
            task,
            outcome: Outcome::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<(u64, Option<Outcome>)>>);

    impl Observer for Recorder {
        fn event(&self, event: &Event<'_>) {
            let entry = match event {
                Event::Started { task } => (task.id(), None),
                Event::Finished { task, outcome } => (task.id(), Some(*outcome)),
                Event::Planned { .. } | Event::Warning { .. } => return,
            };
            self.0.lock().unwrap().push(entry);
        }
    }

    #[test]
    fn a_started_task_is_always_finished() {
        let recorder = Arc::new(Recorder::default());
        let watch = Watch::new(recorder.clone());
        let reference: Reference = "alpine".parse().unwrap();
        watch.resolve(&reference).done();
        drop(watch.resolve(&reference));
        let seen = recorder.0.lock().unwrap();
        let outcomes: Vec<_> = seen.iter().map(|(_, outcome)| *outcome).collect();
        assert_eq!(outcomes, [None, Some(Outcome::Done), None, Some(Outcome::Stopped)]);
        assert_eq!(seen[0].0, seen[1].0);
        assert_ne!(seen[1].0, seen[2].0);
    }
}
