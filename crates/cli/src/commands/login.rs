//! `unlade login`: checks a login with the registry and keeps it.

use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::json;
use unlade_auth::{Credential, Found, Source};
use unlade_reference::Registry;
use unlade_registry::Authentication;

use super::auth::{registry, source_object};
use crate::arguments;
use crate::credentials::password_of_stdin;
use crate::error::Error;
use crate::interrupt;
use crate::progress::Mode;
use crate::prompt;
use crate::session::{Report, Session};

/// Runs the command.
pub(crate) fn run(session: &Session, arguments: &arguments::LogIn) -> Result<(), Error> {
    let registry = registry(session, arguments.registry.as_deref())?;
    let login = &session.settings.login;
    // Before anybody is asked for a password in vain.
    let file = login.login_file()?;
    let (credential, by) = credential(arguments, &registry)?;
    let found = Found {
        credential,
        source: Source::Given { by: by.to_owned() },
    };
    let progress = session.progress(Mode::None);
    let client = session.client([&registry], &progress.watcher())?;
    let result = interrupt::run(session.settings.network.limit, async {
        Ok(client.check_login(&registry, &found).await?)
    });
    progress.finish(result.is_ok());
    let checked = result? != Authentication::Open;
    let kept = file.store(&registry, &found.credential)?;
    if !checked {
        session.warn(&format!("{registry} asks for no login, so this one was not checked"));
    }
    let used = login.files()?.lookup_registry(&registry).found;
    if let Some(used) = used.filter(|used| used.source != kept) {
        session.warn(&format!("the login is not used, since {} goes before it", used.source));
    }
    session.print(&LoggedIn {
        registry,
        username: found.credential.username().map(str::to_owned),
        kept,
        checked,
    })
}

/// Gets the name and the password from where the options say.
fn credential(arguments: &arguments::LogIn, registry: &Registry) -> Result<(Credential, &'static str), Error> {
    if arguments.password_stdin {
        let Some(username) = arguments.username.as_deref() else {
            return Err(no_name("--password-stdin needs --username USER"));
        };
        let password = password_of_stdin()?;
        return Ok((
            Credential::from_pair(username, password),
            "--username and --password-stdin",
        ));
    }
    if !prompt::is_possible() {
        return Err(no_name("there is no terminal to ask at for the login"));
    }
    let username = match &arguments.username {
        Some(username) => username.clone(),
        None => prompt::line(&format!("Username for {registry}: "))?,
    };
    if username.is_empty() {
        return Err(no_name("no username was typed"));
    }
    let password = prompt::secret(&format!("Password for {username} at {registry}: "))?;
    if password.is_empty() {
        return Err(no_name("no password was typed"));
    }
    Ok((Credential::from_pair(username, password), "the terminal"))
}

fn no_name(message: &str) -> Error {
    Error::Usage {
        message: message.to_owned(),
        hint: Some("for a script: unlade login REGISTRY --username USER --password-stdin".to_owned()),
    }
}

struct LoggedIn {
    registry: Registry,
    username: Option<String>,
    kept: Source,
    checked: bool,
}

impl Serialize for LoggedIn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json!({
            "registry": self.registry.as_str(),
            "username": self.username,
            "source": source_object(&self.kept),
            "checked": self.checked,
        })
        .serialize(serializer)
    }
}

impl Report for LoggedIn {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let name = self.username.as_deref().unwrap_or("the holder of a token");
        writeln!(out, "logged in to {} as {name}", self.registry)?;
        match &self.kept {
            Source::Helper { helper, .. } => writeln!(out, "kept by {helper}"),
            Source::Entry { place, .. } => writeln!(out, "kept in {place}, readable by you alone, not encrypted"),
            other => writeln!(out, "kept in {other}"),
        }
    }
}
