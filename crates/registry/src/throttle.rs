//! What all requests of a client share: a rate of bytes, and connections for each host.

use std::collections::HashMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use url::Url;

/// For how long a rate that was not used can be made up for.
const BURST: Duration = Duration::from_millis(100);

/// A limit on bytes per second.
#[derive(Debug)]
pub(crate) struct Throttle {
    rate: NonZeroU64,
    /// When everything received so far is paid for.
    paid: Mutex<Option<Instant>>,
}

impl Throttle {
    pub(crate) fn new(rate: NonZeroU64) -> Self {
        Self {
            rate,
            paid: Mutex::default(),
        }
    }

    /// Takes note of bytes received, and returns until when whoever received them has to wait before asking for more.
    pub(crate) fn charge(&self, bytes: u64) -> Option<Instant> {
        self.charge_at(bytes, Instant::now())
    }

    fn charge_at(&self, bytes: u64, now: Instant) -> Option<Instant> {
        let cost = Duration::from_nanos(
            u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.get())).unwrap_or(u64::MAX),
        );
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let until = paid.map_or(now, |paid| paid.max(earliest)) + cost;
        *paid = Some(until);
        (until > now).then_some(until)
    }
}

/// A limit on responses under way from one host. With HTTP/1.1 each has a connection of its own.
#[derive(Debug)]
pub(crate) struct Hosts {
    limit: Option<NonZeroUsize>,
    /// By host and port.
    seats: Mutex<HashMap<(String, u16), Arc<Semaphore>>>,
}

/// The right to one connection to a host, given back when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct HostPermit {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Hosts {
    pub(crate) fn new(limit: Option<NonZeroUsize>) -> Self {
        Self {
            limit,
            seats: Mutex::default(),
        }
    }

    /// Waits until the host of `url` has room for another; `None` where there is no limit.
    pub(crate) async fn enter(&self, url: &Url) -> Option<HostPermit> {
        let limit = self.limit?;
        let key = (url.host_str()?.to_owned(), url.port_or_known_default()?);
        let seats = {
            let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(
                seats
                    .entry(key)
                    .or_insert_with(|| Arc::new(Semaphore::new(limit.get()))),
            )
        };
        // The semaphores are never closed.
        let permit = seats.acquire_owned().await.ok()?;
        Some(HostPermit {
            _permit: Arc::new(permit),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets several readers receive chunks as fast as they may, on a clock of its own. Returns how long it took.
    fn receive(throttle: &Throttle, started: Instant, readers: usize, chunks: u32, bytes: u64) -> Duration {
        let mut free_at = vec![started; readers];
        for _ in 0..chunks {
            let now = free_at.iter_mut().min().unwrap();
            *now = throttle.charge_at(bytes, *now).unwrap_or(*now);
        }
        free_at.into_iter().max().unwrap() - started
    }

    #[test]
    fn the_rate_is_kept_by_one_and_by_several_together() {
        for readers in [1, 4] {
            for chunk in [1_000_u32, 50_000, 256 << 10] {
                let throttle = Throttle::new(NonZeroU64::new(1_000_000).unwrap());
                let chunks = 10_000_000 / chunk;
                let took = receive(&throttle, Instant::now(), readers, chunks, chunk.into());
                let rate = f64::from(chunks * chunk) / took.as_secs_f64();
                assert!(
                    (900_000.0..1_100_000.0).contains(&rate),
                    "{rate} with {readers} × {chunk}"
                );
            }
        }
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let throttle = Throttle::new(NonZeroU64::new(1_000_000).unwrap());
        let now = Instant::now();
        receive(&throttle, now, 1, 10, 100_000);
        let took = receive(&throttle, now + Duration::from_mins(1), 1, 20, 100_000);
        assert!((1.8..2.1).contains(&took.as_secs_f64()), "{took:?}");
    }

    #[tokio::test]
    async fn each_host_has_its_own_seats() {
        let hosts = Hosts::new(NonZeroUsize::new(1));
        let (one, other) = (
            Url::parse("https://one.example/a").unwrap(),
            Url::parse("https://one.example:8443/a").unwrap(),
        );
        let first = hosts.enter(&one).await.unwrap();
        assert!(hosts.enter(&other).await.is_some());
        let waiting = tokio::time::timeout(Duration::from_millis(20), hosts.enter(&one)).await;
        assert!(waiting.is_err(), "one at a time");
        drop(first);
        assert!(hosts.enter(&one).await.is_some());
        assert!(Hosts::new(None).enter(&one).await.is_none());
    }
}
