//! Connections: TLS, pooling, timeouts, and which addresses may be connected to.

mod buffered;
mod connector;
mod error;
mod resolver;
mod tls;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use url::Url;

pub use self::error::{Phase, TransportError};

use self::connector::Connector;
use self::resolver::Addresses;
use crate::address::names_link_local;
use crate::{Error, Timeouts};

/// The most that is read from a connection at once.
///
/// A frame of a body is what one read gave, and each costs a wake-up, a hand-over and a write to disk. The HTTP library
/// begins with 8 KiB and doubles as long as reads come back full, so a fast plain line soon gets this much, while TLS,
/// which hands out one record of 16 KiB at a time, does not allocate for more than it gets.
const READ_BYTES: usize = 256 << 10;
/// How long an unused connection is kept; load balancers commonly close theirs after 60 s.
const POOL_IDLE: Duration = Duration::from_secs(55);
/// How many unused connections are kept for one host: as many as a pull has in flight.
const POOL_SIZE: usize = 32;

/// How much the origin of a URL is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The user named it: it may be anywhere.
    Named,
    /// A server named it: it may not be a link-local address.
    Told,
}

/// One request as it goes out. Not `Debug`: headers, URL and body may hold secrets.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Sends single requests and receives single responses.
pub(crate) struct Transport {
    named: HyperClient<Connector, Full<Bytes>>,
    told: HyperClient<Connector, Full<Bytes>>,
    timeouts: Timeouts,
    user_agent: HeaderValue,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}

impl Transport {
    pub(crate) fn new(timeouts: Timeouts, user_agent: HeaderValue) -> Result<Self, Error> {
        let tls = tls::config().map_err(|source| Error::Tls { source })?;
        let client = |addresses| {
            HyperClient::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(POOL_IDLE)
                .pool_max_idle_per_host(POOL_SIZE)
                .http1_max_buf_size(READ_BYTES)
                .build(Connector::new(tls.clone(), addresses, timeouts.connect))
        };
        // Two pools, so that a connection made under the looser rule is never used under the stricter one.
        Ok(Self {
            named: client(Addresses::All),
            told: client(Addresses::NotLinkLocal),
            timeouts,
            user_agent,
        })
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Sends a request and waits for the response's headers. Redirects and statuses are the caller's business.
    pub(crate) async fn send(&self, outgoing: Outgoing, trust: Trust) -> Result<Response<Incoming>, TransportError> {
        let Outgoing {
            method,
            url,
            mut headers,
            body,
        } = outgoing;
        // Names are judged when they are looked up; an address needs no lookup.
        if trust == Trust::Told && names_link_local(&url) {
            return Err(TransportError::link_local());
        }
        headers.insert(header::USER_AGENT, self.user_agent.clone());
        let mut request = Request::new(Full::new(body));
        *request.uri_mut() = url.as_str().parse().map_err(TransportError::unsendable)?;
        *request.method_mut() = method;
        *request.headers_mut() = headers;
        let client = match trust {
            Trust::Named => &self.named,
            Trust::Told => &self.told,
        };
        // The connector keeps its own, shorter time.
        let limit = self.timeouts.connect + self.timeouts.response;
        match tokio::time::timeout(limit, client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(TransportError::request(error)),
            Err(_elapsed) => Err(TransportError::timeout(Phase::Response, limit)),
        }
    }
}
