//! `unlade`: pulls container images and turns them into files, without a daemon.
//!
//! Thin on purpose. The command line is read ([`arguments`]), settings are resolved once ([`settings`]), one call of a
//! library does the work ([`commands`]), the result goes to the standard output ([`session`]) and everything else to the
//! standard error output ([`stderr`], [`progress`], [`error`]). What a program that embeds the crates would miss does not
//! belong here.

mod arguments;
mod commands;
mod config_file;
mod credentials;
mod environment;
mod error;
mod interrupt;
mod log;
mod network;
mod progress;
mod prompt;
mod quantity;
mod registries;
mod session;
mod settings;
mod stderr;
mod table;
mod timings;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _};
use unlade_oci::ErrorClass;

use crate::arguments::{Arguments, Command, ExportForm, Format};
use crate::environment::Environment;
use crate::error::Error;
use crate::session::Session;
use crate::settings::Settings;
use crate::stderr::Stderr;

fn main() -> ExitCode {
    unlade_sys::give_large_memory_back();
    let environment = Environment::of_process();
    let line: Vec<OsString> = std::env::args_os().collect();
    let arguments = match read(&line) {
        Ok(arguments) => arguments,
        Err(error) => return no_command(error, &line, &environment),
    };
    let stderr = Stderr::of_process(&environment, arguments.global.format.split().0 == Format::Json);
    match run(arguments, &environment, &stderr) {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            error.report(&stderr);
            error.class().exit_code().into()
        }
    }
}

/// Reads the command line.
fn read(line: &[OsString]) -> Result<Arguments, clap::Error> {
    let mut command = Arguments::command();
    let matches = command.try_get_matches_from_mut(line)?;
    let mut arguments = Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let of_command = matches.subcommand().map_or(&matches, |(_, matches)| matches);
    arguments.global.has_format = of_command.value_source("format") == Some(ValueSource::CommandLine);
    Ok(arguments)
}

fn run(arguments: Arguments, environment: &Environment, stderr: &Stderr) -> Result<ExitCode, Error> {
    let Arguments { global, command } = arguments;
    let (format, form) = global.format.split();
    if form.is_some() && !matches!(command, Command::Export(_)) {
        return Err(Error::Usage {
            message: "that --format is one of `export`".to_owned(),
            hint: Some("results are printed as text or json".to_owned()),
        });
    }
    if let Command::Completions(arguments) = &command {
        commands::completions::run(arguments)?;
        return Ok(ExitCode::SUCCESS);
    }
    let user = rustix::process::geteuid();
    let settings = Settings::resolve(&global, &command, environment, user.as_raw())?;
    let has_log = log::start(global.verbose, environment, stderr)?;
    tracing::debug!(?settings, "the settings are resolved");
    let session = Session {
        settings,
        format,
        quiet: global.quiet,
        has_log,
        stderr: stderr.clone(),
    };
    let done = match &command {
        Command::Pull(arguments) => commands::pull::run(&session, arguments),
        Command::Images => commands::images::run(&session),
        // Docker's is JSON, so this one is unless the other form is asked for.
        Command::Inspect(arguments) if format == Format::Text && global.has_format => {
            commands::inspect::show(&session, arguments)
        }
        Command::Inspect(arguments) => commands::inspect::run(&session, arguments),
        Command::Rm(arguments) => commands::rm::run(&session, arguments),
        Command::Unpack(arguments) => commands::unpack::run(&session, arguments),
        Command::Mount(arguments) => return commands::mount::run(&session, arguments),
        Command::Umount(arguments) => commands::mount::unmount(&session, arguments),
        Command::Export(arguments) => {
            commands::export::run(&session, arguments, form.unwrap_or(ExportForm::OciArchive))
        }
        Command::Import(arguments) => commands::import::run(&session, arguments),
        Command::Prune(arguments) => commands::prune::run(&session, arguments),
        Command::Df => commands::df::run(&session),
        Command::Verify(arguments) => commands::verify::run(&session, arguments),
        Command::Resolve(arguments) => commands::resolve::run(&session, arguments),
        Command::Explain(arguments) => commands::explain::run(&session, arguments),
        Command::Tags(arguments) => commands::tags::run(&session, arguments),
        Command::Referrers(arguments) => commands::referrers::run(&session, arguments),
        Command::Login(arguments) => commands::login::run(&session, arguments),
        Command::Logout(arguments) => commands::logout::run(&session, arguments),
        Command::Auth(arguments) => commands::auth::run(&session, arguments),
        Command::Completions(arguments) => commands::completions::run(arguments),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Shows what clap has to say instead of a command: help, the version, or what is wrong.
fn no_command(error: clap::Error, line: &[OsString], environment: &Environment) -> ExitCode {
    if !error.use_stderr() {
        let shown = error.print();
        return if shown.is_ok_and(|()| io::stdout().flush().is_ok()) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    if arguments::asks_for_json(line) {
        Error::from(error).report(&Stderr::of_process(environment, true));
    } else {
        // If stderr is gone there is nobody to tell.
        let _gone = error.print();
    }
    ErrorClass::Usage.exit_code().into()
}
