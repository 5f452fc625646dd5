//! One connection, from the server's side, as a state machine: bytes in, events and bytes out.

use bytes::{Buf, BufMut as _};
use http::{HeaderMap, Request, Response};

use crate::error::{Error, ErrorCode};
use crate::frame::{self, HEADER, Header, INITIAL_WINDOW, MAX_PAYLOAD, MAX_WINDOW, PREFACE, flag, kind, setting};
use crate::hpack;
use crate::request::{Fields, Unfit, content_length};
use crate::streams::Streams;

/// Names a stream on its connection.
pub type StreamId = u32;

/// What a client may demand.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams at a time. Further ones are refused.
    pub streams: usize,
    /// Bytes of the headers of a request, counted as RFC 9113, section 6.5.2, does. Larger ones are answered with 431.
    pub header_list: usize,
    /// Frames that make work and bring nothing (PING, SETTINGS, empty ones, streams that are reset or refused), until
    /// [`Connection::forgive`]. Whoever sends more is sent away.
    pub nuisances: u32,
}

/// Bytes of an encoded header block, in all its frames. Room enough to say of most that are too large that they are.
const MAX_BLOCK: usize = 64 << 10;

/// Bytes of the dynamic table that an encoder has at first (RFC 7541, section 4.2).
const INITIAL_TABLE: u32 = 4096;

/// "The table has no bytes from here on", in a header block (RFC 7541, section 6.3).
const EMPTY_TABLE: u8 = 0x20;

/// What is received is acknowledged in portions of this size: half a window, so that the client need never wait.
const RELEASE_AT: u32 = INITIAL_WINDOW as u32 / 2;

/// What came in.
#[derive(Debug)]
pub enum Event<'a> {
    /// A request has begun.
    Request {
        /// Its stream.
        stream: StreamId,
        /// Its head.
        request: Request<()>,
        /// Whether this is all of it.
        end: bool,
    },
    /// A piece of the body of a request. Once it is dealt with, [`Connection::release`] makes room for more.
    Data {
        /// Its stream.
        stream: StreamId,
        /// Empty only at the end.
        data: &'a [u8],
        /// Whether it is the last one.
        end: bool,
    },
    /// A stream that had a request is no more, and nothing can be sent on it.
    Reset {
        /// Which one.
        stream: StreamId,
    },
}

/// A connection. What it has to say gathers in [`Connection::output`].
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    input: Input,
    /// The part of a frame that has come, where it is not taken as it comes: without its header.
    partial: Vec<u8>,
    expected: Expected,
    /// The header block that has begun, where it is in several frames.
    block_parts: Vec<u8>,
    decoder: hpack::Decoder,
    streams: Streams,
    /// What we may send, on all streams together.
    send_window: i64,
    /// What the client may send, on all streams together.
    receive_window: i64,
    /// What it has sent and was dealt with, and not acknowledged yet.
    unacknowledged: u32,
    /// The largest payload that the client takes.
    max_payload: usize,
    /// The client takes a smaller dynamic table than it does at first. We never use one, and have to say so.
    announces_table: bool,
    nuisances: u32,
    is_going_away: bool,
    output: Vec<u8>,
}

/// What is expected next.
#[derive(Debug)]
enum Input {
    /// The preface, of which so many bytes have come.
    Preface(usize),
    /// The header of a frame, of which so many bytes have come.
    Header([u8; HEADER], usize),
    /// The rest of a frame that is taken whole.
    Frame(Header),
    /// The length of the padding of a DATA frame.
    Padding(Header),
    /// Bytes of a DATA frame, and then of its padding.
    Data { stream: StreamId, data: usize, padding: usize, end: bool },
    /// The connection has ended with an error.
    Nothing(Error),
}

/// The first frame of a client has to be this one, and none of a header block may come between others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expected {
    Settings,
    Any,
    Continuation { stream: StreamId, end_stream: bool },
}

impl Connection {
    /// A connection on which nothing has been said; our SETTINGS are in the output.
    pub fn new(limits: Limits) -> Connection {
        let mut output = Vec::new();
        let settings = [
            // One request tells a decoder little of the next, and tables cost memory.
            (setting::HEADER_TABLE_SIZE, 0),
            (setting::MAX_CONCURRENT_STREAMS, limits.streams as u32),
            (setting::MAX_HEADER_LIST_SIZE, limits.header_list as u32),
        ];
        frame::put_settings(&mut output, &settings);
        Connection {
            limits,
            input: Input::Preface(0),
            partial: Vec::new(),
            expected: Expected::Settings,
            block_parts: Vec::new(),
            decoder: hpack::Decoder::new(),
            streams: Streams::new(),
            send_window: INITIAL_WINDOW.into(),
            receive_window: INITIAL_WINDOW.into(),
            unacknowledged: 0,
            max_payload: MAX_PAYLOAD,
            announces_table: false,
            nuisances: 0,
            is_going_away: false,
            output,
        }
    }

    /// What is to be sent. Whoever sends it takes it out.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Takes from `input` up to the next event; `None` when all of it is taken.
    ///
    /// # Errors
    /// The connection has to end, after what is in the output has been sent.
    pub fn receive<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        let outcome = self.advance(input);
        if let Err(error) = outcome
            && !matches!(self.input, Input::Nothing(_))
        {
            self.input = Input::Nothing(error);
            self.partial = Vec::new();
            self.is_going_away = true;
            frame::put_go_away(&mut self.output, self.streams.last(), error.code as u32);
        }
        outcome
    }

    fn advance<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        loop {
            match &mut self.input {
                Input::Nothing(error) => return Err(*error),
                Input::Preface(length) => {
                    let came = take(input, PREFACE.len() - *length);
                    if came != &PREFACE[*length..][..came.len()] {
                        return Err(Error::protocol("no HTTP/2 preface"));
                    }
                    *length += came.len();
                    if *length < PREFACE.len() {
                        return Ok(None);
                    }
                    self.input = Input::Header([0; HEADER], 0);
                }
                Input::Header(bytes, length) => {
                    let came = take(input, HEADER - *length);
                    bytes[*length..][..came.len()].copy_from_slice(came);
                    *length += came.len();
                    if *length < HEADER {
                        return Ok(None);
                    }
                    let header = Header::decode(bytes);
                    if let Some(event) = self.begin(header)? {
                        return Ok(Some(event));
                    }
                }
                Input::Frame(header) => {
                    let header = *header;
                    let came = take(input, header.length - self.partial.len());
                    if self.partial.len() + came.len() < header.length {
                        self.partial.extend_from_slice(came);
                        return Ok(None);
                    }
                    self.input = Input::Header([0; HEADER], 0);
                    let event = if self.partial.is_empty() {
                        self.frame(header, came)?
                    } else {
                        let mut payload = std::mem::take(&mut self.partial);
                        payload.extend_from_slice(came);
                        self.frame(header, &payload)?
                    };
                    if event.is_some() {
                        return Ok(event);
                    }
                }
                Input::Padding(header) => {
                    let header = *header;
                    let [length] = *take(input, 1) else { return Ok(None) };
                    let padding = usize::from(length);
                    let data = (header.length - 1).checked_sub(padding);
                    let data = data.ok_or(Error::protocol("more padding than frame"))?;
                    self.release(header.stream, 1 + padding);
                    if let Some(event) = self.begin_data(header, data, padding)? {
                        return Ok(Some(event));
                    }
                }
                Input::Data { stream, data, padding, end } => {
                    let (stream, came) = (*stream, take(input, *data));
                    *data -= came.len();
                    let mut is_last = false;
                    if *data == 0 {
                        *padding -= take(input, *padding).len();
                        if *padding == 0 {
                            is_last = *end;
                            self.input = Input::Header([0; HEADER], 0);
                        }
                    }
                    if (!came.is_empty() || is_last)
                        && let Some(event) = self.data(stream, came, is_last)
                    {
                        return Ok(Some(event));
                    }
                    if input.is_empty() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// A frame begins.
    fn begin<'a>(&mut self, header: Header) -> Result<Option<Event<'a>>, Error> {
        let is_expected = match self.expected {
            Expected::Any => header.kind != kind::CONTINUATION,
            Expected::Settings => header.kind == kind::SETTINGS && !header.has(flag::ACK),
            Expected::Continuation { stream, .. } => header.kind == kind::CONTINUATION && header.stream == stream,
        };
        if !is_expected {
            return Err(Error::protocol("not a frame that may come here"));
        }
        if header.length > MAX_PAYLOAD {
            return Err(Error::size("a frame larger than was offered"));
        }
        if header.kind != kind::DATA {
            self.input = Input::Frame(header);
            return Ok(None);
        }
        self.input = Input::Header([0; HEADER], 0);
        self.check_begun(header.stream)?;
        let length = header.length as i64;
        self.receive_window -= length;
        if self.receive_window < 0 {
            return Err(Error::new(ErrorCode::FlowControlError, "more than the window of the connection"));
        }
        if header.length == 0 && !header.has(flag::END_STREAM) {
            self.nuisance()?;
        }
        let event = match self.streams.get(header.stream) {
            None => {
                if !self.streams.remembers(header.stream) {
                    self.refuse(header.stream, ErrorCode::StreamClosed)?;
                }
                None
            }
            Some(stream) if !stream.remote_open => self.fail(header.stream, ErrorCode::StreamClosed)?,
            Some(stream) => {
                stream.receive_window -= length;
                match stream.receive_window {
                    ..0 => self.fail(header.stream, ErrorCode::FlowControlError)?,
                    0.. => None,
                }
            }
        };
        match header.has(flag::PADDED) {
            true if header.length == 0 => Err(Error::size("no room for the length of the padding")),
            true => {
                self.input = Input::Padding(header);
                Ok(event)
            }
            false => Ok(self.begin_data(header, header.length, 0)?.or(event)),
        }
    }

    fn begin_data<'a>(&mut self, header: Header, data: usize, padding: usize) -> Result<Option<Event<'a>>, Error> {
        let (stream, end) = (header.stream, header.has(flag::END_STREAM));
        // An empty frame has its event, too, if it is the last: `advance` comes by here once more.
        self.input = Input::Data { stream, data, padding, end };
        let fits = self.streams.get(stream).is_none_or(|stream| stream.fits(data, end));
        if fits { Ok(None) } else { self.fail(stream, ErrorCode::ProtocolError) }
    }

    /// A piece of a body.
    fn data<'a>(&mut self, id: StreamId, data: &'a [u8], end: bool) -> Option<Event<'a>> {
        let stream = self.streams.get(id).filter(|stream| stream.remote_open);
        let Some(stream) = stream else {
            self.release(id, data.len());
            return None;
        };
        stream.remote_open = !end;
        Some(Event::Data { stream: id, data, end })
    }

    /// A whole frame, other than DATA.
    fn frame<'a>(&mut self, header: Header, payload: &[u8]) -> Result<Option<Event<'a>>, Error> {
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
            self.nuisance()?;
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
                self.nuisance()?;
                self.streams.open(id, None, !end);
                let mut response = Response::new(());
                *response.status_mut() = http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
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
        self.nuisance()?;
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
        self.nuisance()
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
        self.nuisance()?;
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
            self.nuisance()?;
            frame::put_ping(&mut self.output, flag::ACK, payload);
        }
        Ok(())
    }

    /// That a frame is on a stream on which there can be one.
    fn check_begun(&self, stream: StreamId) -> Result<(), Error> {
        if stream.is_multiple_of(2) || stream > self.streams.last() {
            return Err(Error::protocol("a frame on a stream that has not begun"));
        }
        Ok(())
    }

    fn nuisance(&mut self) -> Result<(), Error> {
        self.nuisances += 1;
        if self.nuisances > self.limits.nuisances {
            return Err(Error::new(ErrorCode::EnhanceYourCalm, "too many frames that bring nothing"));
        }
        Ok(())
    }

    /// Ends a stream on which there is no request.
    fn refuse(&mut self, stream: StreamId, code: ErrorCode) -> Result<(), Error> {
        self.streams.remember(stream);
        frame::put_reset(&mut self.output, stream, code as u32);
        self.nuisance()
    }

    /// Ends a stream that has a request, since the client does on it what the protocol forbids.
    fn fail<'a>(&mut self, stream: StreamId, code: ErrorCode) -> Result<Option<Event<'a>>, Error> {
        self.reset(stream, code);
        self.nuisance()?;
        Ok(Some(Event::Reset { stream }))
    }

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

    /// Sends of `data` what the windows and `room` allow, in bytes of the output. Returns whether that was something.
    pub fn send(&mut self, stream: StreamId, data: &mut impl Buf, room: usize) -> bool {
        let Some(stream) = self.streams.get(stream) else { return false };
        let window = self.send_window.min(stream.send_window).max(0) as usize;
        let mut left = data.remaining().min(window).min(room.saturating_sub(HEADER));
        if left == 0 {
            return false;
        }
        self.send_window -= left as i64;
        stream.send_window -= left as i64;
        let id = stream.id;
        // One frame more at most than what `room` is for.
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

    /// Asks the client for a sign of life.
    pub fn ping(&mut self) {
        frame::put_ping(&mut self.output, 0, [0; 8]);
    }

    /// Begins a new count of [nuisances](Limits::nuisances).
    pub fn forgive(&mut self) {
        self.nuisances = 0;
    }

    /// Takes no more streams, and says so. Those that there are go on.
    pub fn go_away(&mut self) {
        if !self.is_going_away {
            self.is_going_away = true;
            frame::put_go_away(&mut self.output, self.streams.last(), ErrorCode::NoError as u32);
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

fn of_connection(header: Header) -> Result<(), Error> {
    if header.stream != 0 {
        return Err(Error::protocol("a frame on a stream that is one of the connection"));
    }
    Ok(())
}

fn take<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    taken
}
