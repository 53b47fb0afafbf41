//! Everything that a fake registry's handle and its connections share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::auth::Access;
use super::content::{Content, Repository};
use super::fault::Faults;
use super::record::Log;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) address: SocketAddr,
    pub(super) started: Instant,
    pub(super) connections: AtomicU64,
    pub(super) blob_gauge: Gauge,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) repositories: BTreeMap<String, Repository>,
    /// Content at paths outside the protocol.
    pub(super) files: BTreeMap<String, Content>,
    pub(super) access: Access,
    pub(super) faults: Faults,
    pub(super) log: Log,
    /// How much of the referrers API there is.
    pub(super) referrers: super::referrers::ReferrersApi,
    /// The most tags, or referrers, on one page.
    pub(super) page_size: Option<usize>,
    /// Set: blobs and files are served to signed requests only.
    pub(super) signatures: Option<Signatures>,
}

impl Shared {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            started: Instant::now(),
            connections: AtomicU64::new(0),
            blob_gauge: Gauge::default(),
            state: Mutex::new(State::default()),
        }
    }

    /// Returns the state; a test that panicked while holding it left nothing half done.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `http://host:port`.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Signatures in the query of presigned URLs.
#[derive(Debug, Default)]
pub(super) struct Signatures {
    /// How many requests one signature is good for.
    pub(super) uses: Option<u64>,
    issued: u64,
    /// Signatures up to this number are no longer good.
    expired: u64,
    used: BTreeMap<u64, u64>,
}

impl Signatures {
    /// Returns the query of a new signature.
    pub(super) fn sign(&mut self) -> String {
        self.issued += 1;
        format!("X-Signature={}&X-Expires=60", self.issued)
    }

    /// Makes all signatures so far worthless.
    pub(super) fn expire(&mut self) {
        self.expired = self.issued;
    }

    /// Counts a use of the signature in `query`; `false` if there is none or it is no longer good.
    pub(super) fn accept(&mut self, query: Option<&str>) -> bool {
        let number = query.into_iter().flat_map(|query| query.split('&')).find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            (name == "X-Signature").then(|| value.parse::<u64>().ok())?
        });
        let Some(number) = number.filter(|number| (self.expired + 1..=self.issued).contains(number)) else {
            return false;
        };
        let used = self.used.entry(number).or_default();
        *used += 1;
        self.uses.is_none_or(|uses| *used <= uses)
    }
}

/// Counts what is in flight, and the most that ever was.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauge(Arc<(AtomicUsize, AtomicUsize)>);

impl Gauge {
    /// Counts one more until the guard is dropped.
    pub(super) fn enter(&self) -> GaugeGuard {
        let now = self.0.0.fetch_add(1, Ordering::AcqRel) + 1;
        self.0.1.fetch_max(now, Ordering::AcqRel);
        GaugeGuard(self.clone())
    }

    pub(super) fn peak(&self) -> usize {
        self.0.1.load(Ordering::Acquire)
    }

    pub(super) fn reset_peak(&self) {
        self.0.1.store(self.0.0.load(Ordering::Acquire), Ordering::Release);
    }
}

pub(super) struct GaugeGuard(Gauge);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}
