//! The bytes of a connection, encrypted or not, with nothing allocated for one on which nothing happens.
//!
//! What is read is decrypted in a scratch buffer of the thread, and taken there. What is to be sent is gathered by
//! HTTP/2 until the connection's task has nothing more to do, and then encrypted there and sent at once. With the
//! connection stays only what could not be passed on: the beginning of a TLS record, and what the socket does not take.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus};
use rustls::{NamedGroup, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::FarEnd;
use super::far_end::Watched;

/// Plain text that is gathered before it is sent. A whole configuration has some 30 KB.
pub(super) const GATHERED: usize = 32 << 10;

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

/// A connection; see the module.
pub(super) struct Transport {
    socket: Watched<TcpStream>,
    layer: Layer,
    /// Came, and is the beginning of a TLS record or message. rustls remembers where in it it is.
    incomplete: Vec<u8>,
    /// Came with the handshake or before it, and is not taken yet.
    received: Vec<u8>,
    /// The peer sends nothing more.
    ended: bool,
    /// To be sent, as it goes over the socket.
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
            incomplete: Vec::new(),
            received: Vec::new(),
            ended: false,
            sealed: Vec::new(),
            closing: false,
        }
    }

    /// The first byte that the peer sends, which is received again later.
    pub(super) async fn first_byte(&mut self) -> io::Result<u8> {
        poll_fn(|cx| {
            while self.received.is_empty() && !self.ended {
                ready!(self.poll_read_ahead(cx))?;
            }
            Poll::Ready(self.received.first().copied().ok_or_else(|| io::ErrorKind::UnexpectedEof.into()))
        })
        .await
    }

    /// Goes over to TLS, with what has come as the beginning of the handshake. Each answer of the peer may take as long
    /// as `per_message`.
    pub(super) async fn accept_tls(&mut self, config: Arc<ServerConfig>, per_message: Duration) -> io::Result<()> {
        self.layer = Layer::Tls(Box::new(UnbufferedServerConnection::new(config).map_err(io::Error::other)?));
        let mut hello = std::mem::take(&mut self.received);
        let mut opened = self.open_ahead(&mut hello);
        loop {
            // Among it the alert that tells the peer of an error.
            let flushed = poll_fn(|cx| self.poll_flush(cx)).await;
            opened?;
            flushed?;
            if !matches!(&self.layer, Layer::Tls(tls) if tls.is_handshaking()) {
                return Ok(());
            }
            if self.ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            opened = timeout(per_message, poll_fn(|cx| self.poll_read_ahead(cx))).await?;
        }
    }

    /// The group with which keys were exchanged, after the handshake of TLS.
    pub(super) fn key_exchange(&self) -> Option<NamedGroup> {
        match &self.layer {
            Layer::Tls(tls) => Some(tls.negotiated_key_exchange_group()?.name()),
            Layer::Plain | Layer::Failed => None,
        }
    }

    /// As [`Transport::poll_read`], but keeps it.
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut received = std::mem::take(&mut self.received);
        let outcome = self.poll_read(cx, &mut |bytes| keep(&mut received, bytes));
        self.received = received;
        outcome
    }

    fn open_ahead(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let mut received = Vec::new();
        let outcome = self.open(bytes, &mut |bytes| keep(&mut received, bytes));
        self.received = received;
        outcome
    }

    /// Hands what has come to `taker`, in pieces as they are decrypted. False when nothing more will come.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        taker: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Poll<io::Result<bool>> {
        if !self.received.is_empty() {
            taker(&std::mem::take(&mut self.received))?;
            return Poll::Ready(Ok(true));
        }
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        ready!(self.poll_read(cx, taker))?;
        Poll::Ready(Ok(true))
    }

    /// Reads once from the socket.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        taker: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Poll<io::Result<()>> {
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
            Poll::Ready(self.open(&mut buffer[..before + count], taker))
        })
    }

    /// Decrypts what came, and keeps what is not whole. After an error of `taker` nothing more is taken, but the state
    /// of TLS is as it should be for a last word.
    fn open(&mut self, bytes: &mut [u8], taker: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let tls = match &mut self.layer {
            Layer::Tls(tls) => tls,
            Layer::Plain => return taker(bytes),
            Layer::Failed => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        let (mut used, mut taken) = (0, Ok(()));
        loop {
            let UnbufferedStatus { mut discard, state } = tls.process_tls_records(&mut bytes[used..]);
            let mut goes_on = true;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        taken = taken.and_then(|()| taker(record.payload));
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.sealed),
                // It is under way: what is in `sealed` goes before all else.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => goes_on = false,
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.ended = true;
                    self.socket.far_end.closed();
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
        taken
    }

    /// Sends what was gathered, and takes it out. Ready when the socket has taken all of it.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, gathered: &mut Vec<u8>) -> Poll<io::Result<()>> {
        let mut sealed = 0;
        let sent = loop {
            let flushed = self.poll_flush(cx);
            if !matches!(flushed, Poll::Ready(Ok(()))) {
                break flushed;
            }
            let rest = &gathered[sealed..];
            if rest.is_empty() {
                break Poll::Ready(Ok(()));
            }
            let portion = &rest[..rest.len().min(GATHERED)];
            sealed += portion.len();
            if let Err(error) = self.seal(cx, portion) {
                break Poll::Ready(Err(error));
            }
        };
        gathered.drain(..sealed);
        sent
    }

    /// Sends what is sealed. Ready when the socket has taken all of it.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.sealed.is_empty() {
            let count = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.sealed))?;
            if count == self.sealed.len() {
                self.sealed = Vec::new();
            } else {
                self.sealed.drain(..count);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Encrypts a portion and sends what the socket takes at once, which is all of it unless the peer is slow: it is
    /// never copied then. Nothing else may be sealed.
    fn seal(&mut self, cx: &mut Context<'_>, portion: &[u8]) -> io::Result<()> {
        let Transport { socket, incomplete, .. } = self;
        let mut send = |bytes: &[u8]| -> io::Result<Vec<u8>> {
            let sent = match Pin::new(&mut *socket).poll_write(cx, bytes) {
                Poll::Ready(sent) => sent?,
                Poll::Pending => 0,
            };
            Ok(bytes[sent..].to_vec())
        };
        self.sealed = match &mut self.layer {
            Layer::Plain => send(portion)?,
            Layer::Failed => return Err(io::ErrorKind::BrokenPipe.into()),
            Layer::Tls(tls) => BUFFER.with_borrow_mut(|buffer| -> io::Result<Vec<u8>> {
                let UnbufferedStatus { discard, state } = tls.process_tls_records(incomplete);
                let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else {
                    return Err(io::ErrorKind::BrokenPipe.into());
                };
                let length = traffic.encrypt(portion, buffer).map_err(io::Error::other)?;
                incomplete.drain(..discard);
                send(&buffer[..length])
            })?,
        };
        Ok(())
    }

    /// Says that we send nothing more, after what was gathered.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>, gathered: &mut Vec<u8>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx, gathered))?;
        if !std::mem::replace(&mut self.closing, true)
            && let Layer::Tls(tls) = &mut self.layer
            && let Ok(ConnectionState::WriteTraffic(mut traffic)) = tls.process_tls_records(&mut self.incomplete).state
        {
            append(&mut self.sealed, |room| match traffic.queue_close_notify(room) {
                Err(EncryptError::InsufficientSize(size)) => Err(size.required_size),
                encrypted => Ok(encrypted.unwrap_or_default()),
            });
        }
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

fn keep(received: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
    received.extend_from_slice(bytes);
    Ok(())
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
