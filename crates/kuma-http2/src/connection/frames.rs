//! Frames that are taken whole: all but DATA.

use bytes::Buf as _;
use http::{Response, StatusCode};

use super::{Connection, Event, Expected, StreamId};
use crate::error::{Error, ErrorCode};
use crate::frame::{self, Header, MAX_PAYLOAD, MAX_WINDOW, flag, kind, setting};
use crate::request::{Fields, Unfit, content_length};

/// Bytes of an encoded header block, in all its frames. Room enough to say of most that are too large that they are.
const MAX_BLOCK: usize = 64 << 10;

/// Bytes of the dynamic table that an encoder has at first (RFC 7541, section 4.2).
const INITIAL_TABLE: u32 = 4096;

impl Connection {
    /// A whole frame, other than DATA.
    pub(super) fn frame<'a>(&mut self, header: Header, payload: &[u8]) -> Result<Option<Event<'a>>, Error> {
        match header.kind {
            kind::HEADERS => return self.headers(header, payload),
            kind::CONTINUATION => return self.continuation(header, payload),
            kind::RST_STREAM => return self.reset_by_client(header, payload),
            kind::WINDOW_UPDATE => return self.window_update(header, payload),
            kind::PRIORITY => self.priority(header)?,
            kind::SETTINGS => self.settings(header, payload)?,
            kind::PING => self.ping_frame(header, payload)?,
            kind::GOAWAY => {
                of_connection(header)?;
                if payload.len() < 8 {
                    return Err(Error::size("a GOAWAY of less than 8 bytes"));
                }
                self.is_going_away = true;
            }
            kind::PUSH_PROMISE => return Err(Error::protocol("a PUSH_PROMISE of a client")),
            // Section 4.1: passed over.
            _ => {}
        }
        Ok(None)
    }

    fn headers<'a>(&mut self, header: Header, payload: &[u8]) -> Result<Option<Event<'a>>, Error> {
        if header.stream.is_multiple_of(2) {
            return Err(Error::protocol("a request on a stream that is not the client's"));
        }
        let mut block = payload;
        let padding = if header.has(flag::PADDED) {
            block.try_get_u8().map_err(|_| Error::size("no room for the length of the padding"))?
        } else {
            0
        };
        if header.has(flag::PRIORITY) {
            // What it depends on, and its weight: both mean nothing since RFC 9113.
            block = block.get(5..).ok_or(Error::size("no room for a priority"))?;
        }
        let length = block.len().checked_sub(padding.into()).ok_or(Error::protocol("more padding than frame"))?;
        let end_stream = header.has(flag::END_STREAM);
        self.block_part(header, &block[..length], end_stream)
    }

    fn continuation<'a>(&mut self, header: Header, payload: &[u8]) -> Result<Option<Event<'a>>, Error> {
        let Expected::Continuation { end_stream, .. } = self.expected else {
            return Err(Error::protocol("a CONTINUATION of nothing"));
        };
        self.block_part(header, payload, end_stream)
    }

    fn block_part<'a>(&mut self, header: Header, part: &[u8], end_stream: bool) -> Result<Option<Event<'a>>, Error> {
        let stream = header.stream;
        let is_whole = header.has(flag::END_HEADERS);
        if part.is_empty() && !is_whole {
            self.count_unproductive_frame()?;
        }
        if self.block_parts.is_empty() && is_whole {
            return self.block(stream, part, end_stream);
        }
        if self.block_parts.len() + part.len() > MAX_BLOCK {
            return Err(Error::new(ErrorCode::EnhanceYourCalm, "an endless header block"));
        }
        self.block_parts.extend_from_slice(part);
        if is_whole {
            self.expected = Expected::Any;
            let block = std::mem::take(&mut self.block_parts);
            return self.block(stream, &block, end_stream);
        }
        self.expected = Expected::Continuation { stream, end_stream };
        Ok(None)
    }

    /// A whole header block.
    fn block<'a>(&mut self, id: StreamId, block: &[u8], end: bool) -> Result<Option<Event<'a>>, Error> {
        self.expected = Expected::Any;
        let mut fields = Fields::new(self.limits.header_list);
        // Decoded whatever becomes of it: the next block builds on its table.
        self.decoder
            .decode(block, &mut |name, value| fields.push(name, value))
            .map_err(|_| Error::new(ErrorCode::CompressionError, "a header block that cannot be decoded"))?;
        if id > self.streams.last() {
            return self.request(id, fields, end);
        }
        let Some(stream) = self.streams.get(id) else {
            if self.streams.remembers(id) {
                return Ok(None);
            }
            return Err(Error::new(ErrorCode::StreamClosed, "headers on a stream that has ended"));
        };
        if !stream.remote_open {
            return self.fail(id, ErrorCode::StreamClosed);
        }
        if !end || fields.check_trailers().is_err() || !stream.fits(0, true) {
            return self.fail(id, ErrorCode::ProtocolError);
        }
        stream.remote_open = false;
        Ok(Some(Event::Data { stream: id, data: &[], end: true }))
    }

    fn request<'a>(&mut self, id: StreamId, fields: Fields, end: bool) -> Result<Option<Event<'a>>, Error> {
        self.check_unproductive_frames()?;
        self.streams.begin(id);
        if self.is_going_away || self.streams.len() >= self.limits.streams {
            self.refuse(id, ErrorCode::RefusedStream)?;
            return Ok(None);
        }
        let read = fields.into_request().and_then(|request| {
            let length = content_length(request.headers())?;
            if end && length.is_some_and(|length| length > 0) {
                return Err(Unfit::Malformed);
            }
            Ok((request, length))
        });
        match read {
            Ok((request, expected)) => {
                self.streams.open(id, expected, !end);
                Ok(Some(Event::Request { stream: id, request, end }))
            }
            Err(Unfit::TooLarge) => {
                self.count_unproductive_frame()?;
                self.streams.open(id, None, !end);
                let mut response = Response::new(());
                *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                self.respond(id, &response, true);
                Ok(None)
            }
            Err(Unfit::Malformed) => {
                self.refuse(id, ErrorCode::ProtocolError)?;
                Ok(None)
            }
        }
    }

    fn reset_by_client<'a>(&mut self, header: Header, payload: &[u8]) -> Result<Option<Event<'a>>, Error> {
        if payload.len() != 4 {
            return Err(Error::size("an RST_STREAM of other than 4 bytes"));
        }
        self.check_begun(header.stream)?;
        if !self.streams.remove(header.stream) {
            return Ok(None);
        }
        self.count_unproductive_frame()?;
        Ok(Some(Event::Reset { stream: header.stream }))
    }

    fn window_update<'a>(&mut self, header: Header, mut payload: &[u8]) -> Result<Option<Event<'a>>, Error> {
        if payload.len() != 4 {
            return Err(Error::size("a WINDOW_UPDATE of other than 4 bytes"));
        }
        let increment = i64::from(payload.get_u32() & MAX_WINDOW);
        if header.stream == 0 {
            if increment == 0 {
                return Err(Error::protocol("a WINDOW_UPDATE of nothing"));
            }
            self.send_window += increment;
            if self.send_window > MAX_WINDOW.into() {
                return Err(Error::new(ErrorCode::FlowControlError, "a window that is too large"));
            }
            return Ok(None);
        }
        self.check_begun(header.stream)?;
        let Some(stream) = self.streams.get(header.stream) else { return Ok(None) };
        if increment == 0 {
            return self.fail(header.stream, ErrorCode::ProtocolError);
        }
        stream.send_window += increment;
        if stream.send_window > MAX_WINDOW.into() {
            return self.fail(header.stream, ErrorCode::FlowControlError);
        }
        Ok(None)
    }

    fn priority(&mut self, header: Header) -> Result<(), Error> {
        if header.stream == 0 {
            return Err(Error::protocol("a PRIORITY of no stream"));
        }
        if header.length != 5 {
            // An error of the stream alone, says section 6.3; but the stream need not have begun.
            return Err(Error::size("a PRIORITY of other than 5 bytes"));
        }
        self.count_unproductive_frame()
    }

    fn settings(&mut self, header: Header, mut payload: &[u8]) -> Result<(), Error> {
        of_connection(header)?;
        self.expected = Expected::Any;
        if header.has(flag::ACK) {
            if !payload.is_empty() {
                return Err(Error::size("an acknowledgement that says more"));
            }
            // From here on the client's encoder has no table either.
            self.decoder.set_limit(0);
            return Ok(());
        }
        if !payload.len().is_multiple_of(6) {
            return Err(Error::size("half a setting"));
        }
        self.count_unproductive_frame()?;
        while !payload.is_empty() {
            let (setting, value) = (payload.get_u16(), payload.get_u32());
            self.set(setting, value)?;
        }
        frame::put_settings_ack(&mut self.output);
        Ok(())
    }

    fn set(&mut self, setting: u16, value: u32) -> Result<(), Error> {
        match setting {
            setting::ENABLE_PUSH if value > 1 => Err(Error::protocol("ENABLE_PUSH is neither 0 nor 1")),
            setting::INITIAL_WINDOW_SIZE if value > MAX_WINDOW => {
                Err(Error::new(ErrorCode::FlowControlError, "an initial window that is too large"))
            }
            setting::INITIAL_WINDOW_SIZE => match self.streams.set_initial_window(value.into()) {
                true => Ok(()),
                false => Err(Error::new(ErrorCode::FlowControlError, "a window that is too large")),
            },
            setting::MAX_FRAME_SIZE if !(MAX_PAYLOAD as u32..=0xff_ffff).contains(&value) => {
                Err(Error::protocol("a MAX_FRAME_SIZE that there is not"))
            }
            setting::MAX_FRAME_SIZE => {
                self.max_payload = value as usize;
                Ok(())
            }
            setting::HEADER_TABLE_SIZE => {
                self.announces_table |= value < INITIAL_TABLE;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn ping_frame(&mut self, header: Header, payload: &[u8]) -> Result<(), Error> {
        of_connection(header)?;
        let payload: [u8; 8] = payload.try_into().map_err(|_| Error::size("a PING of other than 8 bytes"))?;
        if !header.has(flag::ACK) {
            self.pings += 1;
            self.check_unproductive_frames()?;
            frame::put_ping(&mut self.output, flag::ACK, payload);
        }
        Ok(())
    }
}

fn of_connection(header: Header) -> Result<(), Error> {
    if header.stream != 0 {
        return Err(Error::protocol("a frame on a stream that is one of the connection"));
    }
    Ok(())
}
