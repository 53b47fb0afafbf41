//! Makes a connection: name, TCP, TLS, all within one time limit.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower_service::Service;

use super::buffered::Buffered;
use super::error::ConnectTimeout;
use super::resolver::{Addresses, Resolver};
use super::tls;
use super::tunnel::Tunnels;
use crate::ProxySettings;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long a silent connection is trusted before the kernel asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The connector of one pool.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    inner: HttpsConnector<Tcp>,
    limit: Duration,
}

impl Connector {
    pub(super) fn new(tls: ClientConfig, addresses: Addresses, limit: Duration, proxies: Arc<ProxySettings>) -> Self {
        let direct = Self::http(addresses, limit);
        let tunnels = Tunnels::new(Self::http(Addresses::All, limit), addresses);
        Self {
            inner: tls::wrap(
                tls,
                Tcp {
                    direct,
                    tunnels,
                    proxies,
                },
            ),
            limit,
        }
    }

    fn http(addresses: Addresses, limit: Duration) -> HttpConnector<Resolver> {
        let mut http = HttpConnector::new_with_resolver(Resolver::new(addresses));
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(KEEPALIVE));
        // Shared among the addresses of a name, so that a dead one leaves time for the next.
        http.set_connect_timeout(Some(limit));
        http
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Buffered<TokioIo<TcpStream>>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.inner.call(uri);
        let limit = self.limit;
        Box::pin(async move {
            match tokio::time::timeout(limit, connecting).await {
                Ok(connected) => connected,
                Err(_elapsed) => Err(ConnectTimeout { limit }.into()),
            }
        })
    }
}

/// Makes TCP connections whose reading is buffered, by way of a proxy where there is one.
#[derive(Clone, Debug)]
struct Tcp {
    direct: HttpConnector<Resolver>,
    tunnels: Tunnels,
    proxies: Arc<ProxySettings>,
}

impl Service<Uri> for Tcp {
    type Response = Buffered<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.direct.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if let Some(proxy) = self.proxies.for_uri(&uri).cloned() {
            // Requests for plain http are sent to the proxy itself: many let CONNECT through to the port of https alone.
            let is_proxy = proxy.takes_absolute(uri.scheme_str());
            let connecting = self.tunnels.clone().connect(proxy, uri);
            return Box::pin(async move { Ok(Buffered::new(connecting.await?).of_proxy(is_proxy)) });
        }
        let connecting = self.direct.call(uri);
        Box::pin(async move { Ok(Buffered::new(connecting.await?)) })
    }
}
