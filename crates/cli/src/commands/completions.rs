//! `unlade completions`: a script that teaches a shell our command line.

use std::io::{self, Write};

use clap::CommandFactory as _;

use crate::arguments::{self, Arguments};
use crate::error::Error;

/// Runs the command. It needs no settings, so that it also works where they are wrong.
pub(crate) fn run(arguments: &arguments::Completions) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "unlade", &mut script);
    io::stdout()
        .write_all(&script)
        .map_err(|source| Error::Output { source })
}
