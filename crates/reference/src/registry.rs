//! Registries: the hosts that serve images.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::error::{Fault, ParseError, Part, Problem};
use crate::grammar;
use crate::text::serde_as_text;

/// The name of a registry: a host, perhaps with a port.
///
/// Hosts are lower-case, except those that are hosts only by their upper-case letters. `index.docker.io`, docker's name
/// of old for its registry, is `docker.io`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Registry(Box<str>);

impl Registry {
    /// Returns docker's own registry, `docker.io`.
    pub fn docker_hub() -> Self {
        Self("docker.io".into())
    }

    /// Returns the text: the host, and `:port` if there is a port.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the host without the port; an IPv6 address is in brackets, as in a URL.
    pub fn host(&self) -> &str {
        grammar::split_port(&self.0).0
    }

    /// Returns the port, if one is named.
    pub fn port(&self) -> Option<u16> {
        grammar::split_port(&self.0).1.and_then(|port| port.parse().ok())
    }

    /// Returns the host, and port if one is named, that answers API requests: `registry-1.docker.io` for `docker.io`.
    pub fn api_host(&self) -> &str {
        if self.is_docker_hub() {
            "registry-1.docker.io"
        } else {
            &self.0
        }
    }

    /// Returns whether this is docker's own registry.
    pub fn is_docker_hub(&self) -> bool {
        &*self.0 == "docker.io"
    }

    /// Returns whether the host is this machine by its very name: `localhost`, 127.0.0.0/8 or `[::1]`.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || bare.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
            || bare.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
    }

    /// Reads the registry that stands at `start` of a longer text.
    pub(crate) fn read(text: &str, start: usize) -> Result<Self, Fault> {
        grammar::check_registry(text, start)?;
        if !grammar::is_registry(text) {
            return Err(Fault::new(Part::Registry, start, Problem::NotARegistry));
        }
        let lower = text.to_ascii_lowercase();
        Ok(match lower.as_str() {
            "index.docker.io" => Self::docker_hub(),
            // `FOO/x` in lower case would be a directory of the default registry's.
            other if !grammar::is_registry(other) => Self(text.into()),
            _ => Self(lower.into()),
        })
    }
}

impl AsRef<str> for Registry {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Registry {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::read(text, 0).map_err(|fault| fault.of(Part::Registry, text))
    }
}

serde_as_text!(Registry, |text| text.parse());
