//! From a call to its answer: counting, latency, faults, and connections that end.

use std::{
    net::Shutdown,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use actix_web::{HttpRequest, HttpResponse, dev::Extensions, http::StatusCode, rt::net::TcpStream};
use serde_json::Value;

use crate::{
    account::Account,
    control::Control,
    faults::Outage,
    script::{Call, Fault},
    state::Dialect,
};

/// How long a hanging gateway keeps a call.
const HANG: Duration = Duration::from_secs(60);

/// The size of an answer that nobody should read to its end, in bytes.
const HUGE_BYTES: usize = 8 << 20;

/// A second handle of the connection, to end it without an answer.
pub struct Connection(std::net::TcpStream);

/// Keeps the handle; for `HttpServer::on_connect`.
pub fn keep_connection(connection: &dyn std::any::Any, extensions: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<TcpStream>()
        && let Ok(handle) = stream.as_fd().try_clone_to_owned()
    {
        extensions.insert(Connection(handle.into()));
    }
}

/// An answer in JSON.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub body: Value,
    pub retry_after_s: Option<u32>,
}

impl Reply {
    pub const fn new(status: u16, body: Value) -> Self {
        Self { status, body, retry_after_s: None }
    }

    fn http(self) -> HttpResponse {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = HttpResponse::build(status);
        if let Some(seconds) = self.retry_after_s {
            response.insert_header(("Retry-After", seconds.to_string()));
        }
        response.json(self.body)
    }
}

/// A dialect, and how it words what goes wrong on the way.
#[derive(Clone, Copy)]
pub struct Voice {
    pub dialect: Dialect,
    pub wording: fn(status: u16) -> Value,
}

/// Answers a call about `reference` in the account of this voice: `act` does what was asked and is called only if it is to be done.
pub async fn answer(
    control: &Control,
    request: &HttpRequest,
    call: Call,
    reference: &str,
    voice: Voice,
    act: impl FnOnce(Account<'_>) -> Reply,
) -> HttpResponse {
    let Voice { dialect, wording } = voice;
    let begun = begin(control, dialect, call, reference);
    let _flight = Flight { control, reference: begun.is_known.then_some(reference) };
    let delay = Duration::from_millis(begun.latency_ms);
    let (before, fault) = match (begun.outage, begun.throttled, begun.fault) {
        (Outage::Unavailable, ..) => (Some(Reply::new(503, wording(503))), None),
        (Outage::Dropping, ..) => return end(request),
        (Outage::Hanging, ..) => {
            tokio::time::sleep(HANG).await;
            return end(request);
        }
        (Outage::None, true, _) => (Some(Reply { retry_after_s: Some(1), ..Reply::new(429, wording(429)) }), None),
        (Outage::None, false, Some(Fault::Throttled(retry_after_s))) => {
            (Some(Reply { retry_after_s, ..Reply::new(429, wording(429)) }), None)
        }
        (Outage::None, false, Some(Fault::Status(status))) => (Some(Reply::new(status, wording(status))), None),
        (Outage::None, false, Some(Fault::Dropped)) => {
            tokio::time::sleep(delay).await;
            return end(request);
        }
        (Outage::None, false, fault) => (None, fault),
    };
    // What is done is done at once, and the answer is as old as its way is long: the harsher order of the two.
    let reply = before.unwrap_or_else(|| act(Account { control, dialect }));
    tokio::time::sleep(delay).await;
    match fault {
        Some(Fault::Slow(ms)) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            reply.http()
        }
        Some(Fault::ReplyLost) => end(request),
        Some(Fault::Malformed) => HttpResponse::Ok().content_type("application/json").body("{\"status\": \"pai"),
        Some(Fault::Huge) => HttpResponse::Ok().content_type("application/json").body(vec![b' '; HUGE_BYTES]),
        _ => reply.http(),
    }
}

struct Begun {
    is_known: bool,
    latency_ms: u64,
    outage: Outage,
    throttled: bool,
    fault: Option<Fault>,
}

fn begin(control: &Control, dialect: Dialect, call: Call, reference: &str) -> Begun {
    let now = control.now();
    let mut state = control.state();
    let at_once = state.load.begin(Instant::now());
    let (latency, outage, slower_ms) = (state.latency, state.outage, state.congestion.of(at_once));
    let throttled = state.is_throttled(now);
    let Some(payment) = state.payment_of(Some(dialect), reference) else {
        state.unknown_calls = state.unknown_calls.saturating_add(u64::from(call != Call::Transactions));
        let latency_ms = latency.of(reference).saturating_add(slower_ms);
        return Begun { is_known: false, latency_ms, outage, throttled, fault: None };
    };
    let count = match call {
        Call::Query | Call::Transactions => &mut payment.calls.query,
        Call::Refund => &mut payment.calls.refund,
        Call::Close => &mut payment.calls.close,
    };
    *count = count.saturating_add(1);
    payment.in_flight = payment.in_flight.saturating_add(1);
    payment.calls.at_once_max = payment.calls.at_once_max.max(payment.in_flight);
    // Faults of the script are for calls that would have been answered.
    let fault = if outage == Outage::None && !throttled { payment.fault(call) } else { None };
    let latency_ms = payment.script.latency_ms.unwrap_or_else(|| latency.of(reference)).saturating_add(slower_ms);
    Begun { is_known: true, latency_ms, outage, throttled, fault }
}

/// Counts a call until its answer is there, also when the client goes away.
struct Flight<'a> {
    control: &'a Control,
    reference: Option<&'a str>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut state = self.control.state();
        state.load.end();
        if let Some(payment) = self.reference.and_then(|reference| state.payments.get_mut(reference)) {
            payment.in_flight = payment.in_flight.saturating_sub(1);
        }
    }
}

/// Ends the connection without an answer.
fn end(request: &HttpRequest) -> HttpResponse {
    if let Some(Connection(stream)) = request.conn_data::<Connection>() {
        let _ = stream.shutdown(Shutdown::Both);
    }
    // Nobody reads this: the connection is gone.
    HttpResponse::InternalServerError().finish()
}

/// Runs what has an idempotency key once: the same key gets the same answer, refusals included, until the key is forgotten.
pub fn once(
    control: &Control,
    key: Option<&str>,
    question: &str,
    conflict: impl FnOnce() -> Reply,
    act: impl FnOnce() -> Reply,
) -> Reply {
    let Some(key) = key else { return act() };
    let now = control.now();
    if let Some(remembered) = control.state().remembered(key, now) {
        return if remembered.question == question { Reply::new(remembered.status, remembered.body) } else { conflict() };
    }
    let reply = act();
    control.state().remember(key, question, reply.status, reply.body.clone(), now);
    reply
}
