//! Rows of layers, recorded together.
//!
//! A transaction writes every page that it touches to the database's log, and rows of layers, which are found by digest, are
//! strewn over a dozen pages. Sixty small layers one by one are sixty dozen pages, ten of them at once little more than one.
//! So the row of a layer waits for those of others that are under way, though for a moment only: nobody can use a layer without
//! it, and a process that is killed meanwhile leaves a layer that the next one has to make again.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use unlade_metadata::{Database, Error, LayerCommit};

/// How long a row waits for others.
const WAIT: Duration = Duration::from_millis(100);

/// Records layers. Clones share what waits.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    shared: Arc<Shared>,
    patience: Duration,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            shared: Arc::default(),
            patience: WAIT,
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Layers that somebody works on, those that wait here included.
    at_work: usize,
    /// What waits, by the number of its turn.
    waiting: BTreeMap<u64, LayerCommit>,
    /// What was recorded and does not know yet: nothing, or what is to be tried alone.
    done: BTreeMap<u64, Option<LayerCommit>>,
    next: u64,
    /// Whether somebody is recording what waited.
    is_recording: bool,
}

/// A layer that is under way, and has a row to record sooner or later.
#[derive(Debug)]
pub(crate) struct UnderWay {
    shared: Arc<Shared>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.at_work -= 1;
        if !state.waiting.is_empty() && state.waits_for_nobody() {
            self.shared.changed.notify_all();
        }
    }
}

impl State {
    /// Returns whether all that is under way waits here.
    fn waits_for_nobody(&self) -> bool {
        self.waiting.len() >= self.at_work
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder {
    /// Announces a layer.
    pub(crate) fn begin(&self) -> UnderWay {
        self.shared.lock().at_work += 1;
        UnderWay {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Records a layer that was announced, together with those that come within a moment; returns when it is recorded.
    ///
    /// # Errors
    /// The database cannot be written. One layer that cannot be recorded keeps no other from it.
    pub(crate) fn record(&self, database: &Database, commit: LayerCommit) -> Result<(), Error> {
        let deadline = Instant::now() + self.patience;
        let mut state = self.shared.lock();
        let turn = state.next;
        state.next += 1;
        state.waiting.insert(turn, commit);
        loop {
            if let Some(done) = state.done.remove(&turn) {
                drop(state);
                return done.map_or(Ok(()), |commit| database.record_layer(&commit));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let is_due = left.is_zero() || state.waits_for_nobody();
            if state.is_recording {
                state = self.wait(state, self.patience);
            } else if is_due {
                state = self.record_waiting(state, database);
            } else {
                state = self.wait(state, left);
            }
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        let woken = self.shared.changed.wait_timeout(state, time);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Records what waits now, while more may come to wait.
    fn record_waiting<'a>(&'a self, mut state: MutexGuard<'a, State>, database: &Database) -> MutexGuard<'a, State> {
        state.is_recording = true;
        let (turns, commits) = std::mem::take(&mut state.waiting).into_iter().unzip();
        drop(state);
        let mut batch = Batch {
            shared: &self.shared,
            turns,
            commits,
            is_recorded: false,
        };
        batch.is_recorded = database.record_layers(&batch.commits).is_ok();
        drop(batch);
        self.shared.lock()
    }
}

/// Layers that are being recorded together. Dropping it tells those that wait how it went, whatever happened.
struct Batch<'a> {
    shared: &'a Shared,
    turns: Vec<u64>,
    commits: Vec<LayerCommit>,
    is_recorded: bool,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_recording = false;
        for (turn, commit) in self.turns.drain(..).zip(self.commits.drain(..)) {
            state.done.insert(turn, (!self.is_recorded).then_some(commit));
        }
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use unlade_metadata::{LayerBlobRecord, LayerRecord};
    use unlade_oci::{Algorithm, Compression, Digest, MediaType};

    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::of(Algorithm::Sha256, name.as_bytes())
    }

    fn commit(name: &str) -> LayerCommit {
        LayerCommit {
            layer: LayerRecord {
                diff_id: digest(name),
                raw_size: 1,
                entries: 1,
                is_empty: false,
                summary: serde_json::Value::Null,
            },
            source: LayerBlobRecord {
                blob: digest(&format!("the blob of {name}")),
                diff_id: digest(name),
                compression: Compression::Gzip,
                media_type: MediaType::new("application/vnd.oci.image.layer.v1.tar+gzip"),
                size: 1,
            },
            blob: None,
            directory: None,
        }
    }

    /// One that waits for others for longer than any test may take.
    fn patient() -> Recorder {
        Recorder {
            patience: Duration::from_hours(1),
            ..Recorder::default()
        }
    }

    #[test]
    fn all_are_recorded_and_one_that_cannot_be_is_alone() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path().join("metadata.db")).unwrap();
        let recorder = patient();
        let names: Vec<String> = (0..24).map(|at| at.to_string()).collect();
        let under_way: Vec<_> = names.iter().map(|_| recorder.begin()).collect();
        std::thread::scope(|scope| {
            for (name, under_way) in names.iter().zip(under_way) {
                let (recorder, database) = (recorder.clone(), &database);
                scope.spawn(move || {
                    let _under_way = under_way;
                    let mut commit = commit(name);
                    if name == "7" {
                        // A layer that nobody knows.
                        commit.source.diff_id = digest("nothing");
                    }
                    let recorded = recorder.record(database, commit);
                    assert_eq!(recorded.is_err(), name == "7", "{recorded:?}");
                    let known = database.layer(&digest(name)).unwrap();
                    assert_eq!(known.is_some(), name != "7", "{name}");
                });
            }
        });
        let state = recorder.shared.lock();
        assert_eq!((state.at_work, state.waiting.len(), state.done.len()), (0, 0, 0));
    }

    #[test]
    fn nobody_waits_when_all_others_have_ended() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path().join("metadata.db")).unwrap();
        let recorder = patient();
        let idle = recorder.begin();
        std::thread::scope(|scope| {
            let (waiting, database) = (recorder.clone(), &database);
            let recorded = scope.spawn(move || {
                let _under_way = waiting.begin();
                waiting.record(database, commit("one")).unwrap();
            });
            while recorder.shared.lock().waiting.is_empty() {
                std::thread::yield_now();
            }
            assert!(!recorded.is_finished());
            drop(idle);
        });
        assert!(database.layer(&digest("one")).unwrap().is_some());
    }

    #[test]
    fn others_that_take_long_are_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path().join("metadata.db")).unwrap();
        let recorder = Recorder::default();
        let _idle = recorder.begin();
        let _under_way = recorder.begin();
        recorder.record(&database, commit("one")).unwrap();
        assert!(database.layer(&digest("one")).unwrap().is_some());
    }
}
