//! The client as its users see it.

use std::collections::HashMap;
use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::OnceCell;
use unlade_auth::{Anonymous, CredentialSource, Found};
use unlade_oci::{Descriptor, Digest};
use unlade_reference::{Registry, Repository, Tag};

use crate::blob::{self, BlobStream};
use crate::credentials::{Credentials, WarningHook};
use crate::describe::{self, EndpointDescription};
use crate::distrust::Ledger;
use crate::endpoint::Endpoint;
use crate::login;
use crate::manifest::{self, ManifestHead, RawManifest, Selector};
use crate::ping::{self, Authentication, Ping};
use crate::referrers::{self, Referrers};
use crate::route::{Route, Target};
use crate::session::Session;
use crate::tags;
use crate::transport::Transport;
use crate::{
    ConfigError, EndpointSettings, EndpointSource, Error, ProxySettings, RetryPolicy, Role, Roots, Timeouts, Warning,
};

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
    pub(crate) ledger: Ledger,
    source: Option<Arc<dyn EndpointSource>>,
    sessions: Mutex<Vec<Arc<Session>>>,
    routes: Mutex<HashMap<Repository, Arc<OnceCell<Arc<Route>>>>>,
}

impl Client {
    /// Begins a client: anonymous, with the default times and retries.
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            credentials: Arc::new(Anonymous),
            retry: RetryPolicy::default(),
            timeouts: Timeouts::default(),
            endpoints: None,
            roots: Roots::default(),
            proxies: ProxySettings::none(),
            rate: None,
            connections_per_host: None,
            user_agent: HeaderValue::from_static(concat!("unlade/", env!("CARGO_PKG_VERSION"))),
            on_warning: Arc::new(|_| {}),
        }
    }

    /// Asks whether a registry speaks the API, and which login it wants (distribution-spec, *Determining Support*).
    ///
    /// No credentials are sent: an answer that asks for some is an answer. Mirrors are not asked: which login they want says
    /// nothing about the registry.
    ///
    /// # Errors
    /// The registry cannot be reached or does not speak the API.
    pub async fn ping(&self, registry: &Registry) -> Result<Ping, Error> {
        ping::ping(&self.shared, registry).await
    }

    /// Asks a registry whether it takes a login, and returns which kind it wanted.
    ///
    /// The login is the one given, whatever the client's own source of credentials knows. A registry that wants none
    /// ([`Authentication::Open`]) has not looked at it.
    ///
    /// # Errors
    /// The registry or its token server refuses the login ([`Error::class`] is `Auth`), or cannot be reached.
    pub async fn check_login(&self, registry: &Registry, login: &Found) -> Result<Authentication, Error> {
        login::check(&self.shared, registry, login).await
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

    /// Begins to fetch a part of a blob, which must not be empty; as [`Client::blob`] otherwise.
    ///
    /// A server that does not know ranges sends the whole blob. Where the part begins at 0 that is taken, and
    /// [`BlobStream::end`] tells it: the stream then is the whole blob. Elsewhere it is [`Error::Range`], and little of it has
    /// been received.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn blob_range(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        range: Range<u64>,
    ) -> Result<BlobStream, Error> {
        BlobStream::open_range(Arc::clone(&self.shared), repository, descriptor, range).await
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

    /// Lists what refers to a manifest, of one artifact type or of all (distribution-spec, *Listing Referrers*).
    ///
    /// A registry without such a list is asked for the index that clients keep in its place, under a tag made of the digest.
    /// Nothing refers to a digest that the registry does not know.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Referrers, Error> {
        referrers::list(&self.shared, repository, digest, artifact_type).await
    }

    /// Lists the tags of a repository, all pages, in the registry's order (distribution-spec, *Listing Tags*).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, Error> {
        tags::list(&self.shared, repository).await
    }
}

impl Client {
    /// Tells which servers would be asked for a repository, in order, and how. Nobody is asked, except for the sources of
    /// credentials.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub async fn describe(&self, repository: &Repository) -> Result<Vec<EndpointDescription>, Error> {
        describe::endpoints(&self.shared, repository).await
    }

    /// Says that a blob which came through this client does not have its digest.
    ///
    /// The servers that gave bytes of it are not asked for it again, except the last one of the repository's. Returns whether
    /// that leaves something to try: another server may have the true blob. A warning names each that is left out.
    pub fn distrust(&self, repository: &Repository, digest: &Digest) -> bool {
        self.shared.distrust(repository, digest)
    }
}

impl Shared {
    /// Returns the servers of a repository, with what is known about them.
    pub(crate) async fn route(&self, repository: &Repository) -> Result<Arc<Route>, Error> {
        let cell = {
            let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(routes.entry(repository.clone()).or_default())
        };
        let route = cell.get_or_try_init(|| async {
            let registry = repository.registry();
            let settings = self.endpoints(registry, repository.path()).await?;
            let targets = settings.iter().map(|settings| {
                let target = Target::new(self.session(settings), repository, settings);
                target.map(Arc::new).map_err(|source| unusable(registry, source))
            });
            Ok(Arc::new(Route {
                registry: registry.clone(),
                targets: targets.collect::<Result<_, _>>()?,
            }))
        });
        route.await.cloned()
    }

    /// Asks the configuration for the servers of a repository; at least one.
    pub(crate) async fn endpoints(&self, registry: &Registry, path: &str) -> Result<Vec<EndpointSettings>, Error> {
        let mut found = Vec::new();
        if let Some(source) = &self.source {
            let (source, name, path) = (Arc::clone(source), registry.clone(), path.to_owned());
            let asked = crate::blocking::run(move || source.endpoints(&name, &path)).await;
            found = asked.map_err(|source| unusable(registry, source))?;
        }
        if found.is_empty() {
            found.push(EndpointSettings::standard(registry).map_err(|source| unusable(registry, source))?);
        }
        Ok(found)
    }

    /// Returns the registry's own server. Configuration may name several ways to it, and may leave it out.
    pub(crate) async fn own_servers(&self, registry: &Registry) -> Result<Vec<Arc<Session>>, Error> {
        let endpoints = self.endpoints(registry, "").await?;
        let own = endpoints.iter().filter(|settings| settings.role == Role::Registry);
        let sessions: Vec<_> = own.map(|settings| self.session(settings)).collect();
        if sessions.is_empty() {
            return Err(Error::NoEndpoint {
                registry: registry.to_string(),
                purpose: "the login that it wants",
            });
        }
        Ok(sessions)
    }

    /// Returns what is known about a server.
    pub(crate) fn session(&self, settings: &EndpointSettings) -> Arc<Session> {
        let endpoint = Endpoint::new(settings);
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sessions.iter().find(|session| session.endpoint().is_same(&endpoint));
        if let Some(session) = known {
            return Arc::clone(session);
        }
        let lines = self.transport.lines(&settings.tls, settings.connect_timeout);
        let session = Arc::new(Session::new(endpoint, lines));
        sessions.push(Arc::clone(&session));
        session
    }

    pub(crate) fn distrust(&self, repository: &Repository, digest: &Digest) -> bool {
        let route = {
            let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
            routes.get(repository).and_then(|cell| cell.get().cloned())
        };
        let Some(last) = route.as_ref().and_then(|route| route.targets.last()) else {
            return false;
        };
        let liars = self
            .ledger
            .distrust(digest, |session| !Arc::ptr_eq(session, &last.session));
        for session in &liars {
            self.credentials.warn(&Warning::WrongContent {
                host: session.endpoint().host(),
                digest: digest.clone(),
            });
        }
        !liars.is_empty()
    }
}

fn unusable(registry: &Registry, source: ConfigError) -> Error {
    Error::Config {
        registry: registry.to_string(),
        source,
    }
}

/// Settings of a [`Client`] to be.
#[must_use]
pub struct ClientBuilder {
    credentials: Arc<dyn CredentialSource>,
    retry: RetryPolicy,
    timeouts: Timeouts,
    endpoints: Option<Arc<dyn EndpointSource>>,
    roots: Roots,
    proxies: ProxySettings,
    rate: Option<NonZeroU64>,
    connections_per_host: Option<NonZeroUsize>,
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

    /// Asks `source` which servers answer for a repository. Without one, and where it says nothing, that is the registry's own
    /// server with [`EndpointSettings::standard`] settings.
    ///
    /// The source is asked once for each repository, on a thread that may block.
    pub fn endpoints(mut self, source: Arc<dyn EndpointSource>) -> Self {
        self.endpoints = Some(source);
        self
    }

    /// Trusts the certificate authorities `roots` everywhere.
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self
    }

    /// Reaches servers through proxies: registries, token servers, and wherever they redirect to. None are used by default.
    pub fn proxies(mut self, proxies: ProxySettings) -> Self {
        self.proxies = proxies;
        self
    }

    /// Receives blobs with at most `rate` bytes per second, all of them together. Not limited by default.
    pub fn limit_rate(mut self, rate: Option<NonZeroU64>) -> Self {
        self.rate = rate;
        self
    }

    /// Uses at most `limit` connections to one host at the same time, be it a registry, a token server or a CDN. Not limited
    /// by default; how many blobs are fetched at once is for whoever asks for them to limit.
    pub fn connections_per_host(mut self, limit: Option<NonZeroUsize>) -> Self {
        self.connections_per_host = limit;
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
    /// Nothing is read and nobody is asked before the first request.
    ///
    /// # Errors
    /// Settings that contradict each other.
    pub fn build(self) -> Result<Client, Error> {
        let transport = Transport::new(self.timeouts, self.user_agent, self.roots, self.proxies)
            .limited(self.rate, self.connections_per_host);
        let credentials = Credentials::new(self.credentials, self.on_warning);
        let shared = Shared {
            transport,
            policy: self.retry,
            credentials,
            ledger: Ledger::default(),
            source: self.endpoints,
            sessions: Mutex::default(),
            routes: Mutex::default(),
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
            .field("endpoints", &self.endpoints)
            .field("roots", &self.roots)
            .field("proxies", &self.proxies)
            .field("rate", &self.rate)
            .field("connections_per_host", &self.connections_per_host)
            .field("user_agent", &self.user_agent)
            .finish_non_exhaustive()
    }
}
