//! Tokens that were got, and who waits for one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use unlade_auth::Secret;

use crate::Error;
use crate::scope::ScopeSet;

/// What one token is good for. Tokens of one registry only are ever kept together: the same key named by another registry
/// must not get them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey {
    pub(crate) realm: String,
    pub(crate) service: Option<String>,
    /// The account that asks; empty for an anonymous one.
    pub(crate) account: String,
    pub(crate) scopes: ScopeSet,
}

/// A token as a token server gave it.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) value: Secret,
    /// When the request for it was sent: its life is counted from there.
    pub(crate) asked: Instant,
    pub(crate) lifetime: Duration,
}

/// A token in use.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) value: Secret,
    /// Which one it is of those that the slot has seen.
    pub(crate) generation: u64,
    /// Whether it was got for this very request, so that another one would be no better.
    pub(crate) fresh: bool,
    good_until: Instant,
}

/// The tokens of one registry.
#[derive(Debug, Default)]
pub(crate) struct TokenCache(Mutex<HashMap<TokenKey, Arc<Slot>>>);

impl TokenCache {
    pub(crate) fn slot(&self, key: &TokenKey) -> Arc<Slot> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(key.clone()).or_default())
    }
}

/// The place of one token: whoever needs it waits here while one of them fetches it.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    state: tokio::sync::Mutex<State>,
    // Fetches that have ended, well or not.
    fetches: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Token>,
    failure: Option<Error>,
}

impl Slot {
    /// Returns the token, or waits for the one that is being fetched, or fetches it.
    ///
    /// `refused` is the generation that the server did not accept: it is not returned again. A fetch that fails answers all who
    /// waited for it, not those who come later. If the future that fetches is dropped, the next in line fetches.
    pub(crate) async fn get(
        &self,
        refused: Option<u64>,
        fetch: impl Future<Output = Result<Issued, Error>>,
    ) -> Result<Token, Error> {
        let seen = self.fetches.load(Ordering::Acquire);
        let mut state = self.state.lock().await;
        if let Some(token) = &state.token
            && refused != Some(token.generation)
            && Instant::now() < token.good_until
        {
            return Ok(Token {
                fresh: false,
                ..token.clone()
            });
        }
        if self.fetches.load(Ordering::Acquire) != seen
            && let Some(failure) = &state.failure
        {
            return Err(failure.clone());
        }
        let issued = fetch.await;
        let generation = self.fetches.fetch_add(1, Ordering::AcqRel);
        match issued {
            Ok(Issued { value, asked, lifetime }) => {
                let token = Token {
                    value,
                    generation,
                    fresh: true,
                    good_until: asked + lifetime.saturating_sub(margin(lifetime)),
                };
                *state = State {
                    token: Some(token.clone()),
                    failure: None,
                };
                Ok(token)
            }
            Err(error) => {
                *state = State {
                    token: None,
                    failure: Some(error.clone()),
                };
                Err(error)
            }
        }
    }
}

/// How long before its end a token is no longer used: it has to live until the server looks at it.
fn margin(lifetime: Duration) -> Duration {
    (lifetime / 10).min(Duration::from_secs(30))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn issued(value: &str, lifetime: Duration) -> Issued {
        Issued {
            value: value.into(),
            asked: Instant::now(),
            lifetime,
        }
    }

    const LONG: Duration = Duration::from_mins(5);

    #[tokio::test]
    async fn waiting_requests_share_one_fetch() {
        let (slot, fetched) = (Arc::new(Slot::default()), Arc::new(AtomicUsize::new(0)));
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (slot, fetched) = (Arc::clone(&slot), Arc::clone(&fetched));
            all.spawn(async move {
                let fetch = async {
                    fetched.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok(issued("t", LONG))
                };
                slot.get(None, fetch).await.unwrap().value
            });
        }
        assert!(all.join_all().await.iter().all(|value| value.expose() == "t"));
        assert_eq!(fetched.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_refused_token_is_replaced_once() {
        let slot = Slot::default();
        let first = slot.get(None, async { Ok(issued("1", LONG)) }).await.unwrap();
        assert!(first.fresh);
        let again = slot.get(None, async { panic!("it is there") }).await.unwrap();
        assert!(!again.fresh);
        let second = slot
            .get(Some(first.generation), async { Ok(issued("2", LONG)) })
            .await
            .unwrap();
        assert_eq!(second.value.expose(), "2");
        // Another request that held the first one finds the second.
        let other = slot
            .get(Some(first.generation), async { panic!("it is there") })
            .await
            .unwrap();
        assert_eq!(other.value.expose(), "2");
    }

    #[tokio::test]
    async fn a_token_is_replaced_before_its_end() {
        let slot = Slot::default();
        slot.get(None, async { Ok(issued("1", Duration::from_millis(20))) })
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(18)).await;
        let second = slot.get(None, async { Ok(issued("2", LONG)) }).await.unwrap();
        assert_eq!(second.value.expose(), "2");
    }

    #[tokio::test]
    async fn a_fetch_that_is_dropped_leaves_the_slot_usable() {
        let slot = Slot::default();
        let never = slot.get(None, std::future::pending());
        assert!(tokio::time::timeout(Duration::from_millis(5), never).await.is_err());
        assert!(slot.get(None, async { Ok(issued("1", LONG)) }).await.is_ok());
    }

    #[test]
    fn margins() {
        assert_eq!(margin(Duration::from_mins(1)), Duration::from_secs(6));
        assert_eq!(margin(Duration::from_hours(12)), Duration::from_secs(30));
    }
}
