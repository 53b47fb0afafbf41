//! Which bytes of a blob are there.

use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges of bytes that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Returns the first `length` bytes.
    pub(crate) fn up_to(length: u64) -> Self {
        let mut ranges = Self::default();
        ranges.insert(0..length);
        ranges
    }

    /// Adds a range.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        // All that begin before or at the end; from the last of them backwards, as far as they reach the start.
        while let Some((&other_start, &other_end)) = self.0.range(..=end).next_back()
            && other_end >= start
        {
            start = start.min(other_start);
            end = end.max(other_end);
            self.0.remove(&other_start);
        }
        self.0.insert(start, end);
    }

    /// Returns how many bytes there are from the first byte on without a gap.
    pub(crate) fn prefix(&self) -> u64 {
        self.0.get(&0).copied().unwrap_or_default()
    }

    /// Returns how many bytes there are in all.
    pub(crate) fn total(&self) -> u64 {
        self.iter().map(|range| range.end - range.start).sum()
    }

    /// Returns where the last range ends.
    pub(crate) fn end(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(_, &end)| end)
    }

    /// Returns the ranges in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|(&start, &end)| start..end)
    }

    /// Returns what is missing of `within`, in order.
    pub(crate) fn missing(&self, within: Range<u64>) -> Vec<Range<u64>> {
        let mut missing = Vec::new();
        let mut from = within.start;
        for range in self.iter() {
            if range.end <= from {
                continue;
            }
            if range.start >= within.end {
                break;
            }
            if from < range.start {
                missing.push(from..range.start);
            }
            from = range.end;
        }
        if from < within.end {
            missing.push(from..within.end);
        }
        missing
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a list with one range is what is meant")]
mod tests {
    use super::*;

    fn of(parts: &[(u64, u64)]) -> Ranges {
        let mut ranges = Ranges::default();
        for &(start, end) in parts {
            ranges.insert(start..end);
        }
        ranges
    }

    fn list(ranges: &Ranges) -> Vec<(u64, u64)> {
        ranges.iter().map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn what_touches_becomes_one() {
        type Parts = &'static [(u64, u64)];
        let table: [(Parts, Parts); 9] = [
            (&[], &[]),
            (&[(3, 3)], &[]),
            (&[(0, 3), (5, 7)], &[(0, 3), (5, 7)]),
            (&[(0, 3), (3, 7)], &[(0, 7)]),
            (&[(3, 7), (0, 3)], &[(0, 7)]),
            (&[(0, 2), (4, 6), (8, 10), (1, 9)], &[(0, 10)]),
            (&[(0, 10), (2, 3)], &[(0, 10)]),
            (&[(2, 3), (0, 10)], &[(0, 10)]),
            (&[(4, 6), (0, 2), (2, 4)], &[(0, 6)]),
        ];
        for (parts, expected) in table {
            assert_eq!(list(&of(parts)), expected, "{parts:?}");
        }
    }

    #[test]
    fn prefix_total_and_end() {
        let ranges = of(&[(0, 3), (5, 7)]);
        assert_eq!((ranges.prefix(), ranges.total(), ranges.end()), (3, 5, 7));
        let ranges = of(&[(1, 3)]);
        assert_eq!((ranges.prefix(), ranges.total(), ranges.end()), (0, 2, 3));
        assert_eq!(Ranges::up_to(4), of(&[(0, 4)]));
        assert_eq!(Ranges::up_to(0), Ranges::default());
    }

    #[test]
    fn gaps() {
        let ranges = of(&[(2, 4), (6, 8)]);
        assert_eq!(ranges.missing(0..10), [0..2, 4..6, 8..10]);
        assert_eq!(ranges.missing(3..7), [4..6]);
        assert_eq!(ranges.missing(2..4), []);
        assert_eq!(ranges.missing(4..6), [4..6]);
        assert_eq!(ranges.missing(9..9), []);
        assert_eq!(Ranges::default().missing(0..1), [0..1]);
    }
}
