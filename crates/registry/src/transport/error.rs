//! What can happen to a connection.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::proxy::Proxy;

type BoxError = Box<dyn StdError + Send + Sync>;

/// The part of a request in which something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Name lookup, TCP, TLS.
    Connect,
    /// Until the response's headers.
    Response,
    /// Within the body.
    Body,
}

impl Phase {
    pub(crate) const fn stall(self) -> &'static str {
        match self {
            Self::Connect => "could not connect within",
            Self::Response => "got no answer within",
            Self::Body => "stalled: too little arrived within",
        }
    }
}

/// Why there is no response, or not all of it. The cause is in `source()`.
#[derive(Clone, Debug)]
pub struct TransportError(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    /// The URL cannot be written into a request.
    Unsendable(http::uri::InvalidUri),
    /// The URL itself names an address that may not be connected to.
    Refused(LinkLocal),
    Connect(hyper_util::client::legacy::Error),
    Exchange(hyper_util::client::legacy::Error),
    Body(hyper::Error),
    /// The body ended before its time without the connection having said so.
    Short,
    Timeout {
        phase: Phase,
        limit: Duration,
    },
    /// A proxy that takes requests itself did not take this one.
    Proxy(ThroughProxy),
}

impl TransportError {
    pub(crate) fn unsendable(error: http::uri::InvalidUri) -> Self {
        Self(Arc::new(Kind::Unsendable(error)))
    }

    pub(crate) fn link_local() -> Self {
        Self(Arc::new(Kind::Refused(LinkLocal)))
    }

    pub(crate) fn request(error: hyper_util::client::legacy::Error) -> Self {
        if let Some(ConnectTimeout { limit }) = find::<ConnectTimeout>(&error) {
            return Self::timeout(Phase::Connect, *limit);
        }
        Self(Arc::new(if error.is_connect() {
            Kind::Connect(error)
        } else {
            Kind::Exchange(error)
        }))
    }

    pub(crate) fn body(error: hyper::Error) -> Self {
        Self(Arc::new(Kind::Body(error)))
    }

    pub(crate) fn short() -> Self {
        Self(Arc::new(Kind::Short))
    }

    pub(crate) fn timeout(phase: Phase, limit: Duration) -> Self {
        Self(Arc::new(Kind::Timeout { phase, limit }))
    }

    /// The proxy answered in place of the target that it wants a login.
    pub(crate) fn proxy_login(proxy: &Proxy) -> Self {
        let proxy = proxy.to_string();
        Self(Arc::new(Kind::Proxy(ThroughProxy::Login { proxy })))
    }

    /// Tells whether a proxy wants a login, or another one.
    pub fn is_proxy_login(&self) -> bool {
        matches!(self.through_proxy(), Some(ThroughProxy::Login { .. }))
    }

    fn through_proxy(&self) -> Option<&ThroughProxy> {
        match &*self.0 {
            Kind::Proxy(failure) => Some(failure),
            Kind::Connect(error) => find(error),
            _ => None,
        }
    }

    /// Returns where and after how long the server was given up on, if that is what happened.
    pub fn timed_out(&self) -> Option<(Phase, Duration)> {
        match *self.0 {
            Kind::Timeout { phase, limit } => Some((phase, limit)),
            _ => None,
        }
    }

    /// Returns what is wrong with TLS, if that is what failed.
    pub fn tls_problem(&self) -> Option<TlsProblem> {
        match &*self.0 {
            Kind::Connect(error) | Kind::Exchange(error) => find(error).map(TlsProblem::of),
            Kind::Body(error) => find(error).map(TlsProblem::of),
            _ => None,
        }
    }

    /// Tells whether no connection could be made.
    pub(crate) fn is_connect(&self) -> bool {
        matches!(*self.0, Kind::Connect(_) | Kind::Refused(_))
    }

    /// Tells whether another attempt may work.
    ///
    /// One that cannot: a certificate that is not trusted, a server that does not speak TLS, an address that may not be
    /// connected to, a proxy that wants a login or refuses the target.
    pub fn is_transient(&self) -> bool {
        if let Some(failure) = self.through_proxy() {
            return failure.is_transient();
        }
        match &*self.0 {
            Kind::Unsendable(_) | Kind::Refused(_) | Kind::Proxy(_) => false,
            Kind::Connect(error) => self.tls_problem().is_none() && find::<LinkLocal>(error).is_none(),
            // A server may say only after the handshake that it wants a certificate.
            Kind::Exchange(_) => self.tls_problem() != Some(TlsProblem::WantsCertificate),
            Kind::Body(_) | Kind::Short | Kind::Timeout { .. } => true,
        }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Unsendable(_) => f.write_str("the URL cannot be sent"),
            Kind::Connect(_) | Kind::Exchange(_) if self.tls_problem().is_some() => {
                f.write_str("no TLS connection could be made")?;
                let text = self.tls_problem().and_then(TlsProblem::text);
                text.map_or(Ok(()), |text| write!(f, ", {text}"))
            }
            Kind::Connect(_) | Kind::Refused(_) | Kind::Proxy(_) => f.write_str("no connection could be made"),
            Kind::Exchange(_) => f.write_str("the connection broke before the answer"),
            Kind::Body(_) => f.write_str("the connection broke within the answer"),
            Kind::Short => f.write_str("the answer ended too early"),
            Kind::Timeout { phase, limit } => write!(f, "{} {} s", phase.stall(), limit.as_secs_f64()),
        }
    }
}

impl StdError for TransportError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &*self.0 {
            Kind::Unsendable(error) => Some(error),
            Kind::Refused(error) => Some(error),
            Kind::Proxy(error) => Some(error),
            // Their own text says no more than ours.
            Kind::Connect(error) | Kind::Exchange(error) => error.source(),
            Kind::Body(error) => Some(error),
            Kind::Short | Kind::Timeout { .. } => None,
        }
    }
}

/// What can be wrong between two that want to speak TLS. The details are in the error's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsProblem {
    /// The server's certificate is of no authority that is trusted, or of none at all.
    UnknownAuthority,
    /// The server's certificate is not valid at this time.
    Expired,
    /// The server's certificate is for other names.
    OtherName,
    /// The server speaks something else.
    NotTls,
    /// The server wants to know the client by a certificate, and there was none or not the right one.
    WantsCertificate,
    /// Something else.
    Other,
}

impl TlsProblem {
    fn of(error: &rustls::Error) -> Self {
        use rustls::{AlertDescription, CertificateError};
        match error {
            rustls::Error::InvalidCertificate(reason) => match reason {
                // The latter: an authority of the same name with another key.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
                // What web PKI calls a certificate that was made for an authority and shown by a server: one that has signed
                // itself.
                CertificateError::Other(error) if error.to_string().contains("CaUsedAsEndEntity") => {
                    Self::UnknownAuthority
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::Expired,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::OtherName,
                _ => Self::Other,
            },
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::AlertReceived(
                AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateUnknown,
            ) => Self::WantsCertificate,
            _ => Self::Other,
        }
    }

    fn text(self) -> Option<&'static str> {
        match self {
            Self::UnknownAuthority => Some("the server's certificate is of no authority that is trusted here"),
            Self::Expired => Some("the server's certificate is not valid now"),
            Self::OtherName => Some("the server's certificate is for another name"),
            Self::NotTls => Some("the server does not speak TLS"),
            Self::WantsCertificate => Some("the server does not accept the client without another certificate"),
            Self::Other => None,
        }
    }
}

/// The connector gave up.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {} s", limit.as_secs_f64())]
pub(super) struct ConnectTimeout {
    pub(super) limit: Duration,
}

/// A proxy did not connect us to the target. It is named without its login.
#[derive(Debug, thiserror::Error)]
pub(super) enum ThroughProxy {
    #[error("the proxy {proxy} cannot be reached")]
    Unreachable { proxy: String, source: BoxError },
    #[error("the proxy {proxy} wants a login, or another one; it is a part of the proxy's address")]
    Login { proxy: String },
    #[error("the proxy {proxy} does not connect to {target}: {reason}")]
    Refused {
        proxy: String,
        target: String,
        reason: String,
        is_transient: bool,
    },
    #[error("the connection to the proxy {proxy} broke")]
    Broken { proxy: String, source: BoxError },
}

impl ThroughProxy {
    fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } => true,
            Self::Login { .. } => false,
            Self::Refused { is_transient, .. } => *is_transient,
        }
    }
}

/// A URL that a server told us leads to a link-local address.
#[derive(Debug, thiserror::Error)]
#[error("the address is link-local, where a server may not send us")]
pub(super) struct LinkLocal;

/// Finds a cause by its type. Looks into `io::Error`s too, which do not give what they wrap as their source.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    if let Some(found) = error.downcast_ref::<T>() {
        return Some(found);
    }
    if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return find(inner);
    }
    error.source().and_then(find)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_io_errors_wrap() {
        let error = io::Error::other(io::Error::other(LinkLocal));
        assert!(find::<LinkLocal>(&error).is_some());
        assert!(find::<rustls::Error>(&error).is_none());
    }

    #[test]
    fn a_timeout_says_where() {
        let error = TransportError::timeout(Phase::Body, Duration::from_millis(1500));
        assert_eq!(error.to_string(), "stalled: too little arrived within 1.5 s");
        assert!(error.is_transient());
    }
}
