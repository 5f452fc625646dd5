//! The streams of a connection.

use crate::connection::StreamId;
use crate::frame::{INITIAL_WINDOW, MAX_WINDOW};

/// How many streams that we have ended are remembered, for what the client sent before it knew.
const REMEMBERED: usize = 8;

/// A stream whose request has come, and whose response is not complete.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    /// Whether more of the request is to come.
    pub(crate) remote_open: bool,
    /// Bytes that we may send. Less than none when the client has made its windows smaller.
    pub(crate) send_window: i64,
    /// Bytes that the client may send.
    pub(crate) receive_window: i64,
    /// Bytes that were dealt with, and that it has not been told of.
    pub(crate) unacknowledged: u32,
    /// How much of the body is to come, if the request has said so.
    expected: Option<u64>,
}

impl Stream {
    /// Whether this many bytes of a body, perhaps the last ones, go with the length that the request has announced.
    pub(crate) fn fits(&mut self, bytes: usize, end: bool) -> bool {
        let Some(expected) = &mut self.expected else { return true };
        match expected.checked_sub(bytes as u64) {
            Some(left) => {
                *expected = left;
                !end || left == 0
            }
            None => false,
        }
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Streams {
    open: Vec<Stream>,
    /// The last one that the client has begun.
    last: StreamId,
    /// The last one of them whose request was taken.
    last_taken: StreamId,
    ended_by_us: [StreamId; REMEMBERED],
    /// Where the next of them goes.
    next: usize,
    initial_window: i64,
}

impl Streams {
    pub(crate) fn new() -> Streams {
        Streams {
            open: Vec::new(),
            last: 0,
            last_taken: 0,
            ended_by_us: [0; REMEMBERED],
            next: 0,
            initial_window: INITIAL_WINDOW.into(),
        }
    }

    pub(crate) fn last(&self) -> StreamId {
        self.last
    }

    pub(crate) fn last_taken(&self) -> StreamId {
        self.last_taken
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn get(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.open.iter_mut().find(|stream| stream.id == id)
    }

    /// The client has begun this one, and with it given up those before that it has not.
    pub(crate) fn begin(&mut self, id: StreamId) {
        self.last = id;
    }

    pub(crate) fn open(&mut self, id: StreamId, expected: Option<u64>, remote_open: bool) {
        self.last_taken = id;
        self.open.push(Stream {
            id,
            remote_open,
            send_window: self.initial_window,
            receive_window: INITIAL_WINDOW.into(),
            unacknowledged: 0,
            expected,
        });
    }

    /// Whether it was open.
    pub(crate) fn remove(&mut self, id: StreamId) -> bool {
        let position = self.open.iter().position(|stream| stream.id == id);
        if let Some(position) = position {
            self.open.swap_remove(position);
        }
        position.is_some()
    }

    /// Remembers that we have ended it.
    pub(crate) fn remember(&mut self, id: StreamId) {
        self.ended_by_us[self.next] = id;
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// Whether we have ended it lately, so that frames on it are no fault of the client's.
    pub(crate) fn remembers(&self, id: StreamId) -> bool {
        self.ended_by_us.contains(&id)
    }

    /// The client gives new streams this window, and those that there are as much more or less (RFC 9113, section
    /// 6.9.2). False if that is more than can be.
    pub(crate) fn set_initial_window(&mut self, window: i64) -> bool {
        let more = window - self.initial_window;
        self.initial_window = window;
        self.open.iter_mut().all(|stream| {
            stream.send_window += more;
            stream.send_window <= MAX_WINDOW.into()
        })
    }
}
