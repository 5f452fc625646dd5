//! Frames on the wire (RFC 9113, sections 4 and 6).

use bytes::BufMut as _;

/// What a client sends before its first frame (section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length (3 bytes), type, flags, stream (4 bytes).
pub(crate) const HEADER: usize = 9;

/// The payload that everybody has to take, and the largest that we take (section 4.2).
pub(crate) const MAX_PAYLOAD: usize = 16_384;

/// The window that streams and connections begin with (section 6.9.2).
pub(crate) const INITIAL_WINDOW: i32 = 65_535;

/// The largest window there may be (section 6.9.1).
pub(crate) const MAX_WINDOW: u32 = 0x7fff_ffff;

pub(crate) mod kind {
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
}

pub(crate) mod flag {
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

pub(crate) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// The first nine bytes of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Header {
    pub(crate) fn decode(bytes: &[u8; HEADER]) -> Header {
        let [a, b, c, kind, flags, stream @ ..] = *bytes;
        Header {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            // The first bit means nothing, and is passed over.
            stream: u32::from_be_bytes(stream) & MAX_WINDOW,
        }
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Writes the header of a frame whose payload follows.
pub(crate) fn put_header(output: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    output.put_uint(length as u64, 3);
    output.put_u8(kind);
    output.put_u8(flags);
    output.put_u32(stream);
}

pub(crate) fn put_settings(output: &mut Vec<u8>, settings: &[(u16, u32)]) {
    put_header(output, settings.len() * 6, kind::SETTINGS, 0, 0);
    for (setting, value) in settings {
        output.put_u16(*setting);
        output.put_u32(*value);
    }
}

pub(crate) fn put_settings_ack(output: &mut Vec<u8>) {
    put_header(output, 0, kind::SETTINGS, flag::ACK, 0);
}

pub(crate) fn put_ping(output: &mut Vec<u8>, flags: u8, payload: [u8; 8]) {
    put_header(output, payload.len(), kind::PING, flags, 0);
    output.put_slice(&payload);
}

pub(crate) fn put_window_update(output: &mut Vec<u8>, stream: u32, increment: u32) {
    put_header(output, 4, kind::WINDOW_UPDATE, 0, stream);
    output.put_u32(increment);
}

pub(crate) fn put_reset(output: &mut Vec<u8>, stream: u32, code: u32) {
    put_header(output, 4, kind::RST_STREAM, 0, stream);
    output.put_u32(code);
}

pub(crate) fn put_go_away(output: &mut Vec<u8>, last_stream: u32, code: u32) {
    put_header(output, 8, kind::GOAWAY, 0, 0);
    output.put_u32(last_stream);
    output.put_u32(code);
}
