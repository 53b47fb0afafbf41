//! `unlade completions`: a script that teaches a shell our command line.

use clap::CommandFactory as _;

use crate::arguments::{self, Arguments};
use crate::error::Error;
use crate::session;

/// Runs the command. It needs no settings, so that it also works where they are wrong.
pub(crate) fn run(arguments: &arguments::Completions) -> Result<(), Error> {
    // The generator panics when it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "unlade", &mut script);
    session::write(|out| out.write_all(&script))
}
