//! Where a redirect may lead and what goes along.

use http::{HeaderMap, StatusCode, header};
use url::Url;

use crate::address::names_link_local;

/// How many redirects one request may take.
pub(crate) const MAX_REDIRECTS: usize = 5;

/// Tells whether a status says that the thing is elsewhere. (`300` offers a choice and `304` answers a condition.)
pub(crate) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Returns where a redirect leads; `None` without a usable `Location`.
///
/// User name, password and fragment are taken off: the first two would be credentials that nobody here gave.
pub(crate) fn location(from: &Url, headers: &HeaderMap) -> Option<Url> {
    let text = headers.get(header::LOCATION)?.to_str().ok()?;
    let mut url = from.join(text).ok()?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return None;
    }
    // These fail only for URLs without a host.
    let (Ok(()), Ok(())) = (url.set_username(""), url.set_password(None)) else {
        return None;
    };
    url.set_fragment(None);
    Some(url)
}

/// Tells why a redirect must not be followed, or `None` if it may be.
///
/// `allow_link_local`: the registry is on this machine, whose owner decides where it sends people.
pub(crate) fn refusal(from: &Url, to: &Url, hop: usize, allow_link_local: bool) -> Option<&'static str> {
    if hop >= MAX_REDIRECTS {
        return Some("there were 5 redirects already");
    }
    if from.scheme() == "https" && to.scheme() != "https" {
        return Some("it leads from https to http");
    }
    if !allow_link_local && names_link_local(to) {
        return Some("it leads to a link-local address");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn locations() {
        let from = url("https://ghcr.io/v2/a/blobs/x?ns=1");
        let table = [
            ("https://cdn.example/x?sig=1", Some("https://cdn.example/x?sig=1")),
            ("/elsewhere", Some("https://ghcr.io/elsewhere")),
            ("y", Some("https://ghcr.io/v2/a/blobs/y")),
            ("//cdn.example/x", Some("https://cdn.example/x")),
            ("https://u:p@cdn.example/x#f", Some("https://cdn.example/x")),
            ("file:///etc/passwd", None),
            ("data:,x", None),
            ("https://", None),
        ];
        for (text, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, text.parse().unwrap());
            assert_eq!(
                location(&from, &headers).map(String::from).as_deref(),
                expected,
                "{text}"
            );
        }
        assert_eq!(location(&from, &HeaderMap::new()), None);
    }

    #[test]
    fn refusals() {
        let (https, http) = (url("https://a.example/"), url("http://a.example/"));
        assert_eq!(refusal(&https, &url("https://b.example/"), 4, false), None);
        assert!(
            refusal(&https, &url("https://b.example/"), 5, false)
                .unwrap()
                .contains("5 redirects")
        );
        assert!(refusal(&https, &http, 0, false).unwrap().contains("from https to http"));
        assert_eq!(refusal(&http, &https, 0, false), None);
        let metadata = url("http://169.254.169.254/latest");
        assert!(refusal(&http, &metadata, 0, false).unwrap().contains("link-local"));
        assert_eq!(refusal(&http, &metadata, 0, true), None);
    }
}
