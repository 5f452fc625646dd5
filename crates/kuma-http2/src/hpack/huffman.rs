//! The Huffman code of HPACK (RFC 7541, 5.2 and appendix B).
//!
//! The code is canonical: shorter codes come first, and codes of one length are in the order of their symbols. So it is
//! known from the lengths alone. Seen as the beginning of a 32-bit number, the codes of each length are one range of
//! numbers, and the ranges follow one another from 0 to 2^32.

use super::Error;

/// End of string: the symbol after the 256 octets. It is never sent; the padding is the beginning of its code.
const END: u16 = 256;
const SYMBOLS: usize = 257;
const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// How many bits the code of each symbol has (appendix B).
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6,
     5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10,
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,
     7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6,
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,
     6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The symbols in the order of their codes.
const ORDER: [u16; SYMBOLS] = order();

/// By the length of a code: the numbers that begin with one. Those of a length that no code has are an empty range.
const RANGES: [Range; LONGEST + 1] = ranges();

#[derive(Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
    /// The place in [`ORDER`] of the first symbol.
    first: usize,
}

const fn order() -> [u16; SYMBOLS] {
    let mut order = [0; SYMBOLS];
    let mut known = 0;
    let mut length = SHORTEST;
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                order[known] = symbol as u16;
                known += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    assert!(known == SYMBOLS);
    order
}

const fn ranges() -> [Range; LONGEST + 1] {
    let mut ranges = [Range { start: 0, end: 0, first: 0 }; LONGEST + 1];
    let mut place = 0;
    let mut length = SHORTEST;
    while length <= LONGEST {
        let start = ranges[length - 1].end;
        ranges[length] = Range { start, end: start, first: place };
        while place < SYMBOLS && LENGTHS[ORDER[place] as usize] as usize == length {
            ranges[length].end += 1 << (32 - length);
            place += 1;
        }
        length += 1;
    }
    assert!(ranges[LONGEST].end == 1 << 32, "each number begins with a code");
    ranges
}

/// Decodes a whole string. The result is at most 8/5 as long as `coded`.
pub(super) fn decode(coded: &[u8]) -> Result<Vec<u8>, Error> {
    let mut decoded = Vec::with_capacity(coded.len() * 8 / SHORTEST);
    let mut octets = coded.iter();
    // The lowest `count` bits of `bits` are read and not decoded.
    let mut bits = 0u64;
    let mut count = 0;
    loop {
        while count <= 32
            && let Some(&octet) = octets.next()
        {
            bits = bits << 8 | u64::from(octet);
            count += 8;
        }
        // The next 32 bits. At the end of the string, ones take the place of what is missing.
        let next =
            if count >= 32 { (bits >> (count - 32)) as u32 } else { (bits << (32 - count)) as u32 | u32::MAX >> count };
        let (symbol, length) = first_symbol(next);
        if length > count {
            let is_padding = count < 8 && next == u32::MAX;
            return if is_padding { Ok(decoded) } else { Err(Error::Padding) };
        }
        if symbol == END {
            return Err(Error::EndOfString);
        }
        decoded.push(symbol as u8);
        count -= length;
    }
}

/// The symbol whose code `bits` begins with, and how long the code is.
fn first_symbol(bits: u32) -> (u16, usize) {
    let number = u64::from(bits);
    let mut length = SHORTEST;
    while number >= RANGES[length].end {
        length += 1;
    }
    let range = RANGES[length];
    (ORDER[range.first + ((number - range.start) >> (32 - length)) as usize], length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of a symbol, in the lowest bits, and its length.
    fn code(symbol: u16) -> (u64, usize) {
        let length = usize::from(LENGTHS[usize::from(symbol)]);
        let place = ORDER.iter().position(|s| *s == symbol).unwrap();
        let range = RANGES[length];
        ((range.start >> (32 - length)) + (place - range.first) as u64, length)
    }

    fn encode(symbols: impl IntoIterator<Item = u16>) -> Vec<u8> {
        let mut bits: Vec<bool> = Vec::new();
        for symbol in symbols {
            let (code, length) = code(symbol);
            bits.extend((0..length).rev().map(|i| code >> i & 1 == 1));
        }
        bits.resize(bits.len().next_multiple_of(8), true);
        bits.chunks(8).map(|octet| octet.iter().fold(0, |value, bit| value << 1 | u8::from(*bit))).collect()
    }

    fn encode_octets(octets: &[u8]) -> Vec<u8> {
        encode(octets.iter().map(|octet| u16::from(*octet)))
    }

    #[test]
    fn codes_are_those_of_appendix_b() {
        let codes = [
            (u16::from(b'0'), 0x0, 5),
            (u16::from(b't'), 0x9, 5),
            (u16::from(b' '), 0x14, 6),
            (u16::from(b':'), 0x5c, 7),
            (u16::from(b'&'), 0xf8, 8),
            (u16::from(b'!'), 0x3f8, 10),
            (u16::from(b'|'), 0x7fc, 11),
            (0, 0x1ff8, 13),
            (u16::from(b'\\'), 0x7fff0, 19),
            (128, 0xfffe6, 20),
            (129, 0x3fffd2, 22),
            (1, 0x7fffd8, 23),
            (199, 0x1ffffec, 25),
            (249, 0xffffffe, 28),
            (10, 0x3ffffffc, 30),
            (22, 0x3ffffffe, 30),
            (END, 0x3fffffff, 30),
        ];
        for (symbol, bits, length) in codes {
            assert_eq!(code(symbol), (bits, length), "symbol {symbol}");
        }
    }

    #[test]
    fn every_octet_comes_back() {
        for first in 0..=255 {
            assert_eq!(decode(&encode_octets(&[first])), Ok(vec![first]));
            let many: Vec<u8> = (0..=255).map(|i: u8| i.wrapping_mul(first)).collect();
            assert_eq!(decode(&encode_octets(&many)), Ok(many));
        }
        assert_eq!(decode(&[]), Ok(vec![]));
    }

    #[test]
    fn padding_is_up_to_seven_ones() {
        // "0" is five zeros.
        assert_eq!(decode(&[0b0000_0111]), Ok(b"0".to_vec()));
        assert_eq!(decode(&[0b0000_0110]), Err(Error::Padding));
        assert_eq!(decode(&[0b0000_0000]), Err(Error::Padding));
        assert_eq!(decode(&[0b0000_0111, 0xff]), Err(Error::Padding));
        assert_eq!(decode(&[0xff]), Err(Error::Padding));
        assert_eq!(decode(&[0xff, 0xff, 0xff]), Err(Error::Padding));
        // A whole octet is needed by no padding: "&" is 1111_1000.
        assert_eq!(decode(&[0b1111_1000]), Ok(b"&".to_vec()));
        assert_eq!(decode(&[0b1111_1000, 0xff]), Err(Error::Padding));
    }

    #[test]
    fn end_of_string_is_never_sent() {
        assert_eq!(decode(&[0xff; 4]), Err(Error::EndOfString));
        assert_eq!(decode(&encode([97, END])), Err(Error::EndOfString));
        assert_eq!(decode(&encode([97, END, 97])), Err(Error::EndOfString));
    }
}
