//! The client as its users see it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::HeaderValue;
use unlade_auth::{Anonymous, CredentialSource, Found};
use unlade_oci::Descriptor;
use unlade_reference::{Registry, Repository, Tag};

use crate::blob::{self, BlobStream};
use crate::credentials::{Credentials, WarningHook};
use crate::endpoint::Endpoint;
use crate::login;
use crate::manifest::{self, ManifestHead, RawManifest, Selector};
use crate::ping::{self, Authentication, Ping};
use crate::session::Session;
use crate::tags;
use crate::transport::Transport;
use crate::{Error, RetryPolicy, Timeouts, Warning};

/// Pulls from registries. Cheap to clone; clones share connections, tokens and credentials.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What the requests of a client have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) transport: Transport,
    pub(crate) policy: RetryPolicy,
    pub(crate) credentials: Credentials,
    sessions: Mutex<HashMap<Registry, Arc<Session>>>,
}

impl Client {
    /// Begins a client: anonymous, with the default times and retries.
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            credentials: Arc::new(Anonymous),
            retry: RetryPolicy::default(),
            timeouts: Timeouts::default(),
            user_agent: HeaderValue::from_static(concat!("unlade/", env!("CARGO_PKG_VERSION"))),
            on_warning: Arc::new(|_| {}),
        }
    }

    /// Asks whether a registry speaks the API, and which login it wants (distribution-spec, *Determining Support*).
    ///
    /// No credentials are sent: an answer that asks for some is an answer.
    ///
    /// # Errors
    /// The registry cannot be reached or does not speak the API.
    pub async fn ping(&self, registry: &Registry) -> Result<Ping, Error> {
        ping::ping(&self.shared, &*self.shared.session(registry)?).await
    }

    /// Asks a registry whether it takes a login, and returns which kind it wanted.
    ///
    /// The login is the one given, whatever the client's own source of credentials knows. A registry that wants none
    /// ([`Authentication::Open`](crate::Authentication::Open)) has not looked at it.
    ///
    /// # Errors
    /// The registry or its token server refuses the login ([`Error::class`] is `Auth`), or cannot be reached.
    pub async fn check_login(&self, registry: &Registry, login: &Found) -> Result<Authentication, Error> {
        login::check(&self.shared, &*self.shared.session(registry)?, login).await
    }

    /// Fetches a manifest or index, at most 4 MiB of it (distribution-spec, *Pulling manifests*).
    ///
    /// The digest is computed from the bytes. One that was asked for and one that the registry's header names must be
    /// equal to it.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::is_not_found`] is the one that most callers have a use for.
    pub async fn manifest(&self, repository: &Repository, selector: &Selector<'_>) -> Result<RawManifest, Error> {
        manifest::get(&self.shared, repository, selector).await
    }

    /// Asks for a manifest without fetching it, which registries with quotas count less or not at all.
    ///
    /// A registry that refuses `HEAD` is asked for the whole.
    ///
    /// # Errors
    /// As [`Client::manifest`].
    pub async fn head_manifest(&self, repository: &Repository, selector: &Selector<'_>) -> Result<ManifestHead, Error> {
        manifest::head(&self.shared, repository, selector).await
    }

    /// Begins to fetch a blob at byte `offset`; the response has begun when this returns.
    ///
    /// The stream checks the blob's size, not its digest: whoever reads it hashes it anyway. The server may be unable to
    /// begin at `offset`, and then the first chunk's offset is 0. With `offset` equal to the blob's size nothing is asked.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<BlobStream, Error> {
        BlobStream::open(Arc::clone(&self.shared), repository, descriptor, offset).await
    }

    /// Fetches a small blob whole, such as a config; size and digest are checked.
    ///
    /// # Errors
    /// See [`Error`]; also a blob of more than `limit` bytes.
    pub async fn blob_bytes(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Bytes, Error> {
        blob::bytes(Arc::clone(&self.shared), repository, descriptor, limit).await
    }

    /// Lists the tags of a repository, all pages, in the registry's order (distribution-spec, *Listing Tags*).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, Error> {
        tags::list(&self.shared, repository).await
    }
}

impl Shared {
    /// Returns what is known about a registry.
    pub(crate) fn session(&self, registry: &Registry) -> Result<Arc<Session>, Error> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = sessions.get(registry) {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(Session::new(Endpoint::upstream(registry)?));
        sessions.insert(registry.clone(), Arc::clone(&session));
        Ok(session)
    }
}

/// Settings of a [`Client`] to be.
#[must_use]
pub struct ClientBuilder {
    credentials: Arc<dyn CredentialSource>,
    retry: RetryPolicy,
    timeouts: Timeouts,
    user_agent: HeaderValue,
    on_warning: WarningHook,
}

impl ClientBuilder {
    /// Takes credentials from `source`.
    pub fn credentials(mut self, source: Arc<dyn CredentialSource>) -> Self {
        self.credentials = source;
        self
    }

    /// Retries by `policy`.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Waits for servers as long as `timeouts` say.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Calls itself `name` to servers, instead of `unlade/VERSION`.
    pub fn user_agent(mut self, name: HeaderValue) -> Self {
        self.user_agent = name;
        self
    }

    /// Calls `hook` with each thing that did not stop the work, once. It must not block.
    pub fn on_warning(mut self, hook: Arc<dyn Fn(&Warning) + Send + Sync>) -> Self {
        self.on_warning = hook;
        self
    }

    /// Makes the client.
    ///
    /// # Errors
    /// TLS that cannot be set up.
    pub fn build(self) -> Result<Client, Error> {
        let transport = Transport::new(self.timeouts, self.user_agent)?;
        let credentials = Credentials::new(self.credentials, self.on_warning);
        let shared = Shared {
            transport,
            policy: self.retry,
            credentials,
            sessions: Mutex::default(),
        };
        Ok(Client {
            shared: Arc::new(shared),
        })
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("credentials", &self.credentials)
            .field("retry", &self.retry)
            .field("timeouts", &self.timeouts)
            .field("user_agent", &self.user_agent)
            .finish_non_exhaustive()
    }
}
