//! Reading bodies: piece by piece with a watch on the pace, or whole within a limit.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, sleep_until, timeout};

use crate::throttle::{HostPermit, Throttle};
use crate::{Phase, Timeouts, TransportError};

/// How much of a body that nobody wants is read so that its connection can be used again.
const DRAIN_BYTES: u64 = 64 << 10;
/// How long that may take; a new connection costs about as much.
const DRAIN_TIME: Duration = Duration::from_millis(200);

/// A body being read.
///
/// Only the time in which a read waits counts against the pace, so a slow reader is not taken for a slow server.
#[derive(Debug)]
pub(crate) struct Body {
    incoming: Incoming,
    limit: Duration,
    min_progress: u64,
    waited: Duration,
    received: u64,
    throttle: Option<Arc<Throttle>>,
    /// When the rate allows to read on.
    not_before: Option<Instant>,
    /// Held as long as the connection is in use.
    permit: Option<HostPermit>,
}

/// Why a body could not be read whole.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The connection.
    Transport(TransportError),
    /// It is larger than the limit.
    TooLarge,
}

impl Body {
    pub(crate) fn new(incoming: Incoming, timeouts: &Timeouts) -> Self {
        Self {
            incoming,
            limit: timeouts.idle,
            min_progress: timeouts.min_progress,
            waited: Duration::ZERO,
            received: 0,
            throttle: None,
            not_before: None,
            permit: None,
        }
    }

    /// Keeps to a rate, and keeps the right to the connection.
    pub(crate) fn limited(mut self, throttle: Option<Arc<Throttle>>, permit: Option<HostPermit>) -> Self {
        self.throttle = throttle;
        self.permit = permit;
        self
    }

    /// Returns the length that the response declared.
    pub(crate) fn declared_length(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// Returns the next bytes as they came off the connection; `None` at the end. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, TransportError> {
        // Our own pace is not the server's.
        if let Some(until) = self.not_before {
            sleep_until(until).await;
            self.not_before = None;
        }
        loop {
            let started = Instant::now();
            let frame = timeout(self.limit.saturating_sub(self.waited), self.incoming.frame()).await;
            self.waited += started.elapsed();
            let Ok(frame) = frame else {
                return Err(TransportError::timeout(Phase::Body, self.limit));
            };
            let Some(frame) = frame.transpose().map_err(TransportError::body)? else {
                return Ok(None);
            };
            // What is not data are trailers.
            let Ok(data) = frame.into_data() else { continue };
            self.received += data.len() as u64;
            if self.received >= self.min_progress {
                self.received = 0;
                self.waited = Duration::ZERO;
            }
            if let Some(throttle) = &self.throttle {
                self.not_before = throttle.charge(data.len() as u64);
            }
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }

    /// Reads the whole body, at most `limit` bytes.
    pub(crate) async fn read_all(mut self, limit: u64) -> Result<Bytes, ReadError> {
        if self.declared_length().is_some_and(|length| length > limit) {
            return Err(ReadError::TooLarge);
        }
        let Some(first) = self.next().await.map_err(ReadError::Transport)? else {
            return Ok(Bytes::new());
        };
        if first.len() as u64 > limit {
            return Err(ReadError::TooLarge);
        }
        let Some(mut next) = self.next().await.map_err(ReadError::Transport)? else {
            return Ok(first);
        };
        let mut all = BytesMut::from(first);
        loop {
            if (all.len() + next.len()) as u64 > limit {
                return Err(ReadError::TooLarge);
            }
            all.extend_from_slice(&next);
            next = match self.next().await.map_err(ReadError::Transport)? {
                Some(next) => next,
                None => return Ok(all.freeze()),
            };
        }
    }

    /// Reads the start of a body: at most `limit` bytes, and as much as came if the connection breaks.
    pub(crate) async fn read_start(mut self, limit: usize) -> Bytes {
        let mut start = BytesMut::new();
        while start.len() < limit
            && let Ok(Some(data)) = self.next().await
        {
            start.extend_from_slice(&data[..data.len().min(limit - start.len())]);
        }
        start.freeze()
    }
}

/// Reads away a body that nobody wants, if it is short, so that its connection can be used again.
pub(crate) async fn drain(mut incoming: Incoming) {
    if incoming.size_hint().lower() > DRAIN_BYTES {
        return;
    }
    let rest = async {
        let mut read = 0;
        while read <= DRAIN_BYTES
            && let Some(Ok(frame)) = incoming.frame().await
        {
            read += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
    };
    // If it takes too long the connection is given up, and that is all.
    drop(timeout(DRAIN_TIME, rest).await);
}
