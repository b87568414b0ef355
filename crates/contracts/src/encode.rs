//! Writing commands to the log.

use domain::{
    clock::Timestamp,
    coupon::{Admission, Cancel, Change, Define, Request},
    ids::RequestId,
};
use uuid::{Uuid, fmt::Hyphenated};

use crate::{encoded::Encoded, envelope::Envelope, envelope::seal, key::LogKey, names, proto, time};

/// A request. It is signed if it says that the gate admitted it; an unadmitted one needs no signature and gets none.
/// `replay_of` names the request that a replayed dead letter could not be used for.
#[must_use]
pub fn encode_request(request: &Request, replay_of: Option<RequestId>, log_key: &LogKey, envelope: &Envelope<'_>) -> Encoded {
    let mut buffer = Uuid::encode_buffer();
    let id: &str = Hyphenated::from_uuid(request.id.uuid()).encode_lower(&mut buffer);
    let message = proto::CouponIssueRequestEvent {
        coupon_id: request.coupon.as_str().to_owned(),
        user_id: request.member.as_str().to_owned(),
        request_id: id.to_owned(),
        admitted: request.admitted,
        replay_of: replay_of.map(|old| old.to_string()).unwrap_or_default(),
    };
    seal(names::TYPE_REQUEST, id, request.coupon.as_str(), &message, envelope, request.admitted.then_some(log_key))
}

/// The definition of a coupon, signed.
#[must_use]
pub fn encode_define(define: &Define, log_key: &LogKey, envelope: &Envelope<'_>) -> Encoded {
    let id = define.id.to_string();
    let admission = match define.admission {
        Admission::Reserved => proto::Admission::Reserved,
        Admission::Queued => proto::Admission::Queued,
    };
    let message = proto::DefineCoupon {
        command_id: id.clone(),
        coupon_id: define.coupon.as_str().to_owned(),
        actor: define.actor.clone(),
        name: define.name.clone(),
        admission: admission.into(),
        total_quantity: define.total,
        opens_at: define.opens_at.map(time::to_proto),
        closes_at: define.closes_at.map(time::to_proto),
    };
    seal(names::TYPE_DEFINE, &id, define.coupon.as_str(), &message, envelope, Some(log_key))
}

/// A change of a coupon's rules, signed.
#[must_use]
pub fn encode_change(change: &Change, log_key: &LogKey, envelope: &Envelope<'_>) -> Encoded {
    let id = change.id.to_string();
    let message = proto::ChangeCoupon {
        command_id: id.clone(),
        coupon_id: change.coupon.as_str().to_owned(),
        actor: change.actor.clone(),
        name: change.name.clone(),
        total_quantity: change.total,
        opens_at: change.opens_at.map(window_bound),
        closes_at: change.closes_at.map(window_bound),
        paused: change.paused,
        end: change.end,
    };
    seal(names::TYPE_CHANGE, &id, change.coupon.as_str(), &message, envelope, Some(log_key))
}

/// The cancelling of a request that is not decided yet, signed.
#[must_use]
pub fn encode_cancel(cancel: &Cancel, log_key: &LogKey, envelope: &Envelope<'_>) -> Encoded {
    let id = cancel.id.to_string();
    let message = proto::CancelRequest {
        command_id: id.clone(),
        coupon_id: cancel.coupon.as_str().to_owned(),
        actor: cancel.actor.clone(),
        user_id: cancel.member.as_str().to_owned(),
        request_id: cancel.request.to_string(),
    };
    seal(names::TYPE_CANCEL, &id, cancel.coupon.as_str(), &message, envelope, Some(log_key))
}

fn window_bound(bound: Option<Timestamp>) -> proto::WindowBound {
    let bound = match bound {
        Some(at) => proto::window_bound::Bound::At(time::to_proto(at)),
        None => proto::window_bound::Bound::None(()),
    };
    proto::WindowBound { bound: Some(bound) }
}
