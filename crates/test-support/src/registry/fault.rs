//! What goes wrong, where and when.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use tokio::sync::Notify;
use unlade_oci::Digest;

use super::FakeRegistry;
use super::content::Route;
use super::state::Shared;

/// One way in which a [`FakeRegistry`] misbehaves.
///
/// A fault says where (`on_…`), when (`nth`, `first`, `from`; always if unsaid) and what. Several faults may strike
/// the same request: their effects add up, later ones win. On a registry that asks for authorisation, faults on
/// manifests, blobs and tags see and count only the requests that were authorised.
///
/// ```
/// # use unlade_oci::Digest;
/// use unlade_test_support::{FakeRegistry, Fault};
///
/// # let digest = Digest::sha256("");
/// let registry = FakeRegistry::start();
/// registry.fault(Fault::on_blob(&digest).nth(1).cut_after(1000));
/// registry.fault(Fault::on_manifests().first(2).status(503).header("retry-after", "1"));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a fault strikes once it is given to a registry"]
pub struct Fault {
    target: Target,
    method: Option<Method>,
    repository: Option<String>,
    from: u64,
    count: Option<u64>,
    effects: Effects,
}

#[derive(Clone, Debug)]
enum Target {
    Anything,
    Ping,
    Manifests,
    Manifest(String),
    Blobs,
    Blob(String),
    Tags,
    Referrers,
    Token,
    Path(String),
}

/// Everything that may be done to a response.
#[derive(Clone, Debug, Default)]
pub(super) struct Effects {
    pub(super) delay: Option<Duration>,
    pub(super) no_response: bool,
    pub(super) unauthorized: bool,
    pub(super) status: Option<u16>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) without_headers: Vec<HeaderName>,
    pub(super) body: Option<Bytes>,
    pub(super) content: Option<Bytes>,
    pub(super) redirect: Option<(u16, RedirectTo)>,
    pub(super) ignore_range: bool,
    pub(super) declared_length: Option<u64>,
    pub(super) corrupt_at: Option<u64>,
    pub(super) cut_after: Option<u64>,
    pub(super) stall_after: Option<u64>,
    pub(super) hold_after: Option<(u64, Gate)>,
    pub(super) trickle: Option<(usize, Duration)>,
}

/// Where a redirect leads.
#[derive(Clone, Debug)]
pub(super) enum RedirectTo {
    Url(String),
    /// The same path at another registry, with a signature of its own for each redirect.
    Presigned(Arc<Shared>),
}

impl Fault {
    fn on(target: Target) -> Self {
        Self {
            target,
            method: None,
            repository: None,
            from: 1,
            count: None,
            effects: Effects::default(),
        }
    }

    /// Strikes every request.
    pub fn on_anything() -> Self {
        Self::on(Target::Anything)
    }

    /// Strikes the version check, `/v2/`.
    pub fn on_ping() -> Self {
        Self::on(Target::Ping)
    }

    /// Strikes requests for any manifest or index.
    pub fn on_manifests() -> Self {
        Self::on(Target::Manifests)
    }

    /// Strikes requests for the manifest with this tag or digest, as it stands in the path.
    pub fn on_manifest(reference: &(impl ToString + ?Sized)) -> Self {
        Self::on(Target::Manifest(reference.to_string()))
    }

    /// Strikes requests for any blob.
    pub fn on_blobs() -> Self {
        Self::on(Target::Blobs)
    }

    /// Strikes requests for this blob.
    pub fn on_blob(digest: &Digest) -> Self {
        Self::on(Target::Blob(digest.to_string()))
    }

    /// Strikes requests for tag lists.
    pub fn on_tags() -> Self {
        Self::on(Target::Tags)
    }

    /// Strikes requests for lists of referrers.
    pub fn on_referrers() -> Self {
        Self::on(Target::Referrers)
    }

    /// Strikes requests to the token endpoint.
    pub fn on_token() -> Self {
        Self::on(Target::Token)
    }

    /// Strikes requests for exactly this path.
    pub fn on_path(path: &str) -> Self {
        Self::on(Target::Path(path.to_owned()))
    }

    /// Strikes only requests with this method.
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.parse().expect("a method name"));
        self
    }

    /// Strikes only requests about this repository.
    pub fn repository(mut self, repository: &str) -> Self {
        self.repository = Some(repository.to_owned());
        self
    }

    /// Strikes only the `n`th of the matching requests, counted from 1.
    pub fn nth(mut self, n: u64) -> Self {
        (self.from, self.count) = (n, Some(1));
        self
    }

    /// Strikes only the first `n` of the matching requests.
    pub fn first(mut self, n: u64) -> Self {
        (self.from, self.count) = (1, Some(n));
        self
    }

    /// Strikes the `n`th of the matching requests and all after it.
    pub fn from(mut self, n: u64) -> Self {
        (self.from, self.count) = (n, None);
        self
    }

    /// Answers with this status, and an error document in the registry's form unless [`Self::body`] gives another.
    pub fn status(mut self, status: u16) -> Self {
        self.effects.status = Some(status);
        self
    }

    /// Sets a response header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = name.parse().expect("a header name");
        self.effects
            .headers
            .push((name, value.parse().expect("a header value")));
        self
    }

    /// Leaves a response header out. Without `content-length` the body is sent in chunks.
    pub fn without_header(mut self, name: &str) -> Self {
        self.effects.without_headers.push(name.parse().expect("a header name"));
        self
    }

    /// Sends this body, whatever was asked for, without a `Content-Range`; the status is 200 unless set.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.effects.body = Some(body.into());
        self
    }

    /// Answers 200 with an HTML page, as proxies and portals do.
    pub fn html(self) -> Self {
        self.header("content-type", "text/html; charset=utf-8")
            .body("<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Welcome</body></html>\n")
    }

    /// Serves this content in place of the true one, with ranges of it.
    pub fn content(mut self, content: impl Into<Bytes>) -> Self {
        self.effects.content = Some(content.into());
        self
    }

    /// Waits before answering.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.effects.delay = Some(delay);
        self
    }

    /// Closes the connection without an answer.
    pub fn no_response(mut self) -> Self {
        self.effects.no_response = true;
        self
    }

    /// Answers 401 with the challenge of the registry, whatever the request carries.
    pub fn unauthorized(mut self) -> Self {
        self.effects.unauthorized = true;
        self
    }

    /// Closes the connection once exactly `bytes` of the body are with the kernel.
    pub fn cut_after(mut self, bytes: u64) -> Self {
        self.effects.cut_after = Some(bytes);
        self
    }

    /// Sends `bytes` of the body and then nothing, with the connection open.
    pub fn stall_after(mut self, bytes: u64) -> Self {
        self.effects.stall_after = Some(bytes);
        self
    }

    /// Sends `bytes` of the body and goes on when `gate` opens.
    pub fn hold_after(mut self, bytes: u64, gate: &Gate) -> Self {
        self.effects.hold_after = Some((bytes, gate.clone()));
        self
    }

    /// Sends the body `bytes` at a time with a pause before each.
    pub fn trickle(mut self, bytes: usize, pause: Duration) -> Self {
        assert!(bytes > 0, "a trickle of nothing is a stall");
        self.effects.trickle = Some((bytes, pause));
        self
    }

    /// Declares this `Content-Length` and sends no more than that; if there is less, the connection closes early.
    pub fn declare_length(mut self, bytes: u64) -> Self {
        self.effects.declared_length = Some(bytes);
        self
    }

    /// Flips a bit of the byte at `offset` of the blob or manifest (not of the range sent).
    pub fn corrupt_at(mut self, offset: u64) -> Self {
        self.effects.corrupt_at = Some(offset);
        self
    }

    /// Answers a range request with 200 and the whole.
    pub fn ignore_range(mut self) -> Self {
        self.effects.ignore_range = true;
        self
    }

    /// Sends this `Content-Range` in place of the true one.
    pub fn content_range(self, value: &str) -> Self {
        self.header("content-range", value)
    }

    /// Redirects to `url`.
    pub fn redirect(mut self, status: u16, url: impl Into<String>) -> Self {
        self.effects.redirect = Some((status, RedirectTo::Url(url.into())));
        self
    }

    /// Redirects to the same path at `storage`, with a signature of its own in the query each time.
    ///
    /// What `storage` does with signatures is its own affair: see [`FakeRegistry::require_signature`] and
    /// [`FakeRegistry::expire_signatures`].
    pub fn redirect_presigned(mut self, status: u16, storage: &FakeRegistry) -> Self {
        self.effects.redirect = Some((status, RedirectTo::Presigned(Arc::clone(&storage.shared))));
        self
    }

    fn matches(&self, method: &Method, route: &Route, path: &str) -> bool {
        let target = match (&self.target, route) {
            (Target::Manifest(wanted), Route::Manifest { reference, .. }) => wanted == reference,
            (Target::Blob(wanted), Route::Blob { digest, .. }) => wanted == digest,
            (Target::Path(wanted), _) => wanted == path,
            (Target::Anything, _)
            | (Target::Ping, Route::Ping)
            | (Target::Manifests, Route::Manifest { .. })
            | (Target::Blobs, Route::Blob { .. })
            | (Target::Tags, Route::Tags { .. })
            | (Target::Referrers, Route::Referrers { .. })
            | (Target::Token, Route::Token) => true,
            _ => false,
        };
        target
            && self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self
                .repository
                .as_deref()
                .is_none_or(|wanted| route.repository() == Some(wanted))
    }
}

/// The faults of a registry and how often each was met.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<(Fault, u64)>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push((fault, 0));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Counts the request and returns what is to be done to its response.
    pub(super) fn strike(&mut self, method: &Method, route: &Route, path: &str) -> Effects {
        let mut effects = Effects::default();
        for (fault, met) in &mut self.0 {
            if !fault.matches(method, route, path) {
                continue;
            }
            *met += 1;
            let first = fault.from;
            if *met >= first && fault.count.is_none_or(|count| *met < first + count) {
                effects.add(&fault.effects);
            }
        }
        effects
    }
}

impl Effects {
    fn add(&mut self, other: &Self) {
        fn over<T: Clone>(mine: &mut Option<T>, theirs: Option<&T>) {
            if let Some(theirs) = theirs {
                *mine = Some(theirs.clone());
            }
        }
        over(&mut self.delay, other.delay.as_ref());
        over(&mut self.status, other.status.as_ref());
        over(&mut self.body, other.body.as_ref());
        over(&mut self.content, other.content.as_ref());
        over(&mut self.redirect, other.redirect.as_ref());
        over(&mut self.declared_length, other.declared_length.as_ref());
        over(&mut self.corrupt_at, other.corrupt_at.as_ref());
        over(&mut self.cut_after, other.cut_after.as_ref());
        over(&mut self.stall_after, other.stall_after.as_ref());
        over(&mut self.hold_after, other.hold_after.as_ref());
        over(&mut self.trickle, other.trickle.as_ref());
        self.no_response |= other.no_response;
        self.unauthorized |= other.unauthorized;
        self.ignore_range |= other.ignore_range;
        self.headers.extend(other.headers.iter().cloned());
        self.without_headers.extend(other.without_headers.iter().cloned());
    }
}

/// Holds responses back until a test lets them go: see [`Fault::hold_after`].
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<GateState>);

#[derive(Debug, Default)]
struct GateState {
    state: Mutex<(bool, usize)>,
    reached: Condvar,
    opened: Notify,
}

impl Gate {
    /// Makes a closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets every response go that waits here or will come here.
    pub fn open(&self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).0 = true;
        self.0.opened.notify_waiters();
    }

    /// Blocks until a response has come to the gate, with all bytes before it sent; `false` after `limit`.
    #[must_use = "nobody may have come"]
    pub fn wait_reached(&self, limit: Duration) -> bool {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .0
            .reached
            .wait_timeout_while(state, limit, |(_, reached)| *reached == 0);
        waited.unwrap_or_else(PoisonError::into_inner).0.1 > 0
    }

    /// Waits at the gate.
    pub(super) async fn pass(&self) {
        let opened = self.0.opened.notified();
        {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.1 += 1;
            self.0.reached.notify_all();
            if state.0 {
                return;
            }
        }
        opened.await;
    }
}
