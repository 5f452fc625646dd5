//! A client that says what it is told to, byte for byte, and reads what comes back with a parser of its own.

use kuma_http2::hpack::put_field;
use kuma_http2::{Connection, Error, Event, Limits, StreamId};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const LIMITS: Limits = Limits { streams: 4, header_list: 16 << 10, unproductive_frames: 100 };

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

pub(crate) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    frame(SETTINGS, 0, 0, &payload.collect::<Vec<u8>>())
}

pub(crate) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub(crate) fn reset(stream: u32) -> Vec<u8> {
    const CANCEL: u32 = 8;
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// What a request of ours has for a head, and what it may have beside it.
pub(crate) const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":authority", "kuma-cp:5678"), (":path", "/a/b")];

pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        put_field(&mut block, name.as_bytes(), value.as_bytes());
    }
    block
}

/// The head of a request whose body follows.
pub(crate) fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(&POST))
}

/// A whole request.
pub(crate) fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&POST))
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of a frame that has one.
    pub(crate) fn code(&self) -> Option<u32> {
        let at = match self.kind {
            RST_STREAM => 0,
            GOAWAY => 4,
            _ => return None,
        };
        Some(u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap()))
    }
}

/// An event with what it borrows. Pieces of a body that follow one another are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Request { stream: StreamId, path: String, end: bool },
    Data { stream: StreamId, data: Vec<u8>, end: bool },
    Reset { stream: StreamId },
}

/// A connection and what has happened on it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) seen: Vec<Seen>,
    /// What came back, but for the server's first SETTINGS and WINDOW_UPDATEs.
    pub(crate) frames: Vec<Frame>,
    pub(crate) error: Option<Error>,
    /// Whether what comes in a body is released at once.
    pub(crate) releases: bool,
}

impl Client {
    /// Nothing has been said yet.
    pub(crate) fn silent() -> Client {
        let connection = Connection::new(LIMITS);
        let mut client = Client { connection, seen: Vec::new(), frames: Vec::new(), error: None, releases: true };
        client.read();
        assert_eq!(client.frames.remove(0).kind, SETTINGS);
        client
    }

    /// Both have said what they want, and know it of each other.
    pub(crate) fn new() -> Client {
        let mut client = Client::silent();
        client.send(PREFACE);
        client.send(&settings(&[]));
        client.send(&frame(SETTINGS, ACK, 0, &[]));
        assert_eq!(client.frames.remove(0), Frame { kind: SETTINGS, flags: ACK, stream: 0, payload: vec![] });
        client
    }

    pub(crate) fn send(&mut self, mut bytes: &[u8]) {
        loop {
            match self.connection.receive(&mut bytes) {
                Ok(Some(event)) => {
                    let released =
                        if let Event::Data { stream, data, .. } = &event { Some((*stream, data.len())) } else { None };
                    self.see(event);
                    if let Some((stream, length)) = released.filter(|_| self.releases) {
                        self.connection.release(stream, length);
                    }
                }
                Ok(None) => {
                    assert_eq!(bytes, b"", "nothing of it is left");
                    break;
                }
                Err(error) => {
                    self.error = Some(error);
                    break;
                }
            }
        }
        self.read();
    }

    fn see(&mut self, event: Event<'_>) {
        let seen = match event {
            Event::Request { stream, request, end } => Seen::Request { stream, path: request.uri().path().into(), end },
            Event::Data { stream, data, end } => {
                if let Some(Seen::Data { stream: last, data: before, end: false }) = self.seen.last_mut()
                    && *last == stream
                {
                    before.extend_from_slice(data);
                    let data = std::mem::take(before);
                    self.seen.pop();
                    Seen::Data { stream, data, end }
                } else {
                    Seen::Data { stream, data: data.to_vec(), end }
                }
            }
            Event::Reset { stream } => Seen::Reset { stream },
        };
        self.seen.push(seen);
    }

    /// Takes the server's output apart.
    pub(crate) fn read(&mut self) {
        let output = std::mem::take(self.connection.output());
        let mut rest = &output[..];
        while !rest.is_empty() {
            let (header, after) = rest.split_at(9);
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let (payload, after) = after.split_at(length);
            rest = after;
            let stream = u32::from_be_bytes(header[5..].try_into().unwrap());
            if header[3] != WINDOW_UPDATE {
                self.frames.push(Frame { kind: header[3], flags: header[4], stream, payload: payload.to_vec() });
            }
        }
    }
}
