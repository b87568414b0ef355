//! What is stored of a callback, and the transaction that stores it.

use diesel::{OptionalExtension, QueryableByName, sql_query, sql_types};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use payment_providers::{digest, port::CallbackHint};
use postgres_io::Db;

use super::{Taken, hint::hint_when_allowed};
use crate::error::LineError;

/// The longest event id that is stored as it is, in bytes; of a longer one its digest is. An index takes no more than a third of a page.
const EVENT_ID_BYTES_MAX: usize = 255;

/// A repeat raises a number. Beyond the bound of unsigned callbacks of a payment, no row is added, and the newest one is raised instead.
const STORE: &str = "INSERT INTO payment_callback (provider, event_id, reference, payment_id, authenticated) \
    SELECT $1, $2, $3, $4, $5 WHERE $5 OR EXISTS (SELECT FROM payment_callback WHERE provider = $1 AND event_id = $2) \
    OR (SELECT count(*) FROM (SELECT 1 FROM payment_callback WHERE provider = $1 AND reference = $3 AND NOT authenticated LIMIT $6) k) < $6 \
    ON CONFLICT (provider, event_id) DO UPDATE SET \
    times = payment_callback.times + CASE WHEN payment_callback.times < 2000000000 THEN 1 ELSE 0 END, \
    last_received_at = payment_now(), payment_id = coalesce(payment_callback.payment_id, EXCLUDED.payment_id), \
    authenticated = payment_callback.authenticated OR EXCLUDED.authenticated \
    RETURNING callback_id, times = 1 AS is_new";

const RAISE: &str = "UPDATE payment_callback SET times = times + CASE WHEN times < 2000000000 THEN 1 ELSE 0 END, \
    last_received_at = payment_now() WHERE callback_id = \
    (SELECT max(callback_id) FROM payment_callback WHERE provider = $1 AND reference = $2 AND NOT authenticated) \
    RETURNING callback_id, true AS is_new";

#[derive(QueryableByName)]
struct StoredRow {
    #[diesel(sql_type = sql_types::BigInt)]
    callback_id: i64,
    #[diesel(sql_type = sql_types::Bool)]
    is_new: bool,
}

/// What is stored of a callback.
pub(super) struct Note {
    pub provider: String,
    pub hint: CallbackHint,
    /// The payment, if it is known.
    pub payment: Option<String>,
    /// The shortest time between two asks that such callbacks may cause for it.
    pub gap_ms: i64,
    /// Unsigned callbacks that are kept of it, at most.
    pub kept_max: i64,
}

impl Note {
    /// Stores it and makes its payment due, in one transaction.
    pub async fn store(self, db: &Db) -> Result<Taken, LineError> {
        let mut connection = db.conn().await?;
        connection.transaction(async |connection| self.write(connection).await).await
    }

    async fn write(&self, connection: &mut AsyncPgConnection) -> Result<Taken, LineError> {
        let stored: Option<StoredRow> = sql_query(STORE)
            .bind::<sql_types::Text, _>(&self.provider)
            .bind::<sql_types::Text, _>(event_key(&self.hint.event_id))
            .bind::<sql_types::Text, _>(self.hint.reference.as_str())
            .bind::<sql_types::Nullable<sql_types::Text>, _>(&self.payment)
            .bind::<sql_types::Bool, _>(self.hint.authenticated)
            .bind::<sql_types::BigInt, _>(self.kept_max)
            .get_result(connection)
            .await
            .optional()?;
        let stored = match stored {
            Some(stored) => Some(stored),
            None => sql_query(RAISE)
                .bind::<sql_types::Text, _>(&self.provider)
                .bind::<sql_types::Text, _>(self.hint.reference.as_str())
                .get_result(connection)
                .await
                .optional()?,
        };
        // A repeat is a hint like any other: the gateway may not have been answered, or the payment may have come in since.
        if let (Some(stored), Some(payment)) = (&stored, &self.payment) {
            hint_when_allowed(connection, stored.callback_id, payment, self.gap_ms).await?;
        }
        Ok(match (stored, &self.payment) {
            (Some(StoredRow { is_new: false, .. }), _) | (None, Some(_)) => Taken::Repeated,
            (Some(_), Some(_)) => Taken::Stored,
            (_, None) => Taken::Waiting { authenticated: self.hint.authenticated },
        })
    }
}

/// What an event is known by here: its id, or the digest of one that no index takes or no text can hold.
fn event_key(id: &str) -> String {
    if id.len() <= EVENT_ID_BYTES_MAX && !id.contains('\0') { id.to_owned() } else { digest(id.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_its_id_as_long_as_it_can_be_stored() {
        let longest = "e".repeat(EVENT_ID_BYTES_MAX);
        assert_eq!(event_key(&longest), longest);
        for id in [format!("{longest}e"), "é".repeat(EVENT_ID_BYTES_MAX), "e\0".to_owned()] {
            let key = event_key(&id);
            assert!(key.len() <= EVENT_ID_BYTES_MAX && key.starts_with("sha256-"), "{key}");
            assert_eq!(key, event_key(&id), "a repeat is known again");
            assert_ne!(key, event_key(&format!("{id}x")));
        }
    }
}
