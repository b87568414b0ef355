//! What an error of PostgreSQL means for who asked.

use diesel::result::{DatabaseErrorKind, Error};
use domain::failure::ErrorKind;
use tokio_postgres::error::SqlState;

/// The kind of a diesel error. diesel hides the SQLSTATE, so some are told by their text, which is the server's and in English
/// because the services set no `lc_messages`.
#[must_use]
pub fn classify(error: &Error) -> ErrorKind {
    match error {
        Error::DatabaseError(kind, info) => match kind {
            DatabaseErrorKind::UniqueViolation
            | DatabaseErrorKind::ForeignKeyViolation
            | DatabaseErrorKind::NotNullViolation
            | DatabaseErrorKind::CheckViolation
            | DatabaseErrorKind::RestrictViolation
            | DatabaseErrorKind::ExclusionViolation => ErrorKind::Data,
            DatabaseErrorKind::SerializationFailure
            | DatabaseErrorKind::ReadOnlyTransaction
            | DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::UnableToSendCommand => ErrorKind::Transient,
            _ => by_text(info.message()),
        },
        Error::RollbackErrorOnCommit { .. } | Error::BrokenTransactionManager => ErrorKind::Transient,
        Error::SerializationError(_) => ErrorKind::Data,
        _ => ErrorKind::Fatal,
    }
}

fn by_text(message: &str) -> ErrorKind {
    const TRANSIENT: [&str; 9] = [
        "lock timeout",
        "statement timeout",
        "deadlock detected",
        "terminating connection",
        "connection closed",
        "the database system is",
        "connection reset",
        "broken pipe",
        "could not serialize",
    ];
    const SATURATION: [&str; 3] = ["too many clients", "out of memory", "remaining connection slots"];
    const DATA: [&str; 5] =
        ["invalid byte sequence", "invalid input", "out of range", "too long for type", "unsupported Unicode escape"];
    let holds = |list: &[&str]| list.iter().any(|part| message.contains(part));
    if holds(&SATURATION) {
        ErrorKind::Saturation
    } else if holds(&TRANSIENT) {
        ErrorKind::Transient
    } else if holds(&DATA) {
        ErrorKind::Data
    } else {
        ErrorKind::Fatal
    }
}

/// The kind of an error of a client outside the pool, by its SQLSTATE.
#[must_use]
pub fn classify_raw(error: &tokio_postgres::Error) -> ErrorKind {
    let Some(state) = error.code() else {
        // Without a code the server did not answer. A value that could not be encoded never reached it.
        let source = std::error::Error::source(error);
        return if error.is_closed() || source.is_some_and(|source| source.is::<std::io::Error>()) {
            ErrorKind::Transient
        } else {
            ErrorKind::Fatal
        };
    };
    if *state == SqlState::QUERY_CANCELED
        || *state == SqlState::LOCK_NOT_AVAILABLE
        || *state == SqlState::READ_ONLY_SQL_TRANSACTION
    {
        return ErrorKind::Transient;
    }
    match state.code().get(..2) {
        // Connection, transaction rollback (serialization, deadlock), operator intervention, system error.
        Some("08" | "40" | "57" | "58") => ErrorKind::Transient,
        Some("53") => ErrorKind::Saturation,
        // Data exception, integrity constraint.
        Some("22" | "23") => ErrorKind::Data,
        _ => ErrorKind::Fatal,
    }
}
