//! A record that is ready to be published.

use crate::record::{HeaderSpan, Headers, RawRecord, Span};

/// Key, value and headers of a record that is to be published, in one allocation.
#[derive(Debug, Clone, Default)]
pub struct Encoded {
    arena: Vec<u8>,
    key: Option<Span>,
    value: Option<Span>,
    headers: Vec<HeaderSpan>,
}

impl Encoded {
    /// A record with this key and value and no headers yet; `headers` is how many will follow.
    #[must_use]
    pub fn new(key: Option<&[u8]>, value: Option<&[u8]>, headers: usize) -> Self {
        // A request with all its headers takes some 450 bytes; one guess saves growing four times.
        const ARENA_BYTES_GUESS: usize = 512;
        let size = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        let mut arena = Vec::with_capacity(size + if headers == 0 { 0 } else { ARENA_BYTES_GUESS });
        let key = key.map(|key| Span::push(&mut arena, key));
        let value = value.map(|value| Span::push(&mut arena, value));
        Self { arena, key, value, headers: Vec::with_capacity(headers) }
    }

    /// The same key, value and headers as a record that was read.
    #[must_use]
    pub fn copy_of(raw: &RawRecord<'_>) -> Self {
        let mut copy = Self::new(raw.key, raw.value, raw.headers.len() + 4);
        for (name, value) in raw.headers {
            copy.push_header(name, value);
        }
        copy
    }

    /// Adds a header at the end.
    pub fn push_header(&mut self, name: &[u8], value: Option<&[u8]>) {
        let name = Span::push(&mut self.arena, name);
        let value = value.map(|value| Span::push(&mut self.arena, value));
        self.headers.push(HeaderSpan { name, value });
    }

    /// Adds a header with a text at the end.
    pub fn push_text(&mut self, name: &str, value: &str) {
        self.push_header(name.as_bytes(), Some(value.as_bytes()));
    }

    /// Takes away every header for which `keep` says no.
    pub fn retain_headers(&mut self, keep: impl Fn(&[u8]) -> bool) {
        let arena = &self.arena;
        self.headers.retain(|span| keep(span.name.of(arena)));
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.key.map(|span| span.of(&self.arena))
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.value.map(|span| span.of(&self.arena))
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        Headers::new(&self.arena, &self.headers)
    }

    /// The record as it would be read at a place, for tests and for tools that hold a record against the log.
    #[must_use]
    pub fn at(&self, partition: i32, offset: i64, timestamp_ms: i64) -> RawRecord<'_> {
        RawRecord { partition, offset, timestamp_ms, key: self.key(), value: self.value(), headers: self.headers() }
    }

    /// How many bytes it holds.
    #[must_use]
    pub const fn size_bytes(&self) -> usize {
        self.arena.len()
    }
}
