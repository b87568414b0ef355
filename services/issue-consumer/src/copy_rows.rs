//! Ledger rows in PostgreSQL's binary COPY format: the cheapest way to insert thousands of rows, for both sides.

use contracts::TraceParent;
use domain::{clock::Timestamp, coupon::NewRow};

use crate::trace::Traces;

/// The statement that takes what [`encode`] makes. `decided_at` is the transaction's time.
pub const COPY_LEDGER: &str = "COPY coupon_request (coupon_code, request_id, member_id, partition, log_offset, told_offset, appended_at, \
     admitted, outcome, sequence, issued_request_id, traceparent) FROM STDIN (FORMAT binary)";

const COLUMNS: i16 = 12;
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const NULL: i32 = -1;
/// 2000-01-01T00:00:00Z, where PostgreSQL's time begins, in milliseconds since the Unix epoch.
const POSTGRES_EPOCH_MS: i64 = 946_684_800_000;
/// What a row takes, roughly, so that the buffer is made once.
const ROW_BYTES_GUESS: usize = 176;

/// The rows, with the traces of their requests, as one COPY stream, header and trailer included.
#[must_use]
pub fn encode(rows: &[NewRow], traces: &Traces) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len().saturating_mul(ROW_BYTES_GUESS).saturating_add(64));
    out.extend_from_slice(SIGNATURE);
    // Flags and the length of a header extension: none.
    out.extend_from_slice(&[0; 8]);
    for row in rows {
        encode_row(&mut out, row, traces);
    }
    out.extend_from_slice(&(-1_i16).to_be_bytes());
    out
}

fn encode_row(out: &mut Vec<u8>, NewRow { row, told_offset }: &NewRow, traces: &Traces) {
    out.extend_from_slice(&COLUMNS.to_be_bytes());
    field(out, row.coupon.as_str().as_bytes());
    field(out, row.request.uuid().as_bytes());
    optional(out, row.member.as_ref().map(|member| member.as_str().as_bytes()));
    field(out, &row.place.partition.to_be_bytes());
    field(out, &row.place.offset.to_be_bytes());
    field(out, &told_offset.to_be_bytes());
    field(out, &postgres_micros(row.at).to_be_bytes());
    field(out, &[u8::from(row.admitted)]);
    field(out, row.outcome.as_str().as_bytes());
    optional(out, row.outcome.sequence().map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    optional(out, row.outcome.issued_request().map(|id| *id.uuid().as_bytes()).as_ref().map(<[u8; 16]>::as_slice));
    optional(out, traces.at(row.place.offset).map(TraceParent::to_bytes).as_ref().map(<[u8; 55]>::as_slice));
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    // Fields are ids of at most 256 bytes and numbers, so the length always fits.
    out.extend_from_slice(&i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => field(out, bytes),
        None => out.extend_from_slice(&NULL.to_be_bytes()),
    }
}

const fn postgres_micros(at: Timestamp) -> i64 {
    at.unix_ms().saturating_sub(POSTGRES_EPOCH_MS).saturating_mul(1_000)
}
