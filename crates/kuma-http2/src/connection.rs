//! One connection, from the server's side, as a state machine: bytes in, events and bytes out.

mod frames;
mod sending;

use http::Request;

use crate::error::{Error, ErrorCode};
use crate::frame::{self, HEADER, Header, INITIAL_WINDOW, MAX_PAYLOAD, PREFACE, flag, kind, setting};
use crate::hpack;
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
    /// Frames that cause work and carry no data (SETTINGS, empty frames, streams that are reset, refused or
    /// [rejected](Connection::reject)), until [`Connection::reset_counters`] is called. A client that sends more is
    /// disconnected. As many PINGs are allowed per frame that we send: some clients measure bandwidth with them.
    pub unproductive_frames: u32,
}

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
    unproductive_frames: u32,
    /// Since something was sent.
    pings: u32,
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
            unproductive_frames: 0,
            pings: 0,
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
            frame::put_go_away(&mut self.output, self.streams.last_taken(), error.code as u32);
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
            self.count_unproductive_frame()?;
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

    /// That a frame is on a stream on which there can be one.
    fn check_begun(&self, stream: StreamId) -> Result<(), Error> {
        if stream.is_multiple_of(2) || stream > self.streams.last() {
            return Err(Error::protocol("a frame on a stream that has not begun"));
        }
        Ok(())
    }

    fn count_unproductive_frame(&mut self) -> Result<(), Error> {
        self.unproductive_frames += 1;
        self.check_unproductive_frames()
    }

    fn check_unproductive_frames(&self) -> Result<(), Error> {
        if self.unproductive_frames.max(self.pings) > self.limits.unproductive_frames {
            return Err(Error::new(ErrorCode::EnhanceYourCalm, "too many frames that bring nothing"));
        }
        Ok(())
    }

    /// Ends a stream on which there is no request.
    fn refuse(&mut self, stream: StreamId, code: ErrorCode) -> Result<(), Error> {
        self.streams.remember(stream);
        frame::put_reset(&mut self.output, stream, code as u32);
        self.count_unproductive_frame()
    }

    /// Ends a stream that has a request, since the client does on it what the protocol forbids.
    fn fail<'a>(&mut self, stream: StreamId, code: ErrorCode) -> Result<Option<Event<'a>>, Error> {
        self.reset(stream, code);
        self.count_unproductive_frame()?;
        Ok(Some(Event::Reset { stream }))
    }
}

fn take<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    taken
}
