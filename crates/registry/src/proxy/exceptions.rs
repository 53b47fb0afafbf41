//! What is reached without a proxy: the list of `NO_PROXY`.

use std::net::IpAddr;

use ipnet::IpNet;
use url::Host;

/// A list of hosts, domains, addresses and networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Exceptions(Vec<Exception>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    All,
    /// A domain in lower case without a dot at its ends.
    Name {
        name: String,
        /// Whether the domain itself is meant, or only what is below it.
        itself: bool,
        port: Option<u16>,
    },
    Address {
        address: IpAddr,
        port: Option<u16>,
    },
    Network(IpNet),
}

impl Exceptions {
    /// Reads the list. An entry that can match nothing is logged and left out: variables are written for many programs.
    pub(super) fn parse(list: &str) -> Self {
        let entries = list.split([',', ' ', '\t', '\n']).map(str::trim);
        let entries = entries.filter(|entry| !entry.is_empty());
        Self(
            entries
                .filter_map(|entry| {
                    let exception = Exception::parse(entry);
                    if exception.is_none() {
                        tracing::warn!(entry, "an exception from proxies cannot be read, and is ignored");
                    }
                    exception
                })
                .collect(),
        )
    }

    pub(super) fn contain(&self, host: &Host<&str>, port: u16) -> bool {
        self.0.iter().any(|exception| exception.matches(host, port))
    }
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::All);
        }
        if entry.contains('/') {
            return entry.parse().ok().map(Self::Network);
        }
        if let Ok(address) = entry.parse::<IpAddr>() {
            let address = address.to_canonical();
            return Some(Self::Address { address, port: None });
        }
        let (host, port) = split_port(entry)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(host).parse::<IpAddr>() {
            let address = address.to_canonical();
            return Some(Self::Address { address, port });
        }
        let below = host.strip_prefix("*.").or_else(|| host.strip_prefix('.'));
        let name = below.unwrap_or(host).trim_end_matches('.');
        // As URLs have them: in lower case, and names of other scripts encoded.
        let Ok(Host::Domain(name)) = Host::parse(name) else {
            return None;
        };
        Some(Self::Name {
            name,
            itself: below.is_none(),
            port,
        })
    }

    fn matches(&self, host: &Host<&str>, port: u16) -> bool {
        let fits = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match (self, host) {
            (Self::All, _) => true,
            (
                Self::Name {
                    name,
                    itself,
                    port: wanted,
                },
                Host::Domain(host),
            ) => {
                let host = host.trim_end_matches('.');
                let is_below = || {
                    host.strip_suffix(name.as_str())
                        .is_some_and(|front| front.ends_with('.'))
                };
                fits(wanted) && (*itself && host == name || is_below())
            }
            (Self::Address { address, port: wanted }, _) => fits(wanted) && ip(host) == Some(*address),
            (Self::Network(network), _) => ip(host).is_some_and(|address| network.contains(&address)),
            (Self::Name { .. }, _) => false,
        }
    }
}

/// Takes a port off; `None` if what follows the colon is none.
fn split_port(entry: &str) -> Option<(&str, Option<u16>)> {
    if entry.ends_with(']') {
        return Some((entry, None));
    }
    match entry.rsplit_once(':') {
        None => Some((entry, None)),
        // An address of version 6 with a port has brackets.
        Some((host, _)) if host.is_empty() || host.contains(':') && !host.ends_with(']') => None,
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
    }
}

fn ip(host: &Host<&str>) -> Option<IpAddr> {
    match host {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some((*address).into()),
        Host::Ipv6(address) => Some(IpAddr::V6(*address).to_canonical()),
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn matches(list: &str, target: &str) -> bool {
        let url = Url::parse(target).unwrap();
        Exceptions::parse(list).contain(&url.host().unwrap(), url.port_or_known_default().unwrap())
    }

    #[test]
    fn table() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("", &[], &["http://a.example/"]),
            ("*", &["http://a.example/", "https://10.0.0.1/"], &[]),
            (
                "example.com",
                &[
                    "http://example.com/",
                    "https://a.example.com/",
                    "http://EXAMPLE.com:8080/",
                    "http://example.com./",
                ],
                &["http://notexample.com/", "http://example.com.org/", "http://com/"],
            ),
            (
                ".example.com",
                &["http://a.example.com/", "http://a.b.example.com/"],
                &["http://example.com/", "http://aexample.com/"],
            ),
            ("*.Example.COM", &["http://a.example.com/"], &["http://example.com/"]),
            (
                "example.com:8080",
                &["http://example.com:8080/", "https://a.example.com:8080/"],
                &["http://example.com/", "https://example.com/"],
            ),
            ("example.com:443", &["https://example.com/"], &["http://example.com/"]),
            (
                "10.1.2.3",
                &["http://10.1.2.3/", "http://10.1.2.3:5000/", "http://[::ffff:10.1.2.3]/"],
                &["http://10.1.2.30/", "http://a.10.1.2.3.example/"],
            ),
            ("10.1.2.3:5000", &["http://10.1.2.3:5000/"], &["http://10.1.2.3/"]),
            (
                "10.0.0.0/8",
                &["http://10.200.0.1/", "https://10.0.0.1:5000/"],
                &["http://11.0.0.1/", "http://ten.example/"],
            ),
            ("2001:db8::1", &["http://[2001:db8::1]/"], &["http://[2001:db8::2]/"]),
            (
                "[2001:db8::1]",
                &["http://[2001:db8:0::1]:7/"],
                &["http://[2001:db8::2]/"],
            ),
            (
                "[2001:db8::1]:7",
                &["http://[2001:db8::1]:7/"],
                &["http://[2001:db8::1]/"],
            ),
            (
                "2001:db8::/32",
                &["http://[2001:db8:1::9]/"],
                &["http://[2001:db9::1]/"],
            ),
            (
                "a.example, b.example\tc.example,,",
                &["http://a.example/", "http://b.example/", "http://c.example/"],
                &["http://d.example/"],
            ),
            ("bücher.example", &["http://bücher.example/"], &[]),
            // What cannot be read matches nothing, and the rest counts.
            (
                "10.0.0.0/99, a.example:x, [::1, :80, b.example",
                &["http://b.example/"],
                &["http://10.0.0.1/", "http://a.example/", "http://c.example/"],
            ),
        ];
        for (list, inside, outside) in table {
            for target in *inside {
                assert!(matches(list, target), "{target} is in {list:?}");
            }
            for target in *outside {
                assert!(!matches(list, target), "{target} is not in {list:?}");
            }
        }
    }
}
