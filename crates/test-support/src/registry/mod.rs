//! A registry in process: the pull half of the OCI distribution protocol over HTTP on loopback, with faults.

mod auth;
mod body;
mod content;
mod fault;
mod record;
mod referrers;
mod respond;
mod server;
mod signer;
mod state;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use unlade_oci::Digest;

use crate::image::{Artifact, StoredManifest};
use crate::layout;
use auth::Access;
pub use auth::{TokenAuth, TokenFields};
use content::Content;
pub use fault::{Fault, Gate};
pub use record::Recorded;
pub use referrers::ReferrersApi;
use server::Server;
pub use signer::TokenSigner;
use state::Shared;

/// A registry on a loopback port of its own, with its own threads; it ends when dropped.
///
/// It behaves as the specification wants until a [`Fault`] or a [`TokenAuth`] says otherwise. It is stricter than
/// many: a manifest is served only to a client whose `Accept` lists its type (or that sends none), and a blob is found
/// only in the repositories it was pushed to.
#[derive(Debug)]
pub struct FakeRegistry {
    shared: Arc<Shared>,
    _server: Server,
}

impl FakeRegistry {
    /// Starts an empty registry on 127.0.0.1.
    pub fn start() -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into())
    }

    /// Starts an empty registry on a free port of `address`.
    pub fn start_on(address: IpAddr) -> Self {
        let (listener, address) = server::bind(address).expect("a free port");
        let shared = Arc::new(Shared::new(address));
        let server = Server::start(listener, Arc::clone(&shared)).expect("a thread for the server");
        Self {
            shared,
            _server: server,
        }
    }

    /// Returns `host:port`, as it stands in a reference.
    pub fn host(&self) -> String {
        self.shared.address.to_string()
    }

    /// Returns `http://host:port`.
    pub fn url(&self) -> String {
        self.shared.url()
    }

    /// Returns the reference `host:port/repository:tag`.
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.host())
    }

    /// Returns the URL of a blob.
    pub fn blob_url(&self, repository: &str, digest: &Digest) -> String {
        format!("{}/v2/{repository}/blobs/{digest}", self.url())
    }

    /// Returns the URL of the token endpoint.
    pub fn token_url(&self) -> String {
        format!("{}/token", self.url())
    }

    /// Puts an image or index into a repository, under a tag.
    pub fn push(&self, repository: &str, tag: &str, artifact: &dyn Artifact) {
        self.push_untagged(repository, artifact);
        self.tag(repository, tag, artifact.digest());
    }

    /// Puts an image or index into a repository without a tag.
    pub fn push_untagged(&self, repository: &str, artifact: &dyn Artifact) {
        let mut state = self.shared.lock();
        let repository = state.repositories.entry(repository.to_owned()).or_default();
        repository.manifests.extend(artifact.manifests());
        let blobs = artifact.blobs().iter();
        repository
            .blobs
            .extend(blobs.map(|(digest, bytes)| (digest.clone(), Content::Memory(bytes.clone()))));
    }

    /// Puts a document into a repository as a manifest, unchecked, and returns its SHA-256 digest.
    pub fn push_manifest(&self, repository: &str, media_type: &str, bytes: impl Into<Bytes>) -> Digest {
        let stored = StoredManifest {
            media_type: media_type.to_owned(),
            bytes: bytes.into(),
        };
        let digest = Digest::sha256(&stored.bytes);
        let mut state = self.shared.lock();
        state
            .repositories
            .entry(repository.to_owned())
            .or_default()
            .manifests
            .insert(digest.clone(), stored);
        digest
    }

    /// Points a tag at a manifest.
    pub fn tag(&self, repository: &str, tag: &str, digest: &Digest) {
        let mut state = self.shared.lock();
        state
            .repositories
            .entry(repository.to_owned())
            .or_default()
            .tags
            .insert(tag.to_owned(), digest.clone());
    }

    /// Removes a tag.
    pub fn remove_tag(&self, repository: &str, tag: &str) {
        let mut state = self.shared.lock();
        state
            .repositories
            .entry(repository.to_owned())
            .or_default()
            .tags
            .remove(tag);
    }

    /// Puts a blob into a repository and returns its SHA-256 digest.
    pub fn push_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes);
        self.push_blob_as(repository, &digest, bytes);
        digest
    }

    /// Puts a blob into a repository under a digest that need not be its own.
    pub fn push_blob_as(&self, repository: &str, digest: &Digest, bytes: impl Into<Bytes>) {
        self.insert_blobs(repository, [(digest.clone(), Content::Memory(bytes.into()))]);
    }

    /// Serves a file as a blob; it is read anew for each request and never held in memory.
    pub fn push_blob_file(&self, repository: &str, digest: &Digest, path: &Path) {
        self.insert_blobs(repository, [(digest.clone(), Content::File(path.to_owned()))]);
    }

    /// Removes a blob from a repository.
    pub fn remove_blob(&self, repository: &str, digest: &Digest) {
        let mut state = self.shared.lock();
        state
            .repositories
            .entry(repository.to_owned())
            .or_default()
            .blobs
            .remove(digest);
    }

    /// Serves an OCI image layout as a repository: its tags and all they lead to. Blobs stay in their files.
    pub fn serve_layout(&self, dir: &Path, repository: &str) -> io::Result<()> {
        let layout = layout::read_layout(dir)?;
        let mut manifests = BTreeMap::new();
        for (digest, media_type) in layout.manifests {
            let bytes = std::fs::read(layout::blob_path(dir, &digest))?.into();
            manifests.insert(digest, StoredManifest { media_type, bytes });
        }
        self.insert_blobs(
            repository,
            layout
                .blobs
                .into_iter()
                .map(|(digest, path)| (digest, Content::File(path))),
        );
        let mut state = self.shared.lock();
        let repository = state.repositories.entry(repository.to_owned()).or_default();
        repository.manifests.extend(manifests);
        repository.tags.extend(layout.tags);
        Ok(())
    }

    /// Serves content at a path outside the protocol and returns its URL.
    pub fn serve_at(&self, path: &str, bytes: impl Into<Bytes>) -> String {
        assert!(path.starts_with('/'), "a path begins with a slash");
        self.shared
            .lock()
            .files
            .insert(path.to_owned(), Content::Memory(bytes.into()));
        format!("{}{path}", self.url())
    }

    /// Lets something go wrong from now on.
    pub fn fault(&self, fault: Fault) {
        self.shared.lock().faults.add(fault);
    }

    /// Ends all faults. Responses that are held, stalled or trickled stay so.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// Asks for a user name and a password with every request.
    pub fn require_basic(&self, user: &str, password: &str) {
        let mut state = self.shared.lock();
        state.access = Access::Basic(BTreeMap::from([(user.to_owned(), password.to_owned())]));
    }

    /// Asks for a token; the endpoint is this registry's own unless `auth` names another realm.
    pub fn require_token(&self, auth: TokenAuth) {
        self.shared.lock().access = Access::Token(Box::new(auth));
    }

    /// Issues tokens for another registry (give it a clone of `auth`). Content of this one needs a token, too.
    pub fn serve_tokens(&self, auth: TokenAuth) {
        self.require_token(auth);
    }

    /// Asks nothing of clients any more.
    pub fn require_nothing(&self) {
        self.shared.lock().access = Access::Open;
    }

    /// Serves blobs and files only with a signature from [`Fault::redirect_presigned`], each for `uses` requests.
    pub fn require_signature(&self, uses: Option<u64>) {
        self.shared.lock().signatures.get_or_insert_default().uses = uses;
    }

    /// Makes all signatures given out so far worthless: they get 403.
    pub fn expire_signatures(&self) {
        self.shared.lock().signatures.get_or_insert_default().expire();
    }

    /// Sets how much of the referrers API there is; all of it if unsaid.
    pub fn referrers_api(&self, api: ReferrersApi) {
        self.shared.lock().referrers = api;
    }

    /// Limits how many tags, and how many referrers, come on one page, whatever `n` asks.
    pub fn tags_page_size(&self, size: usize) {
        self.shared.lock().page_size = Some(size);
    }

    /// Returns all requests so far, in the order they came.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.lock().log.requests()
    }

    /// Returns how many bytes of this blob were sent, over all requests.
    pub fn blob_bytes_served(&self, digest: &Digest) -> u64 {
        self.shared.lock().log.blob_bytes(Some(&digest.to_string()))
    }

    /// Returns how many bytes of blobs were sent.
    pub fn all_blob_bytes_served(&self) -> u64 {
        self.shared.lock().log.blob_bytes(None)
    }

    /// Returns how many connections were opened.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// Returns the largest number of blob responses that were under way at once.
    pub fn peak_blob_requests(&self) -> usize {
        self.shared.blob_gauge.peak()
    }

    /// Forgets the requests so far, and the counts.
    pub fn clear(&self) {
        self.shared.lock().log.clear();
        self.shared.connections.store(0, Ordering::Release);
        self.shared.blob_gauge.reset_peak();
    }

    fn insert_blobs(&self, repository: &str, blobs: impl IntoIterator<Item = (Digest, Content)>) {
        let mut state = self.shared.lock();
        state
            .repositories
            .entry(repository.to_owned())
            .or_default()
            .blobs
            .extend(blobs);
    }
}
