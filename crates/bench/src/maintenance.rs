//! The housekeeping that a flood leaves to its servers, done before something else is measured.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};
use tokio_postgres::Client;

use crate::servers::Servers;

/// How long Redis may take to write its file anew.
const LIMIT: Duration = Duration::from_secs(60);
/// How often it is asked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The longest answer that is read of it.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Lets PostgreSQL make its checkpoint and Redis write its file anew, and waits for both.
///
/// Either would come by itself at some time after millions of requests, and take a core for a second or two: then the
/// figure would be theirs.
///
/// # Errors
/// A server does not answer, or Redis takes too long.
pub async fn settle(servers: &Servers, client: &Client) -> Result<()> {
    client.batch_execute("CHECKPOINT").await?;
    let address = servers.redis.url();
    let address = address.trim_start_matches("redis://").trim_end_matches('/');
    let mut redis = TcpStream::connect(address).await.with_context(|| format!("connect to Redis at {address}"))?;
    // One that is under way already is as good.
    ask(&mut redis, "BGREWRITEAOF").await?;
    let started = Instant::now();
    loop {
        let info = ask(&mut redis, "INFO persistence").await?;
        if info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0") {
            return Ok(());
        }
        ensure!(started.elapsed() < LIMIT, "Redis did not write its file anew within {LIMIT:?}");
        sleep(LOOK_EVERY).await;
    }
}

/// Sends an inline command; the answers of these commands fit into one read or end with an empty line.
async fn ask(redis: &mut TcpStream, command: &str) -> Result<String> {
    redis.write_all(format!("{command}\r\n").as_bytes()).await?;
    let mut answer = Vec::with_capacity(4_096);
    loop {
        ensure!(redis.read_buf(&mut answer).await? > 0, "Redis closed the connection");
        ensure!(answer.len() <= ANSWER_BYTES_MAX, "an answer of more than {ANSWER_BYTES_MAX} bytes");
        if whole(&answer) {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
    }
}

/// Whether an answer of the protocol is there to its end: a line, or a length and so many bytes.
fn whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((first, rest)) = text.split_once("\r\n") else { return false };
    match first.strip_prefix('$').map(str::parse::<usize>) {
        Some(Ok(length)) => rest.len() >= length.saturating_add(2),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_to_its_end() {
        assert!(whole(b"+Background append only file rewriting started\r\n"));
        assert!(!whole(b"+Backgr"));
        assert!(!whole(b"$5\r\nab\r\n"));
        assert!(whole(b"$5\r\nab\r\nc\r\n"));
    }
}
