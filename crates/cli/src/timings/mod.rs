//! Where the time of a pull went: `--timings` and `--trace`.

mod report;
mod trace;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use unlade_pull::{Timings, Track, stages};

use crate::error::Error;
use crate::stderr::Stderr;

/// What is asked of a pull beside its result.
#[derive(Debug)]
pub(crate) struct Measurement {
    timings: Option<Timings>,
    shown: bool,
    trace: Option<(PathBuf, File)>,
}

impl Measurement {
    /// Begins to measure if one of the two is asked for. The file is made at once, so that nothing is pulled in vain.
    pub(crate) fn begin(shown: bool, trace: Option<PathBuf>) -> Result<Self, Error> {
        let trace = trace
            .map(|path| match File::create(&path) {
                Ok(file) => Ok((path, file)),
                Err(source) => Err(Error::File { path, source }),
            })
            .transpose()?;
        let timings = match &trace {
            Some(_) => Some(Timings::with_spans()),
            None => shown.then(Timings::new),
        };
        Ok(Self { timings, shown, trace })
    }

    /// Returns what measures.
    pub(crate) fn timings(&self) -> Option<&Timings> {
        self.timings.as_ref()
    }

    /// Begins a track of the pull as a whole.
    pub(crate) fn track(&self) -> Track {
        let part = self.timings.as_ref().map(|timings| timings.part(stages::WHOLE));
        Track::of(part.as_ref(), "pull")
    }

    /// Writes what was asked for; `json` says in which form.
    pub(crate) fn finish(self, stderr: &Stderr, json: bool) -> Result<(), Error> {
        let Some(timings) = self.timings else { return Ok(()) };
        let report = timings.report();
        if self.shown && json {
            stderr.line(&report::object(&report).to_string());
        } else if self.shown {
            for line in report::lines(&report) {
                stderr.line(&line);
            }
        }
        let Some((path, file)) = self.trace else { return Ok(()) };
        let mut file = BufWriter::new(file);
        let written = serde_json::to_writer(&mut file, &trace::Trace(&report))
            .map_err(std::io::Error::from)
            .and_then(|()| file.flush());
        written.map_err(|source| Error::File { path, source })
    }
}
