//! A ticket's status as server-sent events: one event at once, one for each change, the last with the outcome.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
    web::Bytes,
};
use futures::stream;

use super::handlers::{ticket_of, ticket_status};
use crate::{error::ApiError, in_flight::InFlightGuard, ticket::Ticket, worker::Worker};

/// Milliseconds after which a client whose stream ended should ask again.
const RETRY_MS: u32 = 1_000;

struct Watch {
    worker: Rc<Worker>,
    ticket: Ticket,
    told: Option<String>,
    until: Instant,
    spoke_at: Instant,
    over: bool,
    _open: InFlightGuard,
}

/// `GET /v1/tickets/{ticket}/events`. The stream ends with the outcome, after a bounded time, or when the process goes
/// down; a client that wants to go on asks again.
///
/// # Errors
/// See [`ApiError`].
pub async fn ticket_events(worker: Rc<Worker>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let ticket = ticket_of(&worker, &request)?;
    let open = worker.app.streams.enter().ok_or(ApiError::Overloaded("streams are open already"))?;
    let now = Instant::now();
    let duration = Duration::from_millis(worker.app.settings.events.duration_ms_max);
    let watch = Watch { worker, ticket, told: None, until: now + duration, spoke_at: now, over: false, _open: open };
    let events = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok::<_, actix_web::Error>(event), watch))
    });
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))).streaming(events))
}

impl Watch {
    /// The next thing to say; none when all is said.
    async fn next(&mut self) -> Option<Bytes> {
        let (poll, heartbeat) = {
            let events = &self.worker.app.settings.events;
            (Duration::from_millis(events.poll_ms), Duration::from_millis(events.heartbeat_ms))
        };
        if self.over {
            return None;
        }
        loop {
            match ticket_status(&self.worker, &self.ticket).await {
                Ok((status, over)) if self.told.as_ref() != Some(&status) => {
                    let retry = if self.told.is_none() { format!("retry: {RETRY_MS}\n") } else { String::new() };
                    let event = format!("{retry}event: status\ndata: {status}\n\n");
                    (self.over, self.told, self.spoke_at) = (over, Some(status), Instant::now());
                    return Some(Bytes::from(event));
                }
                Ok(_) => {}
                // The database may be back before the stream is over; until then there is nothing to say.
                Err(error) => tracing::debug!(%error, "a stream's look-up failed"),
            }
            let now = Instant::now();
            if now >= self.until || self.worker.app.is_draining() {
                return None;
            }
            if now.duration_since(self.spoke_at) >= heartbeat {
                self.spoke_at = now;
                return Some(Bytes::from_static(b": alive\n\n"));
            }
            tokio::time::sleep(poll).await;
        }
    }
}
