//! What the commands share: settings, the store, the client, and where results go.

use std::ffi::OsStr;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use unlade_extract::RawPath;
use unlade_images::{Durability, Image, Store, StoreOptions};
use unlade_reference::{Reference, Registry};
use unlade_registry::Client;

use crate::arguments::{self, Format, Whiteouts};
use crate::error::Error;
use crate::progress::{Mode, Progress, Watcher, Words};
use crate::settings::Settings;
use crate::stderr::Stderr;

/// What was written so long ago is flushed by the next command: by then the kernel has written most of it.
const SETTLE_AFTER: Duration = Duration::from_mins(1);

/// One run of the command.
#[derive(Debug)]
pub(crate) struct Session {
    /// The settings.
    pub(crate) settings: Settings,
    /// The form of results.
    pub(crate) format: Format,
    /// Whether warnings are left out.
    pub(crate) quiet: bool,
    /// Whether a log goes to stderr, which does not go together with bars.
    pub(crate) has_log: bool,
    /// Where everything but results goes.
    pub(crate) stderr: Stderr,
}

/// A result in both forms.
pub(crate) trait Report: Serialize {
    /// Writes it for people.
    fn text(&self, out: &mut dyn Write) -> io::Result<()>;
}

impl Session {
    /// Reads a reference as a person typed it.
    pub(crate) fn reference(&self, text: &OsStr) -> Result<Reference, Error> {
        Ok(Reference::parse(utf8(text)?, &self.settings.defaults.value)?)
    }

    /// Opens the store.
    pub(crate) fn store(&self) -> Result<Store, Error> {
        Ok(Store::open(&self.store_options()?)?)
    }

    /// Opens the store for a look at what is there, if nobody is at work in it: cheaper than [`store`](Self::store). It has to
    /// be dropped before that is called.
    pub(crate) fn store_at_rest(&self) -> Result<Option<Store>, Error> {
        Ok(Store::open_at_rest(&self.store_options()?)?)
    }

    fn store_options(&self) -> Result<StoreOptions, Error> {
        let whiteouts = match self.settings.whiteouts.value {
            Whiteouts::Overlay => unlade_extract::Whiteouts::Overlay,
            Whiteouts::Oci => unlade_extract::Whiteouts::Oci,
        };
        Ok(StoreOptions {
            root: self.settings.home()?.value.clone(),
            layer_path: self.settings.layer_path.as_ref().map(|path| path.value.clone()),
            whiteouts,
            ownership: self.settings.ownership.as_ref().map(|ownership| ownership.value.into()),
            durability: match self.settings.durability.value {
                arguments::Durability::Lazy => Durability::Lazy,
                arguments::Durability::Sync => Durability::Sync,
            },
            helpers: None,
        })
    }

    /// Enters the user namespace without which what is in the store cannot be read and removed, if there may be such things.
    ///
    /// Nothing that starts threads may come before it.
    pub(crate) fn enter_user_namespace(store: &Store) -> Result<(), Error> {
        if store.needs_user_namespace()? {
            unlade_images::enter_user_namespace()?;
        }
        Ok(())
    }

    /// Makes a client with the user's logins, for commands about these registries. Reads files, so only what needs the
    /// network calls it.
    pub(crate) fn client<'a>(
        &self,
        registries: impl IntoIterator<Item = &'a Registry>,
        watcher: &Watcher,
    ) -> Result<Client, Error> {
        let watcher = watcher.clone();
        let client = self
            .settings
            .network
            .apply(Client::builder())
            .credentials(self.settings.login.source(registries)?)
            .endpoints(self.settings.registries.source()?)
            .on_warning(Arc::new(move |warning| watcher.warn(warning)))
            .build()?;
        Ok(client)
    }

    /// Writes a warning, outside of what shows progress.
    pub(crate) fn warn(&self, text: &str) {
        if !self.quiet {
            self.stderr.warning(text);
        }
    }

    /// Does what can wait until the answer is given: notes the use of images, and flushes what was written some time ago.
    ///
    /// Nothing depends on it, and a store that cannot be written has nothing to note; so a failure is only logged.
    pub(crate) fn settle(store: &Store, used: &[Image]) {
        if let Err(error) = store.touch(used) {
            tracing::debug!(%error, "the use of images could not be noted");
        }
        if let Err(error) = store.settle(SETTLE_AFTER) {
            tracing::debug!(%error, "what was written earlier could not be flushed to the disk");
        }
    }

    /// Does as [`settle`](Self::settle), if there is anything to do, after a look at a store that is at rest.
    pub(crate) fn settle_at_rest(&self, store: Store, used: &[Image]) {
        let due = store.has_to_settle(used, SETTLE_AFTER);
        drop(store);
        if due.is_ok_and(|due| !due) {
            return;
        }
        match self.store() {
            Ok(store) => Self::settle(&store, used),
            Err(error) => tracing::debug!(?error, "what can wait waits for another time"),
        }
    }

    /// Starts to show progress and warnings.
    pub(crate) fn progress(&self, mode: Mode) -> Progress {
        self.progress_of(Words::PULL, mode)
    }

    /// Does as [`progress`](Self::progress), with other words.
    pub(crate) fn progress_of(&self, words: Words, mode: Mode) -> Progress {
        Progress::start((!self.quiet).then_some(mode), words, self.stderr.clone())
    }

    /// Writes a result to the standard output.
    pub(crate) fn print(&self, report: &impl Report) -> Result<(), Error> {
        write(|out| match self.format {
            Format::Text => report.text(out),
            Format::Json => {
                serde_json::to_writer_pretty(&mut *out, report)?;
                writeln!(out)
            }
        })
    }
}

/// Writes something to the standard output.
pub(crate) fn write(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let mut out = BufWriter::new(io::stdout().lock());
    write(&mut out)
        .and_then(|()| out.flush())
        .map_err(|source| Error::Output { source })
}

/// Returns a path for JSON, which has no bytes that are not text: those are written `\\xNN`, and a backslash twice.
pub(crate) fn json_path(path: &Path) -> RawPath {
    RawPath::new(path.as_os_str().as_bytes())
}

/// Returns an argument as text.
pub(crate) fn utf8(text: &OsStr) -> Result<&str, Error> {
    text.to_str().ok_or_else(|| Error::NotUtf8 {
        shown: text.to_string_lossy().into_owned(),
    })
}
