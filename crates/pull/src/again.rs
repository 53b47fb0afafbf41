//! A blob that is begun again, where what was there of it, or what a server sent, was wrong.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use unlade_images::Store;
use unlade_oci::{Descriptor, ErrorClass};
use unlade_reference::Repository;
use unlade_registry::Client;

use crate::Warning;
use crate::error::{Error, Stage};
use crate::observer::Watch;
use crate::threads::Spawner;

/// How long to wait before looking again at what another process, or another pull of this one, is working on.
const BUSY: Duration = Duration::from_millis(25);

/// How an attempt to bring a blob in has ended.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It is there.
    Done,
    /// Somebody else is at it.
    Busy,
    Failed(Error, Bytes),
}

/// Whether the bytes that an attempt has read came to it from their start, in one answer for each part.
///
/// What did not may be bad without the registry's being at fault: what an earlier run has left on the disk may be anything
/// after a power loss, and an answer that broke off may have ended with something else than the blob. So one clean attempt
/// follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    Fresh,
    Doubtful,
}

impl Attempt {
    pub(crate) fn ended(result: Result<(), Error>, bytes: Bytes) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(error) => Self::Failed(error, bytes),
        }
    }

    /// The end of one that fetched; `pieced` says whether the bytes are of several answers.
    pub(crate) fn fetched(result: Result<(), Error>, pieced: &AtomicBool) -> Self {
        let is_pieced = pieced.load(Ordering::Relaxed);
        Self::ended(result, if is_pieced { Bytes::Doubtful } else { Bytes::Fresh })
    }
}

/// What is needed to begin a blob again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Again<'a> {
    pub(crate) store: &'a Store,
    pub(crate) client: Option<&'a Client>,
    pub(crate) repository: &'a Repository,
    pub(crate) blob: &'a Descriptor,
    pub(crate) watch: &'a Watch,
    pub(crate) spawner: &'a Spawner,
}

impl Again<'_> {
    /// Makes attempts until the blob is there, or there is no hope for it.
    pub(crate) async fn until_done<F: Future<Output = Attempt>>(self, attempt: impl Fn() -> F) -> Result<(), Error> {
        let mut again = false;
        loop {
            match attempt().await {
                Attempt::Done => return Ok(()),
                Attempt::Busy => tokio::time::sleep(BUSY).await,
                Attempt::Failed(error, Bytes::Doubtful) if error.class() == ErrorClass::Integrity && !again => {
                    again = true;
                    self.discard(&error).await?;
                }
                // Bytes of this very attempt: a server has lied, and another may not.
                Attempt::Failed(error, _) if error.is_wrong_blob() && self.is_elsewhere() => {
                    self.discard(&error).await?;
                }
                Attempt::Failed(error, _) => return Err(error),
            }
        }
    }

    /// Tells whether another server may have the true blob. Those that gave the wrong one are not asked again.
    fn is_elsewhere(self) -> bool {
        self.client
            .is_some_and(|client| client.distrust(self.repository, &self.blob.digest))
    }

    /// Throws away what there is of the blob, so that it is fetched from its start.
    async fn discard(self, error: &Error) -> Result<(), Error> {
        let reason = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
        let digest = self.blob.digest.clone();
        self.watch.warn(&Warning::FetchedAgain {
            digest: digest.clone(),
            reason,
        });
        let store = self.store.clone();
        self.spawner
            .run(move || store.discard_blob(&digest))
            .await
            .map_err(Error::layer(&self.blob.digest, Stage::Claim))
    }
}
