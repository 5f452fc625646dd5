//! Finds the file descriptors that a C++ program compiled with protobuf carries.
//!
//! protoc puts the serialised `FileDescriptorProto` of every file into the program as a string constant. One begins
//! with field 1, the file's name, and ends where no further field of the message follows: the constant's own zero byte
//! is no tag.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::FileDescriptorProto;

/// A file descriptor, and the bytes that it was read from: they also hold the options that extend protobuf's own.
pub(crate) struct File<'a> {
    pub(crate) descriptor: FileDescriptorProto,
    pub(crate) bytes: &'a [u8],
}

/// Every file descriptor in the binary, by the name of its file.
pub(crate) fn scan(binary: &[u8]) -> BTreeMap<String, File<'_>> {
    const SUFFIX: &[u8] = b".proto";
    let mut files: BTreeMap<String, File<'_>> = BTreeMap::new();
    let mut position = 0;
    while let Some(found) = find(&binary[position..], SUFFIX) {
        let end_of_name = position + found + SUFFIX.len();
        position = end_of_name;
        let Some(start) = start_of_file(binary, end_of_name) else {
            continue;
        };
        let bytes = &binary[start..end_of_file(binary, start)];
        let Ok(descriptor) = FileDescriptorProto::decode(bytes) else {
            continue;
        };
        let known = files.get(descriptor.name()).map_or(0, |file| file.bytes.len());
        // The name alone (in a list of dependencies, say) reads as a tiny descriptor: the longest is the real one.
        if bytes.len() > known {
            files.insert(descriptor.name().to_owned(), File { descriptor, bytes });
        }
    }
    files
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// The tag and length before a file's name, if what stands there is one.
fn start_of_file(binary: &[u8], end_of_name: usize) -> Option<usize> {
    const TAG_OF_NAME: u8 = 0x0a;
    (6..=127.min(end_of_name.checked_sub(2)?)).find_map(|length| {
        let name = end_of_name - length;
        let framed = binary[name - 2] == TAG_OF_NAME && usize::from(binary[name - 1]) == length;
        (framed && binary[name..end_of_name].iter().all(u8::is_ascii_graphic)).then_some(name - 2)
    })
}

/// Where the fields of the descriptor that starts here end.
fn end_of_file(binary: &[u8], start: usize) -> usize {
    const HIGHEST_FIELD: u64 = 14;
    let mut position = start;
    loop {
        let Some((tag, after_tag)) = varint(binary, position) else {
            return position;
        };
        let (field, wire_type) = (tag >> 3, tag & 7);
        let another_name = field == 1 && position != start;
        if field == 0 || field > HIGHEST_FIELD || another_name {
            return position;
        }
        let Some((value, after_value)) = varint(binary, after_tag) else {
            return position;
        };
        let next = match wire_type {
            0 => after_value,
            2 => match usize::try_from(value).ok().and_then(|length| after_value.checked_add(length)) {
                Some(next) if next <= binary.len() => next,
                _ => return position,
            },
            _ => return position,
        };
        position = next;
    }
}

fn varint(binary: &[u8], start: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for (index, byte) in binary.get(start..)?.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, start + index + 1));
        }
    }
    None
}
