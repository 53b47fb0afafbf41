//! The OCI distribution protocol, the pulling half: challenge, token, retry, range, redirect.
//!
//! A [`Client`] is made once and shared. It turns a repository and a reference into documents ([`Client::manifest`]) and
//! streams ([`Client::blob`]); everything that a registry or the network between may do on the way is dealt with
//! here, so that what comes out is either the bytes that were asked for or one [`Error`] that says what happened.
//!
//! # Map
//! - `config`: where registries are served, by default and by the files that people keep that in.
//! - `route`: which servers hold a repository, and how its URLs look there; `endpoint`: one such server.
//! - `fallback`: which of them is asked next, and when; `distrust`: which of them have lied.
//! - `proxy`: which proxy a URL is reached through.
//! - `transport`: connections, TLS, timeouts, and which addresses may be connected to. One request in, one response out.
//! - `throttle`: a rate of bytes and connections for each host, that all requests share.
//! - `redirect`: follows redirects on top of it, since what may be sent along is ours to decide.
//! - `session`, `challenge`, `scope`, `token`, `credentials`: what authorises a request, and who shares it.
//! - `attempt`: one try of one request with all of the above; `retry`: whether and when there is another.
//! - `describe`: what would be asked, told without asking.
//! - `manifest`, `blob`, `range`, `pages`, `tags`, `referrers`, `ping`, `login`: the requests themselves.
//! - `error`, `exchange`, `response`, `safe_url`: how failures are told.
//!
//! # Invariants
//! - Credentials go to the origin that they are for and to the token server that it names, never further: a mirror gets
//!   those of its own host, not those of the registry.
//! - `https` never becomes `http`, neither by a redirect nor by falling back.
//! - No `Debug`, `Display` or log line holds a password, a token, or the signature of a presigned URL.
//! - No task is left running: a request lives as long as the future that waits for it.

mod address;
mod attempt;
mod blob;
mod blocking;
mod body;
mod challenge;
mod client;
mod config;
mod credentials;
mod describe;
mod distrust;
mod endpoint;
mod error;
mod exchange;
mod fallback;
mod login;
mod manifest;
mod pages;
mod ping;
mod proxy;
mod range;
mod redirect;
mod referrers;
mod response;
mod retry;
mod route;
mod safe_url;
mod scope;
mod session;
mod settings;
mod tags;
mod throttle;
mod token;
mod token_request;
mod transport;
mod warning;

pub use blob::{BlobStream, Chunk};
pub use client::{Client, ClientBuilder};
pub use config::{
    Capabilities, CertsDirs, ClientCertificate, ConfigError, EndpointFiles, EndpointSettings, EndpointSource, FirstOf,
    Hosts, Origin, Overrides, RegistriesConf, Role, TlsSettings,
};
pub use describe::EndpointDescription;
pub use error::{EndpointError, Error};
pub use exchange::{CredentialsNote, Exchange};
pub use manifest::{ManifestHead, RawManifest, Selector};
pub use ping::{Authentication, Ping};
pub use proxy::{Proxy, ProxyError, ProxySettings};
pub use referrers::{Referrers, ReferrersOrigin};
pub use response::{ErrorResponse, RegistryError};
pub use retry::{Attempts, RetryPolicy};
pub use safe_url::SafeUrl;
pub use settings::{Roots, Timeouts};
pub use transport::{Phase, TlsProblem, TransportError};
pub use warning::Warning;
