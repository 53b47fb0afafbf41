//! The question that the registry client asks, and its simple answers.

use std::fmt::Debug;
use std::sync::Arc;

use unlade_reference::{Registry, Repository};

use crate::{Credential, Found, Source, Warning};

/// Something that may know a credential.
///
/// One method, asked with the repository rather than the registry, since files may hold different credentials for
/// different repositories of one host. It may block (a helper is another process): the registry client calls it on a
/// thread where that is allowed, and once for each repository. An implementation keeps what is costly.
///
/// No answer is an error: what cannot be had is a [`Warning`] beside `found: None`, and the registry decides whether an
/// anonymous request is enough.
pub trait CredentialSource: Send + Sync + Debug {
    /// Returns what is known for `repository`.
    fn lookup(&self, repository: &Repository) -> Lookup;
}

/// The answer of a [`CredentialSource`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    /// The credential, if one is known.
    pub found: Option<Found>,
    /// What went wrong on the way to it.
    pub warnings: Vec<Warning>,
}

/// Knows nothing: every request is made without credentials.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl CredentialSource for Anonymous {
    fn lookup(&self, _repository: &Repository) -> Lookup {
        Lookup::default()
    }
}

/// Knows one credential for one registry.
#[derive(Clone, Debug)]
pub struct Given {
    registry: Registry,
    found: Found,
}

impl Given {
    /// Knows `credential` for `registry`; `by` says in messages who gave it.
    pub fn new(registry: Registry, credential: Credential, by: impl Into<String>) -> Self {
        Self {
            registry,
            found: Found {
                credential,
                source: Source::Given { by: by.into() },
            },
        }
    }
}

impl CredentialSource for Given {
    fn lookup(&self, repository: &Repository) -> Lookup {
        let known = *repository.registry() == self.registry;
        Lookup {
            found: known.then(|| self.found.clone()),
            warnings: Vec::new(),
        }
    }
}

/// Asks several sources in order; the first that knows something is believed, warnings of all asked are kept.
#[derive(Clone, Debug, Default)]
pub struct Chain(Vec<Arc<dyn CredentialSource>>);

impl Chain {
    /// Asks `sources` in this order.
    pub fn new(sources: Vec<Arc<dyn CredentialSource>>) -> Self {
        Self(sources)
    }
}

impl CredentialSource for Chain {
    fn lookup(&self, repository: &Repository) -> Lookup {
        let mut all = Lookup::default();
        for source in &self.0 {
            let Lookup { found, warnings } = source.lookup(repository);
            all.warnings.extend(warnings);
            if found.is_some() {
                all.found = found;
                break;
            }
        }
        all
    }
}
