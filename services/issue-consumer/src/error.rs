//! What can go wrong between the log and the ledger, and which policy it calls for.

use tokio_postgres::error::SqlState;

/// Which policy a failure calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It may work later: the partition waits and tries again, and nothing is skipped.
    Transient,
    /// PostgreSQL refuses the data: the batch is bisected until the record is found.
    Data,
    /// The set-up is wrong: the partition stops with an alarm.
    Fatal,
}

/// A transaction that did not commit, or perhaps did.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The position is not where this worker left it: somebody else decides the partition.
    #[error("the position stands at {found:?} instead of {expected}: another consumer decides this partition")]
    Moved {
        /// Where this worker left it.
        expected: i64,
        /// Where it stands, if there is a row of this incarnation.
        found: Option<i64>,
    },
    /// A unique index refused a row: an id was decided before, so the batch has to be decided again with everything loaded.
    #[error("decided before: {0}")]
    Collision(String),
    /// PostgreSQL refuses the data.
    #[error("refused by the database: {0}")]
    Data(String),
    /// Nothing was written, and it may work later.
    #[error("the database is not usable now: {0}")]
    Transient(String),
    /// Somebody holds a row that the transaction needs. Nothing was written.
    #[error("a row is locked: {0}")]
    Locked(String),
    /// The answer to COMMIT was lost: it may have been done.
    #[error("the answer to COMMIT was lost: {0}")]
    CommitUnknown(String),
    /// The schema or the rights are not what this program needs.
    #[error("the database is not set up for this program: {0}")]
    Fatal(String),
}

impl StoreError {
    /// Sorts a driver error by its SQLSTATE; without one the connection is gone.
    #[must_use]
    pub fn from_postgres(error: &tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            return Self::Transient(error.to_string());
        };
        let text = format!("{}: {}", db.code().code(), db.message());
        match db.code() {
            code if *code == SqlState::UNIQUE_VIOLATION => Self::Collision(text),
            code if *code == SqlState::LOCK_NOT_AVAILABLE => Self::Locked(text),
            code => match kind_of(code.code()) {
                Kind::Data => Self::Data(text),
                Kind::Transient => Self::Transient(text),
                Kind::Fatal => Self::Fatal(text),
            },
        }
    }
}

/// The policy for a SQLSTATE. What is not known is transient: waiting loses nothing, giving up would.
fn kind_of(code: &str) -> Kind {
    match code.get(..2) {
        // Data exceptions, integrity violations, and exceptions that the schema's triggers raise.
        Some("22" | "23" | "44" | "P0") => Kind::Data,
        // A missing table or column, no such database or role, no rights, a feature that is not there.
        Some("0A" | "28" | "3D" | "3F" | "42") => Kind::Fatal,
        _ => Kind::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_their_policy() {
        let cases = [
            ("22021", Kind::Data),
            ("23514", Kind::Data),
            ("P0001", Kind::Data),
            ("42P01", Kind::Fatal),
            ("28P01", Kind::Fatal),
            ("40P01", Kind::Transient),
            ("55P03", Kind::Transient),
            ("57014", Kind::Transient),
            ("57P01", Kind::Transient),
            ("53300", Kind::Transient),
            ("08006", Kind::Transient),
            ("XX000", Kind::Transient),
        ];
        for (code, kind) in cases {
            assert_eq!(kind_of(code), kind, "{code}");
        }
    }
}
