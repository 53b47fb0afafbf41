//! `unlade tags`: the tags of a repository.

use std::io::{self, Write};

use serde::{Serialize, Serializer};
use unlade_reference::{Repository, Tag};

use crate::arguments;
use crate::error::Error;
use crate::interrupt;
use crate::progress::Mode;
use crate::session::{Report, Session, utf8};

/// Runs the command.
pub(crate) fn run(session: &Session, arguments: &arguments::Tags) -> Result<(), Error> {
    let repository = Repository::parse(utf8(&arguments.repository)?, &session.settings.defaults.value)?;
    let progress = session.progress(Mode::None);
    let client = session.client([repository.registry()], &progress.watcher())?;
    let result = interrupt::run(session.settings.network.limit, async {
        Ok(client.tags(&repository).await?)
    });
    progress.finish(result.is_ok());
    session.print(&Tags {
        repository,
        tags: result?,
    })
}

#[derive(Serialize)]
struct Tags {
    #[serde(serialize_with = "displayed")]
    repository: Repository,
    #[serde(serialize_with = "all_displayed")]
    tags: Vec<Tag>,
}

fn displayed<S: Serializer>(repository: &Repository, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(repository)
}

fn all_displayed<S: Serializer>(tags: &[Tag], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tags.iter().map(Tag::as_str))
}

impl Report for Tags {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.tags.iter().try_for_each(|tag| writeln!(out, "{tag}"))
    }
}
