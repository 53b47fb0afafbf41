//! The standard error output: warnings, errors and progress, in the form that was asked for.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Style};
use serde_json::json;

use crate::environment::{self, Environment};

/// The version of the events that are written as JSON.
pub(crate) const EVENT_VERSION: u32 = 1;

const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// A handle on the standard error output. Cheap to clone; whole lines only, so nothing is torn.
#[derive(Clone)]
pub(crate) struct Stderr {
    stream: Arc<Mutex<dyn Write + Send>>,
    json: bool,
    is_terminal: bool,
    has_color: bool,
}

impl fmt::Debug for Stderr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stderr")
            .field("json", &self.json)
            .finish_non_exhaustive()
    }
}

impl Stderr {
    /// The one of this process. With `json`, warnings are objects.
    pub(crate) fn of_process(environment: &Environment, json: bool) -> Self {
        let is_capable = environment.get(&environment::TERM).is_none_or(|term| term != "dumb");
        let is_terminal = io::stderr().is_terminal() && is_capable;
        let is_forced = environment
            .get(&environment::CLICOLOR_FORCE)
            .is_some_and(|value| value != "0");
        let has_color = environment.get(&environment::NO_COLOR).is_none() && (is_terminal || is_forced);
        let choice = if has_color {
            ColorChoice::Always
        } else {
            ColorChoice::Never
        };
        let stream = Arc::new(Mutex::new(AutoStream::new(io::stderr(), choice)));
        Self {
            stream,
            json,
            is_terminal,
            has_color,
        }
    }

    /// Whether it is a terminal that can do more than print lines.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Whether colours are wanted.
    pub(crate) fn has_color(&self) -> bool {
        self.has_color
    }

    /// Whether warnings and errors are objects.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Writes a line, in one piece.
    pub(crate) fn line(&self, line: &str) {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        // When stderr is gone there is nobody to tell.
        let _gone = stream
            .write_all(format!("{line}\n").as_bytes())
            .and_then(|()| stream.flush());
    }

    /// Writes a warning.
    pub(crate) fn warning(&self, text: &str) {
        self.line(&self.warning_line(text));
    }

    /// Returns a warning as it is written.
    pub(crate) fn warning_line(&self, text: &str) -> String {
        if self.json {
            json!({"v": EVENT_VERSION, "event": "warning", "message": text}).to_string()
        } else {
            format!("{WARNING}warning:{WARNING:#} {}", printable(text))
        }
    }
}

/// Returns a text without characters that act on a terminal. Parts of it may come from a hostile registry.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !c.is_control() {
            shown.push(c);
        } else {
            shown.extend(c.escape_default());
        }
    }
    shown
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A handle whose output is kept, without colours.
    pub(crate) fn captured(json: bool) -> (Stderr, impl Fn() -> String) {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let stream = AutoStream::never(Box::new(Kept(Arc::clone(&kept))) as Box<dyn Write + Send>);
        let stderr = Stderr {
            stream: Arc::new(Mutex::new(stream)),
            json,
            is_terminal: false,
            has_color: false,
        };
        (stderr, move || String::from_utf8(kept.lock().unwrap().clone()).unwrap())
    }

    #[test]
    fn a_hostile_text_is_harmless() {
        let (stderr, written) = captured(false);
        stderr.warning("red\u{1b}[31m\r\u{7}");
        assert_eq!(written(), "warning: red\\u{1b}[31m\\r\\u{7}\n");
    }

    #[test]
    fn a_warning_for_programs() {
        let (stderr, written) = captured(true);
        stderr.warning("two\nlines");
        assert_eq!(
            written(),
            "{\"event\":\"warning\",\"message\":\"two\\nlines\",\"v\":1}\n"
        );
    }
}
