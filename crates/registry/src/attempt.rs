//! One try of one request: proof, redirects, and what the answer means.

use std::net::SocketAddr;
use std::time::SystemTime;

use http::{HeaderMap, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpInfo;
use unlade_reference::Repository;
use url::Url;

use crate::body::{Body, drain};
use crate::challenge::Challenge;
use crate::client::Shared;
use crate::redirect::{is_redirect, location, refusal};
use crate::response::MAX_ERROR_BYTES;
use crate::retry::{Failure, Retry, retry_after};
use crate::session::{Proof, Session};
use crate::throttle::HostPermit;
use crate::transport::{Lines, Outgoing, Trust};
use crate::{CredentialsNote, Error, ErrorResponse, Exchange, Proxy, TransportError};

/// How many challenges of one request are answered: one for the proof, one for a token that was too old or too narrow.
const MAX_CHALLENGES: u32 = 2;

/// A request for an API of the registry, or for a URL that a manifest names.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) to: To<'a>,
}

/// Who is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To<'a> {
    /// The registry, with whatever proof it wants.
    Registry {
        session: &'a Session,
        repository: &'a Repository,
    },
    /// Some server that a manifest names; it gets no credentials. Trusted are the authorities that are trusted there.
    Stranger(&'a Lines),
}

/// How the first URL of a request is reached, and how far it is trusted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Via<'a> {
    pub(crate) lines: &'a Lines,
    /// Whether the TLS settings are for this very server.
    pub(crate) is_own: bool,
    pub(crate) trust: Trust,
    /// Whether it may redirect to link-local addresses.
    pub(crate) allow_link_local: bool,
}

impl<'a> Via<'a> {
    /// To an endpoint that the user named.
    pub(crate) fn endpoint(session: &'a Session) -> Self {
        Self {
            lines: session.lines(),
            is_own: true,
            trust: Trust::Named,
            allow_link_local: session.endpoint().is_loopback(),
        }
    }
}

/// An answer, and where it came from in the end. Not `Debug`: the URL may be signed.
pub(crate) struct Reply {
    pub(crate) response: Response<Incoming>,
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Whether a redirect led to another origin.
    pub(crate) strayed: bool,
    /// The proxy that it came through.
    pub(crate) proxy: Option<Proxy>,
}

impl Reply {
    pub(crate) fn exchange(&self) -> Box<Exchange> {
        Exchange::new(&self.method, &self.url).through(self.proxy.as_ref())
    }

    /// Returns the address that was connected to.
    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        self.response.extensions().get::<HttpInfo>().map(HttpInfo::remote_addr)
    }
}

/// Tries once. An answer with a status of success comes back as it is, and so does a 416 to a request for a range.
pub(crate) async fn attempt(shared: &Shared, call: &Call<'_>) -> Result<Reply, Failure> {
    let (session, repository) = match call.to {
        To::Registry { session, repository } => (session, repository),
        To::Stranger(lines) => {
            let via = Via {
                lines,
                is_own: false,
                trust: Trust::Told,
                allow_link_local: false,
            };
            let reply = follow(shared, outgoing(call), HeaderMap::new(), via).await?;
            return judge(shared, call, reply, None).await;
        }
    };
    let mut proof = session.proof(shared, repository).await?;
    for _ in 0..MAX_CHALLENGES {
        let mut reply = send(shared, call, session, proof.as_ref()).await?;
        if !is_challenge(&reply) {
            if reply.response.status() == StatusCode::BAD_REQUEST && proof.is_some() {
                return judge_bad_request(shared, call, (session, repository), reply, proof).await;
            }
            return judge(shared, call, reply, proof.as_ref()).await;
        }
        // The token may come from the same host, and must not wait for what waits for it.
        reply.response.extensions_mut().remove::<HostPermit>();
        let Some(better) = session.answer(shared, repository, &reply, proof.as_ref()).await? else {
            return judge(shared, call, reply, proof.as_ref()).await;
        };
        drain(reply.response.into_body()).await;
        proof = Some(better);
    }
    let reply = send(shared, call, session, proof.as_ref()).await?;
    judge(shared, call, reply, proof.as_ref()).await
}

async fn send(shared: &Shared, call: &Call<'_>, session: &Session, proof: Option<&Proof>) -> Result<Reply, Failure> {
    let mut own = session.endpoint().headers().clone();
    if let Some(proof) = proof {
        own.insert(header::AUTHORIZATION, proof.header.clone());
    }
    follow(shared, outgoing(call), own, Via::endpoint(session)).await
}

fn outgoing(call: &Call<'_>) -> Outgoing {
    Outgoing {
        method: call.method.clone(),
        url: call.url.clone(),
        headers: call.headers.clone(),
        body: bytes::Bytes::new(),
    }
}

/// Tells whether the registry itself asks for (other) proof. What a redirect led to has no say in this.
fn is_challenge(reply: &Reply) -> bool {
    match reply.response.status() {
        _ if reply.strayed => false,
        StatusCode::UNAUTHORIZED => true,
        StatusCode::FORBIDDEN => Challenge::all(reply.response.headers())
            .iter()
            .any(Challenge::is_insufficient_scope),
        _ => false,
    }
}

/// Deals with registries that answer 400 where an expired token calls for 401.
async fn judge_bad_request(
    shared: &Shared,
    call: &Call<'_>,
    (session, repository): (&Session, &Repository),
    reply: Reply,
    proof: Option<Proof>,
) -> Result<Reply, Failure> {
    let refusal = BadRequest::read(shared, reply).await;
    if refusal.says_expired
        && let Some(refused) = &proof
        && let Some(renewed) = session.renew(shared, repository, refused).await?
    {
        let reply = send(shared, call, session, Some(&renewed)).await?;
        if reply.response.status() != StatusCode::BAD_REQUEST {
            return judge(shared, call, reply, Some(&renewed)).await;
        }
        // A new token is no better: there is not another.
        let refusal = BadRequest::read(shared, reply).await;
        return Err(refusal.into_failure(shared, call, Some(&renewed)).await);
    }
    Err(refusal.into_failure(shared, call, proof.as_ref()).await)
}

/// An answer of 400.
struct BadRequest {
    exchange: Box<Exchange>,
    response: Box<ErrorResponse>,
    /// Whether the registry itself says that the token has expired.
    says_expired: bool,
}

impl BadRequest {
    async fn read(shared: &Shared, reply: Reply) -> Self {
        let exchange = reply.exchange();
        let (parts, incoming) = reply.response.into_parts();
        let body = Body::new(incoming, shared.transport.timeouts())
            .read_start(MAX_ERROR_BYTES)
            .await;
        let response = Box::new(ErrorResponse::new(parts.status, &parts.headers, &body));
        Self {
            says_expired: !reply.strayed && response.to_string().to_ascii_lowercase().contains("expired"),
            exchange,
            response,
        }
    }

    async fn into_failure(self, shared: &Shared, call: &Call<'_>, proof: Option<&Proof>) -> Failure {
        let Self {
            exchange,
            response,
            says_expired,
        } = self;
        Failure::last(if says_expired {
            let credentials = Box::new(note(shared, call, proof).await);
            Error::Denied {
                exchange,
                response,
                credentials,
            }
        } else {
            Error::Status { exchange, response }
        })
    }
}

/// Sends a request and follows redirects.
///
/// `Authorization` and the headers `own` go to the first URL's origin only, and are gone for good once another has been
/// seen.
pub(crate) async fn follow(
    shared: &Shared,
    mut outgoing: Outgoing,
    mut own: HeaderMap,
    via: Via<'_>,
) -> Result<Reply, Failure> {
    let method = outgoing.method.clone();
    let origin = outgoing.url.origin();
    let mut strayed = false;
    let mut hop = 0;
    loop {
        let url = outgoing.url.clone();
        let trust = if !strayed || via.allow_link_local {
            via.trust
        } else {
            Trust::Told
        };
        let line = via.lines.to(&url, via.is_own && !strayed, trust).await;
        let line = line.map_err(|source| Error::Config {
            registry: crate::SafeUrl::from(&url).host(),
            source,
        })?;
        let mut request = outgoing.clone();
        request.headers.extend(own.clone());
        let sent = shared.transport.send(&line, request, trust).await;
        let proxy = shared.transport.proxy(&url);
        let response = sent.map_err(|error| broken(Exchange::new(&method, &url).through(proxy), error, 0))?;
        tracing::debug!(%method, url = %crate::SafeUrl::from(&url), status = response.status().as_u16(), "answered");
        let reply = Reply {
            response,
            method: method.clone(),
            proxy: proxy.cloned(),
            url,
            strayed,
        };
        if !is_redirect(reply.response.status()) || method == Method::POST {
            return Ok(reply);
        }
        let Some(target) = location(&reply.url, reply.response.headers()) else {
            return Err(Failure::last(Error::RedirectLocation {
                exchange: reply.exchange(),
            }));
        };
        if let Some(reason) = refusal(&reply.url, &target, hop, via.allow_link_local) {
            let location = Box::new((&target).into());
            return Err(Failure::last(Error::Redirect {
                exchange: reply.exchange(),
                location,
                reason,
            }));
        }
        drain(reply.response.into_body()).await;
        if target.origin() != origin {
            strayed = true;
            own.clear();
            outgoing.headers.remove(header::AUTHORIZATION);
        }
        outgoing.url = target;
        hop += 1;
    }
}

/// Makes an error of an answer that is not a success.
async fn judge(shared: &Shared, call: &Call<'_>, reply: Reply, proof: Option<&Proof>) -> Result<Reply, Failure> {
    let status = reply.response.status();
    let fits_no_range = status == StatusCode::RANGE_NOT_SATISFIABLE && call.headers.contains_key(header::RANGE);
    if status.is_success() || fits_no_range {
        return Ok(reply);
    }
    let exchange = reply.exchange();
    let (parts, incoming) = reply.response.into_parts();
    let body = Body::new(incoming, shared.transport.timeouts())
        .read_start(MAX_ERROR_BYTES)
        .await;
    let response = Box::new(ErrorResponse::new(status, &parts.headers, &body));
    if let Some(failure) = transient(&exchange, &parts.headers, &response) {
        return Err(failure);
    }
    if reply.strayed {
        // A presigned URL that has run out: the registry makes a new one.
        let retry = if status == StatusCode::FORBIDDEN {
            Retry::AskAgain
        } else {
            Retry::Never
        };
        let credentials = Box::default();
        let error = match status {
            StatusCode::NOT_FOUND => Error::NotFound {
                exchange,
                response,
                credentials,
            },
            _ => Error::Status { exchange, response },
        };
        return Err(Failure { error, retry });
    }
    let credentials = Box::new(note(shared, call, proof).await);
    Err(Failure::last(match status {
        StatusCode::NOT_FOUND => Error::NotFound {
            exchange,
            response,
            credentials,
        },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Denied {
            exchange,
            response,
            credentials,
        },
        _ => Error::Status { exchange, response },
    }))
}

async fn note(shared: &Shared, call: &Call<'_>, proof: Option<&Proof>) -> CredentialsNote {
    match call.to {
        // With a proof the lookup has been made; without one it may have been, and may have warned.
        To::Registry { repository, .. } if proof.is_some() => {
            CredentialsNote::of(&*shared.credentials.of(repository).await)
        }
        To::Registry { repository, .. } => match shared.credentials.known(repository) {
            Some(lookup) if lookup.found.is_none() => CredentialsNote::of(&lookup),
            _ => CredentialsNote::Anonymous,
        },
        To::Stranger(_) => CredentialsNote::Anonymous,
    }
}

/// Makes a failure of an answer that another attempt may change: 408, 429, and 5xx but for 501.
pub(crate) fn transient(exchange: &Exchange, headers: &HeaderMap, response: &ErrorResponse) -> Option<Failure> {
    let status = response.status;
    let again = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED;
    if !again && status != StatusCode::REQUEST_TIMEOUT && status != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let wait = retry_after(headers, SystemTime::now());
    let retry = match wait {
        Some(wait) => Retry::After(wait),
        None if status == StatusCode::TOO_MANY_REQUESTS => Retry::Slowly,
        None => Retry::Backoff,
    };
    let (exchange, response) = (Box::new(exchange.clone()), Box::new(response.clone()));
    let error = if status == StatusCode::TOO_MANY_REQUESTS {
        Error::RateLimited {
            exchange,
            wait,
            quota: quota(headers),
            response,
        }
    } else {
        Error::Status { exchange, response }
    };
    Some(Failure { error, retry })
}

fn quota(headers: &HeaderMap) -> Box<[(&'static str, String)]> {
    ["ratelimit-limit", "ratelimit-remaining"]
        .into_iter()
        .filter_map(|name| Some((name, headers.get(name)?.to_str().ok()?.to_owned())))
        .collect()
}

/// Makes a failure of a connection that broke.
pub(crate) fn broken(exchange: Box<Exchange>, source: TransportError, received: u64) -> Failure {
    if let Some((phase, limit)) = source.timed_out() {
        return Failure::again(Error::Timeout {
            exchange,
            phase,
            limit,
            received,
        });
    }
    let retry = if source.is_transient() {
        Retry::Backoff
    } else {
        Retry::Never
    };
    Failure {
        error: Error::Transport {
            exchange,
            received,
            source,
        },
        retry,
    }
}
