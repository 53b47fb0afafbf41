//! `unlade auth status`: which logins there are, and which of several is used.

use std::ffi::OsStr;
use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use unlade_auth::{Found, KnownLogin, Place, Source};
use unlade_reference::Registry;

use crate::arguments;
use crate::error::Error;
use crate::session::{Report, Session, json_path, utf8};
use crate::table;

/// Runs the command.
pub(crate) fn run(session: &Session, arguments: &arguments::Auth) -> Result<(), Error> {
    let arguments::AuthCommand::Status(arguments) = &arguments.command;
    let mut logins = session.settings.login.files()?.logins();
    for warning in &logins.warnings {
        session.warn(&warning.to_string());
    }
    if let Some(name) = &arguments.registry {
        let registry = registry(session, Some(name))?;
        logins.known.retain(|login| login.registry == registry);
    }
    session.print(&Status(logins.known))
}

/// Reads the name of a registry; without one, it is that of names that have none.
pub(super) fn registry(session: &Session, name: Option<&OsStr>) -> Result<Registry, Error> {
    let defaults = &session.settings.defaults.value;
    let named = match name {
        Some(name) => utf8(name)?.parse()?,
        None => defaults.registry().clone(),
    };
    let meant = defaults.aliases().find(|(alias, _)| **alias == named);
    Ok(meant.map_or(named.clone(), |(_, meant)| meant.clone()))
}

/// Returns where a login is, for programs.
pub(super) fn source_object(source: &Source) -> Value {
    let place = |place: &Place| match place {
        Place::File(path) => json!({"file": json_path(path)}),
        Place::Variable(name) => json!({"variable": name}),
        other => json!({"other": other.to_string()}),
    };
    let mut object = match source {
        Source::Entry { place: at, key } => {
            let mut object = place(at);
            object["key"] = json!(key);
            object
        }
        Source::Helper {
            place: at,
            setting,
            helper,
        } => {
            let mut object = place(at);
            object["setting"] = json!(setting);
            object["helper"] = json!(helper);
            object
        }
        _ => json!({}),
    };
    object["text"] = json!(source.to_string());
    object
}

struct Status(Vec<KnownLogin>);

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let found = |found: &Found| {
            json!({
                "kind": found.credential.kind(),
                "username": found.credential.username(),
                "source": source_object(&found.source),
            })
        };
        serializer.collect_seq(self.0.iter().map(|login| {
            let mut object = found(&login.used);
            object["name"] = json!(login.name());
            object["registry"] = json!(login.registry.as_str());
            object["shadowed"] = login.shadowed.iter().map(found).collect();
            object
        }))
    }
}

impl Report for Status {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let row = |name: String, found: &Found, used: bool| {
            [
                name,
                if used { "yes" } else { "no" }.to_owned(),
                found.credential.username().unwrap_or("-").to_owned(),
                found.credential.kind().to_owned(),
                found.source.to_string(),
            ]
        };
        let rows = self.0.iter().flat_map(|login| {
            let shadowed = login.shadowed.iter().map(|found| row(login.name(), found, false));
            std::iter::once(row(login.name(), &login.used, true)).chain(shadowed)
        });
        table::write(out, ["REGISTRY", "USED", "USER", "KIND", "SOURCE"], rows)
    }
}
