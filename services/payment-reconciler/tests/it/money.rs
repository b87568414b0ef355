//! The money check: what a gateway's ledger, our tables, the book and the stock say of the same money, payment by payment.
//!
//! It reads the simulator's ledger, which nobody can take a line out of, and never what the line believes of it. It is meant for
//! a line that is quiet: money on its way is a finding, too.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Display, Formatter},
};

use pg_simulator::{Control, Entry, EntryKind};
use serde::{Deserialize, de::DeserializeOwned};

use crate::orders::Sql;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// The gateway holds money of a payment that is no success: a refund was lost, or was never made.
    RefundLost,
    /// The gateway gave back more than ever came.
    RefundDoubled,
    /// The payment is a success, and its money is not with us.
    SuccessUnpaid,
    /// The payment is a success, and what is held is not its order's amount in its currency.
    SuccessOfOtherAmount,
    /// A refund went to another payment than the one that it was made for.
    RefundSwapped,
    /// Money of a payment that no table knows.
    UnknownPayment,
    /// The book does not say what the gateway's ledger says.
    BookDiffers,
    /// Something is still under way.
    Open,
    /// Where an order is does not go with where its payments are.
    StatesDisagree,
    /// Stock did not fall exactly once for each line of a completed order.
    StockDiffers,
}

/// One finding: what is wrong, with whose money, and the numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub wrong: Wrong,
    /// The payment, order or product.
    pub with: String,
    pub detail: String,
}

impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: {}", self.wrong, self.with, self.detail)
    }
}

/// The check of all that is in a database, or of the orders and products whose ids have a beginning.
pub struct MoneyCheck<'a> {
    sql: &'a Sql,
    gateway: &'a Control,
    beginning: String,
}

#[derive(Deserialize)]
struct Payment {
    payment_id: String,
    order_id: String,
    reference: String,
    state: String,
    order_state: String,
    amount: i64,
    currency: String,
    is_held: bool,
    refund_id: Option<String>,
    refund_state: Option<String>,
    captured: i64,
    given_back: i64,
    currencies: Vec<String>,
}

#[derive(Deserialize)]
struct Line {
    order_id: String,
    product_id: String,
    order_state: String,
    quantity: i64,
    sold: i64,
    sales: i64,
    returned: i64,
    /// Of one that an operator cancelled: whether the pieces were to come back.
    restock: Option<bool>,
}

#[derive(Deserialize)]
struct Product {
    product_id: String,
    initial_stock: i64,
    stock: i64,
    moved: i64,
}

#[derive(Deserialize)]
struct Order {
    order_id: String,
    state: String,
    successes: i64,
}

const PAYMENTS: &str = "SELECT p.payment_id, p.order_id, p.reference, p.state, o.state AS order_state, o.amount, o.currency, \
    p.holder IS NOT NULL AS is_held, r.refund_id, r.state AS refund_state, \
    coalesce((SELECT sum(money_entry_signed(kind, amount)) FROM money_entry e \
        WHERE e.payment_id = p.payment_id AND kind IN ('capture', 'capture_reversed')), 0) AS captured, \
    coalesce((SELECT sum(CASE WHEN kind = 'refund' THEN amount ELSE -amount END) FROM money_entry e \
        WHERE e.payment_id = p.payment_id AND kind IN ('refund', 'reversal')), 0) AS given_back, \
    ARRAY(SELECT DISTINCT currency FROM money_entry e WHERE e.payment_id = p.payment_id) AS currencies \
    FROM payment p JOIN customer_order o USING (order_id) LEFT JOIN refund r USING (payment_id)";

const LINES: &str = "SELECT l.order_id, l.product_id, o.state AS order_state, l.quantity, \
    coalesce(-sum(m.change) FILTER (WHERE m.kind = 'sold'), 0) AS sold, count(*) FILTER (WHERE m.kind = 'sold') AS sales, \
    coalesce(sum(m.change) FILTER (WHERE m.kind = 'returned'), 0) AS returned, \
    (SELECT r.restock FROM payment p JOIN refund r USING (payment_id) WHERE p.order_id = l.order_id AND r.reason = 'OPERATOR') AS restock \
    FROM order_line l JOIN customer_order o USING (order_id) LEFT JOIN stock_movement m USING (order_id, product_id) \
    GROUP BY l.order_id, l.product_id, o.state, l.quantity";

const PRODUCTS: &str = "SELECT product_id, initial_stock, stock, \
    coalesce((SELECT sum(change) FROM stock_movement m WHERE m.product_id = p.product_id), 0) AS moved FROM product p";

const ORDERS: &str = "SELECT order_id, state, \
    (SELECT count(*) FROM payment p WHERE p.order_id = o.order_id AND p.state = 'SUCCESS') AS successes FROM customer_order o";

/// What the ledger says of one payment.
#[derive(Default)]
struct Ledger {
    paid: i64,
    refunded: i64,
    currencies: BTreeSet<String>,
    keys: Vec<String>,
}

impl Ledger {
    fn add(&mut self, entry: &Entry) {
        self.currencies.insert(entry.currency.to_string());
        match entry.kind {
            EntryKind::Capture => self.paid += entry.amount,
            EntryKind::Refund => {
                self.refunded += entry.amount;
                self.keys.extend(entry.key.clone());
            }
            EntryKind::RefundReversed => self.refunded -= entry.amount,
        }
    }

    fn held(&self) -> i64 {
        self.paid - self.refunded
    }
}

impl<'a> MoneyCheck<'a> {
    pub fn of(sql: &'a Sql, gateway: &'a Control) -> Self {
        Self { sql, gateway, beginning: String::new() }
    }

    /// Only orders and products whose ids begin so.
    pub fn of_those(sql: &'a Sql, gateway: &'a Control, beginning: &str) -> Self {
        Self { sql, gateway, beginning: beginning.to_owned() }
    }

    /// # Panics
    /// With every finding, if there is one.
    pub async fn holds(&self) {
        let findings: Vec<String> = self.findings().await.iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "the money check found:\n{}", findings.join("\n"));
    }

    /// All that is wrong, sorted; empty if all is well and quiet.
    pub async fn findings(&self) -> Vec<Finding> {
        let mut findings = Findings::default();
        let payments: Vec<Payment> = self.rows(PAYMENTS, "order_id").await;
        let mut ledger: BTreeMap<String, Ledger> = BTreeMap::new();
        for entry in self.gateway.ledger() {
            ledger.entry(entry.reference.clone()).or_default().add(&entry);
        }
        for payment in &payments {
            let ledger = ledger.remove(&payment.reference).unwrap_or_default();
            findings.judge_money(payment, &ledger);
            findings.judge_book(payment, &ledger);
            findings.judge_rest(payment);
        }
        for (reference, money) in ledger {
            findings.add(Wrong::UnknownPayment, &reference, format!("the gateway holds {}", money.held()));
        }
        findings.pair_swapped();
        for order in self.rows::<Order>(ORDERS, "order_id").await {
            let Order { order_id, state, successes } = order;
            if state == "PENDING" {
                findings.add(Wrong::Open, &order_id, "the order is PENDING".to_owned());
            }
            if successes != i64::from(state == "COMPLETED") {
                findings.add(Wrong::StatesDisagree, &order_id, format!("it is {state} with {successes} successful payments"));
            }
        }
        self.rows(LINES, "order_id").await.iter().for_each(|line| findings.judge_line(line));
        for product in self.rows::<Product>(PRODUCTS, "product_id").await {
            let Product { product_id, initial_stock, stock, moved } = product;
            if initial_stock + moved != stock || stock < 0 {
                let detail = format!("began with {initial_stock}, moved by {moved}, has {stock}");
                findings.add(Wrong::StockDiffers, &product_id, detail);
            }
        }
        findings.sorted()
    }

    async fn rows<T: DeserializeOwned>(&self, query: &str, id: &str) -> Vec<T> {
        let query =
            format!("SELECT coalesce(json_agg(t), '[]')::text FROM ({query}) t WHERE starts_with(t.{id}, '{}')", self.beginning);
        serde_json::from_str(&self.sql.text(&query).await).unwrap()
    }
}

#[derive(Default)]
struct Findings {
    all: BTreeSet<Finding>,
    /// Money by payment that is with us and should not be, and money that is not and should be: amount, currency, payment.
    kept: Vec<(i64, BTreeSet<String>, String)>,
    gone: Vec<(i64, BTreeSet<String>, String)>,
}

impl Findings {
    fn add(&mut self, wrong: Wrong, with: &str, detail: String) {
        self.all.insert(Finding { wrong, with: with.to_owned(), detail });
    }

    /// paid − refunded = the amount of a success, and nothing of any other; and each refund is one of this payment's own.
    fn judge_money(&mut self, payment: &Payment, ledger: &Ledger) {
        let Payment { payment_id, state, amount, currency, .. } = payment;
        let (paid, refunded, held) = (ledger.paid, ledger.refunded, ledger.held());
        let detail =
            format!("it is {state}, the gateway took {paid} and gave back {refunded}, the order costs {amount} {currency}");
        let in_currency = ledger.currencies.iter().all(|taken| taken == currency);
        let should = if state == "SUCCESS" { *amount } else { 0 };
        let wrong = match held {
            held if held == should && (in_currency || should == 0) => None,
            held if held < 0 => Some(Wrong::RefundDoubled),
            _ if should == 0 => Some(Wrong::RefundLost),
            0 => Some(Wrong::SuccessUnpaid),
            _ => Some(Wrong::SuccessOfOtherAmount),
        };
        if let Some(wrong) = wrong {
            self.add(wrong, payment_id, detail);
        }
        let apart = (held - should).abs();
        match held.cmp(&should) {
            std::cmp::Ordering::Greater => self.kept.push((apart, ledger.currencies.clone(), payment_id.clone())),
            std::cmp::Ordering::Less => self.gone.push((apart, ledger.currencies.clone(), payment_id.clone())),
            std::cmp::Ordering::Equal => {}
        }
        // The key is `{refund}-{attempt}`; what a person does at the dashboard has none.
        for key in &ledger.keys {
            let ours = key.rsplit_once('-').map(|(refund, _)| refund);
            if ours.is_none() || ours != payment.refund_id.as_deref() {
                self.add(Wrong::RefundSwapped, payment_id, format!("money went back under the key {key}, which is not its own"));
            }
        }
    }

    /// What one payment keeps and another one lacks is one refund in the wrong place.
    fn pair_swapped(&mut self) {
        let mut gone = std::mem::take(&mut self.gone);
        for (amount, currencies, payment) in std::mem::take(&mut self.kept) {
            let place = gone.iter().position(|(other, of, _)| *other == amount && *of == currencies);
            if let Some((_, _, other)) = place.map(|place| gone.swap_remove(place)) {
                self.add(Wrong::RefundSwapped, &payment, format!("it keeps {amount}, and {other} lacks as much"));
            }
        }
    }

    fn judge_book(&mut self, payment: &Payment, ledger: &Ledger) {
        let Payment { payment_id, captured, given_back, .. } = payment;
        let said: BTreeSet<String> = payment.currencies.iter().cloned().collect();
        if (*captured, *given_back) != (ledger.paid, ledger.refunded) || said != ledger.currencies {
            let (paid, refunded) = (ledger.paid, ledger.refunded);
            let detail = format!("the book says {captured} and {given_back} back, the gateway {paid} and {refunded} back");
            self.add(Wrong::BookDiffers, payment_id, detail);
        }
    }

    fn judge_rest(&mut self, payment: &Payment) {
        let Payment { payment_id, order_id, state, order_state, refund_state, .. } = payment;
        if matches!(state.as_str(), "PENDING" | "REFUNDING") {
            self.add(Wrong::Open, payment_id, format!("the payment is {state}"));
        }
        if payment.is_held {
            self.add(Wrong::Open, payment_id, "somebody holds it".to_owned());
        }
        let refund_state = refund_state.as_deref();
        if refund_state.is_some_and(|refund| refund != "CONFIRMED") {
            self.add(Wrong::Open, payment_id, format!("its refund is {}", refund_state.unwrap_or_default()));
        }
        if refund_state == Some("CONFIRMED") && state != "REFUNDED" || state == "SUCCESS" && order_state != "COMPLETED" {
            let detail = format!("it is {state}, its refund {refund_state:?}, its order {order_id} {order_state}");
            self.add(Wrong::StatesDisagree, payment_id, detail);
        }
    }

    fn judge_line(&mut self, line: &Line) {
        let Line { order_id, product_id, order_state, quantity, sold, sales, returned, .. } = line;
        let may = match order_state.as_str() {
            "COMPLETED" => *sold == *quantity && *sales == 1 && *returned == 0,
            // One that was completed before an operator cancelled it keeps its sale, and gives the pieces back if that was asked for.
            "CANCELLED" if line.restock.is_some() => {
                let back = if line.restock == Some(true) { *quantity } else { 0 };
                *sold == *quantity && *sales == 1 && *returned == back
            }
            _ => *sales == 0 && *returned == 0,
        };
        if !may {
            let detail = format!(
                "{quantity} of {product_id} are ordered, {sold} were sold in {sales} movements, {returned} came back, it is {order_state}"
            );
            self.add(Wrong::StockDiffers, order_id, detail);
        }
    }

    fn sorted(self) -> Vec<Finding> {
        self.all.into_iter().collect()
    }
}
