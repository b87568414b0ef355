//! The ceiling for the consumer: COPY of the very rows that it wrote, into the very table, with all its indexes and triggers.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt};
use tokio_postgres::{Client, NoTls};

/// How long one piece of COPY data is when it is sent, in bytes; psql sends lines of about this order together.
const COPY_CHUNK_BYTES: usize = 64 * 1024;

/// A connection of the benchmark's own, beside those of the services.
///
/// # Errors
/// The server does not answer.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("PostgreSQL does not answer")?;
    tokio::spawn(connection);
    Ok(client)
}

/// Refuses to measure with less durability than the services are promised.
///
/// # Errors
/// `fsync` or `synchronous_commit` is off.
pub async fn require_durability(client: &Client) -> Result<()> {
    for name in ["fsync", "synchronous_commit"] {
        let value: String = client.query_one(&format!("SHOW {name}"), &[]).await?.get(0);
        ensure!(value == "on", "{name} is {value}: the comparison would be worth nothing");
    }
    Ok(())
}

/// Takes the rows of the ledger, empties it, and times COPY of the same rows; the ledger is empty afterwards. Rows per second.
///
/// # Errors
/// The rows did not come back in the same number.
pub async fn copy_again(client: &Client) -> Result<f64> {
    // Generated columns cannot be copied; the ledger has none.
    let stream = client.copy_out("COPY (SELECT * FROM coupon_request ORDER BY partition, log_offset) TO STDOUT").await?;
    let chunks: Vec<Bytes> = stream.try_collect().await?;
    let data: Vec<Bytes> = gather(chunks);
    client.batch_execute("TRUNCATE coupon_request").await?;
    client.batch_execute("CHECKPOINT").await?;
    let started = Instant::now();
    let sink = client.copy_in::<_, Bytes>("COPY coupon_request FROM STDIN").await?;
    futures::pin_mut!(sink);
    let mut chunks = futures::stream::iter(data.into_iter().map(Ok::<_, tokio_postgres::Error>));
    while let Some(chunk) = chunks.next().await {
        sink.feed(chunk?).await?;
    }
    let rows = sink.finish().await?;
    let seconds = started.elapsed().as_secs_f64();
    client.batch_execute("TRUNCATE coupon_request").await?;
    Ok(count_as_f64(rows) / seconds)
}

/// Puts rows together into pieces of [`COPY_CHUNK_BYTES`], as a well-written client would send them.
fn gather(rows: Vec<Bytes>) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut piece = Vec::with_capacity(COPY_CHUNK_BYTES);
    for row in rows {
        piece.extend_from_slice(&row);
        if piece.len() >= COPY_CHUNK_BYTES {
            pieces.push(Bytes::from(std::mem::take(&mut piece)));
        }
    }
    pieces.push(Bytes::from(piece));
    pieces
}

/// A count as a float; counts here are far below 2^52.
#[allow(clippy::as_conversions, reason = "there is no lossless conversion, and the counts are small")]
#[must_use]
pub const fn count_as_f64(count: u64) -> f64 {
    count as f64
}
