//! Records as bytes: borrowed views, and batches that hold many records in one allocation.
//!
//! A consumer reads tens of thousands of records a second; with eight headers each, an allocation per header would cost
//! more than the decision. A batch therefore keeps all bytes in one arena and hands out views.

use crate::{names, trace::TraceParent};

/// A range of bytes in an arena. Half the size that a range of `usize` has, because there are twenty of them for each record in work; an
/// arena of 4 GiB is far beyond the bounds of those who fill one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Appends `bytes` to the arena and returns where they are.
    pub(crate) fn push(arena: &mut Vec<u8>, bytes: &[u8]) -> Self {
        let start = position(arena);
        arena.extend_from_slice(bytes);
        Self { start, end: position(arena) }
    }

    pub(crate) fn of(self, arena: &[u8]) -> &[u8] {
        let at = |position: u32| usize::try_from(position).unwrap_or(usize::MAX);
        arena.get(at(self.start)..at(self.end)).unwrap_or_default()
    }
}

fn position(arena: &[u8]) -> u32 {
    u32::try_from(arena.len()).unwrap_or(u32::MAX)
}

/// Where one header's name and value are in an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderSpan {
    pub(crate) name: Span,
    pub(crate) value: Option<Span>,
}

/// The headers of one record, in their order.
#[derive(Clone, Copy)]
pub struct Headers<'a> {
    arena: &'a [u8],
    spans: &'a [HeaderSpan],
}

impl<'a> Headers<'a> {
    /// No headers at all, as foreign producers send.
    pub const NONE: Headers<'static> = Headers { arena: &[], spans: &[] };

    pub(crate) const fn new(arena: &'a [u8], spans: &'a [HeaderSpan]) -> Self {
        Self { arena, spans }
    }

    /// How many headers there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The value of the *first* header of that name; a header without a value counts as empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        let found = self.spans.iter().find(|span| span.name.of(self.arena) == name.as_bytes())?;
        Some(found.value.map_or(&[][..], |value| value.of(self.arena)))
    }

    /// The value of the first header of that name, if it is UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All headers in their order.
    #[must_use]
    pub fn iter(&self) -> HeaderIter<'a> {
        HeaderIter { arena: self.arena, spans: self.spans.iter() }
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);
    type IntoIter = HeaderIter<'a>;
    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

impl std::fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let readable = |(name, value): (&'_ [u8], Option<&'_ [u8]>)| {
            (String::from_utf8_lossy(name).into_owned(), value.map(|value| String::from_utf8_lossy(value).into_owned()))
        };
        f.debug_map().entries(self.iter().map(readable)).finish()
    }
}

/// Headers one after another: name and value. Names are bytes: a foreign producer may write what is no UTF-8.
#[derive(Debug, Clone)]
pub struct HeaderIter<'a> {
    arena: &'a [u8],
    spans: std::slice::Iter<'a, HeaderSpan>,
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);
    fn next(&mut self) -> Option<Self::Item> {
        let span = self.spans.next()?;
        Some((span.name.of(self.arena), span.value.map(|value| value.of(self.arena))))
    }
}

/// One record as it stands in the log, borrowed from whoever holds the bytes.
#[derive(Debug, Clone, Copy)]
pub struct RawRecord<'a> {
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
    /// The broker's append time, in milliseconds since the epoch; -1 if the topic has none.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
}

impl RawRecord<'_> {
    /// Where it stands.
    #[must_use]
    pub const fn place(&self) -> domain::coupon::Place {
        domain::coupon::Place { partition: self.partition, offset: self.offset }
    }

    /// Its trace context, if it carries a valid one.
    #[must_use]
    pub fn trace_parent(&self) -> Option<TraceParent> {
        self.headers.text(names::TRACEPARENT).and_then(|text| text.parse().ok())
    }

    /// Its trace context, if somebody records the trace. Most records carry one that nobody records: only its last digit is read.
    #[must_use]
    pub fn recorded_trace(&self) -> Option<TraceParent> {
        let text = self.headers.text(names::TRACEPARENT)?;
        let flags = text.get(TraceParent::FLAGS)?;
        let is_recorded =
            flags.bytes().last().is_some_and(|digit| matches!(digit, b'1' | b'3' | b'5' | b'7' | b'9' | b'b' | b'd' | b'f'));
        if is_recorded { text.parse().ok() } else { None }
    }

    /// How many bytes key, value and headers have together.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum();
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers
    }
}

#[derive(Debug, Clone)]
struct Entry {
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    key: Option<Span>,
    value: Option<Span>,
    headers: (u32, u32),
}

/// Many records in one arena: two or three allocations for a whole batch.
#[derive(Debug, Clone, Default)]
pub struct RecordBatch {
    arena: Vec<u8>,
    spans: Vec<HeaderSpan>,
    entries: Vec<Entry>,
}

impl RecordBatch {
    /// An empty batch.
    #[must_use]
    pub const fn new() -> Self {
        Self { arena: Vec::new(), spans: Vec::new(), entries: Vec::new() }
    }

    /// Copies a record into the batch.
    pub fn push<'h>(
        &mut self,
        (partition, offset, timestamp_ms): (i32, i64, i64),
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) {
        let key = key.map(|key| Span::push(&mut self.arena, key));
        let value = value.map(|value| Span::push(&mut self.arena, value));
        let first = self.spans_end();
        self.entries.push(Entry { partition, offset, timestamp_ms, key, value, headers: (first, first) });
        for (name, value) in headers {
            self.push_header(name, value);
        }
    }

    /// Adds a header to the record that was pushed last; without one, nothing happens.
    pub fn push_header(&mut self, name: &[u8], value: Option<&[u8]>) {
        let Some(last) = self.entries.last_mut() else { return };
        let name = Span::push(&mut self.arena, name);
        let value = value.map(|value| Span::push(&mut self.arena, value));
        self.spans.push(HeaderSpan { name, value });
        last.headers.1 = last.headers.1.saturating_add(1);
    }

    fn spans_end(&self) -> u32 {
        u32::try_from(self.spans.len()).unwrap_or(u32::MAX)
    }

    /// Copies a record into the batch from another place.
    pub fn push_raw(&mut self, raw: &RawRecord<'_>) {
        self.push((raw.partition, raw.offset, raw.timestamp_ms), raw.key, raw.value, raw.headers);
    }

    /// How many records it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many bytes of keys, values and headers it holds.
    #[must_use]
    pub const fn size_bytes(&self) -> usize {
        self.arena.len()
    }

    /// How many bytes it keeps in memory.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.arena
            .capacity()
            .saturating_add(self.spans.capacity().saturating_mul(size_of::<HeaderSpan>()))
            .saturating_add(self.entries.capacity().saturating_mul(size_of::<Entry>()))
    }

    /// Gives back what it reserved and did not need: a batch that grew record by record has up to twice of what it holds.
    pub fn shrink_to_fit(&mut self) {
        self.arena.shrink_to_fit();
        self.spans.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    /// Empties it and keeps its memory for the next batch.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.spans.clear();
        self.entries.clear();
    }

    /// The record at `index`, in the order of pushing.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<RawRecord<'_>> {
        self.entries.get(index).map(|entry| self.view(entry))
    }

    /// The first record.
    #[must_use]
    pub fn first(&self) -> Option<RawRecord<'_>> {
        self.get(0)
    }

    /// The last record.
    #[must_use]
    pub fn last(&self) -> Option<RawRecord<'_>> {
        self.entries.last().map(|entry| self.view(entry))
    }

    /// All records in the order of pushing.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = RawRecord<'_>> + ExactSizeIterator {
        self.entries.iter().map(|entry| self.view(entry))
    }

    fn view(&self, entry: &Entry) -> RawRecord<'_> {
        let at = |position: u32| usize::try_from(position).unwrap_or(usize::MAX);
        let (from, to) = (at(entry.headers.0), at(entry.headers.1));
        RawRecord {
            partition: entry.partition,
            offset: entry.offset,
            timestamp_ms: entry.timestamp_ms,
            key: entry.key.map(|span| span.of(&self.arena)),
            value: entry.value.map(|span| span.of(&self.arena)),
            headers: Headers::new(&self.arena, self.spans.get(from..to).unwrap_or_default()),
        }
    }
}
