//! Which part of a blob is fetched next, where several connections fetch one blob.
//!
//! Parts are handed out in the order of the blob, so that its front comes first and the extraction behind it has something
//! to do, and not further ahead of the front than [`WINDOW`]. They grow as long as a connection is done with them quickly: a
//! part costs a request. A connection that finds nothing left takes half of what a slow one still has to do.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

/// How far ahead of the first missing byte a part may begin.
pub(crate) const WINDOW: u64 = 128 << 20;
/// The first part of each connection. Small, since the extraction waits for the first of them.
const FIRST: u64 = 4 << 20;
const SMALLEST: u64 = 1 << 20;
const LARGEST: u64 = 32 << 20;
/// A part that took less is followed by one of double the size, and one that took as much as [`SLOW`] by one of half.
const QUICK: Duration = Duration::from_secs(1);
const SLOW: Duration = Duration::from_secs(4);
/// What is shared out again: at least as many bytes, or it is not worth a request,
const WORTHWHILE: u64 = 2 << 20;
/// of a connection that has been at it for as long, so that its pace is known,
const KNOWN: Duration = Duration::from_millis(500);
/// and will be for longer than this.
const LONG: Duration = Duration::from_millis(1500);

/// The parts of one blob: those to do, and those that are being fetched.
#[derive(Debug)]
pub(crate) struct Pieces {
    size: u64,
    /// In order.
    todo: VecDeque<Range<u64>>,
    active: BTreeMap<usize, Active>,
    /// How large the next part of a connection is.
    sizes: BTreeMap<usize, u64>,
}

#[derive(Clone, Copy, Debug)]
struct Active {
    start: u64,
    /// The next byte to arrive.
    next: u64,
    end: u64,
    since: Instant,
}

impl Pieces {
    /// Begins with all that is `missing` of a blob, in order.
    pub(crate) fn new(size: u64, missing: Vec<Range<u64>>) -> Self {
        Self {
            size,
            todo: missing.into(),
            active: BTreeMap::new(),
            sizes: BTreeMap::new(),
        }
    }

    /// Returns the first byte that may be missing.
    pub(crate) fn front(&self) -> u64 {
        let todo = self.todo.front().map_or(self.size, |range| range.start);
        self.active.values().map(|active| active.next).fold(todo, u64::min)
    }

    /// Tells whether everything was fetched.
    pub(crate) fn are_done(&self) -> bool {
        self.todo.is_empty() && self.active.is_empty()
    }

    /// Gives a part to a connection that has none; `None` if there is nothing for it now. `alone`: there is no other
    /// connection to share with.
    pub(crate) fn take(&mut self, connection: usize, alone: bool, now: Instant) -> Option<Range<u64>> {
        let front = self.front();
        let length = if alone {
            WINDOW
        } else {
            *self.sizes.entry(connection).or_insert(FIRST)
        };
        let part = match self.todo.front_mut() {
            Some(first) if first.start < front.saturating_add(WINDOW) => {
                let end = first.end.min(first.start.saturating_add(length));
                let part = first.start..end;
                first.start = end;
                if first.is_empty() {
                    self.todo.pop_front();
                }
                part
            }
            _ => self.share(now)?,
        };
        let active = Active {
            start: part.start,
            next: part.start,
            end: part.end,
            since: now,
        };
        self.active.insert(connection, active);
        Some(part)
    }

    /// Tells whether [`take`](Self::take) would give something.
    pub(crate) fn has_work(&self, now: Instant) -> bool {
        let limit = self.front().saturating_add(WINDOW);
        self.todo.front().is_some_and(|first| first.start < limit)
            || self.active.values().any(|active| active.is_slow(now))
    }

    /// Takes the second half of the part that has the most to do, if its connection is slow.
    fn share(&mut self, now: Instant) -> Option<Range<u64>> {
        let slow = self.active.values_mut().filter(|active| active.is_slow(now));
        let most = slow.max_by_key(|active| active.end - active.next)?;
        let middle = most.next + (most.end - most.next) / 2;
        let half = middle..most.end;
        most.end = middle;
        Some(half)
    }

    /// Takes note that a connection has received everything before `next`. Returns where its part ends, which may be earlier
    /// than when it began.
    pub(crate) fn progress(&mut self, connection: usize, next: u64) -> u64 {
        self.active.get_mut(&connection).map_or(next, |active| {
            active.next = active.next.max(next.min(active.end));
            active.end
        })
    }

    /// Returns where the connection's part ends now.
    pub(crate) fn end(&self, connection: usize) -> u64 {
        self.active.get(&connection).map_or(self.size, |active| active.end)
    }

    /// Takes note that a connection has received its part.
    pub(crate) fn done(&mut self, connection: usize, now: Instant) {
        let Some(active) = self.active.remove(&connection) else {
            return;
        };
        let took = now.saturating_duration_since(active.since);
        let size = self.sizes.entry(connection).or_insert(FIRST);
        if took < QUICK {
            *size = LARGEST.min(*size * 2);
        } else if took >= SLOW {
            *size = SMALLEST.max(*size / 2);
        }
    }

    /// Takes back what a connection has failed to receive.
    pub(crate) fn put_back(&mut self, connection: usize) {
        let Some(active) = self.active.remove(&connection) else {
            return;
        };
        if active.next < active.end {
            let place = self.todo.partition_point(|range| range.start < active.next);
            self.todo.insert(place, active.next..active.end);
        }
    }

    /// Takes note that a connection receives everything that is not fetched by others already: the server sends the whole.
    pub(crate) fn whole(&mut self, connection: usize) {
        self.todo.clear();
        if let Some(active) = self.active.get_mut(&connection) {
            active.end = self.size;
        }
    }
}

impl Active {
    fn is_slow(&self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.since);
        let (received, left) = (self.next - self.start, self.end - self.next);
        // left / (received / elapsed) > LONG, without dividing by nothing.
        let is_long = u128::from(left) * elapsed.as_millis() > u128::from(received) * LONG.as_millis();
        left >= WORTHWHILE && elapsed >= KNOWN && is_long
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn whole(size: u64) -> Pieces {
        Pieces::new(size, Some(0..size).into_iter().collect())
    }

    #[test]
    fn parts_come_in_order_and_grow() {
        let mut pieces = whole(100 * MIB);
        let now = Instant::now();
        assert_eq!(pieces.take(0, false, now), Some(0..4 * MIB));
        assert_eq!(pieces.take(1, false, now), Some(4 * MIB..8 * MIB));
        assert_eq!(pieces.progress(0, 4 * MIB), 4 * MIB);
        pieces.done(0, now);
        assert_eq!(pieces.front(), 4 * MIB);
        assert_eq!(pieces.take(0, false, now), Some(8 * MIB..16 * MIB), "twice as much");
        pieces.done(1, now + 5 * QUICK);
        assert_eq!(pieces.take(1, false, now), Some(16 * MIB..18 * MIB), "half as much");
        assert_eq!(pieces.front(), 8 * MIB);
    }

    #[test]
    fn every_byte_is_handed_out_once() {
        let missing = vec![MIB..3 * MIB, 10 * MIB..50 * MIB, 51 * MIB..52 * MIB];
        let mut pieces = Pieces::new(60 * MIB, missing.clone());
        let now = Instant::now();
        let mut taken = Vec::new();
        let mut turn = 0;
        while let Some(part) = pieces.take(turn % 3, false, now) {
            pieces.progress(turn % 3, part.end);
            pieces.done(turn % 3, now);
            taken.push(part);
            turn += 1;
        }
        assert!(pieces.are_done());
        assert_eq!(pieces.front(), 60 * MIB);
        let merged: Vec<_> = taken.chunk_by(|one, next| one.end == next.start).collect();
        let merged: Vec<_> = merged.iter().map(|run| run[0].start..run[run.len() - 1].end).collect();
        assert_eq!(merged, missing);
    }

    #[test]
    fn nothing_is_handed_out_beyond_the_window() {
        let mut pieces = whole(1000 * MIB);
        let now = Instant::now();
        pieces.take(0, false, now).unwrap();
        let mut last = 0;
        while let Some(part) = pieces.take(1, false, now) {
            last = part.end;
            pieces.progress(1, part.end);
            pieces.done(1, now);
        }
        assert!((WINDOW..WINDOW + LARGEST).contains(&last), "{last}");
        pieces.progress(0, 2 * MIB);
        pieces.done(0, now);
        assert!(pieces.take(0, false, now).is_some(), "the front has moved on");
    }

    #[test]
    fn who_is_alone_takes_long_parts() {
        let mut pieces = whole(1000 * MIB);
        assert_eq!(pieces.take(0, true, Instant::now()), Some(0..WINDOW));
    }

    #[test]
    fn a_slow_connection_gives_half_of_its_rest_away() {
        let mut pieces = whole(4 * MIB);
        let now = Instant::now();
        assert_eq!(pieces.take(0, false, now), Some(0..4 * MIB));
        assert_eq!(pieces.take(1, false, now), None, "its pace is not known yet");
        let later = now + KNOWN;
        assert_eq!(pieces.take(1, false, later), Some(2 * MIB..4 * MIB));
        assert_eq!(pieces.progress(0, MIB / 2), 2 * MIB);
        assert_eq!(pieces.end(0), 2 * MIB);
        assert_eq!(pieces.take(2, false, later), None, "too little is left to share");
        // A quick one keeps its own.
        let mut pieces = whole(4 * MIB);
        pieces.take(0, false, now);
        pieces.progress(0, 2 * MIB);
        assert_eq!(pieces.take(1, false, now + KNOWN), None);
    }

    #[test]
    fn what_failed_is_handed_out_again_first() {
        let mut pieces = whole(100 * MIB);
        let now = Instant::now();
        pieces.take(0, false, now).unwrap();
        pieces.take(1, false, now).unwrap();
        pieces.progress(0, MIB);
        pieces.put_back(0);
        assert_eq!(pieces.front(), MIB);
        assert_eq!(pieces.take(2, false, now), Some(MIB..4 * MIB));
        pieces.put_back(2);
        pieces.put_back(1);
        pieces.put_back(1);
        assert_eq!(pieces.front(), MIB);
    }

    #[test]
    fn a_server_that_sends_the_whole_is_the_only_one() {
        let mut pieces = whole(100 * MIB);
        let now = Instant::now();
        pieces.take(0, false, now).unwrap();
        pieces.whole(0);
        assert_eq!(pieces.take(1, false, now), None);
        assert_eq!(pieces.progress(0, 50 * MIB), 100 * MIB);
        pieces.done(0, now);
        assert!(pieces.are_done());
    }
}
