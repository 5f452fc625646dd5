//! The bytes of one connection, with TLS or without: no buffer while nothing moves, and few system calls while something
//! does.
//!
//! What is read is decrypted in a scratch buffer of the thread, what is written is gathered until the connection's task has
//! nothing more to do ([`Shared::poll_send`]) and then encrypted there and sent at once. With the connection stays only what
//! could not be passed on: the beginning of a TLS record, plain text for which HTTP/2 has no room yet, and what the socket
//! does not take. Each is bounded: a peer that sends is not read while HTTP/2 has not taken what came before, and a peer
//! that does not read is written to no more once [`GATHERED`] bytes wait.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::FarEnd;
use super::cut::Cutter;
use super::far_end::Watched;

/// Plain text that is gathered before it is sent. A whole configuration has some 30 KB.
const GATHERED: usize = 32 << 10;

/// Plain text that HTTP/2 is handed in one turn, before the streams take theirs: it keeps memory for the most that ever
/// waited there.
const HANDED: usize = 16 << 10;

/// The scratch buffer: enough for what is gathered once it is encrypted, and for several records of 16 KB that come.
const SCRATCH: usize = 64 << 10;

/// What a TLS record may be longer than its plain text: its header, its type, its tag and, before TLS 1.3, its nonce.
const RECORD_OVERHEAD: usize = 5 + 1 + 16 + 8;

/// Plain text of one record at most.
const RECORD: usize = 16 << 10;

const _: () = assert!(GATHERED + (GATHERED / RECORD + 1) * RECORD_OVERHEAD <= SCRATCH);

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

/// A connection as HTTP/2 reads and writes it, and its owner sends what was written.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Transport>>);

/// A connection; see the module.
pub(super) struct Transport {
    socket: Watched<TcpStream>,
    layer: Layer,
    cutter: Cutter,
    /// Came, and is the beginning of a TLS record or message. rustls remembers where in it it is.
    incomplete: Vec<u8>,
    /// Came and is decrypted, but not taken yet.
    received: Vec<u8>,
    /// How much of `received` has been taken.
    taken: usize,
    /// How much more HTTP/2 is handed in this turn.
    allowance: usize,
    /// The peer sends nothing more.
    ended: bool,
    /// To be sent, in plain text.
    gathered: Vec<u8>,
    /// To be sent before it, as it goes over the socket.
    sealed: Vec<u8>,
    /// Whether we have said that we send nothing more.
    closing: bool,
}

/// What is between the socket and HTTP/2.
enum Layer {
    Plain,
    Tls(Box<UnbufferedServerConnection>),
    /// TLS that has failed: rustls is not asked again, and nothing more is said, least of all in plain text.
    Failed,
}

impl Transport {
    /// A connection on which nothing has been said.
    pub(super) fn new(socket: TcpStream, far_end: FarEnd) -> Transport {
        Transport {
            socket: Watched { socket, far_end },
            layer: Layer::Plain,
            cutter: Cutter::new(),
            incomplete: Vec::new(),
            received: Vec::new(),
            taken: 0,
            allowance: HANDED,
            ended: false,
            gathered: Vec::new(),
            sealed: Vec::new(),
            closing: false,
        }
    }

    /// The first byte that the peer sends, which is read again later.
    pub(super) async fn first_byte(&mut self) -> io::Result<u8> {
        std::future::poll_fn(|cx| {
            while self.received.is_empty() && !self.ended {
                ready!(self.poll_receive(cx))?;
            }
            Poll::Ready(self.received.first().copied().ok_or_else(|| io::ErrorKind::UnexpectedEof.into()))
        })
        .await
    }

    /// Goes over to TLS, with what has come as the beginning of the handshake.
    pub(super) async fn accept_tls(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        self.layer = Layer::Tls(Box::new(UnbufferedServerConnection::new(config).map_err(io::Error::other)?));
        let mut hello = std::mem::take(&mut self.received);
        let mut opened = self.open(&mut hello);
        std::future::poll_fn(|cx| {
            loop {
                // Among it the alert that tells the peer of an error.
                let sent = ready!(self.poll_send(cx));
                std::mem::replace(&mut opened, Ok(()))?;
                sent?;
                if !matches!(&self.layer, Layer::Tls(tls) if tls.is_handshaking()) {
                    return Poll::Ready(Ok(()));
                }
                if self.ended {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                opened = ready!(self.poll_receive(cx));
            }
        })
        .await
    }

    /// For HTTP/2.
    pub(super) fn share(self) -> Shared {
        Shared(Arc::new(Mutex::new(self)))
    }

    /// Reads once from the socket.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        BUFFER.with_borrow_mut(|buffer| {
            let before = self.incomplete.len();
            if before == buffer.len() {
                return Poll::Ready(Err(invalid("a TLS message without an end")));
            }
            let mut came = ReadBuf::new(&mut buffer[before..]);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut came))?;
            let count = came.filled().len();
            if count == 0 {
                self.ended = true;
                return Poll::Ready(Ok(()));
            }
            buffer[..before].copy_from_slice(&std::mem::take(&mut self.incomplete));
            Poll::Ready(self.open(&mut buffer[..before + count]))
        })
    }

    /// Decrypts what came, and keeps what is not whole.
    fn open(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let tls = match &mut self.layer {
            Layer::Tls(tls) => tls,
            Layer::Plain => {
                self.received.extend_from_slice(bytes);
                return Ok(());
            }
            Layer::Failed => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = tls.process_tls_records(&mut bytes[used..]);
            let mut goes_on = true;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        self.received.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.sealed),
                // It is under way: what is in `sealed` goes before all else.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => goes_on = false,
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.ended = true;
                    goes_on = false;
                }
                Ok(_) => return Err(invalid("TLS early data, which was not offered")),
                Err(error) => {
                    let rest = &mut bytes[used + discard..];
                    if let Ok(ConnectionState::EncodeTlsData(alert)) = tls.process_tls_records(rest).state {
                        encode(alert, &mut self.sealed);
                    }
                    self.layer = Layer::Failed;
                    return Err(invalid(error));
                }
            }
            used += discard;
            if !goes_on {
                break;
            }
        }
        self.incomplete = bytes[used..].to_vec();
        Ok(())
    }

    /// Sends all that was written. Ready when the socket has taken all of it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.sealed.is_empty() {
                let count = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.sealed))?;
                if count == self.sealed.len() {
                    self.sealed = Vec::new();
                } else {
                    self.sealed.drain(..count);
                }
            }
            if self.gathered.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let gathered = std::mem::take(&mut self.gathered);
            let tls = match &mut self.layer {
                Layer::Tls(tls) => tls,
                Layer::Plain => {
                    self.sealed = gathered;
                    continue;
                }
                Layer::Failed => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
            self.sealed = BUFFER.with_borrow_mut(|buffer| -> io::Result<Vec<u8>> {
                let UnbufferedStatus { discard, state } = tls.process_tls_records(&mut self.incomplete);
                let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else {
                    return Err(io::ErrorKind::BrokenPipe.into());
                };
                let length = traffic.encrypt(&gathered, buffer).map_err(io::Error::other)?;
                self.incomplete.drain(..discard);
                // What the socket takes at once, which is all of it unless the peer is slow, is never copied.
                let sent = match Pin::new(&mut self.socket).poll_write(cx, &buffer[..length]) {
                    Poll::Ready(sent) => sent?,
                    Poll::Pending => 0,
                };
                Ok(buffer[sent..length].to_vec())
            })?;
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, output: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = output.filled().len();
        loop {
            if self.allowance == 0 {
                // Nobody wakes us: whoever runs HTTP/2 looks at `Shared::is_paused`.
                return Poll::Pending;
            }
            let end = self.received.len().min(self.taken + self.allowance);
            let taken = self.cutter.pass(&self.received[self.taken..end], output);
            self.taken += taken;
            self.allowance -= taken;
            if self.taken == self.received.len() {
                self.received = Vec::new();
                self.taken = 0;
            }
            if output.filled().len() > before || output.remaining() == 0 || self.ended {
                return Poll::Ready(Ok(()));
            }
            if self.received.is_empty() {
                ready!(self.poll_receive(cx))?;
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.gathered.len() == GATHERED {
            ready!(self.poll_send(cx))?;
        }
        let before = self.gathered.len();
        for slice in slices {
            let room = GATHERED - self.gathered.len();
            self.gathered.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        Poll::Ready(Ok(self.gathered.len() - before))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        if !std::mem::replace(&mut self.closing, true)
            && let Layer::Tls(tls) = &mut self.layer
            && let Ok(ConnectionState::WriteTraffic(mut traffic)) = tls.process_tls_records(&mut self.incomplete).state
        {
            append(&mut self.sealed, |room| match traffic.queue_close_notify(room) {
                Err(EncryptError::InsufficientSize(size)) => Err(size.required_size),
                encrypted => Ok(encrypted.unwrap_or_default()),
            });
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl Shared {
    /// Sends all that HTTP/2 has written; to be called when the connection's task has nothing more to do.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport().poll_send(cx)
    }

    /// Whether HTTP/2 was handed all that it is handed in one turn, and waits for the next.
    pub(super) fn is_paused(&self) -> bool {
        self.transport().allowance == 0
    }

    /// Begins a turn.
    pub(super) fn resume(&self) {
        self.transport().allowance = HANDED;
    }

    fn transport(&self) -> MutexGuard<'_, Transport> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Shared {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, output: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.transport().poll_read(cx, output)
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.transport().poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.transport().poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing: HTTP/2 asks for it after each frame. [`Shared::poll_send`] sends them together.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport().poll_close(cx)
    }
}

fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, sealed: &mut Vec<u8>) {
    append(sealed, |room| match data.encode(room) {
        Err(EncodeError::InsufficientSize(size)) => Err(size.required_size),
        encoded => Ok(encoded.unwrap_or_default()),
    });
}

/// Lets `write` write behind what is there, with as much room as it says it needs.
fn append(bytes: &mut Vec<u8>, mut write: impl FnMut(&mut [u8]) -> Result<usize, usize>) {
    let before = bytes.len();
    let mut needed = 0;
    loop {
        bytes.resize(before + needed, 0);
        match write(&mut bytes[before..]) {
            Ok(written) => return bytes.truncate(before + written),
            Err(size) => needed = size,
        }
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
