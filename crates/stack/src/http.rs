//! The little HTTP that a drill needs to steer servers on loopback: one short request, one short answer, no connection kept.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How long an answer may be: a list of some hundred entries.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Asks `127.0.0.1:port` and reads the answer as JSON (`null` if it is empty).
///
/// # Errors
/// No answer in time, a status that is not 2xx (with what was said), or an answer that is not JSON.
pub fn ask(port: u16, method: &str, path: &str, body: &str) -> Result<Value> {
    let what = || format!("{method} http://127.0.0.1:{port}{path}");
    let (status, text) = exchange(port, method, path, body).with_context(what)?;
    ensure!((200..300).contains(&status), "{}: {status} {}", what(), text.trim());
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).with_context(|| format!("{} did not answer JSON: {text}", what()))
}

/// The status of an answer, whatever it says.
///
/// # Errors
/// No answer in time.
pub fn status(port: u16, method: &str, path: &str) -> Result<u16> {
    exchange(port, method, path, "").map(|(status, _)| status)
}

fn exchange(port: u16, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    // HTTP/1.0: the answer is not chunked and ends with its connection.
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let (head, text) = answer.split_once("\r\n\r\n").ok_or_else(|| anyhow!("no whole answer: {answer}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| anyhow!("no status: {head}"))?;
    Ok((status, text.to_owned()))
}
