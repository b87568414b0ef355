//! Reading the log. Total: any bytes give a command or a cause, and never a panic.

use domain::{
    clock::Timestamp,
    coupon::{Admission, Body, Cancel, Change, Define, LogIncarnation, Record, Request},
    ids::{CommandId, CouponCode, IdError, MemberId, RequestId},
};
use prost::Message;

use crate::{
    foreign,
    key::LogKey,
    limits::{ACTOR_CHARS_MAX, NAME_CHARS_MAX, TOTAL_MAX, VALUE_BYTES_MAX},
    names, proto,
    record::RawRecord,
    relay::{Cause, origin_of, shortened},
    time,
};

/// What a record turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// A command that the fold can judge.
    Usable(Record),
    /// Something that goes to the dead letter topic.
    Unusable(Unusable),
}

/// A record that cannot be used, with what could be read of it. Where both coupon and request are known, that request is
/// final: `unprocessable`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// Why, as a stable code.
    pub cause: Cause,
    /// Why, in words; bounded and without control characters.
    pub detail: String,
    /// The coupon it names, where that is a valid code.
    pub coupon: Option<CouponCode>,
    /// The request it is, where that is a valid id and the record is a request.
    pub request: Option<RequestId>,
    /// The member it names, where that is a valid id.
    pub member: Option<MemberId>,
}

impl Unusable {
    fn new(cause: Cause, detail: impl AsRef<str>) -> Self {
        Self { cause, detail: shortened(detail.as_ref()), coupon: None, request: None, member: None }
    }

    fn of_coupon(mut self, coupon: Option<CouponCode>) -> Self {
        self.coupon = coupon;
        self
    }
}

/// Reads one record. `log` names the log that the record was read from: a foreign record's id is derived from the place
/// where it first landed in it.
///
/// A request that claims to be admitted without a valid signature is an ordinary unadmitted request; every other command
/// without a valid signature is unusable.
#[must_use]
pub fn decode(raw: &RawRecord<'_>, log_key: &LogKey, log: &LogIncarnation) -> Decoded {
    match read(raw, log_key, log) {
        Ok(body) => Decoded::Usable(Record { place: raw.place(), at: Timestamp::from_unix_ms(raw.timestamp_ms), body }),
        Err(unusable) => Decoded::Unusable(unusable),
    }
}

fn read(raw: &RawRecord<'_>, log_key: &LogKey, log: &LogIncarnation) -> Result<Body, Unusable> {
    let value = raw.value.unwrap_or_default();
    let Some(event_type) = raw.headers.get(names::CE_TYPE) else {
        return read_foreign(raw, value, log);
    };
    if event_type == names::TYPE_REQUEST.as_bytes() {
        return read_request(raw, value, log_key);
    }
    let kind =
        [names::TYPE_DEFINE, names::TYPE_CHANGE, names::TYPE_CANCEL].into_iter().find(|kind| kind.as_bytes() == event_type);
    let Some(kind) = kind else {
        let detail = format!("no message `{}` is known in this log", String::from_utf8_lossy(event_type));
        return Err(Unusable::new(Cause::UnknownType, detail).of_coupon(coupon_of_key(raw)));
    };
    check_size(value).map_err(|unusable| unusable.of_coupon(coupon_of_key(raw)))?;
    // The signature comes first: nothing in a command that nobody vouches for is worth reading.
    if !is_signed(raw, value, kind, log_key) {
        let detail = format!("{kind} needs a valid {}", names::SIGNATURE);
        return Err(Unusable::new(Cause::BadSignature, detail).of_coupon(coupon_of_key(raw)));
    }
    let read = match kind {
        names::TYPE_DEFINE => read_define(value),
        names::TYPE_CHANGE => read_change(value),
        _ => read_cancel(value),
    };
    read.map_err(|unusable| unusable.of_coupon(coupon_of_key(raw)))
}

fn check_size(value: &[u8]) -> Result<(), Unusable> {
    if value.len() > VALUE_BYTES_MAX {
        let detail = format!("{} bytes; a command has at most {VALUE_BYTES_MAX}", value.len());
        return Err(Unusable::new(Cause::TooLarge, detail));
    }
    Ok(())
}

fn is_signed(raw: &RawRecord<'_>, value: &[u8], event_type: &str, log_key: &LogKey) -> bool {
    let Some(signature) = raw.headers.get(names::SIGNATURE) else { return false };
    let id = raw.headers.text(names::CE_ID).unwrap_or_default();
    log_key.verifies(signature, event_type, id, raw.key.unwrap_or_default(), value)
}

/// The coupon that the key names: all that is left of a record whose value cannot be read.
fn coupon_of_key(raw: &RawRecord<'_>) -> Option<CouponCode> {
    CouponCode::new(std::str::from_utf8(raw.key?).ok()?).ok()
}

fn read_foreign(raw: &RawRecord<'_>, value: &[u8], log: &LogIncarnation) -> Result<Body, Unusable> {
    check_size(value)?;
    let json = foreign::parse(value).map_err(|error| Unusable::new(Cause::BadJson, error))?;
    let id = raw.headers.text(names::REQUEST_ID).and_then(|id| id.parse().ok()).unwrap_or_else(|| {
        let first = origin_of(raw);
        RequestId::from_first_landing(&log.to_string(), first.partition, first.offset)
    });
    checked_request(Some(id), &json.coupon_id, &json.user_id, false).map(Body::Request)
}

fn read_request(raw: &RawRecord<'_>, value: &[u8], log_key: &LogKey) -> Result<Body, Unusable> {
    let envelope_id = raw.headers.text(names::CE_ID).and_then(|id| id.parse::<RequestId>().ok());
    let from_envelope = |mut unusable: Unusable| {
        // The value is lost, but key and ce_id still say whose outcome is waited for.
        unusable.request = envelope_id;
        unusable.of_coupon(coupon_of_key(raw))
    };
    check_size(value).map_err(from_envelope)?;
    let message = proto::CouponIssueRequestEvent::decode(value)
        .map_err(|error| from_envelope(Unusable::new(Cause::BadProtobuf, error.to_string())))?;
    let id = message.request_id.parse::<RequestId>().ok();
    if let (Some(inner), Some(outer)) = (id, envelope_id)
        && inner != outer
    {
        // Two ids are claimed; making either final could refuse somebody else's request.
        return Err(Unusable::new(Cause::BadId, "ce_id and request_id differ").of_coupon(coupon_of_key(raw)));
    }
    let admitted = message.admitted && is_signed(raw, value, names::TYPE_REQUEST, log_key);
    checked_request(id, &message.coupon_id, &message.user_id, admitted).map(Body::Request)
}

/// Checks the ids of a request; what is valid is kept in the refusal, so that its outcome can be told.
fn checked_request(id: Option<RequestId>, coupon: &str, member: &str, admitted: bool) -> Result<Request, Unusable> {
    let (coupon, member) = (CouponCode::new(coupon), MemberId::new(member));
    match (id, coupon, member) {
        (Some(id), Ok(coupon), Ok(member)) => Ok(Request { id, coupon, member, admitted }),
        (id, coupon, member) => {
            let detail = if let Err(error) = &coupon {
                format!("the coupon's code {error}")
            } else if let Err(error) = &member {
                format!("the member's id {error}")
            } else {
                format!("the request's id {}", IdError::NotUuid)
            };
            let unusable = Unusable::new(Cause::BadId, detail);
            Err(Unusable { coupon: coupon.ok(), request: id, member: member.ok(), ..unusable })
        }
    }
}

fn bad_protobuf(error: prost::DecodeError) -> Unusable {
    Unusable::new(Cause::BadProtobuf, error.to_string())
}

fn bad_value(detail: impl AsRef<str>) -> Unusable {
    Unusable::new(Cause::BadValue, detail)
}

fn command_id(text: &str) -> Result<CommandId, Unusable> {
    text.parse().map_err(|error| Unusable::new(Cause::BadId, format!("the command's id {error}")))
}

fn coupon_code(text: &str) -> Result<CouponCode, Unusable> {
    CouponCode::new(text).map_err(|error| Unusable::new(Cause::BadId, format!("the coupon's code {error}")))
}

/// A text for people: bounded, and without control characters, which PostgreSQL and terminals would trip over.
fn text(what: &str, text: String, chars_max: usize) -> Result<String, Unusable> {
    if text.len() > chars_max * 4 || text.chars().count() > chars_max {
        return Err(bad_value(format!("{what} is longer than {chars_max} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(bad_value(format!("{what} contains a control character")));
    }
    Ok(text)
}

fn total(total: i64) -> Result<i64, Unusable> {
    if (0..=TOTAL_MAX).contains(&total) {
        Ok(total)
    } else {
        Err(bad_value(format!("a total of {total} is outside of 0 to {TOTAL_MAX}")))
    }
}

fn moment(what: &str, at: &prost_types::Timestamp) -> Result<Timestamp, Unusable> {
    time::from_proto(at).map_err(|error| bad_value(format!("{what}: {error}")))
}

fn read_define(value: &[u8]) -> Result<Body, Unusable> {
    let message = proto::DefineCoupon::decode(value).map_err(bad_protobuf)?;
    let admission = match message.admission() {
        proto::Admission::Reserved => Admission::Reserved,
        proto::Admission::Queued => Admission::Queued,
        proto::Admission::Unspecified => return Err(bad_value("admission is not given or not known")),
    };
    let opens_at = message.opens_at.as_ref().map(|at| moment("opens_at", at)).transpose()?;
    let closes_at = message.closes_at.as_ref().map(|at| moment("closes_at", at)).transpose()?;
    if let (Some(opens), Some(closes)) = (opens_at, closes_at)
        && closes <= opens
    {
        return Err(bad_value("closes_at is not after opens_at"));
    }
    Ok(Body::Define(Define {
        id: command_id(&message.command_id)?,
        coupon: coupon_code(&message.coupon_id)?,
        actor: text("actor", message.actor, ACTOR_CHARS_MAX)?,
        name: text("name", message.name, NAME_CHARS_MAX)?,
        admission,
        total: total(message.total_quantity)?,
        opens_at,
        closes_at,
    }))
}

fn read_change(value: &[u8]) -> Result<Body, Unusable> {
    let message = proto::ChangeCoupon::decode(value).map_err(bad_protobuf)?;
    Ok(Body::Change(Change {
        id: command_id(&message.command_id)?,
        coupon: coupon_code(&message.coupon_id)?,
        actor: text("actor", message.actor, ACTOR_CHARS_MAX)?,
        name: message.name.map(|name| text("name", name, NAME_CHARS_MAX)).transpose()?,
        total: message.total_quantity.map(total).transpose()?,
        opens_at: window_bound("opens_at", message.opens_at.as_ref())?,
        closes_at: window_bound("closes_at", message.closes_at.as_ref())?,
        paused: message.paused,
        end: message.end,
    }))
}

/// A bound that says neither a moment nor none was written by somebody newer: guessing would change a coupon wrongly.
#[allow(clippy::option_option, reason = "absent, taken away and set are three different things")]
fn window_bound(what: &str, bound: Option<&proto::WindowBound>) -> Result<Option<Option<Timestamp>>, Unusable> {
    match bound.map(|bound| &bound.bound) {
        None => Ok(None),
        Some(Some(proto::window_bound::Bound::None(()))) => Ok(Some(None)),
        Some(Some(proto::window_bound::Bound::At(at))) => moment(what, at).map(|at| Some(Some(at))),
        Some(None) => Err(bad_value(format!("{what} says neither a moment nor none"))),
    }
}

fn read_cancel(value: &[u8]) -> Result<Body, Unusable> {
    let message = proto::CancelRequest::decode(value).map_err(bad_protobuf)?;
    Ok(Body::Cancel(Cancel {
        id: command_id(&message.command_id)?,
        coupon: coupon_code(&message.coupon_id)?,
        actor: text("actor", message.actor, ACTOR_CHARS_MAX)?,
        member: MemberId::new(&message.user_id)
            .map_err(|error| Unusable::new(Cause::BadId, format!("the member's id {error}")))?,
        request: message.request_id.parse().map_err(|error| Unusable::new(Cause::BadId, format!("the request's id {error}")))?,
    }))
}
