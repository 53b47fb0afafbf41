//! A layer directory held against the layer it was made from, entry by entry, without making it a second time.
//!
//! The layer's entries make a tree in memory ([`expected`]): names, attributes, and for files the digest of their content. By
//! the rules of the writer, it is the tree that the writer makes. Then the directory is walked ([`actual`]) and each name in
//! it is held against that tree. Nothing is written, nothing is followed, and files are read once.
//!
//! A layer that was extracted on top of those below it is held against the tree that it makes there ([`compare_layer_on`]).
//!
//! Memory is some 300 bytes an entry.

mod actual;
mod content;
mod expected;
mod removals;

use std::fmt;
use std::io::Read;

use unlade_oci::Algorithm;
use unlade_sys::Dir;

use self::actual::Walk;
use self::expected::Expected;
use crate::lower::{Lower, Removals};
use crate::{Error, LayerReport, Options, Progress, RawPath, Summary, confined, pipeline};

/// How many differences are kept; the others are counted.
const KEPT: usize = 100;

/// What a path in a layer directory has that the layer says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deviation {
    /// The layer has it, the directory does not.
    Missing,
    /// The directory has it, the layer does not.
    Unexpected,
    /// It is of another type.
    Type,
    /// It is a file with other content.
    Content,
    /// It is a link to something else.
    LinkTarget,
    /// It is another device.
    Device,
    /// It is a file of its own where it should be another name of one, or the other way round.
    HardLink,
    /// It has another owner or group.
    Owner,
    /// It has other permissions.
    Mode,
    /// It has another time.
    Time,
    /// It has another value of this extended attribute, or only one of the two has it.
    Xattr {
        /// The attribute's name.
        name: RawPath,
    },
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::Unexpected => f.write_str("is not in the layer"),
            Self::Type => f.write_str("is of another type"),
            Self::Content => f.write_str("has other content"),
            Self::LinkTarget => f.write_str("leads elsewhere"),
            Self::Device => f.write_str("is another device"),
            Self::HardLink => f.write_str("has other names than the layer gives it"),
            Self::Owner => f.write_str("has another owner"),
            Self::Mode => f.write_str("has another mode"),
            Self::Time => f.write_str("has another time"),
            Self::Xattr { name } => write!(f, "differs in the attribute {name}"),
        }
    }
}

/// One difference between a layer and its directory. `Display` is one sentence without its full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Where, relative to the root; the root is the empty path.
    pub path: RawPath,
    /// What differs.
    pub deviation: Deviation,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.as_bytes().is_empty() {
            write!(f, "the root {}", self.deviation)
        } else {
            write!(f, "{} {}", self.path, self.deviation)
        }
    }
}

/// What holding a layer directory against its layer has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Comparison {
    /// The first differences, at most a hundred.
    pub differences: Vec<Difference>,
    /// How many there are.
    pub count: u64,
    /// How many names were looked at.
    pub entries: u64,
    /// Files and directories that this user may not read, so that what is in them was not looked at.
    pub unreadable: u64,
}

impl Comparison {
    fn note(&mut self, path: &[u8], deviation: Deviation) {
        if self.differences.len() < KEPT {
            self.differences.push(Difference {
                path: RawPath::from(path),
                deviation,
            });
        }
        self.count += 1;
    }
}

/// Reads the layer that `input` delivers and holds the directory `target` against it.
///
/// `options` are those that the directory was made with. `recorded` is the summary of that extraction: what could not be
/// done then (an owner that the kernel refused) is not expected now. The caller compares the digests of the report, as
/// after [`extract_layer`](crate::extract_layer): if the layer is damaged the comparison means nothing.
///
/// # Errors
/// The layer cannot be read, is refused, or exceeds a limit; or the directory cannot be read.
pub fn compare_layer<R: Read + Send>(
    input: R,
    target: &Dir,
    blob_algorithm: Algorithm,
    diff_algorithm: Algorithm,
    options: &Options,
    recorded: &Summary,
    progress: &Progress,
) -> Result<(LayerReport, Comparison), Error> {
    confined(options.confine.then_some(target), || {
        let mut expected = Expected::new(options);
        let report = pipeline::run(
            input,
            &mut expected,
            blob_algorithm,
            diff_algorithm,
            &options.limits,
            progress,
        )?;
        if !recorded.undecided.is_empty() {
            // Such a directory is made again on top of the layers below, and nobody uses this one.
            return Ok((report, Comparison::default()));
        }
        let comparison = Walk::new(&expected, options.ownership, recorded, progress).run(target)?;
        Ok((report, comparison))
    })
}

/// Holds the directory `target` against the layer that `input` delivers as [`compare_layer`] does, where the layer was
/// extracted on top of those in `lower`, see [`extract_layer_on`](crate::extract_layer_on).
///
/// `removals` are those of the same layer. What `lower` shows is taken for whole.
///
/// # Errors
/// As [`compare_layer`]; moreover what is below cannot be read.
#[expect(clippy::too_many_arguments, reason = "those of `compare_layer` and what is below")]
pub fn compare_layer_on<R: Read + Send>(
    input: R,
    target: &Dir,
    lower: &dyn Lower,
    removals: &Removals,
    blob_algorithm: Algorithm,
    diff_algorithm: Algorithm,
    options: &Options,
    recorded: &Summary,
    progress: &Progress,
) -> Result<(LayerReport, Comparison), Error> {
    confined(options.confine.then_some(target), || {
        let mut expected = Expected::on_top(options, lower, removals)?;
        let limits = &options.limits;
        let report = pipeline::run(input, &mut expected, blob_algorithm, diff_algorithm, limits, progress)?;
        let comparison = Walk::new(&expected, options.ownership, recorded, progress).run(target)?;
        Ok((report, comparison))
    })
}
