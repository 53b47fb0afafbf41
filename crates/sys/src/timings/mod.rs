//! Where the time of an operation goes: what its stages do, and what they wait for.
//!
//! An operation has parts, a part has tracks, and a track is what one thread or one task does, one thing after the other: it
//! is busy with a stage, or waits in it, or is in none. So the times of a track never overlap, and those of a stage lie
//! within its span. A track keeps its own accounts and hands them in when it is dropped: what is measured shares nothing
//! while it is measured.
//!
//! The price is a reading of the clock for each change of what a track does, and two of the thread's processor time for each
//! time it is busy; changes belong at buffers, not at entries or lines. A track that is off reads no clock.

mod report;
mod track;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use self::report::{PartTimes, StageTimes, TimingsReport, TrackTimes};
pub use self::track::{Span, Stage, Track, Wait};

/// Measures an operation. A clone measures the same one.
#[derive(Clone, Debug)]
pub struct Timings(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    began: Instant,
    cpu: Duration,
    keeps_spans: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    parts: Vec<String>,
    tracks: Vec<track::Finished>,
}

/// A part of an operation: its stages are apart from those of the same name in other parts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Part {
    timings: Timings,
    number: usize,
}

impl Timings {
    /// Begins to measure. What is kept is a few numbers for each track, however long it goes on.
    pub fn new() -> Self {
        Self::with(false)
    }

    /// Begins to measure, and keeps every single time, too: up to 65,536 for each track, 40 bytes each.
    pub fn with_spans() -> Self {
        Self::with(true)
    }

    fn with(keeps_spans: bool) -> Self {
        Self(Arc::new(Shared {
            began: Instant::now(),
            cpu: process_cpu(),
            keeps_spans,
            state: Mutex::default(),
        }))
    }

    /// Returns the part of this name. Reports list parts in the order in which they were first asked for.
    pub fn part(&self, name: &str) -> Part {
        let mut state = self.lock();
        let known = state.parts.iter().position(|part| part == name);
        let number = known.unwrap_or_else(|| {
            state.parts.push(name.to_owned());
            state.parts.len() - 1
        });
        drop(state);
        Part {
            timings: self.clone(),
            number,
        }
    }

    /// Returns what was measured until now by tracks that have ended.
    pub fn report(&self) -> TimingsReport {
        let wall = self.elapsed();
        let cpu = process_cpu().saturating_sub(self.0.cpu);
        let state = self.lock();
        report::of(wall, cpu, &state.parts, &state.tracks)
    }

    fn elapsed(&self) -> Duration {
        self.0.began.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Timings {
    fn default() -> Self {
        Self::new()
    }
}

impl Part {
    /// Begins a track. It has a name of its own within the part, unless another has ended before it begins.
    pub fn track(&self, name: &'static str) -> Track {
        self.numbered_track(name, 0)
    }

    /// Begins one of several tracks of one name that exist at the same time.
    pub fn numbered_track(&self, name: &'static str, number: usize) -> Track {
        Track::new(self.clone(), name, number)
    }
}

/// Returns the processor time of this thread.
fn thread_cpu() -> Duration {
    of_clock(rustix::time::ClockId::ThreadCPUTime)
}

/// Returns the processor time of all threads of this process, those that have ended included.
fn process_cpu() -> Duration {
    of_clock(rustix::time::ClockId::ProcessCPUTime)
}

fn of_clock(clock: rustix::time::ClockId) -> Duration {
    // These clocks exist since Linux 2.6.12, and are never negative.
    Duration::try_from(rustix::time::clock_gettime(clock)).unwrap_or_default()
}
