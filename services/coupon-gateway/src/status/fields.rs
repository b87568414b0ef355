//! The part of an answer that tells a request's outcome.

use domain::coupon::{LedgerRow, Outcome};

use crate::json::Object;

/// Adds the outcome of a request: `status`, and with it
/// `ahead` while it is pending, `sequence` and `decidedAt` of an issue, `reason` and `decidedAt` of a refusal.
/// `decidedAt` is the append time of the record that decided it.
#[must_use]
pub fn outcome_fields(body: Object, row: Option<&LedgerRow>, ahead: i64) -> Object {
    let Some(row) = row else {
        return body.plain("status", "pending").number("ahead", ahead);
    };
    let body = match row.outcome {
        Outcome::Issued { sequence } => body.plain("status", "success").number("ahead", 0).number("sequence", sequence),
        Outcome::Refused { reason, issued_request } => {
            let body = body.plain("status", "failed").number("ahead", 0).plain("reason", reason.as_str());
            match issued_request {
                Some(issued) => body.plain("issuedRequestId", &issued.to_string()),
                None => body,
            }
        }
    };
    body.plain("decidedAt", &row.at.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]
    use domain::{
        clock::{SystemClock, Timestamp},
        coupon::{Place, Refusal},
        ids::{CouponCode, RequestId},
    };

    use super::*;

    fn read(outcome: Option<Outcome>) -> serde_json::Value {
        let row = outcome.map(|outcome| LedgerRow {
            coupon: CouponCode::new("c").unwrap(),
            request: RequestId::fresh(&SystemClock),
            member: None,
            place: Place { partition: 0, offset: 0 },
            at: Timestamp::from_unix_ms(0),
            admitted: false,
            outcome,
        });
        serde_json::from_str(&outcome_fields(Object::new(0), row.as_ref(), 7).close()).unwrap()
    }

    #[test]
    fn each_outcome_has_its_fields() {
        assert_eq!(read(None), serde_json::json!({"status": "pending", "ahead": 7}));
        let success =
            serde_json::json!({"status": "success", "ahead": 0, "sequence": 4, "decidedAt": "1970-01-01T00:00:00.000Z"});
        assert_eq!(read(Some(Outcome::Issued { sequence: 4 })), success);
        for reason in Refusal::ALL {
            let failed = read(Some(Outcome::refused(reason)));
            assert_eq!((failed["status"].as_str(), failed["reason"].as_str()), (Some("failed"), Some(reason.as_str())));
            assert!(failed.get("issuedRequestId").is_none());
        }
        let issued = RequestId::fresh(&SystemClock);
        let duplicate = read(Some(Outcome::Refused { reason: Refusal::Duplicate, issued_request: Some(issued) }));
        assert_eq!(duplicate["issuedRequestId"], issued.to_string());
    }
}
