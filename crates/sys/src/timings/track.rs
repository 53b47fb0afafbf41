//! What one thread or task does, one thing after the other.

use std::time::Duration;

use super::{Part, thread_cpu};

/// How many single times a track keeps.
const MOST_SPANS: usize = 1 << 16;

/// A piece of the work that is measured for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    rank: u8,
    name: &'static str,
}

impl Stage {
    /// Makes a stage. Reports list stages by rank.
    pub const fn new(rank: u8, name: &'static str) -> Self {
        Self { rank, name }
    }

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        self.name
    }

    pub(super) const fn rank(self) -> u8 {
        self.rank
    }
}

/// What a stage waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wait {
    /// A permit to begin.
    Permit,
    /// A thread to run on.
    Thread,
    /// Another machine.
    Network,
    /// The stage before it: there is no input.
    Input,
    /// The stage after it: it has not taken the output yet.
    Output,
}

impl Wait {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::Permit, Self::Thread, Self::Network, Self::Input, Self::Output];

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Thread => "thread",
            Self::Network => "network",
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// One time in which a track did one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// In which stage.
    pub stage: Stage,
    /// What it waited for; `None` if it was busy.
    pub wait: Option<Wait>,
    /// When it began, from the beginning of the measurement.
    pub began: Duration,
    /// When it ended, likewise.
    pub ended: Duration,
}

/// What one stage has taken on one track, or on several.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    pub(super) stage: Stage,
    /// From its first time to its last; none if it only has bytes.
    pub(super) span: Option<(Duration, Duration)>,
    pub(super) busy: Duration,
    pub(super) cpu: Duration,
    pub(super) waits: [Duration; Wait::ALL.len()],
    pub(super) bytes: u64,
}

impl Account {
    pub(super) const fn new(stage: Stage) -> Self {
        Self {
            stage,
            span: None,
            busy: Duration::ZERO,
            cpu: Duration::ZERO,
            waits: [Duration::ZERO; Wait::ALL.len()],
            bytes: 0,
        }
    }

    fn add(&mut self, wait: Option<Wait>, began: Duration, ended: Duration) {
        let time = ended.saturating_sub(began);
        match wait {
            None => self.busy += time,
            Some(wait) => self.waits[wait as usize] += time,
        }
        let (first, last) = self.span.unwrap_or((began, ended));
        self.span = Some((first.min(began), last.max(ended)));
    }
}

/// A track that has ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) part: usize,
    pub(super) name: &'static str,
    pub(super) number: usize,
    pub(super) accounts: Vec<Account>,
    pub(super) spans: Vec<Span>,
    pub(super) spans_lost: u64,
}

/// What one thread or task does, one thing after the other. It ends when it is dropped.
///
/// A track may go from thread to thread, but not while it is busy: the processor time would be that of two threads.
#[derive(Debug)]
pub struct Track(Option<Box<Running>>);

#[derive(Debug)]
struct Running {
    part: Part,
    finished: Finished,
    current: Option<Current>,
}

/// What a track does at present.
#[derive(Clone, Copy, Debug)]
struct Current {
    /// Which of the accounts.
    account: usize,
    wait: Option<Wait>,
    began: Duration,
    cpu: Duration,
}

impl Track {
    pub(super) fn new(part: Part, name: &'static str, number: usize) -> Self {
        let finished = Finished {
            part: part.number,
            name,
            number,
            accounts: Vec::new(),
            spans: Vec::new(),
            spans_lost: 0,
        };
        Self(Some(Box::new(Running {
            part,
            finished,
            current: None,
        })))
    }

    /// Returns a track that measures nothing.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Begins a track of `part`, or one that measures nothing if there is none.
    pub fn of(part: Option<&Part>, name: &'static str) -> Self {
        part.map_or(Self::off(), |part| part.track(name))
    }

    /// Says whether it measures.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// From now on it is busy with `stage`.
    #[inline]
    pub fn busy(&mut self, stage: Stage) {
        if let Some(running) = &mut self.0 {
            running.switch(Some((stage, None)));
        }
    }

    /// From now on it waits in `stage`.
    #[inline]
    pub fn wait(&mut self, stage: Stage, wait: Wait) {
        if let Some(running) = &mut self.0 {
            running.switch(Some((stage, Some(wait))));
        }
    }

    /// From now on it is in no stage.
    #[inline]
    pub fn idle(&mut self) {
        if let Some(running) = &mut self.0 {
            running.switch(None);
        }
    }

    /// Counts the first part of the time for which it is busy with what it does now as waiting.
    ///
    /// For what waits inside of a call and says how long it did.
    pub fn has_waited(&mut self, wait: Wait, time: Duration) {
        if let Some(running) = &mut self.0
            && !time.is_zero()
        {
            running.has_waited(wait, time);
        }
    }

    /// Adds to the bytes that have gone through `stage`.
    #[inline]
    pub fn bytes(&mut self, stage: Stage, bytes: u64) {
        if let Some(running) = &mut self.0 {
            let account = running.account(stage);
            running.finished.accounts[account].bytes += bytes;
        }
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        if let Some(mut running) = self.0.take() {
            running.switch(None);
            let Running { part, finished, .. } = *running;
            part.timings.lock().tracks.push(finished);
        }
    }
}

impl Running {
    /// Ends what it does and begins something else.
    fn switch(&mut self, to: Option<(Stage, Option<Wait>)>) {
        let current = self
            .current
            .map(|current| (self.finished.accounts[current.account].stage, current.wait));
        if current == to {
            return;
        }
        let is_busy = |state: Option<(Stage, Option<Wait>)>| matches!(state, Some((_, None)));
        let cpu = if is_busy(current) || is_busy(to) {
            thread_cpu()
        } else {
            Duration::ZERO
        };
        self.switch_at(to, self.part.timings.elapsed(), cpu);
    }

    fn switch_at(&mut self, to: Option<(Stage, Option<Wait>)>, now: Duration, cpu: Duration) {
        if let Some(current) = self.current.take() {
            if current.wait.is_none() {
                self.finished.accounts[current.account].cpu += cpu.saturating_sub(current.cpu);
            }
            self.note(current.account, current.wait, current.began, now);
        }
        if let Some((stage, wait)) = to {
            let account = self.account(stage);
            self.current = Some(Current {
                account,
                wait,
                began: now,
                cpu,
            });
        }
    }

    fn has_waited(&mut self, wait: Wait, time: Duration) {
        if let Some(mut current) = self.current {
            let began = current.began;
            current.began += time;
            self.note(current.account, Some(wait), began, current.began);
            self.current = Some(current);
        }
    }

    fn note(&mut self, account: usize, wait: Option<Wait>, began: Duration, ended: Duration) {
        let account = &mut self.finished.accounts[account];
        account.add(wait, began, ended);
        if !self.part.timings.0.keeps_spans || ended <= began {
        } else if self.finished.spans.len() < MOST_SPANS {
            self.finished.spans.push(Span {
                stage: account.stage,
                wait,
                began,
                ended,
            });
        } else {
            self.finished.spans_lost += 1;
        }
    }

    fn account(&mut self, stage: Stage) -> usize {
        let accounts = &mut self.finished.accounts;
        let known = accounts.iter().position(|account| account.stage == stage);
        known.unwrap_or_else(|| {
            accounts.push(Account::new(stage));
            accounts.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Timings;
    use super::*;

    const READ: Stage = Stage::new(1, "read");
    const INFLATE: Stage = Stage::new(2, "inflate");

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn running(track: &mut Track) -> &mut Running {
        track.0.as_mut().unwrap()
    }

    #[test]
    fn a_track_is_one_thing_after_the_other() {
        let timings = Timings::with_spans();
        let part = timings.part("layer");
        let mut track = part.track("reader");
        let run = running(&mut track);
        run.switch_at(Some((READ, Some(Wait::Permit))), ms(10), ms(0));
        run.switch_at(Some((READ, None)), ms(30), ms(100));
        run.has_waited(Wait::Input, ms(5));
        run.switch_at(Some((INFLATE, None)), ms(40), ms(104));
        run.switch_at(Some((INFLATE, Some(Wait::Output))), ms(70), ms(130));
        run.switch_at(Some((READ, None)), ms(75), ms(131));
        run.switch_at(None, ms(80), ms(133));
        track.bytes(READ, 7);
        track.bytes(INFLATE, 20);
        track.bytes(READ, 3);
        drop(track);
        let report = timings.report();
        let [part] = &report.parts[..] else {
            panic!("{report:?}")
        };
        assert_eq!(part.name, "layer");
        let [read, inflate] = &part.stages[..] else {
            panic!("{part:?}")
        };
        assert_eq!((read.began, read.ended), (ms(10), ms(80)));
        assert_eq!((read.busy, read.cpu, read.bytes), (ms(10), ms(6), 10));
        assert_eq!(read.waited(Wait::Permit), ms(20));
        assert_eq!(read.waited(Wait::Input), ms(5));
        assert_eq!(read.waited(Wait::Output), Duration::ZERO);
        assert_eq!((inflate.busy, inflate.cpu, inflate.bytes), (ms(30), ms(26), 20));
        assert_eq!(inflate.waited(Wait::Output), ms(5));
        let spans: Vec<_> = part.tracks[0]
            .spans
            .iter()
            .map(|span| (span.began, span.ended))
            .collect();
        let expected = [(10, 30), (30, 35), (35, 40), (40, 70), (70, 75), (75, 80)];
        assert_eq!(spans, expected.map(|(began, ended)| (ms(began), ms(ended))));
    }

    #[test]
    fn tracks_of_one_stage_add_up() {
        let timings = Timings::new();
        let part = timings.part("layer");
        for number in 0..3 {
            let mut track = part.numbered_track("receive", number);
            let run = running(&mut track);
            run.switch_at(Some((READ, None)), ms(10 + number as u64), ms(0));
            run.switch_at(None, ms(20 + number as u64), ms(2));
            track.bytes(READ, 5);
        }
        let report = timings.report();
        let read = report.parts[0].stages[0];
        assert_eq!((read.began, read.ended, read.tracks), (ms(10), ms(22), 3));
        assert_eq!((read.busy, read.cpu, read.bytes), (ms(30), ms(6), 15));
        // Single times were not asked for.
        assert!(report.parts[0].tracks.iter().all(|track| track.spans.is_empty()));
    }

    #[test]
    fn parts_are_known_by_their_names() {
        let timings = Timings::new();
        for name in ["one", "two", "one"] {
            timings.part(name).track("track").bytes(READ, 1);
        }
        let report = timings.report();
        let found: Vec<_> = report
            .parts
            .iter()
            .map(|part| (&part.name[..], part.stages[0].bytes))
            .collect();
        assert_eq!(found, [("one", 2), ("two", 1)]);
    }

    #[test]
    fn what_is_really_measured_is_within_its_span() {
        let timings = Timings::new();
        let mut track = timings.part("layer").track("reader");
        track.busy(READ);
        // A little more than is asked for below: the clocks need not agree to the last nanosecond.
        let before = thread_cpu();
        while thread_cpu() < before + ms(3) {}
        track.wait(READ, Wait::Input);
        std::thread::sleep(ms(3));
        drop(track);
        let report = timings.report();
        let read = report.parts[0].stages[0];
        assert!(
            read.cpu >= ms(2) && read.busy >= ms(2) && read.waited(Wait::Input) >= ms(2),
            "{read:?}"
        );
        assert!(
            read.busy + read.waited(Wait::Input) <= read.ended.saturating_sub(read.began),
            "{read:?}"
        );
        assert!(read.ended <= report.wall && read.cpu <= report.cpu, "{report:?}");
    }

    #[test]
    fn a_track_keeps_so_many_times_and_no_more() {
        let timings = Timings::with_spans();
        let mut track = timings.part("layer").track("reader");
        for time in 0..MOST_SPANS as u64 + 10 {
            let stage = if time % 2 == 0 { READ } else { INFLATE };
            running(&mut track).switch_at(Some((stage, None)), ms(time), ms(time));
        }
        running(&mut track).switch_at(None, ms(1 << 20), ms(1 << 20));
        drop(track);
        let report = timings.report();
        let track = &report.parts[0].tracks[0];
        assert_eq!(track.spans.len(), MOST_SPANS);
        assert_eq!(track.spans_lost, 10);
    }

    #[test]
    fn what_is_off_measures_nothing() {
        let mut track = Track::of(None, "reader");
        track.busy(READ);
        track.bytes(READ, 1);
        assert!(!track.is_on());
    }
}
