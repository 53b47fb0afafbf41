//! Proxies in process, HTTP and SOCKS 5, that tell what was asked of them.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

type Body = BoxBody<Bytes, hyper::Error>;

/// A proxy on a loopback port of its own; it ends when dropped.
///
/// Whatever name it is asked for, it connects to one address. So a target can have a name that nobody else could look up,
/// and a test that passes has gone through the proxy.
#[derive(Debug)]
pub struct FakeProxy {
    address: SocketAddr,
    kind: Kind,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Socks,
}

#[derive(Debug)]
struct Shared {
    target: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    login: Option<(String, String)>,
    refusal: Option<u16>,
    delay: Duration,
    seen: Vec<String>,
}

impl FakeProxy {
    /// Starts a proxy for `GET http://…` and `CONNECT` that connects everything to `target`, `host:port`.
    pub fn http(target: impl Into<String>) -> Self {
        Self::start(Kind::Http, target.into())
    }

    /// Starts a SOCKS 5 proxy that connects everything to `target`, `host:port`.
    pub fn socks(target: impl Into<String>) -> Self {
        Self::start(Kind::Socks, target.into())
    }

    fn start(kind: Kind, target: String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            target,
            state: Mutex::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let for_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || runtime.block_on(accept(listener, kind, for_thread, stopped)));
        Self {
            address,
            kind,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Returns `host:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns the URL, `http://…` or `socks5h://…`.
    pub fn url(&self) -> String {
        let scheme = if self.kind == Kind::Http { "http" } else { "socks5h" };
        format!("{scheme}://{}", self.address)
    }

    /// Returns the URL with a login in it.
    pub fn url_with(&self, login: &str) -> String {
        self.url().replace("://", &format!("://{login}@"))
    }

    /// Asks everybody for this login.
    pub fn require_login(&self, username: &str, password: &str) {
        self.shared.lock().login = Some((username.to_owned(), password.to_owned()));
    }

    /// Connects to nothing any more. HTTP: answers with this status; SOCKS: with this reply code.
    pub fn refuse(&self, code: u16) {
        self.shared.lock().refusal = Some(code);
    }

    /// Connects again.
    pub fn allow(&self) {
        self.shared.lock().refusal = None;
    }

    /// Takes its time with every connection from now on.
    pub fn delay(&self, delay: Duration) {
        self.shared.lock().delay = delay;
    }

    /// Returns what was asked so far: `GET http://…`, `CONNECT host:port` (also for SOCKS).
    pub fn seen(&self) -> Vec<String> {
        self.shared.lock().seen.clone()
    }
}

impl Drop for FakeProxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let delay = self.lock().delay;
        tokio::time::sleep(delay).await;
        TcpStream::connect(&self.target).await
    }
}

async fn accept(listener: TcpListener, kind: Kind, shared: Arc<Shared>, mut stopped: oneshot::Receiver<Infallible>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listening socket");
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            Some(_) = connections.join_next() => {}
            Ok((stream, _)) = listener.accept() => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    // An error is a client, or a target, that went away.
                    match kind {
                        Kind::Http => drop(serve_http(stream, shared).await),
                        Kind::Socks => drop(serve_socks(stream, shared).await),
                    }
                });
            }
        }
    }
}

async fn serve_http(stream: TcpStream, shared: Arc<Shared>) -> hyper::Result<()> {
    let tunnels = Arc::new(Mutex::new(JoinSet::new()));
    let service = service_fn(|request| {
        let (shared, tunnels) = (Arc::clone(&shared), Arc::clone(&tunnels));
        async move {
            let response = forward(request, &shared, &tunnels).await;
            Ok::<_, Infallible>(response.unwrap_or_else(|_| empty(StatusCode::BAD_GATEWAY)))
        }
    });
    http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await?;
    let mut tunnels = std::mem::take(&mut *tunnels.lock().unwrap_or_else(PoisonError::into_inner));
    while tunnels.join_next().await.is_some() {}
    Ok(())
}

async fn forward(
    mut request: Request<Incoming>,
    shared: &Shared,
    tunnels: &Mutex<JoinSet<()>>,
) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
    let refusal = {
        let mut state = shared.lock();
        state.seen.push(format!("{} {}", request.method(), request.uri()));
        let expected = state
            .login
            .as_ref()
            .map(|(username, password)| format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))));
        let sent = request.headers().get(header::PROXY_AUTHORIZATION);
        if expected.is_some() && sent.and_then(|sent| sent.to_str().ok()) != expected.as_deref() {
            Some(407)
        } else {
            state.refusal
        }
    };
    if let Some(status) = refusal {
        return Ok(empty(StatusCode::from_u16(status)?));
    }
    let mut target = shared.connect().await?;
    if request.method() == Method::CONNECT {
        let upgrade = hyper::upgrade::on(request);
        let tunnel = async move {
            if let Ok(client) = upgrade.await {
                // It ends when either side does.
                drop(copy_bidirectional(&mut TokioIo::new(client), &mut target).await);
            }
        };
        tunnels.lock().unwrap_or_else(PoisonError::into_inner).spawn(tunnel);
        return Ok(empty(StatusCode::OK));
    }
    request.headers_mut().remove(header::PROXY_AUTHORIZATION);
    request
        .headers_mut()
        .insert(HeaderName::from_static("via"), "1.1 fake".parse()?);
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .to_owned();
    *request.uri_mut() = path.parse()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(target)).await?;
    let driver = async move { drop(connection.await) };
    tunnels.lock().unwrap_or_else(PoisonError::into_inner).spawn(driver);
    Ok(sender.send_request(request).await?.map(BodyExt::boxed))
}

fn empty(status: StatusCode) -> Response<Body> {
    let body = Empty::new().map_err(|never: Infallible| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// Speaks as much of SOCKS 5 as a client needs (RFC 1928, RFC 1929).
async fn serve_socks(mut client: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let (login, refusal) = {
        let state = shared.lock();
        (state.login.clone(), state.refusal)
    };
    let [_version, count] = bytes(&mut client).await?;
    let mut methods = vec![0; count.into()];
    client.read_exact(&mut methods).await?;
    let wanted = if login.is_some() { 2 } else { 0 };
    if !methods.contains(&wanted) {
        return client.write_all(&[5, 0xff]).await;
    }
    client.write_all(&[5, wanted]).await?;
    if let Some((username, password)) = login {
        let [_version] = bytes(&mut client).await?;
        let given = (text(&mut client).await?, text(&mut client).await?);
        let is_right = given == (username, password);
        client.write_all(&[1, u8::from(!is_right)]).await?;
        if !is_right {
            return Ok(());
        }
    }
    let [_version, _command, _reserved, kind] = bytes(&mut client).await?;
    let host = match kind {
        1 => std::net::IpAddr::from(bytes::<4>(&mut client).await?).to_string(),
        3 => text(&mut client).await?,
        _ => format!("[{}]", std::net::Ipv6Addr::from(bytes::<16>(&mut client).await?)),
    };
    let port = u16::from_be_bytes(bytes(&mut client).await?);
    shared.lock().seen.push(format!("CONNECT {host}:{port}"));
    let code = refusal.map_or(0, |code| u8::try_from(code).unwrap_or(1));
    let reply = [5, code, 0, 1, 0, 0, 0, 0, 0, 0];
    if code != 0 {
        return client.write_all(&reply).await;
    }
    let mut target = shared.connect().await?;
    client.write_all(&reply).await?;
    copy_bidirectional(&mut client, &mut target).await?;
    Ok(())
}

async fn bytes<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Reads a length of one byte and as many bytes of text.
async fn text(stream: &mut TcpStream) -> io::Result<String> {
    let [length] = bytes(stream).await?;
    let mut text = vec![0; length.into()];
    stream.read_exact(&mut text).await?;
    String::from_utf8(text).map_err(io::Error::other)
}
