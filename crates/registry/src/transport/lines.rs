//! The connection pools of one way to speak TLS.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::sync::OnceCell;
use url::Url;

use super::Trust;
use super::connector::Connector;
use super::resolver::Addresses;
use super::tls::{self, Authorities};
use crate::{ConfigError, ProxySettings, TlsSettings};

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

type Pool = HyperClient<Connector, Full<Bytes>>;

/// Connections to a server and to those that it leads to.
///
/// Pools are kept apart by what their connections were made under, so that one made under a looser rule is never used
/// under a stricter one. They, and the TLS settings with their files, are made when they are first needed: who speaks
/// plain http never reads a certificate.
pub(crate) struct Lines {
    pub(super) settings: TlsSettings,
    pub(super) connect: Duration,
    authorities: Arc<Authorities>,
    proxies: Arc<ProxySettings>,
    own: OnceCell<ClientConfig>,
    others: OnceCell<ClientConfig>,
    pools: Mutex<HashMap<Kind, Pool>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    /// Under the settings of the server itself, which others do not share: its client certificate, any certificate.
    own: bool,
    secure: bool,
    trust: Trust,
}

/// What one request goes out through.
pub(crate) struct Line {
    pub(super) pool: Pool,
}

impl Lines {
    pub(super) fn new(
        settings: TlsSettings,
        connect: Duration,
        authorities: Arc<Authorities>,
        proxies: Arc<ProxySettings>,
    ) -> Self {
        Self {
            settings,
            connect,
            authorities,
            proxies,
            own: OnceCell::new(),
            others: OnceCell::new(),
            pools: Mutex::default(),
        }
    }

    /// Returns what leads to `url`. `is_own`: that is the server that the settings are for.
    pub(crate) async fn to(&self, url: &Url, is_own: bool, trust: Trust) -> Result<Line, ConfigError> {
        let kind = Kind {
            own: is_own && (self.settings.skip_verify || !self.settings.client.is_empty()),
            secure: url.scheme() == "https",
            trust,
        };
        let found = self.pools().get(&kind).cloned();
        let pool = if let Some(pool) = found {
            pool
        } else {
            let made = self.pool(kind, self.tls(kind).await?);
            self.pools().entry(kind).or_insert(made).clone()
        };
        Ok(Line { pool })
    }

    async fn tls(&self, kind: Kind) -> Result<ClientConfig, ConfigError> {
        if !kind.secure {
            return tls::none();
        }
        let (cell, settings) = if kind.own {
            (&self.own, self.settings.clone())
        } else {
            let shared = TlsSettings {
                ca: self.settings.ca.clone(),
                ..TlsSettings::default()
            };
            (&self.others, shared)
        };
        let authorities = Arc::clone(&self.authorities);
        let config = cell.get_or_try_init(|| crate::blocking::run(move || tls::config(&settings, &authorities)));
        config.await.cloned()
    }

    fn pool(&self, kind: Kind, tls: ClientConfig) -> Pool {
        let addresses = match kind.trust {
            Trust::Named => Addresses::All,
            Trust::Told => Addresses::NotLinkLocal,
        };
        HyperClient::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_SIZE)
            .http1_max_buf_size(READ_BYTES)
            .build(Connector::new(tls, addresses, self.connect, Arc::clone(&self.proxies)))
    }

    fn pools(&self) -> std::sync::MutexGuard<'_, HashMap<Kind, Pool>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("settings", &self.settings)
            .field("connect", &self.connect)
            .finish_non_exhaustive()
    }
}
