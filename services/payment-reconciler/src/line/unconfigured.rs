//! Payments of gateways that are not in the settings: nobody can ask about them, so an operator is shown them. When the gateway is there
//! (again), they are due like any other, and the first answer lifts the flag.

use chrono::{DateTime, TimeDelta, Utc};
use domain::payment::ProviderName;
use tracing::Instrument;

use super::{Line, gateways::with_gateways, rows::parsed, run::Scope, trace};
use crate::{
    error::LineError,
    pg::{self, Params},
};

/// Gateways that are looked at in a run, at most.
const GATEWAYS_MAX: i64 = 16;
/// Payments of one of them that are noted in a run, at most; the others follow in the next runs.
const NOTED_MAX: usize = 100;
/// How much longer they wait than others do: another replica, of newer settings, may know the gateway.
const OTHERS_FIRST: TimeDelta = TimeDelta::minutes(5);

/// Whose payments are to be asked about.
const GATEWAYS: &str = with_gateways!(
    "SELECT provider FROM (SELECT provider FROM fresh UNION SELECT provider FROM due) named \
    WHERE provider IS NOT NULL AND provider <> ALL($1::text[]) ORDER BY provider LIMIT $2"
);

/// Whether nobody has had to do with a gateway for as long: then its breaker and its pause mean nothing any more.
const LEFT: &str = "SELECT EXISTS (SELECT FROM provider_state WHERE provider = $1 AND updated_at < $2::timestamptz \
    AND coalesce(breaker_until < $2::timestamptz, true))";

impl Line {
    /// Notes what is due of gateways that are not in the settings, as asks that failed; how many those were.
    ///
    /// # Errors
    /// PostgreSQL.
    pub(super) async fn note_unconfigured(&self, began_at: DateTime<Utc>) -> Result<i64, LineError> {
        let known: Vec<&str> = self.gateways.keys().map(ProviderName::as_str).collect();
        let session = pg::session(&self.pool).await?;
        let params: Params<'_> = &[&known, &GATEWAYS_MAX];
        let rows = session.rows(GATEWAYS, params).await?;
        drop(session);
        let since = began_at.checked_sub_signed(OTHERS_FIRST).unwrap_or(began_at);
        let mut noted: i64 = 0;
        for row in &rows {
            let name: ProviderName = parsed(row, "provider")?;
            let session = pg::session(&self.pool).await?;
            let is_left: bool = session.row(LEFT, &[&name.as_str(), &since]).await?.try_get(0)?;
            drop(session);
            let claims = self.claims(&name, Scope::Run, NOTED_MAX, since, is_left).await?;
            noted = noted.saturating_add(claims.unreadable);
            for claimed in claims.readable {
                let unknown = Err(LineError::UnknownProvider(name.to_string()));
                self.conclude(&claimed, &unknown).instrument(trace::turn_of(&claimed)).await;
                noted = noted.saturating_add(1);
            }
        }
        Ok(noted)
    }
}
