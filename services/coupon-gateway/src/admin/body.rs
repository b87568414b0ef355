//! Bodies of operators' calls; every faulty field is told at once.

use domain::{
    clock::Timestamp,
    coupon::Admission,
    ids::{CouponCode, MemberId},
};
use serde_json::{Map, Value};

use crate::error::{ApiError, FieldFault};

/// A new coupon.
pub struct NewCoupon {
    pub code: CouponCode,
    pub name: String,
    pub admission: Admission,
    pub total: i64,
    pub opens_at: Option<Timestamp>,
    pub closes_at: Option<Timestamp>,
}

/// What is to be changed; what is `None` stays.
#[derive(Default)]
pub struct Changes {
    pub name: Option<String>,
    pub total: Option<i64>,
    pub opens_at: Option<Option<Timestamp>>,
    pub closes_at: Option<Option<Timestamp>>,
    pub paused: Option<bool>,
    pub end: bool,
}

struct Fields<'a> {
    object: &'a Map<String, Value>,
    faults: Vec<FieldFault>,
}

/// Reads a definition.
///
/// # Errors
/// No object, or all faulty fields.
pub fn new_coupon(body: &[u8]) -> Result<NewCoupon, ApiError> {
    let object = object(body)?;
    let mut fields = Fields::of(&object, &["code", "name", "admission", "totalQuantity", "opensAt", "closesAt"]);
    let code = fields.id::<CouponCode>("code");
    let name = fields.name();
    let admission = fields.admission();
    let total = fields.total();
    if !object.contains_key("totalQuantity") {
        fields.fault("totalQuantity", "is missing; give the number of seats");
    }
    let (opens_at, closes_at) = (fields.moment("opensAt").flatten(), fields.moment("closesAt").flatten());
    if matches!((opens_at, closes_at), (Some(opens), Some(closes)) if closes <= opens) {
        fields.fault("closesAt", "is not after opensAt");
    }
    match (code, admission, total, fields.faults.is_empty()) {
        (Some(code), Some(admission), Some(total), true) => {
            let name = name.unwrap_or_else(|| code.as_str().to_owned());
            Ok(NewCoupon { code, name, admission, total, opens_at, closes_at })
        }
        _ => Err(ApiError::InvalidFields(fields.faults)),
    }
}

/// Reads a change of rules.
///
/// # Errors
/// No object, nothing to change, or all faulty fields.
pub fn changes(body: &[u8]) -> Result<Changes, ApiError> {
    let object = object(body)?;
    let mut fields = Fields::of(&object, &["name", "totalQuantity", "opensAt", "closesAt"]);
    let changes = Changes {
        name: fields.name(),
        total: fields.total(),
        opens_at: fields.moment("opensAt"),
        closes_at: fields.moment("closesAt"),
        ..Changes::default()
    };
    if object.is_empty() {
        fields.fault("totalQuantity", "nothing is to be changed; give one of name, totalQuantity, opensAt, closesAt");
    }
    if fields.faults.is_empty() { Ok(changes) } else { Err(ApiError::InvalidFields(fields.faults)) }
}

/// Reads whose request is to be cancelled.
///
/// # Errors
/// No object, or no member.
pub fn member(body: &[u8]) -> Result<MemberId, ApiError> {
    let object = object(body)?;
    let mut fields = Fields::of(&object, &["memberId"]);
    let member = fields.id::<MemberId>("memberId");
    member.filter(|_| fields.faults.is_empty()).ok_or(ApiError::InvalidFields(fields.faults))
}

fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::MalformedBody(error.to_string()))
}

impl<'a> Fields<'a> {
    fn of(object: &'a Map<String, Value>, known: &[&'static str]) -> Self {
        let mut fields = Self { object, faults: Vec::new() };
        for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
            let problem = format!("`{}` is not known; known are {}", name.chars().take(64).collect::<String>(), known.join(", "));
            fields.fault("body", problem);
        }
        fields
    }

    fn fault(&mut self, field: &'static str, problem: impl Into<String>) {
        self.faults.push(FieldFault::new(field, problem));
    }

    fn id<T: std::str::FromStr<Err = domain::ids::IdError>>(&mut self, field: &'static str) -> Option<T> {
        let text = match self.object.get(field) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) if number.is_u64() => number.to_string(),
            Some(_) => {
                self.fault(field, "must be a string or an integer");
                return None;
            }
            None => {
                self.fault(field, "is missing; give 1 to 64 printable characters");
                return None;
            }
        };
        text.parse().map_err(|error: domain::ids::IdError| self.fault(field, error.to_string())).ok()
    }

    fn name(&mut self) -> Option<String> {
        let text = match self.object.get("name")? {
            Value::String(text) => text.trim(),
            _ => {
                self.fault("name", "must be a string");
                return None;
            }
        };
        let good = (1..=contracts::NAME_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        if !good {
            self.fault("name", format!("give 1 to {} characters in one line", contracts::NAME_CHARS_MAX));
        }
        good.then(|| text.to_owned())
    }

    fn admission(&mut self) -> Option<Admission> {
        match self.object.get("admission") {
            Some(Value::String(text)) => text.parse().map_err(|problem: String| self.fault("admission", problem)).ok(),
            _ => {
                self.fault("admission", "give reserved (the Redis gate first) or queued (the log alone)");
                None
            }
        }
    }

    fn total(&mut self) -> Option<i64> {
        let value = self.object.get("totalQuantity")?;
        let total = value.as_i64().filter(|total| (0..=contracts::TOTAL_MAX).contains(total));
        if total.is_none() {
            self.fault("totalQuantity", format!("give an integer from 0 to {}", contracts::TOTAL_MAX));
        }
        total
    }

    /// None: not given; `Some(None)`: null, which takes the bound away.
    fn moment(&mut self, field: &'static str) -> Option<Option<Timestamp>> {
        match self.object.get(field)? {
            Value::Null => Some(None),
            Value::String(text) => match chrono::DateTime::parse_from_rfc3339(text) {
                Ok(at) => Some(Some(Timestamp::from(at.to_utc()))),
                Err(_) => {
                    self.fault(field, "is not a time such as 2024-05-01T09:00:00+09:00");
                    None
                }
            },
            _ => {
                self.fault(field, "must be a time such as 2024-05-01T09:00:00+09:00, or null");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn faulty<T>(result: Result<T, ApiError>) -> Vec<&'static str> {
        match result {
            Err(ApiError::InvalidFields(faults)) => faults.into_iter().map(|fault| fault.field).collect(),
            Err(error) => vec![error.parts().1],
            Ok(_) => Vec::new(),
        }
    }

    #[test]
    fn a_definition_needs_a_code_an_admission_and_a_total() {
        let coupon =
            new_coupon(br#"{"code":"c","admission":"queued","totalQuantity":5,"opensAt":"2024-05-01T09:00:00+09:00"}"#).unwrap();
        assert_eq!((coupon.name.as_str(), coupon.total), ("c", 5));
        assert_eq!(coupon.opens_at.unwrap().to_string(), "2024-05-01T00:00:00.000Z");
        assert_eq!(faulty(new_coupon(b"{}")), ["code", "admission", "totalQuantity"]);
        let bad = br#"{"code":"a{b","name":"","admission":"first","totalQuantity":-1,"opensAt":"noon","closesAt":5}"#;
        assert_eq!(faulty(new_coupon(bad)), ["code", "name", "admission", "totalQuantity", "opensAt", "closesAt"]);
        let empty = br#"{"code":"c","admission":"queued","totalQuantity":1,"opensAt":"2024-05-02T00:00:00Z","closesAt":"2024-05-01T00:00:00Z"}"#;
        assert_eq!(faulty(new_coupon(empty)), ["closesAt"]);
        assert_eq!(faulty(new_coupon(br#"{"code":"c","admission":"queued","total":1}"#)), ["body", "totalQuantity"]);
        assert_eq!(faulty(new_coupon(b"[1]")), ["malformed_body"]);
    }

    #[test]
    fn a_change_tells_what_stays_from_what_is_taken_away() {
        let change = changes(br#"{"opensAt":null,"totalQuantity":7}"#).unwrap();
        assert_eq!((change.opens_at, change.closes_at, change.total), (Some(None), None, Some(7)));
        assert_eq!(faulty(changes(b"{}")), ["totalQuantity"]);
        assert_eq!(faulty(changes(br#"{"paused":true}"#)), ["body"]);
    }

    #[test]
    fn a_cancel_names_its_member() {
        assert_eq!(member(br#"{"memberId":7}"#).unwrap().as_str(), "7");
        assert_eq!(faulty(member(b"{}")), ["memberId"]);
    }
}
