//! Everything that can go wrong between a reference and its bytes.

use std::time::Duration;

use unlade_oci::{Digest, ErrorClass};

use crate::{Attempts, ConfigError, CredentialsNote, ErrorResponse, Exchange, Phase, SafeUrl, TransportError};

/// A request that failed for good: what could be tried again has been.
///
/// `Clone`, since one failure (of a token server) may be the answer to many requests that waited for it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration of the registry cannot be used.
    #[error("the configuration for {registry} cannot be used")]
    Config {
        /// The registry.
        registry: String,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// No server is configured that may be asked for this.
    #[error("no server for {registry} may be asked for {purpose}, by its configuration")]
    NoEndpoint {
        /// The registry.
        registry: String,
        /// What was wanted.
        purpose: &'static str,
    },
    /// All servers of a registry failed.
    #[error("none of the {} servers for {registry} could give it{}", failures.len(), list(failures))]
    Endpoints {
        /// The registry.
        registry: String,
        /// What each of them did, in the order of the configuration; at least two. The last is the registry's own server, or
        /// what stands for it, and decides what kind of error this is.
        failures: Vec<EndpointError>,
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
    #[error("{exchange}: the server does not give the blob from byte {offset} on ({reason}){}", exchange.attempts)]
    Range {
        /// The request.
        exchange: Box<Exchange>,
        /// Where it was to be continued.
        offset: u64,
        /// What the server answered.
        reason: String,
    },
}

/// What one of several servers did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointError {
    /// Which one: `host` or `host:port`.
    pub host: String,
    /// Why it did not answer the request.
    pub error: Error,
}

impl Error {
    /// Makes one error of those of all servers of a registry; it is the only one's own if there is but one.
    pub(crate) fn of_endpoints(registry: &str, mut failures: Vec<EndpointError>) -> Self {
        match failures.pop() {
            Some(only) if failures.is_empty() => only.error,
            last => {
                failures.extend(last);
                Self::Endpoints {
                    registry: registry.to_owned(),
                    failures,
                }
            }
        }
    }

    /// Returns the error that decides what kind this is: that of the last server, if there were several.
    pub fn main(&self) -> &Self {
        match self {
            Self::Endpoints { failures, .. } => failures.last().map_or(self, |failure| failure.error.main()),
            _ => self,
        }
    }

    /// Returns the class.
    pub fn class(&self) -> ErrorClass {
        match self.main() {
            Self::Config { .. } | Self::NoEndpoint { .. } => ErrorClass::Invalid,
            Self::Transport { source, .. } if source.is_proxy_login() => ErrorClass::Auth,
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
            | Self::Range { .. }
            | Self::Endpoints { .. } => ErrorClass::Network,
        }
    }

    /// Tells whether the same request may work later without anything being changed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Endpoints { failures, .. } => failures.iter().any(|failure| failure.error.is_retryable()),
            Self::Transport { source, .. } => source.is_transient(),
            Self::Timeout { .. } | Self::RateLimited { .. } | Self::Range { .. } => true,
            Self::Status { response, .. } => response.status.is_server_error() || response.status.as_u16() == 408,
            _ => false,
        }
    }

    /// Tells whether the registry says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self.main(), Self::NotFound { .. })
    }

    /// Returns the registry's answer, if that is what failed.
    pub fn response(&self) -> Option<&ErrorResponse> {
        match self.main() {
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
        match self.main() {
            Self::Config { .. } | Self::NoEndpoint { .. } | Self::Endpoints { .. } => None,
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
            Self::Config { .. } | Self::NoEndpoint { .. } | Self::Endpoints { .. } => None,
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

    /// Tells whether the server could not be reached at all, so that others should be asked before it for a while.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        match self {
            Self::Transport { source, .. } => source.is_connect(),
            Self::Timeout { phase, .. } => matches!(phase, Phase::Connect | Phase::Response),
            _ => false,
        }
    }

    /// Tells whether the server answered with something else than what it was asked for.
    pub(crate) fn is_wrong_content(&self) -> bool {
        matches!(
            self,
            Self::DigestMismatch { .. }
                | Self::SizeMismatch { .. }
                | Self::Page { .. }
                | Self::Malformed { .. }
                | Self::TooLarge { .. }
        )
    }
}

/// Tells all levels of an error in one line.
pub(crate) fn full_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Each with all its causes, since an error can have only one as its source.
fn list(failures: &[EndpointError]) -> String {
    failures
        .iter()
        .fold(String::new(), |text, EndpointError { host, error }| {
            let start = if text.is_empty() { ": " } else { "; " };
            text + start + host + ": " + &full_text(error)
        })
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
