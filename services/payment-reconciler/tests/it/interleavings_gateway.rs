//! The gateway's part of a case: what it does with an attempt, and its callbacks in each dialect.

use std::fmt::Write as _;

use domain::clock::{Clock as _, SystemClock};
use hmac::{Hmac, Mac as _};
use payment_providers::ProviderKind;
use pg_simulator::{Answer, Call, Fault, Method, RefundScript, Script};
use serde_json::json;
use sha2::Sha256;

use crate::{
    interleavings::{Attempt, Back, Beginning, Mishap, Plan},
    line_world::CALLBACK_SECRET,
    refund_stage::AMOUNT,
};

/// The body and the headers of a callback about a payment.
pub fn callback(kind: ProviderKind, event: &str, reference: &str) -> (String, Vec<(String, String)>) {
    let (body, header) = match kind {
        ProviderKind::Generic => {
            (json!({"event_id": event, "type": "payment.changed", "reference": reference}), Some("payment-signature"))
        }
        ProviderKind::Toss => {
            (json!({"eventType": "PAYMENT_STATUS_CHANGED", "createdAt": event, "data": {"orderId": reference}}), None)
        }
        ProviderKind::Stripe => {
            let object = json!({"object": "payment_intent", "id": reference});
            (json!({"id": event, "type": "payment_intent.succeeded", "data": {"object": object}}), Some("stripe-signature"))
        }
    };
    let body = body.to_string();
    let headers = header.map(|name| (name.to_owned(), signature(&body))).into_iter().collect();
    (body, headers)
}

/// What the simulator is told to do with an attempt.
pub fn script(plan: &Plan, attempt: &Attempt) -> Script {
    let begun = match attempt.beginning {
        Beginning::Open => Script::open(),
        Beginning::Unknown => Script::default().then(Answer::NotFound),
        Beginning::Paid => Script::paid(),
        Beginning::PaidAfter(asks) => Script::pending(asks).then(Answer::Paid),
        Beginning::KnownAndPaidAfter(asks) => Script::not_found(asks).then(Answer::Paid),
        Beginning::Closed => Script::default().then(Answer::Closed),
        // Stripe has no virtual accounts that the payment line would know.
        Beginning::Deposit if plan.kind == ProviderKind::Stripe => Script::open(),
        Beginning::Deposit => Script::deposit(),
    };
    let (now, good) = match plan.kind {
        ProviderKind::Generic => ("try_later", "refund_rejected"),
        ProviderKind::Toss => ("NOT_AVAILABLE_BANK", "NOT_CANCELABLE_PAYMENT"),
        ProviderKind::Stripe => ("balance_insufficient", "charge_disputed"),
    };
    let refunds = attempt.refunds.iter().map(|back| match back {
        Back::Done => RefundScript::Done,
        Back::Pending(asks) => RefundScript::Pending(*asks),
        Back::FailsLater(asks) => RefundScript::FailsLater(*asks),
        Back::Reversed(asks) => RefundScript::Reversed(*asks),
        Back::RefusedForNow => RefundScript::Refused(now.to_owned()),
        Back::RefusedForGood => RefundScript::Refused(good.to_owned()),
    });
    let script = Script {
        refunds: refunds.collect(),
        over_refunds: plan.is_careless && begun.method != Method::VirtualAccount,
        ..begun.capturing(AMOUNT + attempt.amiss)
    };
    attempt.mishaps.iter().fold(script, |script, (of_refund, mishap)| {
        let fault = match mishap {
            Mishap::Dropped => Fault::Dropped,
            Mishap::ReplyLost => Fault::ReplyLost,
            Mishap::Unavailable => Fault::Status(503),
            Mishap::Throttled => Fault::Throttled(Some(1)),
            Mishap::Malformed => Fault::Malformed,
        };
        script.fault(if *of_refund { Call::Refund } else { Call::Query }, 1, fault)
    })
}

/// As Stripe and the generic contract sign.
fn signature(body: &str) -> String {
    let seconds = SystemClock.now().unix_ms() / 1_000;
    let mut mac = Hmac::<Sha256>::new_from_slice(CALLBACK_SECRET.as_bytes()).unwrap();
    mac.update(format!("{seconds}.{body}").as_bytes());
    let hex = mac.finalize().into_bytes().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    format!("t={seconds},v1={hex}")
}
