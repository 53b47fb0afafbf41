//! Response bodies: streamed in pieces, and cut, stalled, held or trickled as a fault demands.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::time::sleep;

use super::content::OpenContent;
use super::fault::{Effects, Gate};
use super::record::Outcome;
use super::server::Flushes;

/// How much goes to the connection at once: large enough to be fast, small enough for byte counts to mean something.
const PIECE: usize = 256 * 1024;

type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Cut>> + Send>>;

/// A body as hyper takes it.
pub(super) type Body = StreamBody<Frames>;

/// The body ends here although more was promised.
#[derive(Debug)]
pub(super) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is cut on purpose")
    }
}

impl std::error::Error for Cut {}

/// Returns a body without bytes.
pub(super) fn empty() -> Body {
    StreamBody::new(Box::pin(stream::empty()))
}

/// Part of some content on its way to a client.
pub(super) struct Transfer {
    pub(super) content: OpenContent,
    /// Where in the content the next byte stands.
    pub(super) offset: u64,
    /// One past the last byte to send.
    pub(super) end: u64,
    pub(super) outcome: Arc<Outcome>,
    pub(super) flushes: Arc<Flushes>,
    /// Something to drop when the body ends, such as a gauge of requests in flight.
    pub(super) guard: Option<Box<dyn Send>>,
    pub(super) shape: Shape,
}

/// What happens to a body on its way. Positions count from the first byte of the body.
#[derive(Default)]
pub(super) struct Shape {
    stops: Vec<(u64, Stop)>,
    trickle: Option<(usize, Duration)>,
    corrupt_at: Option<u64>,
    sent: u64,
}

enum Stop {
    Cut,
    Stall,
    Hold(Gate),
}

impl Shape {
    pub(super) fn of(effects: &Effects) -> Self {
        let mut stops = Vec::new();
        stops.extend(effects.hold_after.clone().map(|(at, gate)| (at, Stop::Hold(gate))));
        stops.extend(effects.stall_after.map(|at| (at, Stop::Stall)));
        stops.extend(effects.cut_after.map(|at| (at, Stop::Cut)));
        // The last of the list comes first; a stable sort keeps "hold, then cut" at the same position.
        stops.reverse();
        stops.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Self {
            stops,
            trickle: effects.trickle,
            corrupt_at: effects.corrupt_at,
            sent: 0,
        }
    }

    /// Cuts the connection at `position`, after all else that happens there.
    ///
    /// A body that is shorter than its `Content-Length` ends so: hyper would throw away its last bytes otherwise.
    pub(super) fn cut_at(&mut self, position: u64) {
        self.stops.insert(0, (position, Stop::Cut));
        self.stops.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    }
}

impl Transfer {
    pub(super) fn into_body(self) -> Body {
        StreamBody::new(Box::pin(stream::unfold(self, |mut transfer| async move {
            let frame = transfer.next().await?;
            Some((frame.map(Frame::data), transfer))
        })))
    }

    async fn next(&mut self) -> Option<Result<Bytes, Cut>> {
        while let Some((at, _)) = self.shape.stops.last()
            && *at <= self.shape.sent
        {
            let (_, stop) = self.shape.stops.pop()?;
            self.flushes.wait().await;
            match stop {
                Stop::Cut => return Some(Err(Cut)),
                Stop::Stall => std::future::pending().await,
                Stop::Hold(gate) => gate.pass().await,
            }
        }
        let left = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let mut most = left.min(PIECE);
        if let Some((at, _)) = self.shape.stops.last() {
            most = most.min(usize::try_from(at - self.shape.sent).unwrap_or(usize::MAX));
        }
        if most == 0 {
            self.guard = None;
            return None;
        }
        if let Some((bytes, pause)) = self.shape.trickle {
            most = most.min(bytes);
            sleep(pause).await;
        }
        let Ok(mut piece) = self.content.read(self.offset, most) else {
            return Some(Err(Cut));
        };
        if let Some(at) = self.shape.corrupt_at
            && let Some(position) = at.checked_sub(self.offset).and_then(|at| usize::try_from(at).ok())
            && position < piece.len()
        {
            let mut corrupt = piece.to_vec();
            corrupt[position] ^= 1;
            piece = corrupt.into();
        }
        let length = piece.len() as u64;
        self.offset += length;
        self.shape.sent += length;
        self.outcome.sent.fetch_add(length, Ordering::AcqRel);
        Some(Ok(piece))
    }
}
