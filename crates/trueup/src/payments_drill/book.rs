//! What the database says, in SQL of the drill's own.

use anyhow::Result;
use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Bool, Text},
};
use diesel_async::RunQueryDsl;

use crate::pg::Connection;

/// A payment with its order.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[diesel(check_for_backend(diesel::pg::Pg))]
pub struct PaymentRow {
    /// The payment.
    #[diesel(sql_type = Text)]
    pub payment_id: String,
    /// Its order.
    #[diesel(sql_type = Text)]
    pub order_id: String,
    /// What the gateway knows it by.
    #[diesel(sql_type = Text)]
    pub reference: String,
    /// The order's amount, in minor units.
    #[diesel(sql_type = BigInt)]
    pub amount: i64,
    /// The payment's state.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// The order's state.
    #[diesel(sql_type = Text)]
    pub order_state: String,
    /// Refunds of it that are not confirmed.
    #[diesel(sql_type = BigInt)]
    pub open_refunds: i64,
    /// Whether any callback about it came in.
    #[diesel(sql_type = Bool)]
    pub called_back: bool,
    /// Captures − refunds + reversals of the accountant's book, in minor units.
    #[diesel(sql_type = BigInt)]
    pub booked: i64,
}

/// A product with what was sold of it.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[diesel(check_for_backend(diesel::pg::Pg))]
pub struct ProductRow {
    /// The product.
    #[diesel(sql_type = Text)]
    pub product_id: String,
    /// What it began with − what is left.
    #[diesel(sql_type = BigInt)]
    pub gone: i64,
    /// What is left.
    #[diesel(sql_type = BigInt)]
    pub stock: i64,
    /// The sum of its movements, with its sign turned.
    #[diesel(sql_type = BigInt)]
    pub moved: i64,
    /// Pieces on lines of completed orders.
    #[diesel(sql_type = BigInt)]
    pub completed: i64,
}

/// Puts products there.
///
/// # Errors
/// The database refuses.
pub async fn add_product(connection: &mut Connection, product: &str, stock: i64) -> Result<()> {
    sql_query("INSERT INTO product (product_id, name, initial_stock, stock) VALUES ($1, 'drill', $2, $2)")
        .bind::<Text, _>(product)
        .bind::<BigInt, _>(stock)
        .execute(connection)
        .await?;
    Ok(())
}

/// Orders of the drill that came in, and how many of them are not at rest: PENDING, or with money on its way.
///
/// # Errors
/// The database refuses.
pub async fn progress(connection: &mut Connection, prefix: &str) -> Result<(i64, i64)> {
    #[derive(QueryableByName)]
    #[diesel(check_for_backend(diesel::pg::Pg))]
    struct Row {
        #[diesel(sql_type = BigInt)]
        orders: i64,
        #[diesel(sql_type = BigInt)]
        open: i64,
    }
    let row: Row = sql_query(
        "SELECT count(*) AS orders,
                count(*) FILTER (WHERE o.state = 'PENDING' OR p.state IN ('PENDING', 'REFUNDING')) AS open
         FROM customer_order o JOIN payment p USING (order_id)
         WHERE starts_with(o.order_id, $1)",
    )
    .bind::<Text, _>(prefix)
    .get_result(connection)
    .await?;
    Ok((row.orders, row.open))
}

/// The drill's payments.
///
/// # Errors
/// The database refuses.
pub async fn payments(connection: &mut Connection, prefix: &str) -> Result<Vec<PaymentRow>> {
    Ok(sql_query(
        "SELECT p.payment_id, p.order_id, p.reference, o.amount, p.state, o.state AS order_state,
                (SELECT count(*) FROM refund r WHERE r.payment_id = p.payment_id AND r.state <> 'CONFIRMED') AS open_refunds,
                EXISTS (SELECT FROM payment_callback c WHERE c.payment_id = p.payment_id) AS called_back,
                (SELECT coalesce(sum(money_entry_signed(e.kind, e.amount)), 0)::bigint
                 FROM money_entry e WHERE e.payment_id = p.payment_id) AS booked
         FROM payment p JOIN customer_order o USING (order_id)
         WHERE starts_with(o.order_id, $1) ORDER BY p.payment_id",
    )
    .bind::<Text, _>(prefix)
    .load(connection)
    .await?)
}

/// The drill's products.
///
/// # Errors
/// The database refuses.
pub async fn products(connection: &mut Connection, prefix: &str) -> Result<Vec<ProductRow>> {
    Ok(sql_query(
        "SELECT product_id, initial_stock - stock AS gone, stock,
                (SELECT coalesce(-sum(change), 0)::bigint FROM stock_movement m WHERE m.product_id = product.product_id) AS moved,
                (SELECT coalesce(sum(quantity), 0)::bigint FROM order_line l JOIN customer_order o USING (order_id)
                 WHERE l.product_id = product.product_id AND o.state = 'COMPLETED') AS completed
         FROM product WHERE starts_with(product_id, $1) ORDER BY product_id",
    )
    .bind::<Text, _>(prefix)
    .load(connection)
    .await?)
}
