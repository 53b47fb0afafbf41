//! Tiers of tests, and what the name of a test says about its needs.
//!
//! The last part of the name (after the modules) may begin with prefixes, in this order:
//! `privileged_` (root), `unprivileged_` (anyone but root), `real_` (other people's programs), `real_debian_` (those,
//! and an image made from Debian's packages), `real_proxies_` (those, proxies, and network namespaces).

use std::fmt;

/// A group of tests that runs under the same conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// Runs anywhere, as anyone.
    Plain,
    /// Runs as root only: owners, devices, `trusted.` attributes, mounts.
    Privileged,
    /// Runs against other people's programs: a registry server, skopeo, umoci, Python.
    Real,
    /// Runs as a user without rights; as root this repeats the plain tests as `nobody`.
    OtherUser,
    /// The examples in the documentation of the crates.
    Doc,
}

impl Tier {
    /// What people read.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Plain => "plain tests",
            Self::Privileged => "privileged tests",
            Self::Real => "tests with real programs",
            Self::OtherUser => "tests as an ordinary user",
            Self::Doc => "documentation tests",
        }
    }
}

/// What a test needs and a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// The rights of root, inside no user namespace: device nodes can be made.
    Root,
    /// The registry server and the tools.
    RealPrograms,
    /// Proxies, and network namespaces to put them into.
    Proxies,
    /// The fixture that mmdebstrap makes from Debian's packages.
    DebianImage,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root's rights (CAP_SYS_ADMIN and CAP_MKNOD)",
            Self::RealPrograms => {
                "docker-registry, nginx, skopeo, umoci, podman, python3, setfattr, strace, mkfs.ext4 and mkfs.xfs"
            }
            Self::Proxies => "tinyproxy, microsocks and iproute2",
            Self::DebianImage => "an image made of Debian's packages (mmdebstrap and a mirror)",
        })
    }
}

/// Returns the tier of a test by its name.
pub(crate) fn tier(test: &str) -> Tier {
    let name = last_part(test);
    let (privileged, name) = strip(name, "privileged_");
    let (unprivileged, name) = strip(name, "unprivileged_");
    if name.starts_with("real_") {
        Tier::Real
    } else if privileged {
        Tier::Privileged
    } else if unprivileged {
        Tier::OtherUser
    } else {
        Tier::Plain
    }
}

/// Returns what a test needs, in the order in which a lack is reported.
pub(crate) fn needs(test: &str) -> Vec<Need> {
    let (privileged, name) = strip(last_part(test), "privileged_");
    let mut needs = Vec::new();
    if privileged {
        needs.push(Need::Root);
    }
    if name.starts_with("real_") {
        needs.push(Need::RealPrograms);
    }
    if name.starts_with("real_proxies_") {
        needs.push(Need::Proxies);
    }
    if name.starts_with("real_debian_") {
        needs.push(Need::DebianImage);
    }
    needs
}

fn last_part(test: &str) -> &str {
    test.rsplit("::").next().unwrap_or(test)
}

fn strip<'a>(name: &'a str, prefix: &str) -> (bool, &'a str) {
    match name.strip_prefix(prefix) {
        Some(rest) => (true, rest),
        None => (false, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_the_tier_and_the_needs() {
        for (name, expected, needed) in [
            ("digest::tests::parses", Tier::Plain, vec![]),
            ("privileged_devices", Tier::Privileged, vec![Need::Root]),
            ("it::overlay::privileged_mount", Tier::Privileged, vec![Need::Root]),
            ("unprivileged_owner_is_recorded", Tier::OtherUser, vec![]),
            ("real_registry", Tier::Real, vec![Need::RealPrograms]),
            (
                "privileged_real_overlay",
                Tier::Real,
                vec![Need::Root, Need::RealPrograms],
            ),
            (
                "e2e::real_debian_nginx",
                Tier::Real,
                vec![Need::RealPrograms, Need::DebianImage],
            ),
            (
                "privileged_real_proxies_are_used",
                Tier::Real,
                vec![Need::Root, Need::RealPrograms, Need::Proxies],
            ),
            // Only the last part counts, and only its beginning.
            ("privileged_module::plain", Tier::Plain, vec![]),
            ("not_privileged_here", Tier::Plain, vec![]),
            ("really_plain", Tier::Plain, vec![]),
        ] {
            assert_eq!(tier(name), expected, "{name}");
            assert_eq!(needs(name), needed, "{name}");
        }
    }
}
