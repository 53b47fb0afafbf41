//! One server that answers for registries.

use http::HeaderMap;
use url::{Host, Url};

use crate::EndpointSettings;

/// A server and how to speak to it. What it is asked for, and under which path, is the business of a
/// [`Target`](crate::route::Target).
#[derive(Clone, Debug)]
pub(crate) struct Endpoint(EndpointSettings);

impl Endpoint {
    /// Makes the endpoint that `settings` describe, without what they say about one repository.
    pub(crate) fn new(settings: &EndpointSettings) -> Self {
        let mut settings = settings.clone();
        settings.path = None;
        settings.namespace = None;
        Self(settings)
    }

    /// Tells whether both are the same server, spoken to in the same way.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let (a, b) = (&self.0, &other.0);
        a.base == b.base && a.tls == b.tls && a.headers == b.headers && a.connect_timeout == b.connect_timeout
    }

    /// Tells whether the endpoint is spoken to without TLS.
    pub(crate) fn is_plain(&self) -> bool {
        self.0.base.scheme() == "http"
    }

    /// Tells whether the endpoint is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.0.base.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// Tells whether a URL has the endpoint's scheme, host and port.
    pub(crate) fn is_origin_of(&self, url: &Url) -> bool {
        self.0.base.origin() == url.origin()
    }

    /// The URL that says whether this is a registry.
    pub(crate) fn base(&self) -> &Url {
        &self.0.base
    }

    /// `host` or `host:port`, for people.
    pub(crate) fn host(&self) -> String {
        self.0.host()
    }

    /// What goes along with each request to this server.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }
}
