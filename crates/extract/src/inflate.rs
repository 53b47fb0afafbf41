//! Compressed bytes → plain bytes: gzip, zstd or nothing, told apart by magic.
//!
//! A gzip stream is one or more members (RFC 1952, 2.2), a zstd stream one or more frames, skippable ones among them
//! (RFC 8878, 3.1). Bytes after the last member or frame that begin neither are padding or garbage: they are part of the
//! blob and of its digest, not of the content, and are noted, as `gzip(1)` does.

use flate2::{Decompress, FlushDecompress, Status};
use unlade_oci::Compression;
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation as _};
use zstd::zstd_safe::{get_error_name, zstd_sys::ZSTD_ErrorCode};

/// Window of gzip: the format's only and largest.
const GZIP_WINDOW_BITS: u8 = 15;

/// What one step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Input bytes used up.
    pub(crate) read: usize,
    /// Output bytes produced.
    pub(crate) written: usize,
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A frame wants a larger window than it may have.
    Window,
    /// The bytes are not what they should be; what the decompressor said.
    Malformed(String),
}

/// A decompressor that is fed slices.
pub(crate) struct Inflater {
    format: Format,
    /// Between two members or frames, where the stream may end.
    at_boundary: bool,
    /// Whether a member or frame was read: before the first, the magic has already been checked.
    begun: bool,
    /// Bytes that follow the last member or frame.
    trailing: bool,
}

enum Format {
    Plain,
    Gzip(Box<Decompress>),
    Zstd(Box<ZstdDecoder<'static>>),
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater")
            .field("at_boundary", &self.at_boundary)
            .finish_non_exhaustive()
    }
}

impl Inflater {
    /// Makes a decompressor for `compression`.
    pub(crate) fn new(compression: Compression, zstd_window_log: u32) -> Result<Self, String> {
        let format = match compression {
            Compression::None => Format::Plain,
            Compression::Gzip => Format::Gzip(Box::new(Decompress::new_gzip(GZIP_WINDOW_BITS))),
            Compression::Zstd => {
                let mut decoder = ZstdDecoder::new().map_err(|error| error.to_string())?;
                decoder
                    .set_parameter(DParameter::WindowLogMax(zstd_window_log))
                    .map_err(|error| error.to_string())?;
                Format::Zstd(Box::new(decoder))
            }
        };
        Ok(Self {
            format,
            at_boundary: true,
            begun: false,
            trailing: false,
        })
    }

    /// Says whether the stream may end here.
    pub(crate) fn may_end(&self) -> bool {
        self.at_boundary
    }

    /// Says whether bytes followed the compressed data.
    pub(crate) fn has_trailing_bytes(&self) -> bool {
        self.trailing
    }

    /// Says how many bytes must be looked at before a member or frame can be told from garbage.
    fn magic_len(&self) -> usize {
        match self.format {
            Format::Plain => 0,
            Format::Gzip(_) => 2,
            Format::Zstd(_) => 4,
        }
    }

    /// Decompresses some of `input` into `output`, which must not be empty. `is_last` says that no more input follows.
    ///
    /// A step that neither reads nor writes wants more input than there is in the slice.
    pub(crate) fn step(&mut self, input: &[u8], output: &mut [u8], is_last: bool) -> Result<Step, Refusal> {
        if self.trailing {
            return Ok(Step {
                read: input.len(),
                written: 0,
            });
        }
        if self.at_boundary && !matches!(self.format, Format::Plain) {
            if input.is_empty() {
                return Ok(Step::default());
            }
            if self.begun {
                if input.len() < self.magic_len() && !is_last {
                    return Ok(Step::default());
                }
                if !self.begins_another(input) {
                    self.trailing = true;
                    return Ok(Step {
                        read: input.len(),
                        written: 0,
                    });
                }
                if let Format::Gzip(inflate) = &mut self.format {
                    inflate.reset(true);
                }
            }
            self.begun = true;
            self.at_boundary = false;
        }
        match &mut self.format {
            Format::Plain => {
                let length = input.len().min(output.len());
                output[..length].copy_from_slice(&input[..length]);
                Ok(Step {
                    read: length,
                    written: length,
                })
            }
            Format::Gzip(inflate) => {
                let (read, written) = (inflate.total_in(), inflate.total_out());
                let status = inflate
                    .decompress(input, output, FlushDecompress::None)
                    .map_err(|error| Refusal::Malformed(error.to_string()))?;
                self.at_boundary = status == Status::StreamEnd;
                Ok(Step {
                    read: delta(inflate.total_in(), read),
                    written: delta(inflate.total_out(), written),
                })
            }
            Format::Zstd(decoder) => {
                let status = decoder
                    .run_on_buffers(input, output)
                    .map_err(|error| of_zstd(error.to_string()))?;
                self.at_boundary = status.remaining == 0;
                Ok(Step {
                    read: status.bytes_read,
                    written: status.bytes_written,
                })
            }
        }
    }

    fn begins_another(&self, input: &[u8]) -> bool {
        let found = Compression::of_magic(input);
        match self.format {
            Format::Plain => false,
            Format::Gzip(_) => found == Compression::Gzip,
            Format::Zstd(_) => found == Compression::Zstd,
        }
    }
}

/// Tells a window that is too large from other problems. What comes up to here is zstd's text for its error code.
fn of_zstd(problem: String) -> Refusal {
    let code = ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge as usize;
    if problem == get_error_name(code.wrapping_neg()) {
        Refusal::Window
    } else {
        Refusal::Malformed(problem)
    }
}

/// The distance of two totals within one buffer.
fn delta(after: u64, before: u64) -> usize {
    usize::try_from(after - before).unwrap_or(usize::MAX)
}
