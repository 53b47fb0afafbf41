//! Whether a failed attempt is followed by another, and when.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

use crate::Error;

/// How often a request is tried and how long between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many attempts there are in all, at least 1. A blob that has moved on by a mebibyte since it last broke off
    /// starts counting anew.
    pub attempts: u32,
    /// The wait after the first failure; doubles with each further one, and up to half of it is taken off at random, so
    /// that clients that failed together do not come back together. Four times as much where the server says that there were
    /// too many requests, and not when to come back.
    pub backoff: Duration,
    /// What the doubling stops at.
    pub max_backoff: Duration,
    /// The longest wait that a server may ask for (`Retry-After`). If it asks for more the request fails at once.
    pub max_wait: Duration,
}

impl Default for RetryPolicy {
    /// Six attempts within about 8 s of waiting, which outlasts the restart of a load balancer; up to a minute if the server
    /// asks for it, the window of most rate limits.
    fn default() -> Self {
        Self {
            attempts: 6,
            backoff: Duration::from_millis(300),
            max_backoff: Duration::from_secs(10),
            max_wait: Duration::from_mins(1),
        }
    }
}

/// How often something was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempts {
    /// How often.
    pub made: u32,
    /// How long was waited between.
    pub waited: Duration,
}

impl fmt::Display for Attempts {
    /// Empty for a single attempt, else ` (after 3 attempts and 1.2 s of waiting)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.made < 2 {
            return Ok(());
        }
        write!(
            f,
            " (after {} attempts and {:.1} s of waiting)",
            self.made,
            self.waited.as_secs_f64()
        )
    }
}

/// How many doublings longer the wait is after an answer that says that there were too many requests.
const SLOWER: u32 = 2;

/// What may follow a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Nothing: the answer would be the same.
    Never,
    /// One more attempt at once: the registry may send us elsewhere this time.
    AskAgain,
    /// Another attempt after a back-off.
    Backoff,
    /// Another attempt after a longer back-off: the server has too much to do, and did not say for how long.
    Slowly,
    /// Another attempt after the time that the server named.
    After(Duration),
}

/// One attempt's error and what may follow it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) retry: Retry,
}

impl Failure {
    pub(crate) fn last(error: Error) -> Self {
        Self {
            error,
            retry: Retry::Never,
        }
    }

    pub(crate) fn again(error: Error) -> Self {
        Self {
            error,
            retry: Retry::Backoff,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::last(error)
    }
}

/// Counts the attempts of one request against a policy.
#[derive(Debug)]
pub(crate) struct Retrier {
    policy: RetryPolicy,
    attempts: Attempts,
    // Failures since the last progress: what the policy counts.
    failures: u32,
    asked_again: bool,
}

impl Retrier {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            attempts: Attempts::default(),
            failures: 0,
            asked_again: false,
        }
    }

    /// Returns how many attempts have failed.
    pub(crate) fn made(&self) -> u32 {
        self.attempts.made
    }

    /// Takes note that what failed before has moved on.
    pub(crate) fn progressed(&mut self) {
        self.failures = 0;
        self.asked_again = false;
    }

    /// Waits until the next attempt is due, or returns the error if there is none.
    pub(crate) async fn pause(&mut self, failure: Failure) -> Result<(), Error> {
        let wait = self.judge(failure)?;
        tokio::time::sleep(wait).await;
        self.waited(wait);
        Ok(())
    }

    /// Returns how long to wait before the next attempt, or the error if there is none.
    pub(crate) fn judge(&mut self, failure: Failure) -> Result<Duration, Error> {
        let Failure { error, retry } = failure;
        self.attempts.made += 1;
        self.failures += 1;
        let Some(wait) = self.wait_for(retry) else {
            return Err(error.after(self.attempts));
        };
        tracing::debug!(%error, attempt = self.attempts.made, ?wait, "trying again");
        Ok(wait)
    }

    /// Takes note of a wait that is over.
    pub(crate) fn waited(&mut self, wait: Duration) {
        self.attempts.waited += wait;
    }

    fn wait_for(&mut self, retry: Retry) -> Option<Duration> {
        if self.failures >= self.policy.attempts {
            return None;
        }
        match retry {
            Retry::Never => None,
            Retry::AskAgain if self.asked_again => None,
            Retry::AskAgain => {
                self.asked_again = true;
                Some(Duration::ZERO)
            }
            Retry::Backoff => Some(backoff(&self.policy, self.failures, rand::random())),
            Retry::Slowly => Some(backoff(&self.policy, self.failures + SLOWER, rand::random())),
            Retry::After(wait) if wait > self.policy.max_wait => None,
            // A little later than asked for: never before, and not all at the same moment.
            Retry::After(wait) => Some(wait + Duration::from_millis(100).mul_f64(rand::random())),
        }
    }
}

/// Returns the wait after the `failures`th failure in a row; `random` lies in 0..1.
fn backoff(policy: &RetryPolicy, failures: u32, random: f64) -> Duration {
    let doubled = policy.backoff.saturating_mul(1 << failures.saturating_sub(1).min(20));
    doubled.min(policy.max_backoff).mul_f64(1.0 - random / 2.0)
}

/// Reads `Retry-After`: seconds or an HTTP date (RFC 9110, 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let due = httpdate::parse_http_date(value).ok()?;
    Some(due.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_both_forms() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let parse = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(parse("3"), Some(Duration::from_secs(3)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:50:07 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse("soon"), None);
        assert_eq!(parse("-1"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn backoff_doubles_within_its_bounds() {
        let policy = RetryPolicy {
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(5),
            ..RetryPolicy::default()
        };
        assert_eq!(backoff(&policy, 1, 0.0), Duration::from_secs(1));
        assert_eq!(backoff(&policy, 1, 1.0), Duration::from_millis(500));
        assert_eq!(backoff(&policy, 3, 0.0), Duration::from_secs(4));
        assert_eq!(backoff(&policy, 4, 0.0), Duration::from_secs(5));
        assert_eq!(backoff(&policy, u32::MAX, 0.0), Duration::from_secs(5));
    }

    #[test]
    fn the_budget_counts_from_the_last_progress() {
        let mut retrier = Retrier::new(RetryPolicy {
            attempts: 2,
            ..RetryPolicy::default()
        });
        retrier.failures = 1;
        assert!(retrier.wait_for(Retry::Backoff).is_some());
        retrier.failures = 2;
        assert!(retrier.wait_for(Retry::Backoff).is_none());
        retrier.progressed();
        assert!(retrier.wait_for(Retry::AskAgain).is_some());
        assert!(retrier.wait_for(Retry::AskAgain).is_none(), "once only");
        assert!(retrier.wait_for(Retry::Never).is_none());
        assert!(retrier.wait_for(Retry::After(Duration::from_mins(1))).is_some());
        assert!(retrier.wait_for(Retry::After(Duration::from_secs(61))).is_none());
    }

    #[test]
    fn attempts_show_when_there_was_more_than_one() {
        assert_eq!(
            Attempts {
                made: 1,
                waited: Duration::ZERO
            }
            .to_string(),
            ""
        );
        let attempts = Attempts {
            made: 3,
            waited: Duration::from_millis(1240),
        };
        assert_eq!(attempts.to_string(), " (after 3 attempts and 1.2 s of waiting)");
    }
}
