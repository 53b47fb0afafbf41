//! Credentials by repository, each looked up once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;
use unlade_auth::{CredentialSource, Lookup};
use unlade_reference::Repository;

use crate::Warning;

/// What a client is told about things that did not stop it.
pub(crate) type WarningHook = Arc<dyn Fn(&Warning) + Send + Sync>;

/// A source of credentials, what it has answered, and where its warnings go.
pub(crate) struct Credentials {
    source: Arc<dyn CredentialSource>,
    known: Mutex<HashMap<String, Arc<OnceCell<Arc<Lookup>>>>>,
    hook: WarningHook,
    told: Mutex<HashSet<Warning>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    pub(crate) fn new(source: Arc<dyn CredentialSource>, hook: WarningHook) -> Self {
        Self {
            source,
            known: Mutex::default(),
            hook,
            told: Mutex::default(),
        }
    }

    /// Returns what is known for `repository`. Requests that ask at the same time wait for one lookup.
    pub(crate) async fn of(&self, repository: &Repository) -> Arc<Lookup> {
        let cell = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(repository.to_string()).or_default())
        };
        let lookup = cell.get_or_init(|| async {
            let (source, repository) = (Arc::clone(&self.source), repository.clone());
            let lookup = crate::blocking::run(move || source.lookup(&repository)).await;
            for warning in &lookup.warnings {
                self.warn(&warning.clone().into());
            }
            Arc::new(lookup)
        });
        Arc::clone(lookup.await)
    }

    /// Returns what is known for `repository` if it has been looked up.
    pub(crate) fn known(&self, repository: &Repository) -> Option<Arc<Lookup>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&repository.to_string())?.get().cloned()
    }

    /// Tells the caller of something, once.
    pub(crate) fn warn(&self, warning: &Warning) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.contains(warning) {
            return;
        }
        told.insert(warning.clone());
        drop(told);
        tracing::warn!("{warning}");
        (self.hook)(warning);
    }
}
