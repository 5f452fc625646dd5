//! HPACK (RFC 7541): how HTTP/2 writes header fields.
//!
//! [`Decoder`] reads all of it. What is sent is plain ([`put_field`], [`put_status`]): names and values of the static
//! table by their index, all else as it is, without Huffman coding and without a dynamic table, so that sending needs
//! no state.

mod huffman;
mod table;

use std::borrow::Cow;

use bytes::Bytes;

use table::{DynamicTable, STATIC};

/// Decodes the header blocks of one connection, in their order.
///
/// It takes time and memory in proportion to the block, whatever is in it: a field of the tables is handed on without
/// being copied, and the dynamic table holds no more than its limit. What the fields of a block add up to is for the
/// caller to limit: each octet can stand for a field of the table's size.
#[derive(Debug)]
pub struct Decoder {
    table: DynamicTable,
    /// What the peer may set the maximum size of the table to.
    limit: usize,
    /// The limit was lowered below what the table held, so the next block has to begin by saying that the peer knows.
    update_due: bool,
}

/// Why a header block cannot be decoded. Each is a connection error of type COMPRESSION_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The block ends within a field.
    #[error("the header block is cut off")]
    Truncated,
    /// An integer takes more octets than any that makes sense would.
    #[error("an integer is too long")]
    Integer,
    /// There is no such field, neither in the static table nor in the dynamic one.
    #[error("no field has index {0}")]
    Index(usize),
    /// The dynamic table is to be larger than our settings permit.
    #[error("a table of {size} bytes is above the limit of {limit}")]
    TableSize {
        /// The size that was asked for, in bytes.
        size: usize,
        /// The largest one permitted, in bytes.
        limit: usize,
    },
    /// A size update comes after a field.
    #[error("a size update is not at the beginning of its header block")]
    LateUpdate,
    /// The table was to become smaller, and the block does not begin with the size update that says so.
    #[error("a size update is missing")]
    MissingUpdate,
    /// A string has the end-of-string symbol in it.
    #[error("a Huffman-coded string contains the end-of-string symbol")]
    EndOfString,
    /// A string ends with more than seven bits of padding, or with bits that are no padding.
    #[error("a Huffman-coded string is not padded as it must be")]
    Padding,
}

/// The dynamic table's maximum size, in bytes, until our settings say something else: SETTINGS_HEADER_TABLE_SIZE.
const INITIAL_LIMIT: usize = 4_096;

/// How many octets an integer may have after its prefix: enough for 2^28, which no block is long enough for.
const INTEGER_OCTETS: u32 = 4;

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder for a new connection. It takes no memory before there is something to remember.
    pub fn new() -> Self {
        Self { table: DynamicTable::new(INITIAL_LIMIT), limit: INITIAL_LIMIT, update_due: false }
    }

    /// The peer has acknowledged our SETTINGS_HEADER_TABLE_SIZE of `size` bytes. Fields beyond it are forgotten at
    /// once, and their memory is given back.
    pub fn set_limit(&mut self, size: usize) {
        self.limit = size;
        // RFC 9113, 4.3.1.
        self.update_due |= self.table.size() > size;
        if self.table.max_size() > size {
            self.table.set_max_size(size);
        }
    }

    /// Decodes one whole header block, and gives each field's name and value to `on_field`. After an error the
    /// connection cannot go on; some fields may have been given away before it.
    pub fn decode(&mut self, block: &[u8], on_field: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Error> {
        let mut input = Input(block);
        let mut at_beginning = true;
        while let Some(&first) = input.0.first() {
            let is_update = first & 0b1110_0000 == 0b0010_0000;
            if !is_update && self.update_due {
                return Err(Error::MissingUpdate);
            }
            if first & 0b1000_0000 != 0 {
                let (name, value) = self.table.field(input.integer(7)?)?;
                on_field(name, value);
            } else if first & 0b0100_0000 != 0 {
                let (name, value) = self.literal(&mut input, 6)?;
                on_field(&name, &value);
                self.table.insert(name, &value);
            } else if is_update {
                let size = input.integer(5)?;
                if !at_beginning {
                    return Err(Error::LateUpdate);
                }
                if size > self.limit {
                    return Err(Error::TableSize { size, limit: self.limit });
                }
                self.table.set_max_size(size);
                self.update_due = false;
            } else {
                // Without indexing, or never to be indexed: the difference is for those who pass fields on.
                let (name, value) = self.literal(&mut input, 4)?;
                on_field(&name, &value);
            }
            at_beginning &= is_update;
        }
        Ok(())
    }

    /// A field with a literal value: its name's index has a prefix of `prefix` bits, and 0 says that the name follows.
    fn literal<'a>(&self, input: &mut Input<'a>, prefix: u32) -> Result<(Bytes, Cow<'a, [u8]>), Error> {
        let name = match input.integer(prefix)? {
            0 => Bytes::copy_from_slice(&input.string()?),
            index => self.table.name(index)?,
        };
        Ok((name, input.string()?))
    }
}

/// What has not been read yet of a header block.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn octet(&mut self) -> Result<u8, Error> {
        let (&octet, rest) = self.0.split_first().ok_or(Error::Truncated)?;
        self.0 = rest;
        Ok(octet)
    }

    /// An integer that begins in the lowest `prefix` bits of the next octet (5.1).
    fn integer(&mut self, prefix: u32) -> Result<usize, Error> {
        let mask = (1 << prefix) - 1;
        let mut value = usize::from(self.octet()? & mask);
        if value < usize::from(mask) {
            return Ok(value);
        }
        for i in 0..INTEGER_OCTETS {
            let octet = self.octet()?;
            value += usize::from(octet & 0x7f) << (7 * i);
            if octet & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::Integer)
    }

    /// A string (5.2). One that is not Huffman-coded is a part of the block.
    fn string(&mut self) -> Result<Cow<'a, [u8]>, Error> {
        let is_coded = self.0.first().is_some_and(|octet| octet & 0x80 != 0);
        let length = self.integer(7)?;
        let (string, rest) = self.0.split_at_checked(length).ok_or(Error::Truncated)?;
        self.0 = rest;
        if is_coded { Ok(Cow::Owned(huffman::decode(string)?)) } else { Ok(Cow::Borrowed(string)) }
    }
}

/// Appends the field to a header block: a literal without indexing, its name by index if the static table has it.
pub fn put_field(output: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    match STATIC.iter().position(|field| field.0.as_bytes() == name) {
        Some(position) => put_integer(output, 0, 4, position + 1),
        None => {
            put_integer(output, 0, 4, 0);
            put_string(output, name);
        }
    }
    put_string(output, value);
}

/// Appends the pseudo-header field `:status` to a header block.
pub fn put_status(output: &mut Vec<u8>, status: u16) {
    let value = status.to_string();
    match STATIC.iter().position(|field| *field == (":status", value.as_str())) {
        Some(position) => put_integer(output, 0b1000_0000, 7, position + 1),
        None => put_field(output, b":status", value.as_bytes()),
    }
}

/// An integer whose first octet has `prefix` bits of it, below the bits of `pattern`.
fn put_integer(output: &mut Vec<u8>, pattern: u8, prefix: u32, value: usize) {
    let mask = (1 << prefix) - 1;
    if value < mask {
        output.push(pattern | value as u8);
        return;
    }
    output.push(pattern | mask as u8);
    let mut rest = value - mask;
    while rest > 0x7f {
        output.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    output.push(rest as u8);
}

fn put_string(output: &mut Vec<u8>, string: &[u8]) {
    put_integer(output, 0, 7, string.len());
    output.extend_from_slice(string);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<String, Error> {
        let mut fields = Vec::new();
        decoder.decode(block, &mut |name, value| {
            fields.push(format!("{}: {}", name.escape_ascii(), value.escape_ascii()));
        })?;
        Ok(fields.join("\n"))
    }

    /// Decodes one block of appendix C, and compares the size of the table with what is said there.
    fn check(decoder: &mut Decoder, block: &str, fields: &[&str], table_size: usize) {
        assert_eq!(decode(decoder, &bytes(block)).as_deref(), Ok(&*fields.join("\n")));
        assert_eq!(decoder.table.size(), table_size, "after {fields:?}");
    }

    #[test]
    fn integers_of_appendix_c_1() {
        for (prefix, octets, value) in
            [(5, &[0b0000_1010][..], 10), (5, &[0b0001_1111, 0b1001_1010, 0b0000_1010], 1337), (8, &[0b0010_1010], 42)]
        {
            // A prefix of eight bits is an octet of its own, which none of HPACK's integers begins with.
            if prefix < 8 {
                let mut input = Input(octets);
                assert_eq!(input.integer(prefix), Ok(value));
                assert!(input.0.is_empty());
            }
            let mut output = Vec::new();
            put_integer(&mut output, 0, prefix, value);
            assert_eq!(output, octets);
        }
    }

    #[test]
    fn fields_of_appendix_c_2() {
        check(
            &mut Decoder::new(),
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            &["custom-key: custom-header"],
            55,
        );
        check(&mut Decoder::new(), "040c 2f73 616d 706c 652f 7061 7468", &[":path: /sample/path"], 0);
        check(&mut Decoder::new(), "1008 7061 7373 776f 7264 0673 6563 7265 74", &["password: secret"], 0);
        check(&mut Decoder::new(), "82", &[":method: GET"], 0);
    }

    const REQUESTS: [&[&str]; 3] = [
        &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"],
        &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com", "cache-control: no-cache"],
        &[
            ":method: GET",
            ":scheme: https",
            ":path: /index.html",
            ":authority: www.example.com",
            "custom-key: custom-value",
        ],
    ];

    #[test]
    fn requests_of_appendix_c_3() {
        let decoder = &mut Decoder::new();
        check(decoder, "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", REQUESTS[0], 57);
        check(decoder, "8286 84be 5808 6e6f 2d63 6163 6865", REQUESTS[1], 110);
        check(decoder, "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", REQUESTS[2], 164);
    }

    #[test]
    fn requests_of_appendix_c_4() {
        let decoder = &mut Decoder::new();
        check(decoder, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", REQUESTS[0], 57);
        check(decoder, "8286 84be 5886 a8eb 1064 9cbf", REQUESTS[1], 110);
        check(decoder, "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", REQUESTS[2], 164);
    }

    const RESPONSES: [&[&str]; 3] = [
        &[
            ":status: 302",
            "cache-control: private",
            "date: Mon, 21 Oct 2013 20:13:21 GMT",
            "location: https://www.example.com",
        ],
        &[
            ":status: 307",
            "cache-control: private",
            "date: Mon, 21 Oct 2013 20:13:21 GMT",
            "location: https://www.example.com",
        ],
        &[
            ":status: 200",
            "cache-control: private",
            "date: Mon, 21 Oct 2013 20:13:22 GMT",
            "location: https://www.example.com",
            "content-encoding: gzip",
            "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        ],
    ];

    #[test]
    fn responses_of_appendix_c_5() {
        let decoder = &mut Decoder::new();
        decoder.set_limit(256);
        check(
            decoder,
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120
             474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            RESPONSES[0],
            222,
        );
        check(decoder, "4803 3330 37c1 c0bf", RESPONSES[1], 222);
        check(
            decoder,
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738
             666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33
             3630 303b 2076 6572 7369 6f6e 3d31",
            RESPONSES[2],
            215,
        );
    }

    #[test]
    fn responses_of_appendix_c_6() {
        let decoder = &mut Decoder::new();
        decoder.set_limit(256);
        check(
            decoder,
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718
             63c7 8f0b 97c8 e9ae 82ae 43d3",
            RESPONSES[0],
            222,
        );
        check(decoder, "4883 640e ffc1 c0bf", RESPONSES[1], 222);
        check(
            decoder,
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7
             b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            RESPONSES[2],
            215,
        );
    }

    #[test]
    fn what_the_rfc_forbids_is_refused() {
        let update_of_4097 = bytes("3fe2 1f");
        let cases: [(&str, &[u8], Error); 20] = [
            ("2.3.3: index beyond the static table", &[0xbe], Error::Index(62)),
            ("2.3.3: large index", &[0xff, 0xff, 0xff, 0x03], Error::Index(127 + 0xffff)),
            ("2.3.3: name beyond the static table", &[0x7e, 0x00], Error::Index(62)),
            ("6.1: index 0", &[0x80], Error::Index(0)),
            ("5.1: integer cut off", &[0xff], Error::Truncated),
            ("5.1: integer cut off later", &[0xff, 0x80, 0x80], Error::Truncated),
            ("5.1: more octets than sensible", &[0xff, 0xff, 0xff, 0xff, 0xff, 0x00], Error::Integer),
            ("5.1: zeros without end", &[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80], Error::Integer),
            ("5.2: name cut off", &[0x40, 0x02, b'a'], Error::Truncated),
            ("5.2: no value", &[0x40, 0x01, b'a'], Error::Truncated),
            ("5.2: value cut off", &[0x40, 0x01, b'a', 0x01], Error::Truncated),
            ("5.2: length beyond the block", &[0x00, 0x7f, 0xff, 0xff, 0xff, 0x7f, b'a'], Error::Truncated),
            ("5.2: no length", &[0x00], Error::Truncated),
            ("5.2: padding of eight bits", &[0x00, 0x82, 0x1f, 0xff, 0x00], Error::Padding),
            ("5.2: padding with zeros", &[0x00, 0x81, 0x18, 0x00], Error::Padding),
            ("5.2: end of string", &[0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00], Error::EndOfString),
            ("6.3: update above the limit", &update_of_4097, Error::TableSize { size: 4_097, limit: 4_096 }),
            ("4.2: update after a field", &[0x82, 0x20], Error::LateUpdate),
            ("4.2: update after an update and a field", &[0x20, 0x82, 0x20], Error::LateUpdate),
            ("6.3: update cut off", &[0x3f], Error::Truncated),
        ];
        for (case, block, error) in cases {
            assert_eq!(decode(&mut Decoder::new(), block), Err(error), "{case}");
        }
    }

    #[test]
    fn a_field_beyond_the_table_empties_it() {
        let mut decoder = Decoder::new();
        decoder.set_limit(40);
        check(&mut decoder, "4001 6101 62", &["a: b"], 34);
        assert_eq!(decode(&mut decoder, &[0xbe]).unwrap(), "a: b");
        // Its name is that of the field which goes when it comes.
        check(&mut decoder, "7e06 3132 3334 3536", &["a: 123456"], 39);
        check(&mut decoder, "7e08 3132 3334 3536 3738", &["a: 12345678"], 0);
        assert_eq!(decode(&mut decoder, &[0xbe]), Err(Error::Index(62)));
    }

    #[test]
    fn a_size_update_evicts() {
        let mut decoder = Decoder::new();
        check(&mut decoder, "4001 6101 62 4001 6301 64", &["a: b", "c: d"], 68);
        // 67 bytes: the older field goes. Then 4,096 again: it stays away.
        check(&mut decoder, "3f24 3fe1 1f be", &["c: d"], 34);
        assert_eq!(decode(&mut decoder, &[0xbf]), Err(Error::Index(63)));
        check(&mut decoder, "20", &[""], 0);
    }

    #[test]
    fn a_lower_limit_frees_the_table_and_awaits_the_update() {
        let mut decoder = Decoder::new();
        check(&mut decoder, "4001 6101 62", &["a: b"], 34);
        decoder.set_limit(0);
        assert_eq!((decoder.table.size(), decoder.table.capacity()), (0, 0));
        assert_eq!(decode(&mut decoder, &[0x82]), Err(Error::MissingUpdate));
        check(&mut decoder, "20 82 4001 6101 62", &[":method: GET", "a: b"], 0);
        check(&mut decoder, "82", &[":method: GET"], 0);
        assert_eq!(decoder.table.capacity(), 0);
        assert_eq!(decode(&mut decoder, &bytes("21")), Err(Error::TableSize { size: 1, limit: 0 }));
    }

    #[test]
    fn a_peer_that_never_used_the_table_need_not_say_that_it_is_smaller() {
        let mut decoder = Decoder::new();
        decoder.set_limit(0);
        check(&mut decoder, "82", &[":method: GET"], 0);
        // And a higher limit is the peer's to take or leave.
        decoder.set_limit(100);
        check(&mut decoder, "4001 6101 62", &["a: b"], 0);
        check(&mut decoder, "3f45 4001 6101 62", &["a: b"], 34);
    }

    /// An HPACK bomb: a field as large as the table, named by one octet again and again.
    #[test]
    fn a_field_of_the_table_is_never_copied() {
        let mut decoder = Decoder::new();
        let mut block = bytes("4001 61 7fe0 1e");
        block.resize(block.len() + 4_063, b'v');
        block.resize(block.len() + 10_000, 0xbe);
        let mut places = Vec::new();
        decoder.decode(&block, &mut |_, value| places.push((value.as_ptr(), value.len()))).unwrap();
        assert_eq!(places.len(), 10_001);
        assert!(places[1..].iter().all(|place| *place == places[1] && place.1 == 4_063));
        assert_eq!(decoder.table.size(), 4_096);
    }

    /// Another one: a name as large as the table, in a new field of two octets each time.
    #[test]
    fn a_name_of_the_table_is_never_copied() {
        let mut decoder = Decoder::new();
        let mut block = bytes("40 7fe1 1e");
        block.resize(block.len() + 4_064, b'n');
        block.push(0);
        for _ in 0..10_000 {
            block.extend([0x7e, 0x00]);
        }
        let mut places = Vec::new();
        decoder.decode(&block, &mut |name, _| places.push((name.as_ptr(), name.len()))).unwrap();
        assert_eq!(places.len(), 10_001);
        assert!(places.iter().all(|place| *place == places[0]));
        assert_eq!(decoder.table.size(), 4_096);
    }

    #[test]
    fn responses_need_no_dynamic_table() {
        let mut block = Vec::new();
        put_status(&mut block, 200);
        put_status(&mut block, 404);
        put_status(&mut block, 503);
        put_field(&mut block, b"content-type", b"application/grpc");
        put_field(&mut block, b"grpc-status", b"0");
        assert_eq!(
            block,
            [&[0x88, 0x8d, 0x08, 0x03][..], b"503", b"\x0f\x10\x10application/grpc", b"\x00\x0bgrpc-status\x010"]
                .concat()
        );
        let mut decoder = Decoder::new();
        decoder.set_limit(0);
        assert_eq!(
            decode(&mut decoder, &block).unwrap(),
            ":status: 200\n:status: 404\n:status: 503\ncontent-type: application/grpc\ngrpc-status: 0"
        );
    }
}
