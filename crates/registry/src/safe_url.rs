//! URLs that can be shown.

use std::fmt;

use url::Url;

/// Query keys whose values are shown. All others are taken for signatures, since nobody can list those.
const HARMLESS: [&str; 5] = ["last", "n", "ns", "scope", "service"];

/// A URL that prints without user name, password, fragment and whatever signs it.
///
/// Presigned URLs carry their right of access in the query, so a log with one in it is a leak.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SafeUrl(Url);

impl SafeUrl {
    /// Returns the host, and the port if it is not the scheme's own.
    pub fn host(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

impl From<&Url> for SafeUrl {
    fn from(url: &Url) -> Self {
        Self(url.clone())
    }
}

impl fmt::Display for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.0.scheme(), self.host(), self.0.path())?;
        let Some(query) = self.0.query().filter(|query| !query.is_empty()) else {
            return Ok(());
        };
        for (i, pair) in query.split('&').enumerate() {
            f.write_str(if i == 0 { "?" } else { "&" })?;
            match pair.split_once('=') {
                Some((key, _)) if !HARMLESS.contains(&key) => write!(f, "{key}=REDACTED")?,
                Some(_) => f.write_str(pair)?,
                // A bare word may be a token.
                None => f.write_str("REDACTED")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_where_and_hides_why() {
        let table = [
            (
                "https://ghcr.io/v2/a/tags/list?n=2&last=b",
                "https://ghcr.io/v2/a/tags/list?n=2&last=b",
            ),
            ("https://u:hunter2@cdn.example/x#f", "https://cdn.example/x"),
            ("http://127.0.0.1:5000/v2/", "http://127.0.0.1:5000/v2/"),
            (
                "https://s3.example/x?X-Amz-Signature=abc&X-Amz-Credential=k&n=1",
                "https://s3.example/x?X-Amz-Signature=REDACTED&X-Amz-Credential=REDACTED&n=1",
            ),
            ("https://cdn.example/x?hunter2", "https://cdn.example/x?REDACTED"),
        ];
        for (url, expected) in table {
            let url = SafeUrl::from(&Url::parse(url).unwrap());
            assert_eq!(format!("{url}"), expected);
            assert_eq!(format!("{url:?}"), expected);
        }
    }
}
