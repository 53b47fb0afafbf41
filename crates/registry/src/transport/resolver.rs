//! Name lookup that leaves out addresses which may not be connected to.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service;

use super::error::LinkLocal;
use crate::address::is_link_local;

/// Which addresses a name may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addresses {
    All,
    NotLinkLocal,
}

/// The system's resolver and a filter behind it.
///
/// The filter stands here and not before the request, since what a name means may change between two lookups: these are
/// the very addresses that are connected to.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    system: GaiResolver,
    addresses: Addresses,
}

impl Resolver {
    pub(super) fn new(addresses: Addresses) -> Self {
        Self {
            system: GaiResolver::new(),
            addresses,
        }
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.system.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let lookup = self.system.call(name);
        let addresses = self.addresses;
        Box::pin(async move { filter(lookup.await?, addresses).map(Vec::into_iter) })
    }
}

fn filter(found: impl Iterator<Item = SocketAddr>, addresses: Addresses) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<_> = found.collect();
    if addresses == Addresses::NotLinkLocal && found.iter().any(|address| is_link_local(address.ip())) {
        return Err(io::Error::other(LinkLocal));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_link_local_address_spoils_a_name() {
        let found = || {
            ["10.0.0.1:443", "169.254.169.254:443"]
                .iter()
                .map(|address| address.parse().unwrap())
        };
        assert_eq!(filter(found(), Addresses::All).unwrap().len(), 2);
        let error = filter(found(), Addresses::NotLinkLocal).unwrap_err();
        assert!(error.get_ref().unwrap().is::<LinkLocal>());
        assert_eq!(filter(found().take(1), Addresses::NotLinkLocal).unwrap().len(), 1);
    }
}
