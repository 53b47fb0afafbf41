//! Progress and warnings on stderr.
//!
//! The pull tells an [`Observer`] what happens, from the threads that do the work. Ours does no more than to put the event
//! into a queue. A thread of our own takes it from there, samples the tasks' bytes, and draws: however slow the terminal
//! is, the pull does not wait for it.

mod json;
mod model;
mod plain;
mod terminal;

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use unlade_pull::{Activity, Event, Observer, Outcome, Planned, Task};

use self::model::Model;
use crate::stderr::Stderr;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Bars.
    Terminal,
    /// A line now and then.
    Plain,
    /// One JSON object a line.
    Json,
    /// Only warnings are shown.
    None,
}

/// What is said of the bytes that come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// What the command does.
    doing: &'static str,
    /// What is still to be done with the bytes.
    ahead: &'static str,
    /// What is being done.
    now: &'static str,
    /// What was done.
    past: &'static str,
}

impl Words {
    /// Bytes that come from a registry.
    pub(crate) const PULL: Self = Self {
        doing: "pulling",
        ahead: "to download",
        now: "downloading",
        past: "downloaded",
    };
    /// Bytes that come from files.
    pub(crate) const IMPORT: Self = Self {
        doing: "importing",
        ahead: "to take in",
        now: "taking in",
        past: "taken in",
    };
}

/// Something that happened, in our own words and without ties to the pull.
#[derive(Debug)]
enum Notice {
    Planned(Plan),
    Started(Arc<Work>),
    Finished { id: u64, done: bool },
    Warning(String),
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    layers: usize,
    layers_present: usize,
    bytes_to_fetch: u64,
}

/// A task that is under way.
#[derive(Debug)]
struct Work {
    id: u64,
    kind: Kind,
    /// Bytes that there are to do.
    total: u64,
    gauge: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Resolve { reference: String },
    Download { digest: String },
    Extract { digest: String, diff_id: String },
}

/// Where a task's bytes are read.
#[derive(Debug)]
enum Gauge {
    Task(Task),
    #[cfg(test)]
    Fixed(Arc<std::sync::atomic::AtomicU64>),
}

impl Work {
    /// Bytes that are done.
    fn bytes(&self) -> u64 {
        match &self.gauge {
            Gauge::Task(task) => task.bytes(),
            #[cfg(test)]
            Gauge::Fixed(bytes) => bytes.load(std::sync::atomic::Ordering::Relaxed),
        }
    }

    fn of(task: &Task) -> Option<Self> {
        let kind = match task.activity() {
            Activity::Resolve { reference } => Kind::Resolve {
                reference: reference.to_string(),
            },
            Activity::Download { digest, .. } => Kind::Download {
                digest: digest.to_string(),
            },
            Activity::Extract { digest, diff_id, .. } => Kind::Extract {
                digest: digest.to_string(),
                diff_id: diff_id.to_string(),
            },
            _ => return None,
        };
        Some(Self {
            id: task.id(),
            kind,
            total: task.total(),
            gauge: Gauge::Task(task.clone()),
        })
    }
}

/// What draws.
trait Renderer: Send {
    /// How often [`tick`](Self::tick) is due.
    fn interval(&self) -> Duration;
    /// Shows a notice. The model does not have it yet, so that a finished task is still known.
    fn notice(&mut self, model: &Model, notice: &Notice, now: Instant);
    /// Shows how far things are.
    fn tick(&mut self, model: &Model, now: Instant);
    /// Shows the end. `success` is whether the command did what it was to do.
    fn finish(&mut self, model: &Model, success: bool, now: Instant);
}

/// Shows nothing but warnings.
struct WarningsOnly(Stderr);

impl Renderer for WarningsOnly {
    fn interval(&self) -> Duration {
        Duration::from_hours(1)
    }

    fn notice(&mut self, _model: &Model, notice: &Notice, _now: Instant) {
        if let Notice::Warning(text) = notice {
            self.0.warning(text);
        }
    }

    fn tick(&mut self, _model: &Model, _now: Instant) {}

    fn finish(&mut self, _model: &Model, _success: bool, _now: Instant) {}
}

#[derive(Debug, Default)]
struct Queue {
    notices: Vec<Notice>,
    /// Set when the command has ended; then whether it did what it was to do.
    ended: Option<bool>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A queue cannot be half-changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, notice: Notice) {
        self.lock().notices.push(notice);
        self.changed.notify_one();
    }
}

/// The handle by which things are told; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Watcher(Arc<Shared>);

impl Watcher {
    /// Shows a warning.
    pub(crate) fn warn(&self, warning: &impl ToString) {
        self.0.push(Notice::Warning(warning.to_string()));
    }
}

impl Observer for Watcher {
    fn event(&self, event: &Event<'_>) {
        let notice = match event {
            Event::Planned {
                plan:
                    Planned {
                        layers,
                        layers_present,
                        bytes_to_fetch,
                        ..
                    },
            } => Notice::Planned(Plan {
                layers: *layers,
                layers_present: *layers_present,
                bytes_to_fetch: *bytes_to_fetch,
            }),
            Event::Started { task } => match Work::of(task) {
                Some(work) => Notice::Started(Arc::new(work)),
                None => return,
            },
            Event::Finished { task, outcome } => Notice::Finished {
                id: task.id(),
                done: *outcome == Outcome::Done,
            },
            Event::Warning { warning } => Notice::Warning(warning.to_string()),
            _ => return,
        };
        self.0.push(notice);
    }
}

/// The thread that shows things. Ends, with a last word, when [`finish`](Self::finish) is called or it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts to show; without a mode not even warnings.
    pub(crate) fn start(mode: Option<Mode>, words: Words, stderr: Stderr) -> Self {
        let shared = Arc::new(Shared::default());
        let Some(mode) = mode else {
            return Self { shared, thread: None };
        };
        let renderer: Box<dyn Renderer> = match mode {
            Mode::Terminal => Box::new(terminal::Terminal::new(stderr)),
            Mode::Plain => Box::new(plain::Plain::new(stderr)),
            Mode::Json => Box::new(json::Json::new(stderr)),
            Mode::None => Box::new(WarningsOnly(stderr)),
        };
        let ours = Arc::clone(&shared);
        // Without the thread nothing is shown, which is no reason not to pull.
        let thread = thread::Builder::new()
            .name("progress".into())
            .spawn(move || show(&ours, words, renderer))
            .ok();
        Self { shared, thread }
    }

    /// Returns a handle to tell things by.
    pub(crate) fn watcher(&self) -> Watcher {
        Watcher(Arc::clone(&self.shared))
    }

    /// Shows the end and waits until it is shown.
    pub(crate) fn finish(mut self, success: bool) {
        self.end(success);
    }

    fn end(&mut self, success: bool) {
        let Some(thread) = self.thread.take() else { return };
        self.shared.lock().ended = Some(success);
        self.shared.changed.notify_one();
        if let Err(panic) = thread.join()
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end(false);
    }
}

fn show(shared: &Shared, words: Words, mut renderer: Box<dyn Renderer>) {
    let mut model = Model::new(Instant::now());
    model.words = words;
    let mut due = Instant::now() + renderer.interval();
    loop {
        let (notices, ended) = {
            let wait = due.saturating_duration_since(Instant::now());
            let idle = |queue: &mut Queue| queue.notices.is_empty() && queue.ended.is_none();
            let waited = shared.changed.wait_timeout_while(shared.lock(), wait, idle);
            let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
            (mem::take(&mut queue.notices), queue.ended)
        };
        let now = Instant::now();
        for notice in notices {
            renderer.notice(&model, &notice, now);
            model.apply(&notice, now);
        }
        if let Some(success) = ended {
            model.sample(now);
            renderer.finish(&model, success, now);
            return;
        }
        if now >= due {
            model.sample(now);
            renderer.tick(&model, now);
            due = now + renderer.interval();
        }
    }
}
