//! Proxies: which one a URL is reached through, by explicit settings or by the usual environment variables.
//!
//! The rules are those of Go's `net/http`, by which docker, podman and containerd read the same variables; where curl
//! differs, the documentation of [`ProxySettings`] says so.

mod exceptions;

use std::fmt;
use std::str::FromStr;

use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use unlade_auth::Secret;
use url::{Host, Url};

use self::exceptions::Exceptions;
use crate::token_request::basic;

/// Which proxies there are, and for what.
///
/// A URL is reached through the proxy for its scheme. Three things are reached directly all the same: what the
/// exceptions name, hosts on the loopback interface (`localhost`, `127.0.0.0/8`, `::1`) unless
/// [`with_loopback`](Self::with_loopback) says otherwise, and everything with [`ProxySettings::none`].
///
/// # Exceptions
/// A list in the form of `NO_PROXY`, separated by commas or spaces. Letters may be of either case.
///
/// | entry | is reached directly |
/// |---|---|
/// | `example.com` | the host and every host below it |
/// | `.example.com`, `*.example.com` | every host below it (curl: also the host itself) |
/// | `192.0.2.1`, `2001:db8::1`, `[2001:db8::1]` | the address, where a URL has it in place of a name |
/// | `192.0.2.0/24`, `2001:db8::/32` | the addresses of the network |
/// | any but a network, followed by `:PORT` | that port alone; an IPv6 address then stands in brackets |
/// | `*` | everything |
///
/// Names are not looked up to compare them with addresses: behind a proxy there may be nobody to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxySettings {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exceptions: Exceptions,
    loopback: bool,
}

/// A proxy. `Display` and `Debug` show its kind, host and port, and never the login.
///
/// It is written `http://[USER:PASSWORD@]HOST[:PORT]`, or the same with `socks5` or `socks5h`. Without a scheme it is `http`.
/// The port is 80 or 1080 by default. Characters of the login that a URL cannot have are percent-encoded.
///
/// With `http`, requests for plain http are sent to the proxy as they are, with their whole URL, since many proxies let
/// `CONNECT` through to the port of https alone; https goes through a tunnel made by `CONNECT`. With `socks5h` the proxy
/// looks names up, with `socks5` that is done here.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: Kind,
    host: Host,
    port: u16,
    login: Option<Login>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `http`: absolute-form requests for http, `CONNECT` for https.
    Http,
    /// `socks5`: SOCKS 5, names are looked up here.
    Socks5,
    /// `socks5h`: SOCKS 5, names are looked up by the proxy.
    Socks5h,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) username: String,
    pub(crate) password: Secret,
}

/// Why a proxy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Its address cannot be read. The address itself is not shown, as it may hold a password.
    #[error("not the address of a proxy: {reason}")]
    Address {
        /// What is wrong with it.
        reason: String,
    },
    /// A variable does not hold the address of a proxy.
    #[error("the variable {variable} does not hold the address of a proxy: {reason}")]
    Variable {
        /// Its name.
        variable: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ProxySettings {
    /// Returns settings without any proxy.
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads the variables `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` out of those given, in lower and upper
    /// case; the lower case decides.
    ///
    /// `HTTP_PROXY` in upper case is not believed where `REQUEST_METHOD` is set too: a CGI program gets the header `Proxy` of
    /// whoever calls it by that name. A variable that is empty counts as not set. `ALL_PROXY` is for the schemes that have no
    /// variable of their own.
    ///
    /// # Errors
    /// [`ProxyError`], which names the variable.
    pub fn from_variables<N, V>(variables: impl IntoIterator<Item = (N, V)>) -> Result<Self, ProxyError>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut found = Variables::default();
        for (name, value) in variables {
            found.take(name.as_ref(), value.as_ref());
        }
        let proxy = |variable: Option<(&'static str, String)>| -> Result<Option<Proxy>, ProxyError> {
            match variable {
                Some((variable, value)) => value.parse().map(Some).map_err(|error| {
                    let ProxyError::Address { reason } = error else {
                        return error;
                    };
                    let variable = variable.to_owned();
                    ProxyError::Variable { variable, reason }
                }),
                None => Ok(None),
            }
        };
        let all = proxy(found.all())?;
        Ok(Self {
            http: proxy(found.http())?.or_else(|| all.clone()),
            https: proxy(found.https())?.or(all),
            exceptions: Exceptions::parse(&found.exceptions().map(|(_, list)| list).unwrap_or_default()),
            loopback: false,
        })
    }

    /// Uses `proxy` for URLs with `http`.
    #[must_use]
    pub fn with_http(mut self, proxy: Proxy) -> Self {
        self.http = Some(proxy);
        self
    }

    /// Uses `proxy` for URLs with `https`.
    #[must_use]
    pub fn with_https(mut self, proxy: Proxy) -> Self {
        self.https = Some(proxy);
        self
    }

    /// Uses `proxy` for all URLs.
    #[must_use]
    pub fn with_all(self, proxy: Proxy) -> Self {
        self.with_http(proxy.clone()).with_https(proxy)
    }

    /// Returns the proxy for URLs with `http`.
    pub fn http(&self) -> Option<&Proxy> {
        self.http.as_ref()
    }

    /// Returns the proxy for URLs with `https`.
    pub fn https(&self) -> Option<&Proxy> {
        self.https.as_ref()
    }

    /// Reaches directly what `list` names, instead of what was named before.
    #[must_use]
    pub fn with_exceptions(mut self, list: &str) -> Self {
        self.exceptions = Exceptions::parse(list);
        self
    }

    /// Decides whether hosts on the loopback interface are reached through the proxy too, which they are not by default.
    ///
    /// It is for proxies that record or check traffic. A proxy on another machine has another loopback interface.
    #[must_use]
    pub fn with_loopback(mut self, through_proxy: bool) -> Self {
        self.loopback = through_proxy;
        self
    }

    /// Returns the proxy through which `url` is reached; `None` if it is reached directly.
    pub fn for_url(&self, url: &Url) -> Option<&Proxy> {
        let proxy = match url.scheme() {
            "http" => self.http.as_ref()?,
            "https" => self.https.as_ref()?,
            _ => return None,
        };
        let host = url.host()?;
        if !self.loopback && is_loopback(&host) {
            return None;
        }
        let port = url.port_or_known_default()?;
        (!self.exceptions.contain(&host, port)).then_some(proxy)
    }

    /// As [`for_url`](Self::for_url), for the form in which a connector gets its target.
    pub(crate) fn for_uri(&self, uri: &Uri) -> Option<&Proxy> {
        if self.http.is_none() && self.https.is_none() {
            return None;
        }
        self.for_url(&Url::parse(&uri.to_string()).ok()?)
    }
}

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(address: &str) -> Result<Self, ProxyError> {
        let wrong = |reason: String| ProxyError::Address { reason };
        let address = address.trim();
        let text = if address.contains("://") {
            address.to_owned()
        } else {
            format!("http://{address}")
        };
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "http" => Kind::Http,
            "socks5" => Kind::Socks5,
            "socks5h" => Kind::Socks5h,
            // Only what is certainly a scheme is shown.
            other if other.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                return Err(wrong(format!(
                    "proxies are spoken to by http, socks5 or socks5h, not by {other}"
                )));
            }
            _ => return Err(wrong("it is no URL".to_owned())),
        };
        // Hosts of unknown schemes are not checked by the parser, so all are read as http.
        let url = Url::parse(&format!("http://{rest}")).map_err(|error| wrong(error.to_string()))?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("there is something after its port".to_owned()));
        }
        let host = url.host().map(|host| host.to_owned());
        let host = host.ok_or_else(|| wrong("it names no host".to_owned()))?;
        // The parser drops port 80, as it is http's own.
        let written = rest.trim_end_matches('/').ends_with(":80").then_some(80);
        let default = if kind == Kind::Http { 80 } else { 1080 };
        let decode = |text: &str| {
            let decoded = percent_decode_str(text).decode_utf8();
            decoded
                .map(String::from)
                .map_err(|_| wrong("its login is not UTF-8".to_owned()))
        };
        let login = if url.username().is_empty() && url.password().is_none() {
            None
        } else {
            let (username, password) = (decode(url.username())?, decode(url.password().unwrap_or_default())?);
            // SOCKS has one byte for each length (RFC 1929).
            if kind != Kind::Http && username.len().max(password.len()) > 255 {
                return Err(wrong("its login is longer than 255 bytes".to_owned()));
            }
            Some(Login {
                username,
                password: password.into(),
            })
        };
        Ok(Self {
            kind,
            host,
            port: url.port().or(written).unwrap_or(default),
            login,
        })
    }
}

impl Proxy {
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Returns where to connect to, in the form that a connector takes.
    pub(crate) fn uri(&self) -> Result<Uri, http::uri::InvalidUri> {
        format!("http://{}:{}/", self.host, self.port).parse()
    }

    /// Returns the login as HTTP has it, marked so that it does not print.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        self.login.as_ref().map(|login| basic(&login.username, &login.password))
    }

    /// Tells whether a request for a URL of this scheme is sent to the proxy itself, in absolute form, rather than through a tunnel.
    pub(crate) fn takes_absolute(&self, scheme: Option<&str>) -> bool {
        self.kind == Kind::Http && scheme == Some("http")
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            Kind::Http => "http",
            Kind::Socks5 => "socks5",
            Kind::Socks5h => "socks5h",
        };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The variables that were found, each in both cases.
#[derive(Default)]
struct Variables {
    http: [Option<String>; 2],
    https: [Option<String>; 2],
    all: [Option<String>; 2],
    exceptions: [Option<String>; 2],
    is_cgi: bool,
}

impl Variables {
    fn take(&mut self, name: &str, value: &str) {
        let slot = match name {
            "http_proxy" => &mut self.http[0],
            "HTTP_PROXY" => &mut self.http[1],
            "https_proxy" => &mut self.https[0],
            "HTTPS_PROXY" => &mut self.https[1],
            "all_proxy" => &mut self.all[0],
            "ALL_PROXY" => &mut self.all[1],
            "no_proxy" => &mut self.exceptions[0],
            "NO_PROXY" => &mut self.exceptions[1],
            "REQUEST_METHOD" => {
                self.is_cgi = true;
                return;
            }
            _ => return,
        };
        *slot = Some(value.to_owned());
    }

    fn http(&self) -> Option<(&'static str, String)> {
        let [lower, upper] = &self.http;
        let upper = if self.is_cgi { &None } else { upper };
        first([("http_proxy", lower), ("HTTP_PROXY", upper)])
    }

    fn https(&self) -> Option<(&'static str, String)> {
        let [lower, upper] = &self.https;
        first([("https_proxy", lower), ("HTTPS_PROXY", upper)])
    }

    fn all(&self) -> Option<(&'static str, String)> {
        let [lower, upper] = &self.all;
        first([("all_proxy", lower), ("ALL_PROXY", upper)])
    }

    fn exceptions(&self) -> Option<(&'static str, String)> {
        let [lower, upper] = &self.exceptions;
        first([("no_proxy", lower), ("NO_PROXY", upper)])
    }
}

fn first(variables: [(&'static str, &Option<String>); 2]) -> Option<(&'static str, String)> {
    variables.into_iter().find_map(|(name, value)| {
        let value = value.as_deref()?.trim();
        (!value.is_empty()).then(|| (name, value.to_owned()))
    })
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => matches!(name.trim_end_matches('.'), "localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.to_canonical().is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    /// The proxies for http and https by these variables.
    fn both(variables: &[(&str, &str)]) -> (Option<String>, Option<String>) {
        let settings = ProxySettings::from_variables(variables.iter().copied()).unwrap();
        let proxy = |text| settings.for_url(&url(text)).map(ToString::to_string);
        (proxy("http://registry.example/"), proxy("https://registry.example/"))
    }

    #[test]
    fn variables() {
        let some = |text: &str| Some(text.to_owned());
        let (p, q) = (some("http://p:1"), some("http://q:2"));
        let table: [(&[(&str, &str)], _); 11] = [
            (&[], (None, None)),
            (&[("HTTP_PROXY", "p:1")], (p.clone(), None)),
            (&[("HTTPS_PROXY", "http://p:1/")], (None, p.clone())),
            (&[("ALL_PROXY", "p:1")], (p.clone(), p.clone())),
            (&[("all_proxy", "p:1"), ("https_proxy", "q:2")], (p.clone(), q.clone())),
            // The lower case decides, unless it is empty.
            (&[("HTTP_PROXY", "p:1"), ("http_proxy", "q:2")], (q.clone(), None)),
            (&[("HTTPS_PROXY", "p:1"), ("https_proxy", "")], (None, p.clone())),
            // A header of a CGI program's caller.
            (&[("HTTP_PROXY", "p:1"), ("REQUEST_METHOD", "GET")], (None, None)),
            (
                &[("http_proxy", "p:1"), ("HTTPS_PROXY", "q:2"), ("REQUEST_METHOD", "GET")],
                (p.clone(), q.clone()),
            ),
            (&[("ALL_PROXY", "p:1"), ("NO_PROXY", "registry.example")], (None, None)),
            (
                &[("ALL_PROXY", "p:1"), ("NO_PROXY", "*"), ("no_proxy", "other")],
                (p.clone(), p.clone()),
            ),
        ];
        for (variables, expected) in table {
            assert_eq!(both(variables), expected, "{variables:?}");
        }
    }

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("proxy", "http://proxy:80"),
            ("proxy:80", "http://proxy:80"),
            ("proxy:3128", "http://proxy:3128"),
            ("HTTP://proxy:3128/", "http://proxy:3128"),
            ("socks5://proxy", "socks5://proxy:1080"),
            ("socks5h://proxy:80", "socks5h://proxy:80"),
            ("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128"),
            ("http://me:secret@proxy:3128", "http://proxy:3128"),
        ] {
            let proxy = text.parse::<Proxy>().unwrap();
            assert_eq!(proxy.to_string(), expected, "{text}");
            assert_eq!(format!("{proxy:?}"), expected);
        }
        for text in [
            "https://proxy:3128",
            "socks4://proxy",
            "ftp://p",
            "http://",
            "http://proxy:3128/path",
            "proxy:99999",
            "me:hunter2 @proxy:x",
            "me:hunter2://proxy",
            "http://me%ff:hunter2@proxy",
        ] {
            let error = text.parse::<Proxy>().unwrap_err().to_string();
            assert!(error.starts_with("not the address of a proxy: "), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
            let error = ProxySettings::from_variables([("HTTPS_PROXY", text)])
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("the variable HTTPS_PROXY does not hold"), "{error}");
        }
    }

    #[test]
    fn logins_are_decoded_and_do_not_print() {
        let proxy: Proxy = "http://me%40corp:p%3Aw@proxy:3128".parse().unwrap();
        let header = proxy.authorization().unwrap();
        assert_eq!(header, "Basic bWVAY29ycDpwOnc=");
        assert!(header.is_sensitive());
        let settings = ProxySettings::none().with_all("http://me:hunter2@proxy".parse().unwrap());
        assert!(!format!("{settings:?}").contains("hunter2"), "{settings:?}");
        let long = format!("socks5h://{}@proxy", "x".repeat(256));
        assert!(long.parse::<Proxy>().is_err());
    }

    #[test]
    fn loopback_is_reached_directly() {
        let settings = ProxySettings::none().with_all("proxy:3128".parse().unwrap());
        let through = settings.clone().with_loopback(true);
        for text in [
            "http://localhost:5000/",
            "http://LOCALHOST/",
            "https://127.0.0.1/",
            "http://127.9.9.9/",
            "http://[::1]:5000/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert_eq!(settings.for_url(&url(text)), None, "{text}");
            assert!(through.for_url(&url(text)).is_some(), "{text}");
        }
        assert!(settings.for_url(&url("http://localhost.example/")).is_some());
        assert!(settings.for_url(&url("http://10.0.0.1/")).is_some());
        assert_eq!(settings.for_url(&url("ftp://x.example/")), None);
    }

    #[test]
    fn only_plain_http_goes_to_the_proxy_itself() {
        let (http, socks): (Proxy, Proxy) = ("p".parse().unwrap(), "socks5h://p".parse().unwrap());
        assert!(http.takes_absolute(Some("http")));
        assert!(!http.takes_absolute(Some("https")));
        assert!(!socks.takes_absolute(Some("http")));
    }
}
