//! Gzip over `miniz_oxide`, the inflater in Rust that programs get who ask for nothing else.
//!
//! flate2 can be built over it, too, but over one inflater at a time, and in this workspace that is unlade's. So this calls
//! `miniz_oxide` as flate2 would, and checks headers and trailers as flate2 does.

use std::io::{self, BufRead, ErrorKind, Read};

use flate2::Crc;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

const HEADER_CRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// The raw bytes of all members of a gzip file, one behind the other.
pub(super) struct Gzip<R> {
    input: R,
    /// None behind the last one.
    member: Option<Member>,
}

/// What has been inflated of a member.
struct Member {
    state: Box<InflateState>,
    crc: Crc,
}

impl Member {
    fn new() -> Self {
        Self {
            state: InflateState::new_boxed(DataFormat::Raw),
            crc: Crc::new(),
        }
    }
}

impl<R: BufRead> Gzip<R> {
    /// Reads the header of the first member.
    pub(super) fn new(mut input: R) -> io::Result<Self> {
        read_header(&mut input)?;
        Ok(Self {
            input,
            member: Some(Member::new()),
        })
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        if output.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            let input = self.input.fill_buf()?;
            let at_end = input.is_empty();
            let step = inflate(&mut member.state, input, output, MZFlush::None);
            self.input.consume(step.bytes_consumed);
            let written = step.bytes_written;
            member.crc.update(&output[..written]);
            match step.status {
                Ok(MZStatus::StreamEnd) => {
                    check_trailer(&mut self.input, &member.crc)?;
                    self.member = if self.input.fill_buf()?.is_empty() {
                        None
                    } else {
                        read_header(&mut self.input)?;
                        Some(Member::new())
                    };
                }
                // It has made nothing of what there is, which is no error unless nothing follows.
                Ok(_) | Err(MZError::Buf) if written == 0 && at_end => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(MZError::Buf) => {}
                Err(_) => return Err(wrong("the deflate stream is broken")),
            }
            if written > 0 {
                return Ok(written);
            }
        }
        Ok(0)
    }
}

fn check_trailer(input: &mut impl BufRead, crc: &Crc) -> io::Result<()> {
    let mut trailer = [0; 8];
    input.read_exact(&mut trailer)?;
    let [a, b, c, d, length @ ..] = trailer;
    if u32::from_le_bytes([a, b, c, d]) != crc.sum() {
        return Err(wrong("the checksum is another"));
    }
    if u32::from_le_bytes(length) != crc.amount() {
        return Err(wrong("the length is another"));
    }
    Ok(())
}

fn read_header(input: &mut impl BufRead) -> io::Result<()> {
    let mut header = vec![0; 10];
    input.read_exact(&mut header)?;
    let flags = header[3];
    if !header.starts_with(&[0x1f, 0x8b, 8]) || flags & RESERVED != 0 {
        return Err(wrong("there is no gzip header"));
    }
    if flags & EXTRA != 0 {
        let mut length = [0; 2];
        input.read_exact(&mut length)?;
        header.extend(length);
        let before = header.len();
        header.resize(before + usize::from(u16::from_le_bytes(length)), 0);
        input.read_exact(&mut header[before..])?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            input.read_until(0, &mut header)?;
        }
    }
    if flags & HEADER_CRC != 0 {
        let mut crc = Crc::new();
        crc.update(&header);
        let mut expected = [0; 2];
        input.read_exact(&mut expected)?;
        if u32::from(u16::from_le_bytes(expected)) != crc.sum() & 0xffff {
            return Err(wrong("the checksum of the gzip header is another"));
        }
    }
    Ok(())
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, GzBuilder};
    use std::io::{BufReader, Write as _};

    fn content() -> Vec<u8> {
        (0..100_000_u32)
            .flat_map(|number| (number.wrapping_mul(2_654_435_761) & 0x00ff_0f0f).to_le_bytes())
            .collect()
    }

    fn member(builder: GzBuilder, content: &[u8]) -> Vec<u8> {
        let mut writer = builder.write(Vec::new(), Compression::default());
        writer.write_all(content).unwrap();
        writer.finish().unwrap()
    }

    /// Inflates `bytes`, of which the reader gets few at a time.
    fn inflated(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        Gzip::new(BufReader::with_capacity(1000, bytes))?.read_to_end(&mut content)?;
        Ok(content)
    }

    #[test]
    fn members_with_all_kinds_of_headers_are_read_one_after_the_other() {
        let plain = member(GzBuilder::new(), &content());
        let named = member(GzBuilder::new().extra("extra").filename("a").comment("b"), b"second");
        let mut checked = member(GzBuilder::new(), b"third");
        checked[3] |= HEADER_CRC;
        let mut crc = Crc::new();
        crc.update(&checked[..10]);
        checked.splice(10..10, crc.sum().to_le_bytes().into_iter().take(2));
        let empty = member(GzBuilder::new(), b"");
        let expected = [content(), b"second".to_vec(), b"third".to_vec()].concat();
        assert_eq!(
            inflated(&[&plain[..], &named, &empty, &checked].concat()).unwrap(),
            expected
        );
        checked[10] ^= 1;
        assert_eq!(inflated(&checked).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn what_is_broken_or_cut_off_is_an_error() {
        let whole = member(GzBuilder::new(), &content());
        let length = whole.len();
        for byte in [0, 2, 3, length / 2, length - 8, length - 1] {
            let mut broken = whole.clone();
            broken[byte] ^= 0x80;
            assert!(inflated(&broken).is_err(), "byte {byte} of {length}");
        }
        for end in [0, 5, length / 2, length - 1] {
            let error = inflated(&whole[..end]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{end} of {length}");
        }
        let behind = [&whole[..], b"something else"].concat();
        assert_eq!(inflated(&behind).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
