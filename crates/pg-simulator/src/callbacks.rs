//! Callbacks to the merchant: signed as each dialect signs, and lost as often as it is told.

use std::time::Duration;

use domain::{clock::Timestamp, secret::Secret};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::mpsc;

use crate::{
    dialect::{stripe, toss},
    faults::spread,
    payment::Payment,
    script::Method,
    state::Dialect,
};

/// Callbacks that wait to be sent; further ones are lost, as at a gateway in trouble.
const QUEUE_MAX: usize = 50_000;

/// Callbacks under way at once.
const AT_ONCE_MAX: usize = 16;

/// How long a callback may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Tries of a callback that was not answered 2xx.
const TRIES: u32 = 3;

/// The pause before the next try.
const PAUSE: Duration = Duration::from_millis(500);

/// Where the callbacks of a dialect go.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallbackTarget {
    /// The merchant's address; empty: none are sent.
    pub url: String,
    /// What signs them (generic, Stripe).
    pub secret: Secret,
}

/// Callbacks of all dialects.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallbackSettings {
    /// The generic contract's.
    pub generic: CallbackTarget,
    /// Toss'.
    pub toss: CallbackTarget,
    /// Stripe's.
    pub stripe: CallbackTarget,
    /// Of how many in a hundred payments all callbacks are lost; the same ones in every run.
    pub lose_percent: u32,
    /// How often each one is sent, at least once.
    pub copies: u32,
}

/// One callback, ready to go.
#[derive(Debug, Clone)]
struct Message {
    url: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// Makes callbacks and queues them.
pub struct Callbacks {
    settings: CallbackSettings,
    queue: mpsc::Sender<Message>,
}

/// The other end of the queue, for [`send_all`].
pub struct Outbound(mpsc::Receiver<Message>);

impl Callbacks {
    /// With the end that has to be given to [`send_all`].
    pub fn new(settings: CallbackSettings) -> (Self, Outbound) {
        let (queue, outbound) = mpsc::channel(QUEUE_MAX);
        (Self { settings, queue }, Outbound(outbound))
    }

    /// Whether the callbacks of a payment are lost.
    pub fn is_lost(&self, reference: &str) -> bool {
        spread(reference, 1) % 100 < u64::from(self.settings.lose_percent)
    }

    /// Tells the merchant that something happened to a payment, unless its callbacks are lost.
    pub fn offer(&self, payment: &Payment, now: Timestamp) {
        let Some(message) = self.message(payment, now) else { return };
        if self.is_lost(&payment.reference) {
            return;
        }
        for _ in 0..self.settings.copies.max(1) {
            if self.queue.try_send(message.clone()).is_err() {
                tracing::warn!(reference = payment.reference, "a callback is lost: too many wait");
            }
        }
    }

    fn message(&self, payment: &Payment, now: Timestamp) -> Option<Message> {
        let dialect = payment.dialect.unwrap_or_default();
        let target = match dialect {
            Dialect::Generic => &self.settings.generic,
            Dialect::Toss => &self.settings.toss,
            Dialect::Stripe => &self.settings.stripe,
        };
        if target.url.is_empty() {
            return None;
        }
        let event = format!("evt_{}_{}_{}", payment.reference, now.unix_ms(), payment.refunds().count());
        let (body, header) = match dialect {
            Dialect::Generic => (generic(payment, now, &event), Some("payment-signature")),
            Dialect::Toss => (toss_body(payment, now), None),
            Dialect::Stripe => (stripe_body(payment, now, &event), Some("stripe-signature")),
        };
        let body = body.to_string();
        let signature = header.map(|name| (name, signature(target.secret.expose(), now, &body)));
        Some(Message { url: target.url.clone(), headers: signature.into_iter().collect(), body })
    }
}

fn generic(payment: &Payment, now: Timestamp, event: &str) -> Value {
    json!({"event_id": event, "type": "payment.changed", "reference": payment.reference, "occurred_at": now.to_string()})
}

fn toss_body(payment: &Payment, now: Timestamp) -> Value {
    let at = now.to_datetime().format("%Y-%m-%dT%H:%M:%S%.6f").to_string();
    if payment.script.method == Method::VirtualAccount {
        return json!({
            "createdAt": at, "secret": toss::secret(payment), "status": toss::status(payment), "orderId": payment.reference,
            "transactionKey": format!("tx_{}", payment.reference),
        });
    }
    json!({"eventType": "PAYMENT_STATUS_CHANGED", "createdAt": at, "data": toss::body(payment)})
}

fn stripe_body(payment: &Payment, now: Timestamp, event: &str) -> Value {
    let kind = match stripe::status(payment) {
        "succeeded" if payment.refunds().next().is_some() => "charge.refunded",
        "succeeded" => "payment_intent.succeeded",
        "canceled" => "payment_intent.canceled",
        _ => "payment_intent.payment_failed",
    };
    let object = if kind == "charge.refunded" { stripe::charge(payment) } else { Some(stripe::body(payment, &[])) };
    json!({"id": event, "object": "event", "type": kind, "created": now.unix_ms().div_euclid(1_000), "data": {"object": object}})
}

/// `t=<unix seconds>,v1=<HMAC-SHA256 of "t.body" in hexadecimal>`, as Stripe and the generic contract sign.
fn signature(secret: &str, now: Timestamp, body: &str) -> String {
    let seconds = now.unix_ms().div_euclid(1_000);
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(format!("{seconds}.{body}").as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={hex}")
}

/// Sends what is queued until the simulator ends.
pub async fn send_all(mut outbound: Outbound) {
    let client = match reqwest::Client::builder().timeout(TIMEOUT).build() {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "no callbacks can be sent");
            return;
        }
    };
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(AT_ONCE_MAX));
    while let Some(message) = outbound.0.recv().await {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let client = client.clone();
        tokio::spawn(async move {
            send(&client, message).await;
            drop(place);
        });
    }
}

async fn send(client: &reqwest::Client, message: Message) {
    for attempt in 1..=TRIES {
        let mut request = client.post(&message.url).header("content-type", "application/json").body(message.body.clone());
        for (name, value) in &message.headers {
            request = request.header(*name, value);
        }
        match request.send().await {
            Ok(response) if response.status().is_success() => return,
            Ok(response) => tracing::debug!(attempt, status = response.status().as_u16(), "a callback was not taken"),
            Err(error) => tracing::debug!(attempt, error = %error.without_url(), "a callback did not arrive"),
        }
        tokio::time::sleep(PAUSE.saturating_mul(attempt)).await;
    }
}
