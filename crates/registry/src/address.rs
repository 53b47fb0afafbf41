//! Which addresses a stranger may send us to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Tells whether an address is link-local, where clouds keep their metadata service.
///
/// A registry that is not itself on this machine has no business to send a client there: the answer may hold the
/// machine's own credentials.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_link_local_v4(address),
        IpAddr::V6(address) => {
            // The metadata address of one large cloud lies in a private range instead.
            const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
            address.is_unicast_link_local()
                || address == METADATA
                || address.to_ipv4_mapped().is_some_and(is_link_local_v4)
        }
    }
}

fn is_link_local_v4(address: Ipv4Addr) -> bool {
    address.is_link_local()
}

/// Tells whether a URL's host is written as a link-local address. Names are judged once they are looked up.
pub(crate) fn names_link_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => is_link_local(address.into()),
        Some(Host::Ipv6(address)) => is_link_local(address.into()),
        Some(Host::Domain(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_in_all_spellings() {
        for (url, expected) in [
            ("http://169.254.169.254/latest", true),
            // The URL standard reads these as the same address.
            ("http://0xa9fea9fe/", true),
            ("http://2852039166/", true),
            ("http://[fe80::1]/", true),
            ("http://[::ffff:169.254.169.254]/", true),
            ("http://[fd00:ec2::254]/", true),
            ("http://127.0.0.1/", false),
            ("http://10.0.0.1/", false),
            ("http://[::1]/", false),
            ("http://registry.example/", false),
        ] {
            assert_eq!(names_link_local(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
