//! Connections through proxies: to the proxy for plain http, and through it by `CONNECT` or SOCKS for everything else.

use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::uri::Scheme;
use http::{Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::SocksV5;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::error::ThroughProxy;
use super::resolver::{Addresses, Resolver};
use crate::proxy::{Kind, Proxy};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes connections by way of proxies.
#[derive(Clone, Debug)]
pub(super) struct Tunnels {
    /// The user named the proxy, so it may be anywhere.
    to_proxy: HttpConnector<Resolver>,
    /// Looks up targets for proxies that want addresses. Others look them up themselves, where we cannot judge what they find.
    resolver: Resolver,
}

impl Tunnels {
    pub(super) fn new(to_proxy: HttpConnector<Resolver>, addresses: Addresses) -> Self {
        Self {
            to_proxy,
            resolver: Resolver::new(addresses),
        }
    }

    /// Connects to `target` through `proxy`; for plain http and a proxy that speaks it, to the proxy itself.
    pub(super) async fn connect(mut self, proxy: Proxy, target: Uri) -> Result<TokioIo<TcpStream>, BoxError> {
        let (host, port) = host_and_port(&target);
        match proxy.kind() {
            Kind::Http => {
                let connection = self.to_proxy.call(proxy.uri()?).await;
                let connection = connection.map_err(|error| unreachable(&proxy, error))?;
                if target.scheme() == Some(&Scheme::HTTP) {
                    return Ok(connection);
                }
                Ok(ask_for_tunnel(connection, &proxy, &format!("{host}:{port}")).await?)
            }
            Kind::Socks5h => Ok(self.by_socks(&proxy, host, port).await?),
            Kind::Socks5 => {
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                if bare.parse::<IpAddr>().is_ok() {
                    return Ok(self.by_socks(&proxy, host, port).await?);
                }
                let mut failure = None;
                for address in self.resolver.call(host.parse()?).await? {
                    let address = match address.ip() {
                        IpAddr::V4(address) => address.to_string(),
                        IpAddr::V6(address) => format!("[{address}]"),
                    };
                    match self.by_socks(&proxy, &address, port).await {
                        Ok(connection) => return Ok(connection),
                        Err(error) => failure = failure.or(Some(error)),
                    }
                }
                Err(failure.map_or_else(|| "the name has no address".into(), BoxError::from))
            }
        }
    }

    async fn by_socks(&mut self, proxy: &Proxy, host: &str, port: u16) -> Result<TokioIo<TcpStream>, ThroughProxy> {
        let target = format!("{host}:{port}");
        let refused = |reason: String, is_transient| ThroughProxy::Refused {
            proxy: proxy.to_string(),
            target: target.clone(),
            reason,
            is_transient,
        };
        let unusable = |error: http::uri::InvalidUri| refused(error.to_string(), false);
        let uri = proxy.uri().map_err(unusable)?;
        let connection = self.to_proxy.call(uri.clone()).await;
        let connection = connection.map_err(|error| unreachable(proxy, error))?;
        let mut socks = SocksV5::new(uri, Ready(Some(connection)));
        if let Some(login) = proxy.login() {
            socks = socks.with_auth(login.username.clone(), login.password.expose().to_owned());
        }
        let connection = socks.call(format!("http://{target}/").parse().map_err(unusable)?).await;
        connection.map_err(|error| {
            // Its type is not to be had, only its text.
            let text = error.to_string();
            let reason = text.strip_prefix("SOCKS error: ").unwrap_or(&text);
            let says = |parts: &[&str]| parts.iter().any(|part| reason.contains(part));
            if says(&["user/pass", "credentials", "implements authentication"]) {
                let proxy = proxy.to_string();
                return ThroughProxy::Login { proxy };
            }
            let is_final = says(&["not allowed", "not supported", "parsing", "255 characters"]);
            refused(reason.to_owned(), !is_final)
        })
    }
}

/// A connector whose one connection was made beforehand, where its failure can still be told from the proxy's own.
struct Ready(Option<TokioIo<TcpStream>>);

impl Service<Uri> for Ready {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        std::future::ready(self.0.take().ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

/// Asks the proxy at the other end for a connection to `target`, `host:port` (RFC 9110, 9.3.6).
async fn ask_for_tunnel(
    connection: TokioIo<TcpStream>,
    proxy: &Proxy,
    target: &str,
) -> Result<TokioIo<TcpStream>, ThroughProxy> {
    let broken = |source: hyper::Error| ThroughProxy::Broken {
        proxy: proxy.to_string(),
        source: source.into(),
    };
    let refused = |reason: String, is_transient| ThroughProxy::Refused {
        proxy: proxy.to_string(),
        target: target.to_owned(),
        reason,
        is_transient,
    };
    let mut request = Request::connect(target).header(HOST, target);
    if let Some(authorization) = proxy.authorization() {
        request = request.header(PROXY_AUTHORIZATION, authorization);
    }
    let request = request.body(Empty::<Bytes>::new());
    let request = request.map_err(|error| refused(error.to_string(), false))?;
    let mut builder = http1::Builder::new();
    // The names of headers have no case, but some proxies do not know.
    let (mut sender, driver) = builder
        .title_case_headers(true)
        .handshake(connection)
        .await
        .map_err(broken)?;
    let ask = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        match response.status() {
            status if status.is_success() => hyper::upgrade::on(response).await.map_err(broken),
            // The second is what tinyproxy answers to a wrong login.
            StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED => Err(ThroughProxy::Login {
                proxy: proxy.to_string(),
            }),
            // It could not reach the target, or is busy: that may pass. Anything else is its decision.
            status => Err(refused(status.to_string(), status.is_server_error())),
        }
    };
    let drive = async { driver.with_upgrades().await.map_err(broken) };
    let ((), upgraded) = tokio::try_join!(drive, ask)?;
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) if parts.read_buf.is_empty() => Ok(parts.io),
        // In TLS the client speaks first, so these are not the target's.
        _ => Err(refused("it sent bytes of its own after its answer".to_owned(), false)),
    }
}

fn unreachable(proxy: &Proxy, error: impl Into<BoxError>) -> ThroughProxy {
    ThroughProxy::Unreachable {
        proxy: proxy.to_string(),
        source: error.into(),
    }
}

fn host_and_port(target: &Uri) -> (&str, u16) {
    let default = if target.scheme() == Some(&Scheme::HTTP) {
        80
    } else {
        443
    };
    (target.host().unwrap_or_default(), target.port_u16().unwrap_or(default))
}
