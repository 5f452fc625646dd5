//! Whether the far end of a connection has closed it.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The far end of a connection, to be asked when a stream on it has ended: a process that ends has its connections
/// closed by its system, while one that cannot be reached, and one that we have sent away, has closed nothing.
#[derive(Clone, Debug, Default)]
pub struct FarEnd(Arc<AtomicBool>);

impl FarEnd {
    /// Whether it has closed the connection, in order or by a reset. Known before the streams on it end.
    pub fn has_closed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// It has.
    pub(super) fn closed(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn note<T>(&self, outcome: &io::Result<T>) {
        if let Err(error) = outcome
            && matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe)
        {
            self.closed();
        }
    }
}

/// A socket that notes when its far end closes it: below TLS, whose own end of a conversation not everybody says.
pub(super) struct Watched<S> {
    pub(super) socket: S,
    pub(super) far_end: FarEnd,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = ready!(Pin::new(&mut self.socket).poll_read(cx, buffer));
        self.far_end.note(&outcome);
        if outcome.is_ok() && buffer.filled().len() == before && buffer.remaining() > 0 {
            self.far_end.closed();
        }
        Poll::Ready(outcome)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes));
        self.far_end.note(&outcome);
        Poll::Ready(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, slices));
        self.far_end.note(&outcome);
        Poll::Ready(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
