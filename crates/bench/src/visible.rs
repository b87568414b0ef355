//! From the scheduled send of a request to the moment at which its ticket tells the outcome, in an open loop.
//!
//! The clients share two cores with everything they measure, so they are as cheap as clients can be: bare connections that are kept alive,
//! no HTTP library, and only a sample of the tickets is polled. A request that is sent late, because its connection still waits for an
//! answer, counts from the moment at which it was due.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

/// Connections that send requests.
const CONNECTIONS: u32 = 512;
/// Tickets that are polled, a second.
const SAMPLES_PER_S: f64 = 200.0;
/// Pause between two polls of a ticket: the resolution of what is measured.
const POLL_PAUSE: Duration = Duration::from_millis(5);
/// Tickets polled at a time, each on a connection of its own.
const POLLERS: usize = 64;
/// How long a ticket may stay pending.
const LIMIT: Duration = Duration::from_secs(60);
/// The longest answer.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// What a run found.
#[derive(Debug, Clone)]
pub struct Visible {
    /// Requests that were due each second.
    pub rate: f64,
    /// Requests answered 202.
    pub accepted: u64,
    /// Any other answer.
    pub others: u64,
    /// Milliseconds until the 202, sorted, of the sampled requests.
    accepted_ms: Vec<f64>,
    /// Milliseconds until the outcome was visible, sorted, of the sampled requests.
    visible_ms: Vec<f64>,
    /// Whether the audit found nothing.
    pub clean: bool,
}

impl Visible {
    /// Of the sampled requests, so many thousandths were visible within this many milliseconds.
    #[must_use]
    pub fn visible_ms(&self, thousandths: usize) -> f64 {
        quantile(&self.visible_ms, thousandths)
    }

    /// As [`Self::visible_ms`], until the 202.
    #[must_use]
    pub fn accepted_ms(&self, thousandths: usize) -> f64 {
        quantile(&self.accepted_ms, thousandths)
    }

    /// How many tickets were polled.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.visible_ms.len()
    }
}

/// The value that so many thousandths of the sorted values do not exceed.
fn quantile(sorted: &[f64], thousandths: usize) -> f64 {
    let rank = sorted.len().saturating_mul(thousandths).div_ceil(1_000).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or(f64::NAN)
}

/// A connection that is kept alive.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to a service.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.context("connect to the gateway")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(2_048) })
    }

    /// Sends a request and gives status and body.
    ///
    /// # Errors
    /// The connection breaks, or the answer is not as expected.
    pub async fn call(&mut self, request: &[u8]) -> Result<(u16, &str)> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the gateway closed a connection");
            ensure!(self.buffer.len() <= ANSWER_BYTES_MAX, "an answer of more than {ANSWER_BYTES_MAX} bytes");
            let Some(end) = find(&self.buffer, b"\r\n\r\n") else { continue };
            let (head, rest) = self.buffer.split_at(end.saturating_add(4));
            let head = std::str::from_utf8(head)?;
            let length: usize = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(|text| text.trim().parse()))
                .context("an answer without a length")??;
            if rest.len() >= length {
                break;
            }
        }
        let end = find(&self.buffer, b"\r\n\r\n").context("no head")?;
        let (head, body) = self.buffer.split_at(end.saturating_add(4));
        let status = std::str::from_utf8(head.get(9..12).context("no status")?)?.parse()?;
        Ok((status, std::str::from_utf8(body)?))
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// The text of a field of a flat JSON object.
fn field<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let rest = body.split_once(&format!("\"{name}\":\""))?.1;
    rest.split_once('"').map(|(text, _)| text)
}

struct Sample {
    ticket: String,
    member: String,
    due: Instant,
}

#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    others: AtomicU64,
}

/// Sends `rate` requests a second for `seconds` and polls a sample of their tickets until each tells its outcome.
///
/// # Errors
/// A connection breaks, or a ticket stays pending for a minute.
pub async fn run(port: u16, code: &str, rate: f64, seconds: u32) -> Result<Visible> {
    let total = to_u64(rate * f64::from(seconds));
    let every = to_u64(rate / SAMPLES_PER_S).max(1);
    let counts = Arc::new(Counts::default());
    let (samples, queue) = mpsc::channel::<Sample>(POLLERS * 64);
    let queue = Arc::new(Mutex::new(queue));
    let start = Instant::now() + Duration::from_millis(200);
    let mut senders = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let (counts, samples, code) = (Arc::clone(&counts), samples.clone(), code.to_owned());
        senders.spawn(async move {
            let mut line = Connection::open(port).await?;
            let mut accepted_ms = Vec::new();
            let mut number = u64::from(connection);
            while number < total {
                let due = start + Duration::from_secs_f64(to_f64(number) / rate);
                sleep_until(due).await;
                let member = format!("v{number}");
                let (status, body) = line.call(&ask(&code, &member)).await?;
                if status == 202 {
                    counts.accepted.fetch_add(1, Ordering::Relaxed);
                    if number.is_multiple_of(every) {
                        accepted_ms.push(due.elapsed().as_secs_f64() * 1e3);
                        let ticket = field(body, "ticket").context("a 202 without a ticket")?.to_owned();
                        // A full queue would mean that the sample is too large for its pollers: that must not hold up the load.
                        samples.try_send(Sample { ticket, member, due }).context("the pollers cannot keep up")?;
                    }
                } else {
                    counts.others.fetch_add(1, Ordering::Relaxed);
                }
                number = number.saturating_add(u64::from(CONNECTIONS));
            }
            anyhow::Ok(accepted_ms)
        });
    }
    drop(samples);
    let mut pollers = JoinSet::new();
    for _ in 0..POLLERS {
        let queue = Arc::clone(&queue);
        pollers.spawn(async move {
            let mut line = Connection::open(port).await?;
            let mut visible_ms = Vec::new();
            loop {
                let Some(sample) = queue.lock().await.recv().await else { return anyhow::Ok(visible_ms) };
                let request = look(&sample.ticket, &sample.member);
                let told = timeout(LIMIT, async {
                    while field(line.call(&request).await?.1, "status") == Some("pending") {
                        sleep(POLL_PAUSE).await;
                    }
                    anyhow::Ok(sample.due.elapsed())
                });
                let Ok(told) = told.await else { bail!("the ticket of {} was pending for {LIMIT:?}", sample.member) };
                visible_ms.push(told?.as_secs_f64() * 1e3);
            }
        });
    }
    let accepted_ms = gather(senders).await?;
    let visible_ms = gather(pollers).await?;
    let (accepted, others) = (counts.accepted.load(Ordering::Relaxed), counts.others.load(Ordering::Relaxed));
    Ok(Visible { rate, accepted, others, accepted_ms, visible_ms, clean: false })
}

async fn gather(mut tasks: JoinSet<Result<Vec<f64>>>) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    all.sort_by(f64::total_cmp);
    Ok(all)
}

fn ask(code: &str, member: &str) -> Vec<u8> {
    let body = format!(r#"{{"memberId":"{member}"}}"#);
    format!(
        "POST /v1/coupons/{code}/requests HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\nx-member-id: {member}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn look(ticket: &str, member: &str) -> Vec<u8> {
    format!("GET /v1/tickets/{ticket} HTTP/1.1\r\nhost: bench\r\nx-member-id: {member}\r\n\r\n").into_bytes()
}

fn to_f64(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// Whole numbers of requests: far below 2^32.
fn to_u64(number: f64) -> u64 {
    format!("{number:.0}").parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let sorted: Vec<f64> = (1..=1_000).map(f64::from).collect();
        assert_eq!([500, 990, 999, 1_000].map(|q| quantile(&sorted, q)), [500.0, 990.0, 999.0, 1_000.0]);
        assert!(quantile(&[], 500).is_nan());
    }

    #[test]
    fn fields_are_read_from_answers() {
        assert_eq!(field(r#"{"requestId":"r","ticket":"t.1"}"#, "ticket"), Some("t.1"));
        assert_eq!(field("{}", "ticket"), None);
        assert_eq!(to_u64(12_345.4), 12_345);
    }
}
