//! From the HTTP request to what is asked: every check that needs nobody else.

use std::{
    cell::OnceCell,
    rc::Rc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse, ResponseError,
    error::PayloadError,
    http::header::{self, HeaderName},
    web::{Bytes, BytesMut, Payload},
};
use contracts::TraceParent;
use domain::{
    clock::Timestamp,
    ids::{MemberId, RequestId},
};
use futures::{FutureExt, StreamExt};
use tokio::time::timeout;
use tracing::Instrument;

use super::{admit, body};
use crate::{config::HttpSettings, error::ApiError, path, trace, worker::Worker};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const JSON: &str = "application/json";

/// Who asks, under which id, in which trace.
pub struct Asked<'a> {
    /// Who asks.
    pub member: MemberId,
    /// The request's id.
    pub request: RequestId,
    /// The id was derived from a key that the client chose: the request may exist already.
    pub keyed: bool,
    /// When the request was taken.
    pub at: Timestamp,
    trace: OnceCell<TraceParent>,
    http: &'a HttpRequest,
}

impl Asked<'_> {
    /// The trace, which is begun when it is first needed: a sold out coupon's flood needs none.
    pub fn trace(&self) -> TraceParent {
        *self.trace.get_or_init(|| trace::of(self.http, self.at))
    }
}

/// Takes a request for a coupon.
pub async fn post(worker: Rc<Worker>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let app = &worker.app;
    let started = Instant::now();
    let answer = async {
        let _in_flight = app.in_flight.enter().ok_or(ApiError::Overloaded("coupon requests are in progress already"))?;
        if app.tracing_on {
            let (span, trace) = trace::begin(&request);
            // Boxed, so that the usual case need not carry a span's place in its future.
            return Box::pin(take(&worker, &request, payload, trace)).instrument(span).await;
        }
        take(&worker, &request, payload, None).await
    };
    match answer.await {
        Ok(response) => {
            if response.status().as_u16() == 202 {
                app.metrics.accepted.increment(1);
                app.metrics.accept_seconds.record(started.elapsed());
            }
            response
        }
        Err(error) => {
            app.metrics.refused(&error);
            let mut response = error.error_response();
            if app.is_draining() {
                response.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
            }
            response
        }
    }
}

async fn take(
    worker: &Worker,
    request: &HttpRequest,
    payload: Payload,
    trace: Option<TraceParent>,
) -> Result<HttpResponse, ApiError> {
    let app = &worker.app;
    if app.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    app.limits.address(request)?;
    let proven = app.identity.member(request)?;
    let body = read(request, payload, &app.settings.http).await?;
    if request.content_type() != JSON && !(body.is_empty() && proven.is_some()) {
        return Err(ApiError::UnsupportedMediaType);
    }
    let mut faults = Vec::new();
    let key = body::read_key(request.headers().get(IDEMPOTENCY_KEY), &mut faults);
    let member = body::read_member(&body, proven.as_ref(), &mut faults)?;
    // Before the coupon is looked up: asking for made-up codes counts, too.
    if let Some(member) = &member {
        app.limits.member(member)?;
    }
    let code = path::piece(request, "code")?;
    let view = match worker.find.coupon(&code).await {
        // A code that is none is told together with the other faults.
        Err(ApiError::InvalidFields(more)) => {
            faults.extend(more);
            None
        }
        Ok(view) => Some(view),
        Err(error) if faults.is_empty() => return Err(error),
        Err(_) => None,
    };
    let (Some(member), Some(view), true) = (member, view, faults.is_empty()) else {
        return Err(ApiError::InvalidFields(faults));
    };
    // Read once: a request reads the clock more often than it does anything else.
    let now = app.clock.now();
    let id = match key {
        Some(key) => RequestId::from_idempotency_key(&view.coupon.code, &member, key),
        None => RequestId::fresh_at(now),
    };
    let trace = trace.map_or_else(OnceCell::new, OnceCell::from);
    let asked = Asked { member, request: id, keyed: key.is_some(), at: now, trace, http: request };
    admit::admit(worker, &view, &asked).await
}

/// Reads the body, at most `http.body_bytes_max`, within `http.client_timeout_ms`.
async fn read(request: &HttpRequest, mut payload: Payload, http: &HttpSettings) -> Result<Bytes, ApiError> {
    let limit_bytes = http.body_bytes_max;
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit_bytes) {
        return Err(ApiError::BodyTooLarge { limit_bytes });
    }
    // Nearly every body is there already, in one piece, which is then used as it is and needs no timer.
    let first = payload.next().now_or_never().flatten();
    if let Some(Ok(first)) = &first
        && length == Some(first.len())
    {
        return Ok(first.clone());
    }
    let within = Duration::from_millis(http.client_timeout_ms);
    let rest = timeout(within, read_slowly(payload, first, limit_bytes)).await;
    rest.unwrap_or_else(|_| Err(ApiError::MalformedBody("it did not come in time".to_owned())))
}

async fn read_slowly(
    mut payload: Payload,
    first: Option<Result<Bytes, PayloadError>>,
    limit_bytes: usize,
) -> Result<Bytes, ApiError> {
    let mut body = BytesMut::new();
    let mut next = first;
    loop {
        let piece = match next.take() {
            Some(piece) => piece,
            None => match payload.next().await {
                Some(piece) => piece,
                None => return Ok(body.freeze()),
            },
        };
        let piece = piece.map_err(|error| ApiError::MalformedBody(format!("it could not be read: {error}")))?;
        if body.len().saturating_add(piece.len()) > limit_bytes {
            return Err(ApiError::BodyTooLarge { limit_bytes });
        }
        body.extend_from_slice(&piece);
    }
}
