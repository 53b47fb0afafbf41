//! What was measured, put together.

use std::time::Duration;

use super::track::{Account, Finished, Span, Stage, Wait};

/// What was measured. Times are from the beginning of the measurement.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TimingsReport {
    /// The time since the measurement began.
    pub wall: Duration,
    /// The processor time that the whole process has used since then, on all processors together, what no stage has measured
    /// included.
    pub cpu: Duration,
    /// The parts of the operation, in the order in which they were begun.
    pub parts: Vec<PartTimes>,
}

/// What was measured of one part.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PartTimes {
    /// Its name.
    pub name: String,
    /// Its stages, by rank.
    pub stages: Vec<StageTimes>,
    /// Its tracks, in the order in which they have ended; those that were one after another under one name are one.
    pub tracks: Vec<TrackTimes>,
}

/// What was measured of one stage in one part.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StageTimes {
    /// Which stage.
    pub stage: Stage,
    /// When it was first entered.
    pub began: Duration,
    /// When it was last left. Between the two a thread may have been in other stages.
    pub ended: Duration,
    /// For how long it was at work. With several tracks the times of all are added up, so this may be more than from
    /// [`began`](Self::began) to [`ended`](Self::ended).
    pub busy: Duration,
    /// The processor time of what was busy: if it is much less, the stage was held up by a disk, or by the lack of a
    /// processor.
    pub cpu: Duration,
    /// How many bytes went through it, as far as bytes do.
    pub bytes: u64,
    /// On how many threads or tasks it was.
    pub tracks: usize,
    waits: [Duration; Wait::ALL.len()],
}

impl StageTimes {
    /// Returns for how long it has waited for something, of all tracks together.
    pub const fn waited(&self, wait: Wait) -> Duration {
        self.waits[wait as usize]
    }
}

/// What one thread or task did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrackTimes {
    /// Its name.
    pub name: &'static str,
    /// Which one of this name.
    pub number: usize,
    /// What it did, one after the other, if that was kept.
    pub spans: Vec<Span>,
    /// How many single times were too many to be kept.
    pub spans_lost: u64,
}

pub(super) fn of(wall: Duration, cpu: Duration, parts: &[String], tracks: &[Finished]) -> TimingsReport {
    let part = |(number, name): (usize, &String)| {
        let own: Vec<_> = tracks.iter().filter(|track| track.part == number).collect();
        PartTimes {
            name: name.clone(),
            stages: stages(&own),
            tracks: merged(&own),
        }
    };
    TimingsReport {
        wall,
        cpu,
        parts: parts.iter().enumerate().map(part).collect(),
    }
}

fn stages(tracks: &[&Finished]) -> Vec<StageTimes> {
    let mut sums: Vec<(Account, Vec<(&'static str, usize)>)> = Vec::new();
    for track in tracks {
        for account in &track.accounts {
            let known = sums.iter().position(|(sum, _)| sum.stage == account.stage);
            let at = known.unwrap_or_else(|| {
                sums.push((Account::new(account.stage), Vec::new()));
                sums.len() - 1
            });
            let (sum, on) = &mut sums[at];
            sum.absorb(account);
            let track = (track.name, track.number);
            if !on.contains(&track) {
                on.push(track);
            }
        }
    }
    sums.sort_by_key(|(sum, _)| sum.stage.rank());
    sums.into_iter().map(|(sum, on)| sum.times(on.len())).collect()
}

fn merged(tracks: &[&Finished]) -> Vec<TrackTimes> {
    let mut merged: Vec<TrackTimes> = Vec::new();
    for track in tracks {
        let is_same = |known: &TrackTimes| (known.name, known.number) == (track.name, track.number);
        if let Some(known) = merged.iter_mut().find(|known| is_same(known)) {
            known.spans.extend(&track.spans);
            known.spans_lost += track.spans_lost;
        } else {
            merged.push(TrackTimes {
                name: track.name,
                number: track.number,
                spans: track.spans.clone(),
                spans_lost: track.spans_lost,
            });
        }
    }
    for track in &mut merged {
        // They are handed in when tracks end, which may be long after they did something.
        track.spans.sort_by_key(|span| span.began);
    }
    merged
}

impl Account {
    fn absorb(&mut self, other: &Self) {
        self.busy += other.busy;
        self.cpu += other.cpu;
        self.bytes += other.bytes;
        for (sum, wait) in self.waits.iter_mut().zip(other.waits) {
            *sum += wait;
        }
        self.span = match (self.span, other.span) {
            (Some((began, ended)), Some((other_began, other_ended))) => {
                Some((began.min(other_began), ended.max(other_ended)))
            }
            (own, other) => own.or(other),
        };
    }

    fn times(self, tracks: usize) -> StageTimes {
        let (began, ended) = self.span.unwrap_or_default();
        StageTimes {
            stage: self.stage,
            began,
            ended,
            busy: self.busy,
            cpu: self.cpu,
            bytes: self.bytes,
            tracks,
            waits: self.waits,
        }
    }
}
