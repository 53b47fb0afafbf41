//! Asking a person at the terminal, with or without showing what is typed.

use std::io::{self, IsTerminal as _, Write as _};

use rustix::io::Errno;
use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use unlade_auth::Secret;

use crate::error::Error;

/// Whether there is somebody to ask.
pub(crate) fn is_possible() -> bool {
    io::stdin().is_terminal()
}

/// Asks for a line that is shown as it is typed.
pub(crate) fn line(question: &str) -> Result<String, Error> {
    let text = ask(question)?;
    Ok(text.trim().to_owned())
}

/// Asks for a line that is not shown.
pub(crate) fn secret(question: &str) -> Result<Secret, Error> {
    let silence = Silence::begin().map_err(failed)?;
    let text = ask(question);
    drop(silence);
    // The line end was not shown either.
    show("\n")?;
    Ok(text?.into())
}

/// The terminal as it was, to be put back. While this lives, nothing typed is shown and no key sends a signal: a signal
/// would end the process with the terminal left silent.
struct Silence(Termios);

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that has gone away needs nothing put back.
        let _gone = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

fn ask(question: &str) -> Result<String, Error> {
    show(question)?;
    let mut typed = Vec::new();
    loop {
        match byte().map_err(failed)? {
            // These reach us only while keys send no signals.
            Some(0x03) => return Err(Error::Interrupted),
            None | Some(0x04) if typed.is_empty() => return Err(Error::Interrupted),
            None | Some(0x04 | b'\n' | b'\r') => break,
            Some(0x08 | 0x7f) => erase_character(&mut typed),
            Some(0x15) => typed.clear(),
            Some(byte) => typed.push(byte),
        }
    }
    String::from_utf8(typed).map_err(|_| failed(io::ErrorKind::InvalidData.into()))
}

/// Reads one byte without a buffer: what follows the line is for the next question.
fn byte() -> io::Result<Option<u8>> {
    let mut byte = [0];
    loop {
        match rustix::io::read(io::stdin(), &mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn erase_character(typed: &mut Vec<u8>) {
    while let Some(byte) = typed.pop() {
        // The bytes of a character after its first begin with 10.
        if byte & 0xc0 != 0x80 {
            break;
        }
    }
}

fn show(text: &str) -> Result<(), Error> {
    let mut stderr = io::stderr().lock();
    stderr
        .write_all(text.as_bytes())
        .and_then(|()| stderr.flush())
        .map_err(failed)
}

fn failed(source: io::Error) -> Error {
    Error::Input { source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backspace_takes_a_whole_character() {
        let mut typed = "aä€".as_bytes().to_vec();
        erase_character(&mut typed);
        assert_eq!(typed, "aä".as_bytes());
        erase_character(&mut typed);
        erase_character(&mut typed);
        erase_character(&mut typed);
        assert!(typed.is_empty());
    }
}
