//! Which servers have served something else than what they were asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use unlade_oci::Digest;

use crate::session::Session;

/// Who gave the bytes of which blob, and whom that cost its trust.
///
/// A blob's digest is known only when all of it has arrived, and by then its bytes may be of several servers. Whoever
/// finds that it is wrong says so, and those who gave bytes of it are not asked for it again.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<HashMap<Digest, Entry>>);

#[derive(Debug, Default)]
struct Entry {
    served: Vec<Arc<Session>>,
    distrusted: Vec<Arc<Session>>,
}

impl Ledger {
    /// Takes note that a server has begun to serve a blob.
    pub(crate) fn served(&self, digest: &Digest, session: &Arc<Session>) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry(digest.clone()).or_default();
        if !entry.served.iter().any(|known| Arc::ptr_eq(known, session)) {
            entry.served.push(Arc::clone(session));
        }
    }

    /// Withdraws the trust from those who served the blob and that `may_lose` says can be done without; returns them.
    pub(crate) fn distrust(&self, digest: &Digest, may_lose: impl Fn(&Arc<Session>) -> bool) -> Vec<Arc<Session>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries.get_mut(digest) else {
            return Vec::new();
        };
        let liars: Vec<_> = entry.served.drain(..).filter(may_lose).collect();
        entry.distrusted.extend(liars.iter().cloned());
        liars
    }

    /// Tells whether a server may be asked for the blob.
    pub(crate) fn trusts(&self, digest: &Digest, session: &Arc<Session>) -> bool {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .get(digest)
            .is_none_or(|entry| !entry.distrusted.iter().any(|known| Arc::ptr_eq(known, session)))
    }
}
