//! Sparse files: which bytes of the archive go where in the file.

use tar::{GnuExtSparseHeader, GnuHeader, GnuSparseHeader};

use super::header::number;
use super::pax::decimal;

/// Where the stored bytes of a file go: runs in ascending order, each not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SparseMap {
    /// Length of the file with its holes.
    pub(super) size: u64,
    /// Offset and length of each run.
    pub(super) runs: Vec<(u64, u64)>,
}

impl SparseMap {
    /// Checks a map as an archive gives it against the number of bytes stored.
    pub(super) fn new(size: u64, runs: impl IntoIterator<Item = (u64, u64)>, stored: u64) -> Result<Self, String> {
        let mut map = Self { size, runs: Vec::new() };
        let (mut end, mut sum) = (0, 0);
        for (offset, length) in runs {
            let run_end = offset
                .checked_add(length)
                .filter(|run_end| offset >= end && *run_end <= size);
            end = run_end.ok_or("the map of the sparse file has runs that overlap or leave the file")?;
            sum += length;
            if length > 0 {
                map.runs.push((offset, length));
            }
        }
        if sum != stored {
            return Err(format!(
                "the map of the sparse file covers {sum} bytes, the archive holds {stored}"
            ));
        }
        if i64::try_from(size).is_err() {
            return Err("the sparse file is larger than a file can be".to_owned());
        }
        Ok(map)
    }
}

/// Reads the runs that an old GNU sparse header holds itself. Returns whether more blocks of them follow.
pub(super) fn old_gnu(header: &GnuHeader, runs: &mut Vec<(u64, u64)>) -> Result<bool, String> {
    add(&header.sparse, runs)?;
    Ok(header.is_extended())
}

/// Reads one further block of runs. Returns whether another follows.
pub(super) fn old_gnu_block(block: &GnuExtSparseHeader, runs: &mut Vec<(u64, u64)>) -> Result<bool, String> {
    add(block.sparse(), runs)?;
    Ok(block.is_extended())
}

fn add(headers: &[GnuSparseHeader], runs: &mut Vec<(u64, u64)>) -> Result<(), String> {
    for header in headers {
        if header.is_empty() {
            return Ok(());
        }
        let field = |bytes: &[u8]| number(bytes).and_then(|value| u64::try_from(value).ok());
        match (field(&header.offset), field(&header.numbytes)) {
            (Some(offset), Some(length)) => runs.push((offset, length)),
            _ => return Err("the map of the sparse file holds something that is no number".to_owned()),
        }
    }
    Ok(())
}

/// Reads the map of PAX sparse format 1.0, which stands at the head of the data: decimal numbers on lines of their own,
/// first how many runs, then an offset and a length for each.
#[derive(Debug, Default)]
pub(super) struct MapReader {
    line: Vec<u8>,
    wanted: Option<u64>,
    offset: Option<u64>,
    runs: Vec<(u64, u64)>,
}

impl MapReader {
    /// Takes in a block. Returns the runs once they are complete; the rest of the block is padding.
    pub(super) fn add(&mut self, block: &[u8]) -> Result<Option<Vec<(u64, u64)>>, String> {
        for byte in block {
            if *byte != b'\n' {
                if self.line.len() == 20 {
                    return Err(Self::malformed());
                }
                self.line.push(*byte);
                continue;
            }
            let value = decimal(&self.line).ok_or_else(Self::malformed)?;
            self.line.clear();
            match (self.wanted, self.offset.take()) {
                (None, _) => self.wanted = Some(value),
                (Some(_), None) => self.offset = Some(value),
                (Some(_), Some(offset)) => self.runs.push((offset, value)),
            }
            if self.offset.is_none() && self.wanted == Some(self.runs.len() as u64) {
                return Ok(Some(std::mem::take(&mut self.runs)));
            }
        }
        Ok(None)
    }

    fn malformed() -> String {
        "the map of the sparse file is not a list of decimal numbers".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_checked() {
        assert!(SparseMap::new(10, [(0, 2), (5, 5)], 7).is_ok());
        assert_eq!(SparseMap::new(10, [(0, 2), (10, 0)], 2).unwrap().runs, [(0, 2)]);
        for (size, runs, stored) in [
            (10, vec![(5, 2), (0, 2)], 4),
            (10, vec![(0, 4), (3, 4)], 8),
            (10, vec![(8, 3)], 3),
            (10, vec![(u64::MAX, 2)], 2),
            (10, vec![(0, 2)], 3),
            (u64::MAX, vec![], 0),
        ] {
            assert!(SparseMap::new(size, runs.clone(), stored).is_err(), "{runs:?}");
        }
    }

    #[test]
    fn the_map_in_the_data() {
        let mut reader = MapReader::default();
        assert_eq!(reader.add(b"2\n0\n1").unwrap(), None);
        assert_eq!(
            reader.add(b"00\n512\n7\n\0\0\0").unwrap().unwrap(),
            [(0, 100), (512, 7)]
        );
        assert_eq!(MapReader::default().add(b"0\n\0\0").unwrap().unwrap(), []);
        for bad in [&b"x\n"[..], b"\n", b"-1\n", b"123456789012345678901"] {
            assert!(MapReader::default().add(bad).is_err());
        }
    }
}
