//! What was asked of a fake registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, request::Parts};

use super::content::Route;

/// One request that a [`FakeRegistry`](super::FakeRegistry) received, and what became of it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query, without the question mark.
    pub query: Option<String>,
    /// The `Host` header.
    pub host: Option<String>,
    /// The `Range` header.
    pub range: Option<String>,
    /// The scheme of the `Authorization` header (`Bearer`, `Basic`); the secret is only in [`Self::header`].
    pub authorization: Option<String>,
    /// The `Accept` headers, joined by commas.
    pub accept: Option<String>,
    /// The status of the answer; 0 as long as there is none.
    pub status: u16,
    /// How many bytes of the body were handed to the connection so far.
    pub body_bytes_sent: u64,
    /// The body of the request.
    pub body: Bytes,
    /// When the request came, since the registry was started.
    pub at: Duration,
    headers: HeaderMap,
}

impl Recorded {
    /// Returns a header of the request.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The requests so far.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: Vec<LogEntry>,
}

#[derive(Debug)]
struct LogEntry {
    recorded: Recorded,
    route: Route,
    outcome: Arc<Outcome>,
}

/// The part of a record that is known only later.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) status: AtomicU16,
    pub(super) sent: AtomicU64,
}

impl Log {
    /// Notes a request; the answer is noted in what is returned.
    pub(super) fn note(&mut self, parts: &Parts, route: Route, body: Bytes, started: Instant) -> Arc<Outcome> {
        let header = |name: &str| parts.headers.get(name)?.to_str().ok().map(str::to_owned);
        let accept: Vec<_> = parts
            .headers
            .get_all("accept")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let recorded = Recorded {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            host: header("host"),
            range: header("range"),
            authorization: header("authorization").map(|value| value.split(' ').next().unwrap_or_default().to_owned()),
            accept: (!accept.is_empty()).then(|| accept.join(", ")),
            status: 0,
            body_bytes_sent: 0,
            body,
            at: started.elapsed(),
            headers: parts.headers.clone(),
        };
        let outcome = Arc::new(Outcome::default());
        self.entries.push(LogEntry {
            recorded,
            route,
            outcome: Arc::clone(&outcome),
        });
        outcome
    }

    pub(super) fn requests(&self) -> Vec<Recorded> {
        self.entries
            .iter()
            .map(|entry| Recorded {
                status: entry.outcome.status.load(Ordering::Acquire),
                body_bytes_sent: entry.outcome.sent.load(Ordering::Acquire),
                ..entry.recorded.clone()
            })
            .collect()
    }

    /// Returns how many bytes of blob bodies were sent, of one blob or of all.
    pub(super) fn blob_bytes(&self, wanted: Option<&str>) -> u64 {
        self.entries
            .iter()
            .filter(|entry| match &entry.route {
                Route::Blob { digest, .. } => wanted.is_none_or(|wanted| wanted == digest),
                _ => false,
            })
            // The body of an error is no part of the blob.
            .filter(|entry| matches!(entry.outcome.status.load(Ordering::Acquire), 200 | 206))
            .map(|entry| entry.outcome.sent.load(Ordering::Acquire))
            .sum()
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}
