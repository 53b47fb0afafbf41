//! One request against several servers: who is asked next, and when.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::Shared;
use crate::error::full_text;
use crate::retry::{Failure, Retrier};
use crate::route::{Route, Target};
use crate::{EndpointError, Error, RetryPolicy, Role, Warning};

/// What a request needs of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Content by digest.
    Pull,
    /// What a tag means.
    Resolve,
}

/// The servers for one request.
///
/// They are asked in order. One that fails is passed over at once for the next that may be asked; one whose failure may
/// pass is asked again when its wait is over and none before it is left. A server that says no, or answers with something
/// wrong, is not asked again. The request has failed when all of them have.
///
/// When the registry itself says that there is no such thing, mirrors that were out of order are not waited for.
#[derive(Debug)]
pub(crate) struct Fallback {
    registry: String,
    candidates: Vec<Candidate>,
    current: usize,
}

#[derive(Debug)]
struct Candidate {
    target: Arc<Target>,
    retrier: Retrier,
    /// It was out of reach a moment ago: the others first.
    demoted: bool,
    /// It has begun to give what was asked for.
    served: bool,
    /// When it may be asked again, and the wait until then.
    due: Option<(Instant, Duration)>,
    /// Why it failed last, and whether it is done with.
    error: Option<Error>,
    done: bool,
}

impl Fallback {
    /// Begins with the servers of `route` that have what is needed and that `usable` lets through; the last always is.
    pub(crate) fn new(
        policy: RetryPolicy,
        route: &Route,
        need: Need,
        usable: impl Fn(&Target) -> bool,
    ) -> Result<Self, Error> {
        let able = route.targets.iter().filter(|target| match need {
            Need::Pull => target.capabilities.pull,
            Need::Resolve => target.capabilities.resolve,
        });
        let able: Vec<_> = able.collect();
        let last = able.len().saturating_sub(1);
        let candidates = able
            .into_iter()
            .enumerate()
            .filter(|(index, target)| *index == last || usable(target))
            .map(|(_, target)| Candidate {
                target: Arc::clone(target),
                retrier: Retrier::new(policy),
                demoted: target.session.is_down(),
                served: false,
                due: None,
                error: None,
                done: false,
            });
        let mut fallback = Self {
            registry: route.registry.to_string(),
            candidates: candidates.collect(),
            current: 0,
        };
        fallback.current = fallback.next(Instant::now()).ok_or_else(|| Error::NoEndpoint {
            registry: fallback.registry.clone(),
            purpose: match need {
                Need::Pull => "content by digest",
                Need::Resolve => "tags",
            },
        })?;
        Ok(fallback)
    }

    /// Returns the server to ask now.
    pub(crate) fn target(&self) -> Arc<Target> {
        Arc::clone(&self.candidates[self.current].target)
    }

    /// Tells whether there is more than one server.
    pub(crate) fn has_several(&self) -> bool {
        self.candidates.len() > 1
    }

    /// Returns how many attempts have failed.
    pub(crate) fn failures(&self) -> u32 {
        self.candidates.iter().map(|candidate| candidate.retrier.made()).sum()
    }

    /// Takes note that the server that was asked last has begun to answer.
    pub(crate) fn served(&mut self) {
        self.candidates[self.current].served = true;
    }

    /// Takes note that the server that was asked last has moved on.
    pub(crate) fn progressed(&mut self) {
        self.candidates[self.current].retrier.progressed();
    }

    /// Goes to the next server, or waits until one may be asked again; returns the error if there is none.
    ///
    /// Configuration that cannot be used ends the request, whichever server it is for: a mirror that is set up wrongly is not
    /// a mirror that is missing.
    pub(crate) async fn failed(&mut self, shared: &Shared, failure: Failure) -> Result<(), Error> {
        if let Error::Config { .. } = failure.error {
            return Err(failure.error);
        }
        let failed = self.current;
        let is_registry = self.candidates[failed].target.role == Role::Registry;
        if is_registry && failure.error.is_not_found() {
            for candidate in &mut self.candidates {
                candidate.done |= candidate.error.is_some() && !candidate.served;
            }
        }
        let several = self.has_several();
        let candidate = &mut self.candidates[failed];
        if several && failure.error.is_out_of_reach() {
            candidate.target.session.mark_down();
        }
        let told = failure.error.clone();
        match candidate.retrier.judge(failure) {
            Ok(wait) => {
                candidate.due = Some((Instant::now() + wait, wait));
                candidate.error = Some(told.clone());
            }
            Err(error) => {
                candidate.error = Some(error);
                candidate.done = true;
            }
        }
        let Some(next) = self.next(Instant::now()) else {
            return Err(self.total());
        };
        self.current = next;
        if next != failed {
            self.tell(shared, failed, &told);
        }
        let candidate = &mut self.candidates[next];
        if let Some((due, wait)) = candidate.due.take() {
            tokio::time::sleep_until(due).await;
            candidate.retrier.waited(wait);
        }
        Ok(())
    }

    /// Chooses: the first that may be asked now, those that were just out of reach after the others; else the one that may
    /// be asked soonest.
    fn next(&self, now: Instant) -> Option<usize> {
        let alive = || {
            let all = self.candidates.iter().enumerate();
            all.filter(|(_, candidate)| !candidate.done)
        };
        let ready = |candidate: &Candidate| candidate.due.is_none_or(|(due, _)| due <= now);
        alive()
            .filter(|(_, candidate)| ready(candidate))
            .min_by_key(|(index, candidate)| (candidate.demoted, *index))
            .or_else(|| alive().min_by_key(|(_, candidate)| candidate.due.map(|(due, _)| due)))
            .map(|(index, _)| index)
    }

    /// Says that a server is passed over. That a mirror does not have something is no news.
    fn tell(&self, shared: &Shared, index: usize, error: &Error) {
        let session = &self.candidates[index].target.session;
        let (host, reason) = (session.endpoint().host(), full_text(error));
        tracing::debug!(%host, %reason, "asking another server");
        if error.is_not_found() || !(error.is_wrong_content() || session.is_news(error)) {
            return;
        }
        shared.credentials.warn(&Warning::PassedOver {
            host,
            registry: self.registry.clone(),
            reason,
        });
    }

    /// Makes one error of those of all servers.
    fn total(&mut self) -> Error {
        let failures = self.candidates.iter_mut().filter_map(|candidate| {
            let host = candidate.target.session.endpoint().host();
            candidate.error.take().map(|error| EndpointError { host, error })
        });
        Error::of_endpoints(&self.registry, failures.collect())
    }
}
