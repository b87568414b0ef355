//! Outcomes as events: `coupon_issued` and `coupon_rejected`.

use domain::{
    clock::Timestamp,
    coupon::{LedgerRow, Outcome, Place, Refusal},
    ids::{CouponCode, MemberId, RequestId},
};
use prost::Message;
use uuid::Uuid;

use crate::{encoded::Encoded, envelope::Envelope, envelope::seal, names, proto, record::RawRecord, time};

/// The name space of event ids. It must never change: readers drop repeats by these ids.
const EVENT_NAMESPACE: Uuid = Uuid::from_u128(0x0d5e_3c19_7a42_5b86_9f10_2c6b_b1e4_8d37);

/// The event id of a request's outcome: the same each time it is told, and no other outcome's. Request ids are unique per
/// coupon only, so both are in it.
#[must_use]
pub fn outcome_event_id(coupon: &CouponCode, request: RequestId) -> Uuid {
    let mut name = Vec::with_capacity(96);
    name.extend_from_slice(request.uuid().as_bytes());
    name.extend_from_slice(coupon.as_str().as_bytes());
    Uuid::new_v5(&EVENT_NAMESPACE, &name)
}

/// The event of a decided request, for the topic of its outcome: issued or rejected.
#[must_use]
pub fn encode_outcome(row: &LedgerRow, envelope: &Envelope<'_>) -> Encoded {
    match row.outcome {
        Outcome::Issued { sequence } => encode_issued(row, sequence, envelope),
        Outcome::Refused { reason, issued_request } => encode_rejected(row, reason, issued_request, envelope),
    }
}

/// The event of an issue.
#[must_use]
pub fn encode_issued(row: &LedgerRow, sequence: i64, envelope: &Envelope<'_>) -> Encoded {
    let message = proto::CouponIssued {
        coupon_id: row.coupon.as_str().to_owned(),
        user_id: member_text(row),
        request_id: row.request.to_string(),
        sequence,
        issued_at: Some(time::to_proto(row.at)),
        log_partition: row.place.partition,
        log_offset: row.place.offset,
    };
    seal_outcome(names::TYPE_ISSUED, row, &message, envelope)
}

/// The event of a refusal.
#[must_use]
pub fn encode_rejected(row: &LedgerRow, reason: Refusal, issued: Option<RequestId>, envelope: &Envelope<'_>) -> Encoded {
    let message = proto::CouponRejected {
        coupon_id: row.coupon.as_str().to_owned(),
        user_id: member_text(row),
        request_id: row.request.to_string(),
        reason: reason_to_proto(reason).into(),
        issued_request_id: issued.map(|id| id.to_string()).unwrap_or_default(),
        rejected_at: Some(time::to_proto(row.at)),
        log_partition: row.place.partition,
        log_offset: row.place.offset,
    };
    seal_outcome(names::TYPE_REJECTED, row, &message, envelope)
}

fn member_text(row: &LedgerRow) -> String {
    row.member.as_ref().map(|member| member.as_str().to_owned()).unwrap_or_default()
}

fn seal_outcome(event_type: &str, row: &LedgerRow, message: &impl Message, envelope: &Envelope<'_>) -> Encoded {
    let id = outcome_event_id(&row.coupon, row.request).to_string();
    seal(event_type, &id, row.coupon.as_str(), message, envelope, None)
}

const fn reason_to_proto(reason: Refusal) -> proto::RejectionReason {
    match reason {
        Refusal::SoldOut => proto::RejectionReason::SoldOut,
        Refusal::Duplicate => proto::RejectionReason::Duplicate,
        Refusal::NotOpen => proto::RejectionReason::NotOpen,
        Refusal::Closed => proto::RejectionReason::Closed,
        Refusal::Paused => proto::RejectionReason::Paused,
        Refusal::Ended => proto::RejectionReason::Ended,
        Refusal::Cancelled => proto::RejectionReason::Cancelled,
        Refusal::Unprocessable => proto::RejectionReason::Unprocessable,
    }
}

/// An outcome event as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeEvent {
    /// The event's id, by which repeats are known.
    pub event_id: Uuid,
    /// The coupon.
    pub coupon: CouponCode,
    /// The request.
    pub request: RequestId,
    /// Who asked.
    pub member: Option<MemberId>,
    /// Where in the log of commands it was decided.
    pub place: Place,
    /// When the broker appended what decided it.
    pub at: Timestamp,
    /// The outcome.
    pub outcome: Outcome,
}

/// Why a record of an outcome topic could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OutcomeError(String);

/// Reads a record of `coupon_issued` or `coupon_rejected`.
///
/// # Errors
/// A type that is not known, or a value that breaks the contract.
pub fn decode_outcome(raw: &RawRecord<'_>) -> Result<OutcomeEvent, OutcomeError> {
    let fault = |what: &str| OutcomeError(what.to_owned());
    let event_id =
        raw.headers.text(names::CE_ID).and_then(|id| Uuid::parse_str(id).ok()).ok_or_else(|| fault("ce_id is no UUID"))?;
    let value = raw.value.unwrap_or_default();
    let unreadable = |error: prost::DecodeError| OutcomeError(error.to_string());
    let (coupon, member, request, partition, offset, at, outcome) = match raw.headers.text(names::CE_TYPE) {
        Some(names::TYPE_ISSUED) => {
            let issued = proto::CouponIssued::decode(value).map_err(unreadable)?;
            let outcome = Outcome::Issued { sequence: issued.sequence };
            let (partition, offset) = (issued.log_partition, issued.log_offset);
            (issued.coupon_id, issued.user_id, issued.request_id, partition, offset, issued.issued_at, outcome)
        }
        Some(names::TYPE_REJECTED) => {
            let rejected = proto::CouponRejected::decode(value).map_err(unreadable)?;
            let reason = Refusal::ALL
                .into_iter()
                .find(|reason| reason_to_proto(*reason) == rejected.reason())
                .ok_or_else(|| fault("the reason is not known"))?;
            let outcome = Outcome::Refused { reason, issued_request: rejected.issued_request_id.parse().ok() };
            let (partition, offset) = (rejected.log_partition, rejected.log_offset);
            (rejected.coupon_id, rejected.user_id, rejected.request_id, partition, offset, rejected.rejected_at, outcome)
        }
        _ => return Err(fault("ce_type is no outcome")),
    };
    Ok(OutcomeEvent {
        event_id,
        coupon: CouponCode::new(coupon).map_err(|error| OutcomeError(format!("the coupon's code {error}")))?,
        request: request.parse().map_err(|error| OutcomeError(format!("the request's id {error}")))?,
        member: MemberId::new(member).ok(),
        place: Place { partition, offset },
        at: at.as_ref().map(time::from_proto).transpose().map_err(OutcomeError)?.unwrap_or_default(),
        outcome,
    })
}
