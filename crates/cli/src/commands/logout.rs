//! `unlade logout`: removes a login that is kept.

use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::json;
use unlade_auth::{Found, LoginFile, Removed};
use unlade_reference::Registry;

use super::auth::{registry, source_object};
use crate::arguments;
use crate::error::Error;
use crate::session::{Report, Session};

/// Runs the command. That there was no login is no failure: there is none now.
pub(crate) fn run(session: &Session, arguments: &arguments::LogOut) -> Result<(), Error> {
    let login = &session.settings.login;
    let file = login.login_file()?;
    if arguments.all {
        let removed = file.erase_all()?;
        return session.print(&LoggedOut {
            registry: None,
            file,
            removed,
            left: Vec::new(),
        });
    }
    let registry = registry(session, arguments.registry.as_deref())?;
    let removed = file.erase(&registry)?;
    let left: Vec<Found> = login.files()?.lookup_registry(&registry).found.into_iter().collect();
    for found in &left {
        session.warn(&format!("{registry} is still logged in to by {}", found.source));
    }
    session.print(&LoggedOut {
        registry: Some(registry),
        file,
        removed,
        left,
    })
}

struct LoggedOut {
    registry: Option<Registry>,
    file: LoginFile,
    removed: Vec<Removed>,
    left: Vec<Found>,
}

impl Serialize for LoggedOut {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let removed = |one: &Removed| json!({"name": one.key, "source": source_object(&one.source)});
        json!({
            "registry": self.registry.as_ref().map(Registry::as_str),
            "removed": self.removed.iter().map(removed).collect::<Vec<_>>(),
            "left": self.left.iter().map(|found| source_object(&found.source)).collect::<Vec<_>>(),
        })
        .serialize(serializer)
    }
}

impl Report for LoggedOut {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.removed.is_empty() {
            let file = self.file.path().display();
            return match &self.registry {
                Some(registry) => writeln!(out, "there was no login for {registry} in {file}"),
                None => writeln!(out, "there was no login in {file}"),
            };
        }
        self.removed
            .iter()
            .try_for_each(|one| writeln!(out, "removed the login for {} ({})", one.key, one.source))
    }
}
