//! The log: what the libraries trace, on stderr, only when it was asked for.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::environment::{self, Environment};
use crate::settings::SettingsError;
use crate::stderr::Stderr;

/// Starts to log, if a filter or `-v` says so, and returns whether it does.
pub(crate) fn start(verbose: u8, environment: &Environment, stderr: &Stderr) -> Result<bool, SettingsError> {
    let variable = environment::UNLADE_LOG.name;
    let filter = match environment.get(&environment::UNLADE_LOG) {
        Some(filter) => filter.to_str().ok_or(SettingsError::NotUtf8 { variable })?,
        None => match verbose {
            0 => return Ok(false),
            1 => "warn,unlade=info",
            2 => "info,unlade=debug",
            _ => "debug,unlade=trace",
        },
    };
    let filter = EnvFilter::try_new(filter).map_err(|error| SettingsError::Log {
        what: variable,
        problem: error.to_string(),
    })?;
    let format = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr.has_color())
        .with_writer(io::stderr);
    // Only a subscriber that is there already could make this fail, and then there is a log.
    Ok(format.try_init().is_ok())
}
