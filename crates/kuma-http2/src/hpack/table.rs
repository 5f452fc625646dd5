//! The static and the dynamic table (RFC 7541, 2.3 and appendix A).

use std::collections::VecDeque;

use bytes::Bytes;

use super::Error;

/// What each field of the dynamic table counts beside its name and value (4.1), in bytes.
const OVERHEAD: usize = 32;

/// The fields that came last, the newest first.
#[derive(Debug)]
pub(super) struct DynamicTable {
    fields: VecDeque<Field>,
    /// What the fields count together.
    size: usize,
    max_size: usize,
}

#[derive(Debug)]
struct Field {
    /// Shared by the fields that took it from another: else two octets would have it copied.
    name: Bytes,
    value: Box<[u8]>,
}

impl Field {
    fn size(&self) -> usize {
        self.name.len() + self.value.len() + OVERHEAD
    }
}

impl DynamicTable {
    pub(super) fn new(max_size: usize) -> Self {
        Self { fields: VecDeque::new(), size: 0, max_size }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// How many fields there is memory for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.fields.capacity()
    }

    pub(super) fn max_size(&self) -> usize {
        self.max_size
    }

    /// Forgets what is beyond the new size, and gives the memory back.
    pub(super) fn set_max_size(&mut self, max_size: usize) {
        self.max_size = max_size;
        self.evict(max_size);
        self.fields.shrink_to_fit();
    }

    /// A field that is larger than the table empties it, and is no error (4.4).
    pub(super) fn insert(&mut self, name: Bytes, value: &[u8]) {
        let size = name.len() + value.len() + OVERHEAD;
        self.evict(self.max_size.saturating_sub(size));
        if size <= self.max_size {
            self.fields.push_front(Field { name, value: value.into() });
            self.size += size;
        }
    }

    fn evict(&mut self, size: usize) {
        while self.size > size {
            let Some(field) = self.fields.pop_back() else { return };
            self.size -= field.size();
        }
    }

    /// The name and value at an index of both tables (2.3.3).
    pub(super) fn field(&self, index: usize) -> Result<(&[u8], &[u8]), Error> {
        match static_field(index) {
            Some((name, value)) => Ok((name.as_bytes(), value.as_bytes())),
            None => self.dynamic_field(index).map(|field| (&field.name[..], &field.value[..])),
        }
    }

    /// The name at an index of both tables.
    pub(super) fn name(&self, index: usize) -> Result<Bytes, Error> {
        match static_field(index) {
            Some((name, _)) => Ok(Bytes::from_static(name.as_bytes())),
            None => self.dynamic_field(index).map(|field| field.name.clone()),
        }
    }

    fn dynamic_field(&self, index: usize) -> Result<&Field, Error> {
        index.checked_sub(STATIC.len() + 1).and_then(|place| self.fields.get(place)).ok_or(Error::Index(index))
    }
}

fn static_field(index: usize) -> Option<(&'static str, &'static str)> {
    STATIC.get(index.checked_sub(1)?).copied()
}

/// The static table, whose first index is 1.
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
