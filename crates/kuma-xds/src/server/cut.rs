//! Cuts DATA frames into small ones.
//!
//! h2 reads each frame whole, into a buffer that grows to the largest frame of the connection and stays that large. Envoy
//! begins with 61 KB in frames of 16 KB, and then says a few hundred bytes a day. A receiver may not ask for frames of less
//! than 16 KB (RFC 9113, section 4.2), but a DATA frame means the same in pieces, so it is handed to h2 in pieces.

use tokio::io::ReadBuf;

/// What a client sends before its first frame.
const PREFACE: usize = 24;

/// Length (3 bytes), type, flags, stream (4 bytes).
const HEADER: usize = 9;

/// The most of a DATA frame that is passed on at once. Two of these fit into the 8 KB with which h2's buffer begins.
const PIECE: usize = 4000;

const DATA: u8 = 0;
const END_STREAM: u8 = 0x1;
const PADDED: u8 = 0x8;

/// How far the bytes of a client have been passed on.
#[derive(Debug)]
pub(super) struct Cutter {
    /// The header of the frame that is under way, as the client sent it.
    header: [u8; HEADER],
    /// How much of it has come.
    header_length: usize,
    /// What of a header is to be passed on before anything else: the end of this array.
    pending: [u8; HEADER],
    pending_from: usize,
    /// Bytes to be passed on as they come.
    piece: usize,
    /// Bytes of the DATA frame behind them.
    rest: usize,
}

impl Cutter {
    /// At the beginning of a connection.
    pub(super) fn new() -> Cutter {
        Cutter {
            header: [0; HEADER],
            header_length: 0,
            pending: [0; HEADER],
            pending_from: HEADER,
            piece: PREFACE,
            rest: 0,
        }
    }

    /// Passes on what there is room for. Returns how much of `input` was taken.
    pub(super) fn pass(&mut self, mut input: &[u8], output: &mut ReadBuf<'_>) -> usize {
        let available = input.len();
        loop {
            if self.pending_from < HEADER {
                let count = output.remaining().min(HEADER - self.pending_from);
                output.put_slice(&self.pending[self.pending_from..][..count]);
                self.pending_from += count;
                if self.pending_from < HEADER {
                    break;
                }
            } else if self.piece > 0 {
                let count = self.piece.min(input.len()).min(output.remaining());
                if count == 0 {
                    break;
                }
                output.put_slice(take(&mut input, count));
                self.piece -= count;
            } else if self.rest > 0 {
                self.begin_piece();
            } else {
                let count = (HEADER - self.header_length).min(input.len());
                self.header[self.header_length..][..count].copy_from_slice(take(&mut input, count));
                self.header_length += count;
                if self.header_length < HEADER {
                    break;
                }
                self.begin_frame();
            }
        }
        available - input.len()
    }

    fn begin_frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        self.header_length = 0;
        if kind == DATA && flags & PADDED == 0 && length > PIECE {
            self.rest = length;
        } else {
            self.piece = length;
            self.pending = self.header;
            self.pending_from = 0;
        }
    }

    fn begin_piece(&mut self) {
        self.piece = self.rest.min(PIECE);
        self.rest -= self.piece;
        self.pending = self.header;
        let [.., a, b] = (self.piece as u16).to_be_bytes();
        self.pending[..3].copy_from_slice(&[0, a, b]);
        if self.rest > 0 {
            self.pending[4] &= !END_STREAM;
        }
        self.pending_from = 0;
    }
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(count);
    *input = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: u8 = 1;
    const STREAM: [u8; 4] = [0, 0, 0, 5];

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&length[1..], &[kind, flags], &STREAM, payload].concat()
    }

    fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, Vec<u8>)> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let header = take(&mut bytes, HEADER);
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            assert_eq!(header[5..], STREAM);
            frames.push((header[3], header[4], take(&mut bytes, length).to_vec()));
        }
        frames
    }

    /// Passes `bytes` on, of which so many come at a time, into buffers of so many.
    fn pass(bytes: &[u8], come: usize, room: usize) -> Vec<u8> {
        let (mut cutter, mut passed) = (Cutter::new(), Vec::new());
        for mut input in bytes.chunks(come) {
            loop {
                let mut buffer = vec![0; room];
                let mut output = ReadBuf::new(&mut buffer);
                let taken = cutter.pass(input, &mut output);
                passed.extend_from_slice(output.filled());
                input = &input[taken..];
                if output.remaining() > 0 {
                    assert!(input.is_empty());
                    break;
                }
            }
        }
        passed
    }

    #[test]
    fn large_data_comes_in_pieces_and_the_rest_as_it_is() {
        let body: Vec<u8> = (0..16_384_u32).map(|number| number as u8).collect();
        let preface = [b'P'; PREFACE];
        let sent = [
            &preface[..],
            &frame(HEADERS, 0x4, &body),
            &frame(DATA, 0, &body),
            &frame(DATA, 0, &body[..PIECE]),
            &frame(DATA, PADDED, &body),
            &frame(DATA, 0, b""),
            &frame(DATA, END_STREAM, &body[..PIECE + 1]),
        ]
        .concat();
        for (come, room) in [(1, 1), (7, 3), (1000, 8192), (3, 100_000), (100_000, 10), (100_000, 100_000)] {
            let passed = pass(&sent, come, room);
            assert_eq!(passed[..PREFACE], preface);
            let frames = frames(&passed[PREFACE..]);
            let shapes: Vec<(u8, u8, usize)> =
                frames.iter().map(|(kind, flags, payload)| (*kind, *flags, payload.len())).collect();
            let expected = [
                (HEADERS, 0x4, 16_384),
                (DATA, 0, PIECE),
                (DATA, 0, PIECE),
                (DATA, 0, PIECE),
                (DATA, 0, PIECE),
                (DATA, 0, 384),
                (DATA, 0, PIECE),
                (DATA, PADDED, 16_384),
                (DATA, 0, 0),
                (DATA, 0, PIECE),
                (DATA, END_STREAM, 1),
            ];
            assert_eq!(shapes, expected, "{come} bytes at a time, room for {room}");
            let first: Vec<u8> = frames[1..6].iter().flat_map(|(_, _, payload)| payload.clone()).collect();
            assert_eq!(first, body);
        }
    }
}
