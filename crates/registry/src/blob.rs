//! Blobs as streams that survive the connection they began on.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, header};
use unlade_oci::{Descriptor, Digest, Hasher};
use unlade_reference::Repository;
use url::Url;

use crate::attempt::{Call, Reply, To, attempt, broken};
use crate::body::{Body, drain};
use crate::client::Shared;
use crate::fallback::{Fallback, Need};
use crate::range::{Answer, declared_length, judge};
use crate::response::{content_type, error_document_at_end, is_page};
use crate::retry::{Failure, Retrier};
use crate::throttle::HostPermit;
use crate::{Error, Exchange, TransportError, Warning};

/// How far a blob has to move on for its earlier failures to be forgotten. A line that breaks again and again on the way
/// still gets there, while one that trickles runs out of attempts.
const PROGRESS_BYTES: u64 = 1 << 20;

/// A piece of a blob, as it came off the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where in the blob it belongs.
    pub offset: u64,
    /// The bytes, at least one.
    pub data: Bytes,
}

/// A blob that is arriving.
///
/// When a connection breaks or stalls, the next call to [`BlobStream::next`] asks for the rest, under the client's retry
/// policy; the reader sees consecutive chunks and notices nothing. One exception: a server that cannot continue makes the
/// stream begin again with a chunk at offset 0, at most once.
///
/// Dropping the stream ends the request. Dropping the future of `next` loses nothing: it may be called again.
pub struct BlobStream {
    shared: Arc<Shared>,
    repository: Repository,
    digest: Digest,
    size: u64,
    /// Where what was asked for ends.
    end: u64,
    /// Whether a part was asked for, that only a part will do.
    is_part: bool,
    /// Where else the blob may be had, if the registry does not have it (foreign layers).
    urls: Vec<Url>,
    place: Place,
    /// The registry's servers.
    fallback: Fallback,
    /// Why they did not have it; that is what is told if the other places do not have it either.
    refused: Option<Error>,
    /// For the other places.
    retrier: Retrier,
    offset: u64,
    /// The offset at which an earlier failure happened.
    failed_at: u64,
    restarted: bool,
    ended: bool,
    current: Option<Current>,
}

/// The response that is being read.
#[derive(Debug)]
struct Current {
    body: Body,
    exchange: Box<Exchange>,
    /// Where in the blob the response ends, if it said.
    end: Option<u64>,
    /// The last bytes, if they look like an error that the server has written into the blob. Those that follow show that they
    /// are not; if the connection breaks instead, they are no part of the blob.
    doubtful: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Registry,
    Url(usize),
}

/// Fetches a small blob whole.
pub(crate) async fn bytes(
    shared: Arc<Shared>,
    repository: &Repository,
    descriptor: &Descriptor,
    limit: u64,
) -> Result<Bytes, Error> {
    if descriptor.size > limit {
        let route = shared.route(repository).await?;
        let target = Fallback::new(shared.policy, &route, Need::Pull, |_| true)?.target();
        return Err(Error::TooLarge {
            exchange: Exchange::new(&Method::GET, &target.blob(&descriptor.digest)),
            document: "blob",
            limit,
        });
    }
    loop {
        let mut stream = BlobStream::open(Arc::clone(&shared), repository, descriptor, 0).await?;
        let mut all = BytesMut::new();
        while let Some(Chunk { offset, data }) = stream.next().await? {
            if offset == 0 {
                all.clear();
            }
            all.extend_from_slice(&data);
        }
        let mut hasher = Hasher::new(descriptor.digest.algorithm());
        hasher.update(&all);
        let actual = hasher.finish();
        if actual == descriptor.digest {
            return Ok(all.freeze());
        }
        if !shared.distrust(repository, &descriptor.digest) {
            let expected = descriptor.digest.clone();
            return Err(Error::DigestMismatch {
                exchange: stream.exchange(),
                expected,
                actual,
                by_header: false,
            });
        }
    }
}

impl BlobStream {
    pub(crate) async fn open(
        shared: Arc<Shared>,
        repository: &Repository,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Self, Error> {
        Self::open_part(shared, repository, descriptor, offset..descriptor.size, false).await
    }

    pub(crate) async fn open_range(
        shared: Arc<Shared>,
        repository: &Repository,
        descriptor: &Descriptor,
        range: Range<u64>,
    ) -> Result<Self, Error> {
        Self::open_part(shared, repository, descriptor, range, true).await
    }

    async fn open_part(
        shared: Arc<Shared>,
        repository: &Repository,
        descriptor: &Descriptor,
        Range { start: offset, end }: Range<u64>,
        is_part: bool,
    ) -> Result<Self, Error> {
        let route = shared.route(repository).await?;
        let fallback = Fallback::new(shared.policy, &route, Need::Pull, |target| {
            shared.ledger.trusts(&descriptor.digest, &target.session)
        })?;
        let retrier = Retrier::new(shared.policy);
        let urls = descriptor.urls.iter().filter_map(|text| Url::parse(text).ok());
        let mut stream = Self {
            repository: repository.clone(),
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            end,
            is_part,
            urls: urls
                .filter(|url| url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url)))
                .collect(),
            place: Place::Registry,
            fallback,
            refused: None,
            retrier,
            offset,
            failed_at: offset,
            restarted: false,
            ended: false,
            current: None,
            shared,
        };
        if offset.max(end) > descriptor.size {
            let (expected, actual) = (descriptor.size, offset.max(end));
            return Err(Error::SizeMismatch {
                exchange: stream.exchange(),
                expected,
                actual,
            });
        }
        if offset >= end && offset > 0 {
            stream.ended = true;
        } else {
            stream.connect().await?;
        }
        Ok(stream)
    }

    /// Returns the next chunk; `None` once the blob is complete, which is when exactly its size has arrived.
    ///
    /// # Errors
    /// See [`Error`]. After one, and after the end, the stream gives `None`.
    pub async fn next(&mut self) -> Result<Option<Chunk>, Error> {
        loop {
            if self.ended {
                return Ok(None);
            }
            self.connect().await?;
            let Some(current) = &mut self.current else { continue };
            let read = current.body.next().await;
            match read {
                Ok(Some(data)) => {
                    if let Some(data) = current.sift(data, self.offset, self.end) {
                        return self.take(data).map(Some);
                    }
                }
                _ if self.offset >= self.end => self.finish(),
                Ok(None) if current.end == Some(self.offset) => {
                    // The server sent less than was asked for, as it may.
                    self.current = None;
                    if self.offset == self.failed_at {
                        self.pause(TransportError::short()).await?;
                    }
                }
                Ok(None) => self.pause(TransportError::short()).await?,
                Err(error) => self.pause(error).await?,
            }
        }
    }

    /// Returns how many attempts it took so far, at all servers together.
    pub fn attempts(&self) -> u32 {
        self.fallback.failures() + self.retrier.made() + 1
    }

    /// Tells whether the stream had to begin again at offset 0.
    pub fn restarted(&self) -> bool {
        self.restarted
    }

    /// Returns where the stream ends. For a part this is beyond what was asked for if the server ignores ranges and sends the
    /// whole blob.
    pub fn end(&self) -> u64 {
        self.end
    }

    fn take(&mut self, mut data: Bytes) -> Result<Chunk, Error> {
        let offset = self.offset;
        if self.is_part {
            // Some servers know only where a part begins.
            data.truncate(usize::try_from(self.end - offset).unwrap_or(usize::MAX));
        }
        let end = offset + data.len() as u64;
        if end > self.size {
            let exchange = self.end_with_exchange();
            return Err(Error::SizeMismatch {
                exchange,
                expected: self.size,
                actual: end,
            });
        }
        self.offset = end;
        // With a declared length the body is known to end here, and its connection is free again already.
        if end == self.end && (self.is_part || self.current.as_ref().is_some_and(|current| current.end == Some(end))) {
            self.finish();
        }
        Ok(Chunk { offset, data })
    }

    fn finish(&mut self) {
        self.ended = true;
        self.current = None;
    }

    fn end_with_exchange(&mut self) -> Box<Exchange> {
        self.ended = true;
        self.current
            .take()
            .map_or_else(|| self.exchange(), |current| current.exchange)
    }

    fn exchange(&self) -> Box<Exchange> {
        Exchange::new(&Method::GET, &self.url())
    }

    fn url(&self) -> Url {
        match self.place {
            Place::Registry => self.fallback.target().blob(&self.digest),
            Place::Url(index) => self.urls[index].clone(),
        }
    }

    /// Makes sure that there is a response to read from.
    async fn connect(&mut self) -> Result<(), Error> {
        while self.current.is_none() && !self.ended {
            if let Err(failure) = self.ask().await {
                self.fail(failure).await?;
            }
        }
        Ok(())
    }

    /// Deals with a broken connection: waits for the next attempt.
    async fn pause(&mut self, error: TransportError) -> Result<(), Error> {
        let exchange = self
            .current
            .take()
            .map_or_else(|| self.exchange(), |current| current.exchange);
        self.fail(broken(exchange, error, self.offset)).await
    }

    async fn fail(&mut self, failure: Failure) -> Result<(), Error> {
        let progressed = self.offset >= self.failed_at.saturating_add(PROGRESS_BYTES);
        self.failed_at = self.offset;
        let failed = if self.place == Place::Registry {
            if progressed {
                self.fallback.progressed();
            }
            self.fallback.failed(&self.shared, failure).await
        } else {
            if progressed {
                self.retrier.progressed();
            }
            self.retrier.pause(failure).await
        };
        match failed {
            Ok(()) => Ok(()),
            Err(error) => self.move_on(error),
        }
    }

    /// Goes to the next place that may have the blob, if the registry said that it does not.
    fn move_on(&mut self, error: Error) -> Result<(), Error> {
        let next = match self.place {
            Place::Registry => 0,
            Place::Url(index) => index + 1,
        };
        let said_no = matches!(error.main(), Error::NotFound { .. } | Error::Denied { .. });
        if (said_no || self.refused.is_some()) && next < self.urls.len() {
            self.refused.get_or_insert(error);
            self.place = Place::Url(next);
            self.retrier.progressed();
            return Ok(());
        }
        self.ended = true;
        Err(self.refused.take().unwrap_or(error).received_before(self.offset))
    }

    /// Asks for the rest of the blob and checks what the answer is.
    async fn ask(&mut self) -> Result<(), Failure> {
        let mut headers = HeaderMap::new();
        // The digest is that of the bytes as stored: nothing on the way may pack or unpack them.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let from = self.offset;
        if from > 0 || self.is_part {
            let range = if self.is_part {
                format!("bytes={from}-{}", self.end - 1)
            } else {
                format!("bytes={from}-")
            };
            let range = HeaderValue::from_str(&range);
            headers.extend(range.ok().map(|range| (header::RANGE, range)));
        }
        let target = self.fallback.target();
        let to = match self.place {
            Place::Registry => target.to(),
            Place::Url(_) => To::Stranger(target.session.lines()),
        };
        let call = Call {
            method: Method::GET,
            url: self.url(),
            headers,
            to,
        };
        let reply = attempt(&self.shared, &call).await?;
        let exchange = reply.exchange();
        match judge(&reply, from, self.size) {
            Answer::Continues { end } => {
                self.check_page(&reply, end.map(|end| end - from))?;
                self.accept(reply, exchange, end);
                Ok(())
            }
            Answer::Whole => {
                self.check_page(&reply, declared_length(&reply))?;
                if self.is_part && from == 0 {
                    // It does not know ranges. What comes is all of the blob, so that is what this stream is now.
                    (self.end, self.is_part) = (self.size, false);
                } else if from > 0 {
                    self.restart(&exchange, "it answered with the whole blob")?;
                }
                let end = declared_length(&reply);
                self.accept(reply, exchange, end);
                Ok(())
            }
            Answer::Unfit { reason } => {
                drain(reply.response.into_body()).await;
                self.restart(&exchange, &reason)
            }
            Answer::OtherSize { actual } => {
                self.check_page(&reply, Some(actual))?;
                Err(Failure::last(Error::SizeMismatch {
                    exchange,
                    expected: self.size,
                    actual,
                }))
            }
        }
    }

    fn accept(&mut self, reply: Reply, exchange: Box<Exchange>, end: Option<u64>) {
        if self.place == Place::Registry && self.fallback.has_several() {
            self.fallback.served();
            self.shared.ledger.served(&self.digest, &self.fallback.target().session);
        }
        let mut response = reply.response;
        let permit = response.extensions_mut().remove::<HostPermit>();
        let transport = &self.shared.transport;
        let body = Body::new(response.into_body(), transport.timeouts()).limited(transport.throttle(), permit);
        self.current = Some(Current {
            body,
            exchange,
            end,
            doubtful: Bytes::new(),
        });
    }

    /// Refuses a web page. One that has exactly the blob's size is given the benefit of the doubt: the digest decides.
    fn check_page(&self, reply: &Reply, length: Option<u64>) -> Result<(), Failure> {
        let content_type = content_type(reply.response.headers());
        if is_page(&content_type) && length != Some(self.end.saturating_sub(self.offset)) {
            return Err(Failure::last(Error::Page {
                exchange: reply.exchange(),
                content_type,
                due: "a blob",
            }));
        }
        Ok(())
    }

    /// Goes back to the start of the blob, once.
    fn restart(&mut self, exchange: &Exchange, reason: &str) -> Result<(), Failure> {
        let (offset, reason) = (self.offset, reason.to_owned());
        if self.restarted || self.is_part {
            return Err(Failure::last(Error::Range {
                exchange: Box::new(exchange.clone()),
                offset,
                reason,
            }));
        }
        self.restarted = true;
        self.offset = 0;
        self.failed_at = 0;
        let (host, digest) = (exchange.url.host(), self.digest.clone());
        self.shared.credentials.warn(&Warning::Restarted {
            host,
            digest,
            offset,
            reason,
        });
        Ok(())
    }
}

impl Current {
    /// Returns what of the bytes that have arrived at `offset` is the blob's for certain.
    ///
    /// A registry whose own source breaks off within a blob says so in the only place that is left: it goes on with an error
    /// document, and then closes the connection since that is not all that it has declared. Taken for content that would cost
    /// the whole blob once more, when its digest turns out wrong.
    fn sift(&mut self, data: Bytes, offset: u64, end: u64) -> Option<Bytes> {
        let mut data = if self.doubtful.is_empty() {
            data
        } else {
            let mut joined = BytesMut::from(std::mem::take(&mut self.doubtful));
            joined.extend_from_slice(&data);
            joined.freeze()
        };
        if offset.saturating_add(data.len() as u64) < self.end.unwrap_or(end)
            && let Some(at) = error_document_at_end(&data)
        {
            self.doubtful = data.split_off(at);
        }
        Some(data).filter(|data| !data.is_empty())
    }
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the client and the URLs: either may hold secrets of others, and both are long.
        f.debug_struct("BlobStream")
            .field("repository", &self.repository)
            .field("digest", &self.digest)
            .field("size", &self.size)
            .field("offset", &self.offset)
            .field("restarted", &self.restarted)
            .finish_non_exhaustive()
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
