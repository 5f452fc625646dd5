//! The part of protobuf that is needed to follow an xDS stream without decoding its resources.

/// An encoded field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The message ends within a field, or is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Iterates over the fields of a message.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return Err(Malformed),
        };
        Ok((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// The first field of a number that holds bytes; empty when there is none.
pub(crate) fn bytes_field(message: &[u8], number: u64) -> &[u8] {
    all_bytes_fields(message, number).next().unwrap_or_default()
}

/// Every field of a number that holds bytes.
pub(crate) fn all_bytes_fields(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    Fields(message).filter_map(move |field| match field {
        Ok((found, Value::Bytes(bytes))) if found == number => Some(bytes),
        _ => None,
    })
}

/// A field as text; empty when it is none.
pub(crate) fn text_field(message: &[u8], number: u64) -> &str {
    std::str::from_utf8(bytes_field(message, number)).unwrap_or_default()
}

/// Writes a field of bytes, also if it is empty.
pub(crate) fn put_bytes(buffer: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(buffer, number << 3 | 2);
    put_varint(buffer, bytes.len() as u64);
    buffer.extend_from_slice(bytes);
}

/// Writes a field that is a number or a bool.
pub(crate) fn put_number(buffer: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(buffer, number << 3);
    put_varint(buffer, value);
}

/// Writes a field that is a double.
pub(crate) fn put_double(buffer: &mut Vec<u8>, number: u64, value: f64) {
    put_varint(buffer, number << 3 | 1);
    buffer.extend_from_slice(&value.to_le_bytes());
}

fn put_varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    buffer.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut message = Vec::new();
        put_bytes(&mut message, 4, b"type");
        put_bytes(&mut message, 200, &[7; 300]);
        message.extend_from_slice(&[0x08, 0x96, 0x01]);
        let fields: Vec<_> = Fields(&message).collect();
        assert_eq!(
            fields,
            [Ok((4, Value::Bytes(b"type"))), Ok((200, Value::Bytes(&[7; 300]))), Ok((1, Value::Number(150)))]
        );
    }

    #[test]
    fn what_is_cut_off_is_malformed() {
        let mut message = Vec::new();
        put_bytes(&mut message, 2, b"abc");
        for length in 1..message.len() {
            assert_eq!(Fields(&message[..length]).collect::<Vec<_>>(), [Err(Malformed)]);
        }
    }
}
