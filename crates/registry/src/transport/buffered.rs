//! A reading buffer between the socket and TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};

/// How much is read from the socket ahead: four TLS records.
const BUFFER_BYTES: usize = 64 << 10;

/// A stream that reads ahead for a reader that asks for little.
///
/// The TLS library reads 4 KiB at a time, which is four or five system calls for each record of 16 KiB. With this below
/// it, it is one for several records. A reader that brings more room than the buffer has (HTTP without TLS) reads past it.
#[derive(Debug)]
pub(super) struct Buffered<S> {
    inner: S,
    /// Empty until it is needed the first time.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    is_proxy: bool,
}

impl<S> Buffered<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            buffer: Box::default(),
            start: 0,
            end: 0,
            is_proxy: false,
        }
    }

    /// Decides whether the other end is a proxy that takes requests for others, which then have their URLs whole.
    pub(super) fn of_proxy(mut self, is_proxy: bool) -> Self {
        self.is_proxy = is_proxy;
        self
    }
}

impl<S: Read + Unpin> Read for Buffered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.start == this.end {
            if into.remaining() >= BUFFER_BYTES {
                return Pin::new(&mut this.inner).poll_read(cx, into);
            }
            if this.buffer.is_empty() {
                this.buffer = vec![0; BUFFER_BYTES].into();
            }
            let mut buffer = ReadBuf::new(&mut this.buffer);
            ready!(Pin::new(&mut this.inner).poll_read(cx, buffer.unfilled()))?;
            (this.start, this.end) = (0, buffer.filled().len());
        }
        let length = into.remaining().min(this.end - this.start);
        into.put_slice(&this.buffer[this.start..this.start + length]);
        this.start += length;
        Poll::Ready(Ok(()))
    }
}

impl<S: Write + Unpin> Write for Buffered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, parts)
    }
}

impl<S: Connection> Connection for Buffered<S> {
    fn connected(&self) -> Connected {
        self.inner.connected().proxy(self.is_proxy)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Gives its bytes in reads of the sizes listed, then the end; counts the reads.
    struct Script {
        reads: Vec<usize>,
        count: usize,
    }

    impl Read for Script {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
            let this = self.get_mut();
            if let Some(&size) = this.reads.get(this.count) {
                let byte = u8::try_from(this.count).unwrap();
                into.put_slice(&vec![byte; size.min(into.remaining())]);
            }
            this.count += 1;
            Poll::Ready(Ok(()))
        }
    }

    async fn read(stream: &mut Buffered<Script>, room: usize) -> Vec<u8> {
        let mut bytes = vec![0; room];
        let mut buffer = ReadBuf::new(&mut bytes);
        poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, buffer.unfilled()))
            .await
            .unwrap();
        buffer.filled().to_vec()
    }

    #[tokio::test]
    async fn small_reads_share_one_large_one() {
        let mut stream = Buffered::new(Script {
            reads: vec![10_000, 3],
            count: 0,
        });
        assert_eq!(read(&mut stream, 4096).await, vec![0; 4096]);
        assert_eq!(read(&mut stream, 4096).await, vec![0; 4096]);
        assert_eq!(
            read(&mut stream, 4096).await,
            vec![0; 10_000 - 8192],
            "what is there, without waiting for more"
        );
        assert_eq!(stream.inner.count, 1);
        assert_eq!(read(&mut stream, 4096).await, vec![1; 3]);
        assert!(read(&mut stream, 4096).await.is_empty());
        assert!(read(&mut stream, 4096).await.is_empty(), "the end stays the end");
    }

    #[tokio::test]
    async fn large_reads_go_past_the_buffer() {
        let mut stream = Buffered::new(Script {
            reads: vec![100_000, 20],
            count: 0,
        });
        assert_eq!(read(&mut stream, 100_000).await.len(), 100_000);
        assert!(stream.buffer.is_empty(), "no memory was taken");
        // But never past bytes that are in it.
        assert_eq!(read(&mut stream, 10).await, [1; 10]);
        assert_eq!(read(&mut stream, 100_000).await, [1; 10]);
    }
}
