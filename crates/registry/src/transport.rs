//! Connections: TLS, pooling, timeouts, and which addresses may be connected to.

mod buffered;
mod connector;
mod error;
mod lines;
mod resolver;
mod tls;
mod tunnel;

use std::num::{NonZeroU64, NonZeroUsize};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::capture_connection;
use tokio::time::error::Elapsed;
use url::Url;

pub use self::error::{Phase, TlsProblem, TransportError};
pub(crate) use self::lines::{Line, Lines};

use self::tls::Authorities;
use crate::address::names_link_local;
use crate::throttle::{Hosts, Throttle};
use crate::{Proxy, ProxySettings, Roots, Timeouts, TlsSettings};

/// How much the origin of a URL is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
#[derive(Debug)]
pub(crate) struct Transport {
    timeouts: Timeouts,
    user_agent: HeaderValue,
    proxies: Arc<ProxySettings>,
    throttle: Option<Arc<Throttle>>,
    hosts: Hosts,
    authorities: Arc<Authorities>,
    lines: Mutex<Vec<Arc<Lines>>>,
}

impl Transport {
    pub(crate) fn new(timeouts: Timeouts, user_agent: HeaderValue, roots: Roots, proxies: ProxySettings) -> Self {
        Self {
            timeouts,
            user_agent,
            proxies: Arc::new(proxies),
            throttle: None,
            hosts: Hosts::new(None),
            authorities: Arc::new(Authorities::new(roots)),
            lines: Mutex::default(),
        }
    }

    /// Keeps to a rate in bytes per second, and to a number of connections for each host.
    pub(crate) fn limited(mut self, rate: Option<NonZeroU64>, per_host: Option<NonZeroUsize>) -> Self {
        self.throttle = rate.map(Throttle::new).map(Arc::new);
        self.hosts = Hosts::new(per_host);
        self
    }

    /// Returns the rate that downloads keep to.
    pub(crate) fn throttle(&self) -> Option<Arc<Throttle>> {
        self.throttle.clone()
    }

    /// Returns the connections under `settings`; servers with the same share them.
    pub(crate) fn lines(&self, settings: &TlsSettings, connect: Option<Duration>) -> Arc<Lines> {
        let connect = connect.unwrap_or(self.timeouts.connect);
        let mut all = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let same = all
            .iter()
            .find(|lines| lines.settings == *settings && lines.connect == connect);
        if let Some(lines) = same {
            return Arc::clone(lines);
        }
        let lines = Arc::new(Lines::new(
            settings.clone(),
            connect,
            Arc::clone(&self.authorities),
            Arc::clone(&self.proxies),
        ));
        all.push(Arc::clone(&lines));
        lines
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Returns the proxy through which a URL is reached, if any.
    pub(crate) fn proxy(&self, url: &Url) -> Option<&Proxy> {
        self.proxies.for_url(url)
    }

    /// Sends a request and waits for the response's headers. Redirects and statuses are the caller's business.
    pub(crate) async fn send(
        &self,
        line: &Line,
        outgoing: Outgoing,
        trust: Trust,
    ) -> Result<Response<Incoming>, TransportError> {
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
        // A proxy that gets the request itself gets its login with it; with a tunnel that was done when it was made.
        let proxy = self
            .proxy(&url)
            .filter(|proxy| proxy.takes_absolute(Some(url.scheme())));
        if let Some(authorization) = proxy.and_then(Proxy::authorization) {
            headers.insert(header::PROXY_AUTHORIZATION, authorization);
        }
        let mut request = Request::new(Full::new(body));
        *request.uri_mut() = url.as_str().parse().map_err(TransportError::unsendable)?;
        *request.method_mut() = method;
        *request.headers_mut() = headers;
        let permit = self.hosts.enter(&url).await;
        match self.answer(line, request).await {
            Ok(Ok(mut response)) => match proxy {
                Some(proxy) if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                    Err(TransportError::proxy_login(proxy))
                }
                _ => {
                    if let Some(permit) = permit {
                        response.extensions_mut().insert(permit);
                    }
                    Ok(response)
                }
            },
            Ok(Err(error)) => Err(TransportError::request(error)),
            Err(_elapsed) => Err(TransportError::timeout(Phase::Response, self.timeouts.response)),
        }
    }

    /// Waits for the answer, as long as `response` says from when there is a connection, new or kept, to send the request on.
    /// How long making one may take is the connector's affair.
    async fn answer(
        &self,
        line: &Line,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Result<Response<Incoming>, hyper_util::client::legacy::Error>, Elapsed> {
        let mut connection = capture_connection(&mut request);
        let mut answer = pin!(line.pool.request(request));
        tokio::select! {
            biased;
            answer = &mut answer => return Ok(answer),
            connected = connection.wait_for_connection_metadata() => drop(connected),
        }
        tokio::time::timeout(self.timeouts.response, answer).await
    }
}
