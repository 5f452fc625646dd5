//! Output that is not the direct reaction to a frame: responses, window updates, PING and GOAWAY.

use bytes::{Buf, BufMut as _};
use http::{HeaderMap, Response};

use super::{Connection, StreamId};
use crate::error::ErrorCode;
use crate::frame::{self, INITIAL_WINDOW, flag, kind};
use crate::hpack;

/// "The table has no bytes from here on", in a header block (RFC 7541, section 6.3).
const EMPTY_TABLE: u8 = 0x20;

/// What is received is acknowledged in portions of this size: half a window, so that a client whose requests are dealt
/// with need not wait. What one stream leaves undone for long is at the expense of the others.
const RELEASE_AT: u32 = INITIAL_WINDOW as u32 / 2;

impl Connection {
    /// Makes room for as many bytes of a body as have been dealt with.
    pub fn release(&mut self, stream: StreamId, bytes: usize) {
        let bytes = bytes as u32;
        self.unacknowledged += bytes;
        if self.unacknowledged >= RELEASE_AT {
            self.receive_window += i64::from(self.unacknowledged);
            frame::put_window_update(&mut self.output, 0, std::mem::take(&mut self.unacknowledged));
        }
        if let Some(stream) = self.streams.get(stream)
            && stream.remote_open
        {
            stream.unacknowledged += bytes;
            if stream.unacknowledged >= RELEASE_AT {
                let released = std::mem::take(&mut stream.unacknowledged);
                stream.receive_window += i64::from(released);
                frame::put_window_update(&mut self.output, stream.id, released);
            }
        }
    }

    /// Begins the response of a stream with its status and its headers; with `end`, that is all of it.
    pub fn respond(&mut self, stream: StreamId, response: &Response<()>, end: bool) {
        let mut block = Vec::with_capacity(64);
        hpack::put_status(&mut block, response.status().as_u16());
        put_fields(&mut block, response.headers());
        self.put_headers(stream, block, end);
    }

    /// Answers a request at once, and with headers alone.
    pub fn reject(&mut self, stream: StreamId, response: &Response<()>) {
        self.unproductive_frames += 1;
        self.respond(stream, response, true);
    }

    /// Sends as many bytes of `data` as the windows and `room` allow. Returns whether that was something.
    pub fn send(&mut self, stream: StreamId, data: &mut impl Buf, room: usize) -> bool {
        let Some(stream) = self.streams.get(stream) else { return false };
        let window = self.send_window.min(stream.send_window).max(0) as usize;
        let mut left = data.remaining().min(window).min(room);
        if left == 0 {
            return false;
        }
        self.pings = 0;
        self.send_window -= left as i64;
        stream.send_window -= left as i64;
        let id = stream.id;
        while left > 0 {
            let length = left.min(self.max_payload);
            frame::put_header(&mut self.output, length, kind::DATA, 0, id);
            self.output.put(data.take(length));
            left -= length;
        }
        true
    }

    /// Ends the response of a stream, and the stream with it.
    pub fn finish(&mut self, stream: StreamId, trailers: Option<&HeaderMap>) {
        match trailers {
            Some(trailers) if !trailers.is_empty() => {
                let mut block = Vec::with_capacity(64);
                put_fields(&mut block, trailers);
                self.put_headers(stream, block, true);
            }
            _ => {
                if self.streams.get(stream).is_some() {
                    frame::put_header(&mut self.output, 0, kind::DATA, flag::END_STREAM, stream);
                    self.end_local(stream);
                }
            }
        }
    }

    /// Ends a stream without an end of its response.
    pub fn reset(&mut self, stream: StreamId, code: ErrorCode) {
        if self.streams.remove(stream) {
            self.streams.remember(stream);
            frame::put_reset(&mut self.output, stream, code as u32);
        }
    }

    /// Sends a PING.
    pub fn ping(&mut self) {
        frame::put_ping(&mut self.output, 0, [0; 8]);
    }

    /// Resets the counters of [unproductive frames](super::Limits::unproductive_frames) and PINGs.
    pub fn reset_counters(&mut self) {
        (self.unproductive_frames, self.pings) = (0, 0);
    }

    /// Takes no more streams, and says so. Those that there are go on.
    pub fn go_away(&mut self) {
        if !self.is_going_away {
            self.is_going_away = true;
            frame::put_go_away(&mut self.output, self.streams.last_taken(), ErrorCode::NoError as u32);
        }
    }

    /// Whether nothing more will happen: one side has said that it goes away, and no stream is left.
    pub fn is_done(&self) -> bool {
        self.is_going_away && self.streams.len() == 0
    }

    fn put_headers(&mut self, stream: StreamId, mut block: Vec<u8>, end: bool) {
        if self.streams.get(stream).is_none() {
            return;
        }
        if std::mem::take(&mut self.announces_table) {
            block.insert(0, EMPTY_TABLE);
        }
        let mut kind = kind::HEADERS;
        let mut flags = if end { flag::END_STREAM } else { 0 };
        let mut parts = block.chunks(self.max_payload).peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                flags |= flag::END_HEADERS;
            }
            frame::put_header(&mut self.output, part.len(), kind, flags, stream);
            self.output.put_slice(part);
            (kind, flags) = (kind::CONTINUATION, 0);
        }
        if end {
            self.end_local(stream);
        }
    }

    /// A response is complete. Whatever the client still sends is not needed (section 8.1).
    fn end_local(&mut self, id: StreamId) {
        let is_open = self.streams.get(id).is_some_and(|stream| stream.remote_open);
        if is_open {
            self.reset(id, ErrorCode::NoError);
        } else {
            self.streams.remove(id);
        }
    }
}

fn put_fields(block: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        hpack::put_field(block, name.as_str().as_bytes(), value.as_bytes());
    }
}
