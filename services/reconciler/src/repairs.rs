//! What the full comparison reads from the ledger, and the rows that it leaves about each repair.

use std::collections::HashSet;

use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::ids::{CouponCode, MemberId};

use crate::{error::TaskError, store::Store};

/// Which side knows a member whom the other does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In the gate's set, without an issue or a waiting reservation.
    OnlyInRedis,
    /// Holder of an issue that the settler has told the gate, and not in its set.
    OnlyInPostgres,
    /// In the gate by a reservation that was given up, because PostgreSQL refuses every row of its request.
    RefusedByDatabase,
}

impl Kind {
    /// The value of `reconciliation_repair.kind`, and the label in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnlyInRedis => "only_in_redis",
            Self::OnlyInPostgres => "only_in_postgres",
            Self::RefusedByDatabase => "refused_by_database",
        }
    }
}

/// Holders of an issue among some members, in one snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    /// The decided position of the snapshot; none before the consumer's first batch.
    pub position: Option<i64>,
    /// Those who hold an issue.
    pub members: HashSet<String>,
}

#[derive(QueryableByName)]
struct MemberRow {
    #[diesel(sql_type = sql_types::Text)]
    member_id: String,
}

/// PostgreSQL's texts hold no U+0000, so nobody with one has an issue, and rows name him by its escape.
pub(crate) fn storable(member: &str) -> String {
    member.replace('\0', "\\0")
}

/// [`Store::holders_after`] on a connection of the caller's. A page comes as one array, which is less work for both than a row for each member.
pub(crate) async fn holders_after(
    connection: &mut AsyncPgConnection,
    code: &CouponCode,
    after: &str,
    limit: usize,
) -> Result<Vec<MemberId>, TaskError> {
    #[derive(QueryableByName)]
    struct Page {
        #[diesel(sql_type = sql_types::Array<sql_types::Text>)]
        members: Vec<String>,
    }
    let pages: Vec<Page> = sql_query(
        "SELECT ARRAY(SELECT member_id FROM coupon_request WHERE coupon_code = $1 AND outcome = 'issued' AND member_id > $2 \
         ORDER BY member_id LIMIT $3) AS members",
    )
    .bind::<sql_types::Text, _>(code.as_str())
    .bind::<sql_types::Text, _>(after)
    .bind::<sql_types::BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
    .load(connection)
    .await?;
    let members = pages.into_iter().flat_map(|page| page.members);
    members.map(|member| MemberId::new(member).map_err(|e| TaskError::Row(format!("member_id {e}")))).collect()
}

impl Store {
    /// A page of holders behind the member `after`, in order of their ids; read from the index alone.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn holders_after(&self, code: &CouponCode, after: &str, limit: usize) -> Result<Vec<MemberId>, TaskError> {
        holders_after(&mut *self.connection().await?, code, after, limit).await
    }

    /// Of these members, the holders whose issue was told before `cursor`: the settler has put them into the gate.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn told_before(&self, code: &CouponCode, members: &[MemberId], cursor: i64) -> Result<Vec<MemberId>, TaskError> {
        let mut connection = self.connection().await?;
        let rows: Vec<MemberRow> = sql_query(
            "SELECT member_id FROM coupon_request WHERE coupon_code = $1 AND outcome = 'issued' AND member_id = ANY($2) AND told_offset < $3",
        )
        .bind::<sql_types::Text, _>(code.as_str())
        .bind::<sql_types::Array<sql_types::Text>, _>(members.iter().map(MemberId::as_str).collect::<Vec<_>>())
        .bind::<sql_types::BigInt, _>(cursor)
        .load(&mut connection)
        .await?;
        rows.into_iter().map(|row| MemberId::new(row.member_id).map_err(|e| TaskError::Row(format!("member_id {e}")))).collect()
    }

    /// Who of these members holds an issue, with the decided position of the same snapshot.
    ///
    /// # Errors
    /// PostgreSQL, or [`TaskError::UnknownCoupon`].
    pub async fn holders_among(&self, code: &CouponCode, members: &[String]) -> Result<Holders, TaskError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = sql_types::Nullable<sql_types::BigInt>)]
            next_offset: Option<i64>,
            #[diesel(sql_type = sql_types::Array<sql_types::Text>)]
            members: Vec<String>,
        }
        let mut connection = self.connection().await?;
        // One statement is one snapshot.
        let rows: Vec<Row> = sql_query(
            "SELECT p.next_offset, ARRAY(SELECT member_id FROM coupon_request \
             WHERE coupon_code = $2 AND outcome = 'issued' AND member_id = ANY($3)) AS members \
             FROM coupon c LEFT JOIN consumer_position p ON p.topic = $1 AND p.partition = c.partition WHERE c.coupon_code = $2",
        )
        .bind::<sql_types::Text, _>(&self.topic)
        .bind::<sql_types::Text, _>(code.as_str())
        .bind::<sql_types::Array<sql_types::Text>, _>(members.iter().filter(|member| !member.contains('\0')).collect::<Vec<_>>())
        .load(&mut connection)
        .await?;
        let row = rows.into_iter().next().ok_or_else(|| TaskError::UnknownCoupon(code.clone()))?;
        Ok(Holders { position: row.next_offset, members: row.members.into_iter().collect() })
    }

    /// Notes mismatches before the gate is touched. One that is noted already and not known to be repaired stays one row.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn note(&self, code: &CouponCode, kind: Kind, members: &[&str]) -> Result<(), TaskError> {
        let mut connection = self.connection().await?;
        sql_query(
            "INSERT INTO reconciliation_repair (coupon_code, member_id, kind) SELECT DISTINCT $1, member, $2 FROM unnest($3) AS member \
             ON CONFLICT (coupon_code, member_id, kind) WHERE repaired_at IS NULL DO NOTHING",
        )
        .bind::<sql_types::Text, _>(code.as_str())
        .bind::<sql_types::Text, _>(kind.as_str())
        .bind::<sql_types::Array<sql_types::Text>, _>(members.iter().map(|member| storable(member)).collect::<Vec<_>>())
        .execute(&mut connection)
        .await?;
        Ok(())
    }

    /// Writes down that noted mismatches are repaired, or were none after all: those rows go.
    ///
    /// # Errors
    /// PostgreSQL; the next comparison of the coupon finds the rows open and looks again.
    pub async fn close(&self, code: &CouponCode, kind: Kind, repaired: &[&str], none: &[&str]) -> Result<(), TaskError> {
        let mut connection = self.connection().await?;
        for (query, members) in [
            (
                "UPDATE reconciliation_repair SET repaired_at = now() \
                 WHERE coupon_code = $1 AND kind = $2 AND repaired_at IS NULL AND member_id = ANY($3)",
                repaired,
            ),
            (
                "DELETE FROM reconciliation_repair \
                 WHERE coupon_code = $1 AND kind = $2 AND repaired_at IS NULL AND member_id = ANY($3)",
                none,
            ),
        ] {
            if !members.is_empty() {
                sql_query(query)
                    .bind::<sql_types::Text, _>(code.as_str())
                    .bind::<sql_types::Text, _>(kind.as_str())
                    .bind::<sql_types::Array<sql_types::Text>, _>(
                        members.iter().map(|member| storable(member)).collect::<Vec<_>>(),
                    )
                    .execute(&mut connection)
                    .await?;
            }
        }
        Ok(())
    }

    /// Members whose repair was noted and is not known to be done, at most `limit`.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn open_repairs(&self, code: &CouponCode, kind: Kind, limit: i64) -> Result<Vec<String>, TaskError> {
        let mut connection = self.connection().await?;
        let rows: Vec<MemberRow> = sql_query(
            "SELECT member_id FROM reconciliation_repair WHERE coupon_code = $1 AND kind = $2 AND repaired_at IS NULL ORDER BY id LIMIT $3",
        )
        .bind::<sql_types::Text, _>(code.as_str())
        .bind::<sql_types::Text, _>(kind.as_str())
        .bind::<sql_types::BigInt, _>(limit)
        .load(&mut connection)
        .await?;
        Ok(rows.into_iter().map(|row| row.member_id).collect())
    }

    /// Deletes reports older than `days`, at most `limit` of them; how many went.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn forget_reports(&self, days: i32, limit: i64) -> Result<usize, TaskError> {
        let mut connection = self.connection().await?;
        Ok(sql_query(
            "DELETE FROM reconciliation_report WHERE id IN (SELECT id FROM reconciliation_report \
             WHERE finished_at < now() - $1 * interval '1 day' ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        )
        .bind::<sql_types::Integer, _>(days)
        .bind::<sql_types::BigInt, _>(limit)
        .execute(&mut connection)
        .await?)
    }
}
