//! Reading what scripts answer. A shape that a script does not give is an error, never a guess.

use std::str::FromStr;

use deadpool_redis::redis::Value;

use crate::error::GateError;

pub(crate) fn array(value: Value) -> Result<Vec<Value>, GateError> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(unexpected("an array", &other)),
    }
}

pub(crate) fn integer(value: &Value) -> Result<i64, GateError> {
    match value {
        Value::Int(number) => Ok(*number),
        other => Err(unexpected("an integer", other)),
    }
}

pub(crate) fn text(value: &Value) -> Result<&str, GateError> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).map_err(|_| unexpected("UTF-8", value)),
        Value::SimpleString(text) => Ok(text),
        other => Err(unexpected("a text", other)),
    }
}

pub(crate) fn owned_text(value: Value) -> Result<String, GateError> {
    match value {
        Value::BulkString(bytes) => {
            String::from_utf8(bytes).map_err(|error| unexpected("UTF-8", &Value::BulkString(error.into_bytes())))
        }
        other => text(&other).map(str::to_owned),
    }
}

pub(crate) fn parsed<T: FromStr>(value: &Value) -> Result<T, GateError> {
    text(value)?.parse().map_err(|_| unexpected(std::any::type_name::<T>(), value))
}

/// A number where the script gives an empty text for none.
pub(crate) fn optional_number(value: &Value) -> Result<Option<i64>, GateError> {
    if text(value)?.is_empty() { Ok(None) } else { parsed(value).map(Some) }
}

/// The next value of an answer that must have one more.
pub(crate) fn next(values: &mut impl Iterator<Item = Value>) -> Result<Value, GateError> {
    values.next().ok_or_else(|| GateError::Reply("the answer ends too early".to_owned()))
}

pub(crate) fn unexpected(wanted: &str, found: &Value) -> GateError {
    // Replies hold member ids; the log needs no more than the beginning.
    let mut found = format!("{found:?}");
    found.truncate(found.char_indices().nth(120).map_or(found.len(), |(at, _)| at));
    GateError::Reply(format!("wanted {wanted}, found {found}"))
}
