//! Everything that can go wrong between a reference and its bytes.

use std::time::Duration;

use unlade_oci::{Digest, ErrorClass};

use crate::{Attempts, CredentialsNote, ErrorResponse, Exchange, Phase, SafeUrl, TransportError};

/// A request that failed for good: what could be tried again has been.
///
/// `Clone`, since one failure (of a token server) may be the answer to many requests that waited for it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// TLS cannot be set up with the settings given.
    #[error("TLS cannot be set up")]
    Tls {
        /// What is wrong with them.
        source: rustls::Error,
    },
    /// The registry's name makes no URL.
    #[error("the registry {registry:?} has no usable address: {reason}")]
    Address {
        /// The name.
        registry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection, or it broke before the answer or within it.
    #[error("{exchange} failed{}{}", after_bytes(*received), exchange.attempts)]
    Transport {
        /// The request.
        exchange: Box<Exchange>,
        /// How many bytes of the body had arrived (of a blob: of all attempts together).
        received: u64,
        /// What happened to the connection.
        source: TransportError,
    },
    /// The server was too slow.
    #[error(
        "{exchange} {} {} s{}{}",
        phase.stall(), limit.as_secs_f64(), after_bytes(*received), exchange.attempts
    )]
    Timeout {
        /// The request.
        exchange: Box<Exchange>,
        /// In which part of it.
        phase: Phase,
        /// How long it was waited for.
        limit: Duration,
        /// How many bytes of the body had arrived (of a blob: of all attempts together).
        received: u64,
    },
    /// The registry does not have it, or hides that it has.
    #[error("{exchange}: does not exist or needs a login ({response}; {credentials}){}", exchange.attempts)]
    NotFound {
        /// The request.
        exchange: Box<Exchange>,
        /// The answer.
        response: Box<ErrorResponse>,
        /// Who asked.
        credentials: Box<CredentialsNote>,
    },
    /// The registry does not allow it.
    #[error("{exchange}: access denied, it needs another login or does not exist ({response}; {credentials}){}", exchange.attempts)]
    Denied {
        /// The request.
        exchange: Box<Exchange>,
        /// The answer.
        response: Box<ErrorResponse>,
        /// Who asked.
        credentials: Box<CredentialsNote>,
    },
    /// The token server gave no token.
    #[error("{exchange}: the token server refused a token ({response}; {credentials}){}", exchange.attempts)]
    TokenRefused {
        /// The request to the token server.
        exchange: Box<Exchange>,
        /// The answer.
        response: Box<ErrorResponse>,
        /// Who asked.
        credentials: Box<CredentialsNote>,
    },
    /// The registry asks for a proof that cannot be given.
    #[error("{exchange}: the registry asks for a login that cannot be done: {reason}")]
    Challenge {
        /// The request.
        exchange: Box<Exchange>,
        /// Why not.
        reason: String,
    },
    /// Too many requests, and the wait asked for is too long or did not help.
    #[error("{exchange}: rate limited by {}{}{}{}", exchange.url.host(), wait_asked(*wait), quota_text(quota), exchange.attempts)]
    RateLimited {
        /// The request.
        exchange: Box<Exchange>,
        /// How long the server wants us to wait, if it said.
        wait: Option<Duration>,
        /// The server's `ratelimit-limit` and `ratelimit-remaining`, if it sent them.
        quota: Box<[(&'static str, String)]>,
        /// The answer.
        response: Box<ErrorResponse>,
    },
    /// Another answer that is not a success.
    #[error("{exchange}: {response}{}", exchange.attempts)]
    Status {
        /// The request.
        exchange: Box<Exchange>,
        /// The answer.
        response: Box<ErrorResponse>,
    },
    /// A redirect that must not be followed.
    #[error("{exchange}: a redirect to {location} is not followed: {reason}")]
    Redirect {
        /// The request.
        exchange: Box<Exchange>,
        /// Where it leads.
        location: Box<SafeUrl>,
        /// Why not.
        reason: &'static str,
    },
    /// A redirect to something that is not a URL.
    #[error("{exchange}: the redirect has no usable Location")]
    RedirectLocation {
        /// The request.
        exchange: Box<Exchange>,
    },
    /// A web page where a document or a blob was due.
    #[error("{exchange}: {} answered with a web page ({content_type}) where {due} was due (a proxy or portal?)", exchange.url.host())]
    Page {
        /// The request.
        exchange: Box<Exchange>,
        /// The page's media type.
        content_type: String,
        /// What was due.
        due: &'static str,
    },
    /// A document that breaks its own format.
    #[error("{exchange}: {} answered with a {document} that cannot be read: {reason}", exchange.url.host())]
    Malformed {
        /// The request.
        exchange: Box<Exchange>,
        /// What it should be.
        document: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A document beyond its limit.
    #[error("{exchange}: the {document} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The request.
        exchange: Box<Exchange>,
        /// What it is.
        document: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// The bytes are not the ones that were asked for.
    #[error("{exchange}: the bytes received have the digest {actual}, {expected} {}", asked_by(*by_header))]
    DigestMismatch {
        /// The request.
        exchange: Box<Exchange>,
        /// What was asked for, or what the registry's header says.
        expected: Digest,
        /// What arrived.
        actual: Digest,
        /// Whether `expected` is from the `Docker-Content-Digest` header.
        by_header: bool,
    },
    /// There are more or fewer bytes than the descriptor says.
    #[error("{exchange}: the blob has {actual} bytes, its descriptor says {expected}")]
    SizeMismatch {
        /// The request.
        exchange: Box<Exchange>,
        /// Bytes by the descriptor.
        expected: u64,
        /// Bytes by the server; of a body without a length: at least these.
        actual: u64,
    },
    /// A server that cannot continue a blob, which broke off again after it had been started anew.
    #[error("{exchange}: the server cannot continue the blob at byte {offset} ({reason}), and it broke off twice{}", exchange.attempts)]
    Range {
        /// The request.
        exchange: Box<Exchange>,
        /// Where it was to be continued.
        offset: u64,
        /// What the server answered.
        reason: String,
    },
}

impl Error {
    /// Returns the class.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Tls { .. } | Self::Address { .. } => ErrorClass::Invalid,
            Self::NotFound { .. } => ErrorClass::NotFound,
            Self::Denied { .. } | Self::TokenRefused { .. } | Self::Challenge { .. } => ErrorClass::Auth,
            Self::RateLimited { .. } => ErrorClass::RateLimited,
            Self::Timeout { .. } => ErrorClass::Timeout,
            Self::TooLarge { .. } => ErrorClass::Rejected,
            Self::DigestMismatch { .. } | Self::SizeMismatch { .. } => ErrorClass::Integrity,
            Self::Transport { .. }
            | Self::Status { .. }
            | Self::Redirect { .. }
            | Self::RedirectLocation { .. }
            | Self::Page { .. }
            | Self::Malformed { .. }
            | Self::Range { .. } => ErrorClass::Network,
        }
    }

    /// Tells whether the same request may work later without anything being changed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Transport { source, .. } => source.is_transient(),
            Self::Timeout { .. } | Self::RateLimited { .. } | Self::Range { .. } => true,
            Self::Status { response, .. } => response.status.is_server_error() || response.status.as_u16() == 408,
            _ => false,
        }
    }

    /// Tells whether the registry says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Returns the registry's answer, if that is what failed.
    pub fn response(&self) -> Option<&ErrorResponse> {
        match self {
            Self::NotFound { response, .. }
            | Self::Denied { response, .. }
            | Self::TokenRefused { response, .. }
            | Self::RateLimited { response, .. }
            | Self::Status { response, .. } => Some(response),
            _ => None,
        }
    }

    /// Returns the request that failed; `None` if it did not come to one.
    pub fn exchange(&self) -> Option<&Exchange> {
        match self {
            Self::Tls { .. } | Self::Address { .. } => None,
            Self::Transport { exchange, .. }
            | Self::Timeout { exchange, .. }
            | Self::NotFound { exchange, .. }
            | Self::Denied { exchange, .. }
            | Self::TokenRefused { exchange, .. }
            | Self::Challenge { exchange, .. }
            | Self::RateLimited { exchange, .. }
            | Self::Status { exchange, .. }
            | Self::Redirect { exchange, .. }
            | Self::RedirectLocation { exchange }
            | Self::Page { exchange, .. }
            | Self::Malformed { exchange, .. }
            | Self::TooLarge { exchange, .. }
            | Self::DigestMismatch { exchange, .. }
            | Self::SizeMismatch { exchange, .. }
            | Self::Range { exchange, .. } => Some(exchange),
        }
    }

    fn exchange_mut(&mut self) -> Option<&mut Exchange> {
        match self {
            Self::Tls { .. } | Self::Address { .. } => None,
            Self::Transport { exchange, .. }
            | Self::Timeout { exchange, .. }
            | Self::NotFound { exchange, .. }
            | Self::Denied { exchange, .. }
            | Self::TokenRefused { exchange, .. }
            | Self::Challenge { exchange, .. }
            | Self::RateLimited { exchange, .. }
            | Self::Status { exchange, .. }
            | Self::Redirect { exchange, .. }
            | Self::RedirectLocation { exchange }
            | Self::Page { exchange, .. }
            | Self::Malformed { exchange, .. }
            | Self::TooLarge { exchange, .. }
            | Self::DigestMismatch { exchange, .. }
            | Self::SizeMismatch { exchange, .. }
            | Self::Range { exchange, .. } => Some(exchange),
        }
    }

    /// Writes down how often it was tried. An error of a request within this one (for a token) has its own count.
    pub(crate) fn after(mut self, attempts: Attempts) -> Self {
        if let Some(exchange) = self.exchange_mut()
            && exchange.attempts.made == 0
        {
            exchange.attempts = attempts;
        }
        self
    }

    /// Writes down how many bytes had arrived before it.
    pub(crate) fn received_before(mut self, bytes: u64) -> Self {
        if let Self::Transport { received, .. } | Self::Timeout { received, .. } = &mut self {
            *received = bytes;
        }
        self
    }
}

fn after_bytes(received: u64) -> String {
    if received == 0 {
        String::new()
    } else {
        format!(" at byte {received}")
    }
}

fn wait_asked(wait: Option<Duration>) -> String {
    wait.map(|wait| format!(", which wants a wait of {} s", wait.as_secs()))
        .unwrap_or_default()
}

fn quota_text(quota: &[(&'static str, String)]) -> String {
    quota
        .iter()
        .fold(String::new(), |text, (name, value)| text + ", " + name + " " + value)
}

fn asked_by(by_header: bool) -> &'static str {
    if by_header {
        "is what the registry's header says"
    } else {
        "was asked for"
    }
}
