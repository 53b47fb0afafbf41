//! `unlade import`: images from files into the store.

use std::io;
use std::path::Path;
use std::sync::Arc;

use unlade_pull::{Budget, Importer, Options, Origin};

use super::pull::{PulledImages, mode};
use crate::arguments::{self, Platforms};
use crate::error::Error;
use crate::interrupt;
use crate::progress::Words;
use crate::session::Session;

/// Runs the command. What was imported is shown as by `pull`.
pub(crate) fn run(session: &Session, arguments: &arguments::Import) -> Result<(), Error> {
    let name = arguments
        .name
        .as_deref()
        .map(|name| session.reference(name))
        .transpose()?;
    let platform = session.settings.platform.as_ref();
    let all_platforms = arguments.platform == Some(Platforms::All);
    let options = Options {
        all_platforms,
        platform: platform.map(|platform| platform.value.clone()),
        extract: !(arguments.no_extract || all_platforms),
        discard_partial: arguments.discard_partial,
        limits: session.settings.limits.clone(),
        ..Options::default()
    };
    let origin = if arguments.path == Path::new("-") {
        Origin::Archive(Box::new(io::stdin()))
    } else {
        Origin::open(&arguments.path)?
    };
    let store = session.store()?;
    let progress = session.progress_of(Words::IMPORT, mode(session, arguments.progress));
    let importer = Importer::new(store.clone())
        .with_budget(Budget::new(session.settings.budget.limits()))
        .with_observer(Arc::new(progress.watcher()));
    let result = interrupt::run(None, async {
        Ok(importer.import(origin, name.as_ref(), &options).await?)
    });
    progress.finish(result.is_ok());
    let imported = PulledImages::new(session, &store, result?)?;
    session.print(&imported)?;
    Session::settle(&store, &imported.into_images());
    Ok(())
}
