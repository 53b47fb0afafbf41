//! How the network is used: flags, the tables `network` and `proxy` of the configuration file, and what follows from them.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use unlade_registry::{ClientBuilder, Proxy, ProxySettings, RetryPolicy, Timeouts};

use crate::config_file::Text;
use crate::environment::Environment;
use crate::quantity::{ByteSize, Time};
use crate::settings::SettingsError;

/// What concerns every command that uses the network.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Network options")]
pub(crate) struct NetworkFlags {
    /// Use no proxy, whatever variables and configuration say
    #[arg(long)]
    no_proxy: bool,
    /// How often a request that failed is tried again, 5 times by default
    #[arg(long, value_name = "COUNT")]
    retries: Option<u32>,
    /// The longest wait that a server may ask for; 60s by default
    #[arg(long, value_name = "TIME")]
    max_wait: Option<Time>,
    /// How long all that uses the network may take together; not limited by default
    #[arg(long, value_name = "TIME")]
    timeout: Option<Time>,
    /// How long a connection may take to be made; 10s by default
    #[arg(long, value_name = "TIME")]
    connect_timeout: Option<Time>,
    /// How long a server may be silent or too slow; 30s by default
    #[arg(long, value_name = "TIME")]
    stall_timeout: Option<Time>,
    /// Fewer bytes a second than this, over the stall timeout, are too slow; 546 by default
    #[arg(long, value_name = "SIZE")]
    min_speed: Option<ByteSize>,
}

/// What concerns every command that fetches blobs.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Download options")]
pub(crate) struct DownloadFlags {
    /// Blobs and ranges of blobs received at the same time, 6 by default
    #[arg(long, value_name = "COUNT")]
    max_connections: Option<NonZeroUsize>,
    /// Connections to one host at the same time; not limited by default
    #[arg(long, value_name = "COUNT")]
    max_connections_per_host: Option<NonZeroUsize>,
    /// Connections for one large blob, each with a range of it, 4 by default
    #[arg(long, value_name = "COUNT")]
    ranges: Option<NonZeroUsize>,
    /// Bytes a second for all downloads together, such as 10M; not limited by default
    #[arg(long, value_name = "SIZE")]
    limit_rate: Option<ByteSize>,
}

/// The table `network`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct NetworkTable {
    retries: Option<u32>,
    max_wait: Option<Time>,
    timeout: Option<Time>,
    connect_timeout: Option<Time>,
    stall_timeout: Option<Time>,
    min_speed: Option<ByteSize>,
    connections_per_host: Option<NonZeroUsize>,
    ranges: Option<NonZeroUsize>,
    limit_rate: Option<ByteSize>,
}

/// The table `proxy`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct ProxyTable {
    enabled: Option<bool>,
    http: Option<Text<Proxy>>,
    https: Option<Text<Proxy>>,
    /// For what has none of its own.
    all: Option<Text<Proxy>>,
    no_proxy: Option<Vec<String>>,
    loopback: Option<bool>,
}

/// How the network is used.
#[derive(Debug)]
pub(crate) struct Network {
    /// Which proxies are used.
    pub(crate) proxies: ProxySettings,
    /// How often and how long requests are tried again.
    pub(crate) retry: RetryPolicy,
    /// How long servers are waited for.
    pub(crate) timeouts: Timeouts,
    /// How long all that uses the network may take together.
    pub(crate) limit: Option<Duration>,
    /// Bytes a second.
    pub(crate) rate: Option<NonZeroU64>,
    /// Connections to one host.
    pub(crate) per_host: Option<NonZeroUsize>,
    /// Connections for blobs, if anybody has said.
    pub(crate) connections: Option<NonZeroUsize>,
    /// Connections for one blob, if anybody has said.
    pub(crate) ranges: Option<NonZeroUsize>,
}

impl Network {
    /// Resolves the settings.
    pub(crate) fn resolve(
        flags: &NetworkFlags,
        downloads: &DownloadFlags,
        environment: &Environment,
        file: &NetworkTable,
        proxy: &ProxyTable,
    ) -> Result<Self, SettingsError> {
        let mut retry = RetryPolicy::default();
        if let Some(retries) = flags.retries.or(file.retries) {
            retry.attempts = retries.saturating_add(1);
        }
        let or =
            |flag: Option<Time>, file: Option<Time>, default: Duration| flag.or(file).map_or(default, |time| time.0);
        retry.max_wait = or(flags.max_wait, file.max_wait, retry.max_wait);
        let default = Timeouts::default();
        let idle = or(flags.stall_timeout, file.stall_timeout, default.idle);
        let speed = flags.min_speed.or(file.min_speed).map(|speed| speed.0);
        let timeouts = Timeouts {
            connect: or(flags.connect_timeout, file.connect_timeout, default.connect),
            response: idle,
            idle,
            min_progress: min_progress(speed, idle, default),
        };
        Ok(Self {
            proxies: proxies(flags.no_proxy, environment, proxy)?,
            retry,
            timeouts,
            limit: flags.timeout.or(file.timeout).map(|time| time.0),
            rate: downloads
                .limit_rate
                .or(file.limit_rate)
                .and_then(|rate| NonZeroU64::new(rate.0)),
            per_host: downloads.max_connections_per_host.or(file.connections_per_host),
            connections: downloads.max_connections,
            ranges: downloads.ranges.or(file.ranges),
        })
    }

    /// Sets up a client.
    pub(crate) fn apply(&self, client: ClientBuilder) -> ClientBuilder {
        client
            .proxies(self.proxies.clone())
            .retry(self.retry)
            .timeouts(self.timeouts)
            .limit_rate(self.rate)
            .connections_per_host(self.per_host)
    }
}

/// How many bytes must arrive within the stall timeout; one byte at least, since silence is a stall in any case.
fn min_progress(speed: Option<u64>, idle: Duration, default: Timeouts) -> u64 {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let bytes = match speed {
        Some(speed) => u128::from(speed) * u128::from(millis(idle)) / 1000,
        None => u128::from(default.min_progress) * u128::from(millis(idle)) / u128::from(millis(default.idle)),
    };
    u64::try_from(bytes).unwrap_or(u64::MAX).max(1)
}

impl NetworkTable {
    /// Completes what is left open with a lower table.
    pub(crate) fn over(self, lower: &Self) -> Self {
        Self {
            retries: self.retries.or(lower.retries),
            max_wait: self.max_wait.or(lower.max_wait),
            connect_timeout: self.connect_timeout.or(lower.connect_timeout),
            timeout: self.timeout.or(lower.timeout),
            stall_timeout: self.stall_timeout.or(lower.stall_timeout),
            min_speed: self.min_speed.or(lower.min_speed),
            connections_per_host: self.connections_per_host.or(lower.connections_per_host),
            ranges: self.ranges.or(lower.ranges),
            limit_rate: self.limit_rate.or(lower.limit_rate),
        }
    }
}

impl ProxyTable {
    /// Completes what is left open with a lower table.
    pub(crate) fn over(self, lower: Self) -> Self {
        Self {
            enabled: self.enabled.or(lower.enabled),
            http: self.http.or(lower.http),
            https: self.https.or(lower.https),
            all: self.all.or(lower.all),
            no_proxy: self.no_proxy.or(lower.no_proxy),
            loopback: self.loopback.or(lower.loopback),
        }
    }
}

/// The variables decide, and what they leave open the file.
fn proxies(no_proxy: bool, environment: &Environment, file: &ProxyTable) -> Result<ProxySettings, SettingsError> {
    if no_proxy || file.enabled == Some(false) {
        return Ok(ProxySettings::none());
    }
    let mut settings = ProxySettings::from_variables(environment.for_proxies())?;
    if settings.http().is_none()
        && let Some(proxy) = file.http.as_ref().or(file.all.as_ref())
    {
        settings = settings.with_http(proxy.0.clone());
    }
    if settings.https().is_none()
        && let Some(proxy) = file.https.as_ref().or(file.all.as_ref())
    {
        settings = settings.with_https(proxy.0.clone());
    }
    let in_variables = environment
        .for_proxies()
        .any(|(name, _)| name.eq_ignore_ascii_case("NO_PROXY"));
    if let Some(list) = file.no_proxy.as_ref().filter(|_| !in_variables) {
        settings = settings.with_exceptions(&list.join(","));
    }
    Ok(settings.with_loopback(file.loopback.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_pace_goes_with_the_stall_timeout() {
        let default = Timeouts::default();
        let progress = |speed, seconds| min_progress(speed, Duration::from_secs(seconds), default);
        assert_eq!(progress(None, 30), default.min_progress);
        assert_eq!(progress(None, 60), 2 * default.min_progress);
        assert_eq!(progress(Some(1000), 30), 30_000);
        assert_eq!(progress(Some(0), 30), 1);
        assert_eq!(progress(Some(u64::MAX), 30), u64::MAX);
    }
}
