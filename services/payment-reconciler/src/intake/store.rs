//! Orders in PostgreSQL: what is there, and a batch written with its position in one transaction.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use contracts::order::OrderPlaced;
use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use domain::{
    coupon::LogIncarnation,
    payment::{Money, OrderId},
};
use postgres_io::{Db, DbError, ErrorKind, classify};

use super::batch::{Existing, Known};

/// A batch that was not written, or perhaps was.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The position is not where this worker left it: another replica reads the partition, or an answer to COMMIT was lost.
    #[error("the position is not at {0} any more")]
    Moved(i64),
    /// A unique index refused a row that was not there a moment ago: look again.
    #[error("somebody wrote it first: {0}")]
    Collision(String),
    /// PostgreSQL refuses the data.
    #[error("refused by the database: {0}")]
    Data(String),
    /// It may work later.
    #[error("the database is not usable now: {0}")]
    Transient(String),
    /// The schema or the rights are not what this program needs.
    #[error("the database is not set up for this program: {0}")]
    Fatal(String),
}

impl From<diesel::result::Error> for WriteError {
    fn from(error: diesel::result::Error) -> Self {
        use diesel::result::{DatabaseErrorKind, Error};
        let text = error.to_string();
        match &error {
            Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => Self::Collision(text),
            _ => match classify(&error) {
                ErrorKind::Transient | ErrorKind::Saturation => Self::Transient(text),
                ErrorKind::Data => Self::Data(text),
                ErrorKind::Fatal => Self::Fatal(text),
            },
        }
    }
}

impl From<DbError> for WriteError {
    fn from(error: DbError) -> Self {
        Self::Transient(error.to_string())
    }
}

/// Where a batch stands in the log.
#[derive(Debug, Clone)]
pub struct Range {
    /// The partition.
    pub partition: i32,
    /// Its first record.
    pub from: i64,
    /// Behind its last one.
    pub to: i64,
}

/// The tables, as the intake sees them.
#[derive(Clone)]
pub struct IntakeStore {
    db: Db,
    topic: String,
    log: LogIncarnation,
}

#[derive(QueryableByName)]
struct OrderRow {
    #[diesel(sql_type = sql_types::Text)]
    order_id: String,
    #[diesel(sql_type = sql_types::BigInt)]
    amount: i64,
    #[diesel(sql_type = sql_types::Text)]
    currency: String,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Binary>)]
    content_digest: Option<Vec<u8>>,
}

#[derive(QueryableByName)]
struct LineRow {
    #[diesel(sql_type = sql_types::Text)]
    order_id: String,
    #[diesel(sql_type = sql_types::Text)]
    product_id: String,
    #[diesel(sql_type = sql_types::BigInt)]
    quantity: i64,
}

#[derive(QueryableByName)]
struct PaymentRow {
    #[diesel(sql_type = sql_types::Text)]
    payment_id: String,
    #[diesel(sql_type = sql_types::Text)]
    order_id: String,
    #[diesel(sql_type = sql_types::Text)]
    provider: String,
    #[diesel(sql_type = sql_types::Text)]
    reference: String,
}

type Texts = sql_types::Array<sql_types::Text>;
type Numbers = sql_types::Array<sql_types::BigInt>;

impl IntakeStore {
    /// The tables of `db`, for orders of this log.
    #[must_use]
    pub const fn new(db: Db, topic: String, log: LogIncarnation) -> Self {
        Self { db, topic, log }
    }

    /// What is there of these orders and their payments. Both are written once and never change, so that a look is enough.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn look(&self, orders: &[&OrderPlaced]) -> Result<Existing, WriteError> {
        if orders.is_empty() {
            return Ok(Existing::default());
        }
        let mut connection = self.db.conn().await?;
        let ids: Vec<&str> = orders.iter().map(|order| order.order.as_str()).collect();
        let attempts = || orders.iter().flat_map(|order| &order.payments);
        let rows: Vec<OrderRow> =
            sql_query("SELECT order_id, amount, currency, content_digest FROM customer_order WHERE order_id = ANY($1)")
                .bind::<Texts, _>(&ids)
                .load(&mut connection)
                .await?;
        let lines: Vec<LineRow> = sql_query("SELECT order_id, product_id, quantity FROM order_line WHERE order_id = ANY($1)")
            .bind::<Texts, _>(&ids)
            .load(&mut connection)
            .await?;
        let payments: Vec<PaymentRow> = sql_query(
            "SELECT payment_id, order_id, provider, reference FROM payment WHERE order_id = ANY($1) OR payment_id = ANY($2) \
             UNION SELECT p.payment_id, p.order_id, p.provider, p.reference FROM payment p \
             JOIN unnest($3::text[], $4::text[]) AS r (provider, reference) ON p.provider = r.provider AND p.reference = r.reference",
        )
        .bind::<Texts, _>(&ids)
        .bind::<Texts, _>(attempts().map(|attempt| attempt.payment.as_str()).collect::<Vec<_>>())
        .bind::<Texts, _>(attempts().map(|attempt| attempt.provider.as_str()).collect::<Vec<_>>())
        .bind::<Texts, _>(attempts().map(|attempt| attempt.reference.as_str()).collect::<Vec<_>>())
        .load(&mut connection)
        .await?;
        existing(rows, lines, payments)
    }

    /// Moves the position and inserts the orders, in one transaction.
    ///
    /// # Errors
    /// [`WriteError`]; only after [`WriteError::Moved`] and [`WriteError::Transient`] it may have been written.
    pub async fn write(&self, range: &Range, orders: &[OrderPlaced]) -> Result<(), WriteError> {
        let mut connection = self.db.conn().await?;
        connection
            .transaction(async |connection| {
                self.move_position(connection, range).await?;
                if !orders.is_empty() {
                    insert_orders(connection, orders).await?;
                    insert_lines(connection, orders).await?;
                    insert_payments(connection, orders).await?;
                }
                Ok(())
            })
            .await
    }

    /// First in the transaction, so that a replica that lost the partition stops before it writes anything.
    async fn move_position(&self, connection: &mut AsyncPgConnection, range: &Range) -> Result<(), WriteError> {
        let moved = sql_query(
            "UPDATE consumer_position SET next_offset = $4, updated_at = now() \
             WHERE topic = $1 AND partition = $2 AND next_offset = $3 AND cluster_id = $5 AND topic_id = $6",
        )
        .bind::<sql_types::Text, _>(&self.topic)
        .bind::<sql_types::Integer, _>(range.partition)
        .bind::<sql_types::BigInt, _>(range.from)
        .bind::<sql_types::BigInt, _>(range.to)
        .bind::<sql_types::Text, _>(&self.log.cluster_id)
        .bind::<sql_types::Text, _>(&self.log.topic_id)
        .execute(connection)
        .await?;
        if moved == 1 { Ok(()) } else { Err(WriteError::Moved(range.from)) }
    }
}

/// An order is as old as the order service says, but never from the future: it would become stale only when that has come.
async fn insert_orders(connection: &mut AsyncPgConnection, orders: &[OrderPlaced]) -> Result<(), WriteError> {
    let placed: Vec<DateTime<Utc>> = orders.iter().map(|order| order.placed_at.to_datetime()).collect();
    sql_query(
        "INSERT INTO customer_order (order_id, amount, currency, content_digest, created_at) \
         SELECT id, amount, currency, digest, least(placed_at, payment_now()) \
         FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bytea[], $5::timestamptz[]) AS placed (id, amount, currency, digest, placed_at)",
    )
    .bind::<Texts, _>(orders.iter().map(|order| order.order.as_str()).collect::<Vec<_>>())
    .bind::<Numbers, _>(orders.iter().map(|order| order.amount.amount).collect::<Vec<_>>())
    .bind::<Texts, _>(orders.iter().map(|order| order.amount.currency.as_str()).collect::<Vec<_>>())
    .bind::<sql_types::Array<sql_types::Binary>, _>(
        orders.iter().map(|order| order.content_digest().to_vec()).collect::<Vec<_>>(),
    )
    .bind::<sql_types::Array<sql_types::Timestamptz>, _>(placed)
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_lines(connection: &mut AsyncPgConnection, orders: &[OrderPlaced]) -> Result<(), WriteError> {
    let lines = || orders.iter().flat_map(|order| order.lines.iter().map(move |(product, quantity)| (order, product, quantity)));
    sql_query(
        "INSERT INTO order_line (order_id, product_id, quantity) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])",
    )
    .bind::<Texts, _>(lines().map(|(order, ..)| order.order.as_str()).collect::<Vec<_>>())
    .bind::<Texts, _>(lines().map(|(_, product, _)| product.as_str()).collect::<Vec<_>>())
    .bind::<Numbers, _>(lines().map(|(.., quantity)| *quantity).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// The methods that the schedule tells apart; any other is as good as none.
const METHODS: [&str; 5] = ["card", "transfer", "virtual_account", "mobile", "easy_pay"];

async fn insert_payments(connection: &mut AsyncPgConnection, orders: &[OrderPlaced]) -> Result<(), WriteError> {
    let attempts = || orders.iter().flat_map(|order| order.payments.iter().map(move |attempt| (order, attempt)));
    let method = |name: &str| METHODS.into_iter().find(|known| *known == name).unwrap_or("other");
    let secrets: Vec<Option<&str>> =
        attempts().map(|(_, attempt)| attempt.deposit_secret.as_ref().map(domain::secret::Secret::expose)).collect();
    sql_query(
        "INSERT INTO payment (payment_id, order_id, provider, reference, method, amount, currency, callback_secret, created_at) \
         SELECT id, order_id, provider, reference, method, amount, currency, secret, least(placed_at, payment_now()) \
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::timestamptz[]) \
         AS attempt (id, order_id, provider, reference, method, amount, currency, secret, placed_at)",
    )
    .bind::<Texts, _>(attempts().map(|(_, attempt)| attempt.payment.as_str()).collect::<Vec<_>>())
    .bind::<Texts, _>(attempts().map(|(order, _)| order.order.as_str()).collect::<Vec<_>>())
    .bind::<Texts, _>(attempts().map(|(_, attempt)| attempt.provider.as_str()).collect::<Vec<_>>())
    .bind::<Texts, _>(attempts().map(|(_, attempt)| attempt.reference.as_str()).collect::<Vec<_>>())
    .bind::<Texts, _>(attempts().map(|(_, attempt)| method(&attempt.method)).collect::<Vec<_>>())
    .bind::<Numbers, _>(attempts().map(|(order, _)| order.amount.amount).collect::<Vec<_>>())
    .bind::<Texts, _>(attempts().map(|(order, _)| order.amount.currency.as_str()).collect::<Vec<_>>())
    .bind::<sql_types::Array<sql_types::Nullable<sql_types::Text>>, _>(secrets)
    .bind::<sql_types::Array<sql_types::Timestamptz>, _>(
        attempts().map(|(order, _)| order.placed_at.to_datetime()).collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn existing(orders: Vec<OrderRow>, lines: Vec<LineRow>, payments: Vec<PaymentRow>) -> Result<Existing, WriteError> {
    // A row that somebody wrote past the rules is a fault of that row: what has an id in common with it cannot be used, and stops nobody.
    let unreadable = |error: &dyn std::fmt::Display| WriteError::Data(format!("a row that is there cannot be read: {error}"));
    let id = |text: &str| OrderId::new(text).map_err(|error| unreadable(&error));
    let mut all = Existing::default();
    for row in orders {
        let currency = row.currency.parse().map_err(|error: domain::payment::CurrencyError| unreadable(&error))?;
        let amount = Money::new(row.amount, currency);
        let known = Known { digest: row.content_digest, amount, lines: BTreeMap::new(), payments: BTreeMap::new() };
        all.orders.insert(id(&row.order_id)?, known);
    }
    for row in lines {
        let product = row.product_id.parse().map_err(|error: domain::ids::IdError| unreadable(&error))?;
        if let Some(known) = all.orders.get_mut(&id(&row.order_id)?) {
            known.lines.insert(product, row.quantity);
        }
    }
    for row in payments {
        let order = id(&row.order_id)?;
        let fault = |error: domain::ids::IdError| unreadable(&error);
        let payment: domain::payment::PaymentId = row.payment_id.parse().map_err(fault)?;
        let account = (row.provider.parse().map_err(fault)?, row.reference.parse().map_err(fault)?);
        if let Some(known) = all.orders.get_mut(&order) {
            known.payments.insert(payment.clone(), account.clone());
        }
        all.payments.insert(payment, order.clone());
        all.references.insert(account, order);
    }
    Ok(all)
}
