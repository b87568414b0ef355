//! Which orders the drill places, how they are paid, and what has to become of them.

use std::collections::BTreeMap;

use anyhow::Result;
use contracts::order::{OrderPlaced, PaymentAttempt};
use domain::{
    clock::Timestamp,
    payment::{Currency, Money, OrderId, PaymentId, PgReference, ProductId, ProviderName},
};
use serde_json::{Value, json};

/// The products that have enough of everything.
const PRODUCTS: u32 = 5;

/// Orders that have to be refunded, of each kind: few, because a line that refunds many by itself holds the rest.
const REFUNDS_OF_A_KIND: u32 = 2;

/// What happens to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Paid, and completed.
    Paid,
    /// The payer gives up, and the order fails.
    Unpaid,
    /// Paid, and there is not enough of it.
    OutOfStock,
    /// Paid, and the product is gone.
    ProductGone,
    /// Paid less than it costs.
    OtherAmount,
}

impl Fate {
    /// Which state the order has to reach.
    #[must_use]
    pub const fn order_state(self) -> &'static str {
        match self {
            Self::Paid => "COMPLETED",
            Self::Unpaid | Self::OutOfStock | Self::ProductGone | Self::OtherAmount => "FAILED",
        }
    }
}

/// One order of the drill.
#[derive(Debug, Clone)]
pub struct Planned {
    /// As the order service tells it.
    pub order: OrderPlaced,
    /// What happens to it.
    pub fate: Fate,
}

/// The whole drill.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Products with their stock.
    pub products: BTreeMap<String, i64>,
    /// Orders.
    pub orders: Vec<Planned>,
}

/// The dialects that take turns, by the names that the settings give the accounts.
pub const PROVIDERS: [&str; 3] = ["generic", "toss", "stripe"];

impl Plan {
    /// So many orders, whose ids begin with `stamp`.
    ///
    /// # Errors
    /// A stamp that cannot stand in an id.
    pub fn new(stamp: &str, orders: u32, now: Timestamp) -> Result<Self> {
        let plenty = |number: u32| format!("{stamp}-p{number}");
        let mut products: BTreeMap<String, i64> =
            (0..PRODUCTS).map(|number| (plenty(number), i64::from(orders).saturating_mul(4))).collect();
        products.insert(format!("{stamp}-scarce"), 0);
        let planned = (0..orders)
            .map(|number| {
                let fate = fate(number);
                let provider = PROVIDERS.iter().cycle().nth(usize::try_from(number)?).copied().unwrap_or("generic");
                let product = match fate {
                    Fate::OutOfStock => format!("{stamp}-scarce"),
                    Fate::ProductGone => format!("{stamp}-gone"),
                    Fate::Paid | Fate::Unpaid | Fate::OtherAmount => plenty(number % PRODUCTS),
                };
                let mut lines = BTreeMap::from([(ProductId::new(product)?, i64::from(number % 3) + 1)]);
                if number.is_multiple_of(2) {
                    // A second line, so that products are locked in different company.
                    lines.insert(ProductId::new(plenty((number / 2 + 1) % PRODUCTS))?, 1);
                }
                let id = format!("{}_{number:06}", stamp.replace('-', "_"));
                let attempt = PaymentAttempt {
                    payment: PaymentId::new(format!("pay_{id}"))?,
                    provider: ProviderName::new(provider)?,
                    reference: PgReference::new(&id)?,
                    method: "card".to_owned(),
                    deposit_secret: None,
                };
                let amount = Money::new(i64::from(number).saturating_mul(10).saturating_add(1_000), Currency::KRW);
                let order = OrderPlaced { order: OrderId::new(&id)?, amount, lines, payments: vec![attempt], placed_at: now };
                Ok(Planned { order, fate })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { products, orders: planned })
    }

    /// Orders of a fate.
    #[must_use]
    pub fn count(&self, fate: Fate) -> usize {
        self.orders.iter().filter(|planned| planned.fate == fate).count()
    }
}

fn fate(number: u32) -> Fate {
    match number {
        number if number < REFUNDS_OF_A_KIND => Fate::OutOfStock,
        number if number < 2 * REFUNDS_OF_A_KIND => Fate::ProductGone,
        number if number < 3 * REFUNDS_OF_A_KIND => Fate::OtherAmount,
        number if number % 20 == 19 => Fate::Unpaid,
        _ => Fate::Paid,
    }
}

impl Planned {
    /// The payment as the simulator takes it: open until the payer pays or gives up.
    #[must_use]
    pub fn placement(&self) -> Value {
        let Some(attempt) = self.order.payments.first() else { return Value::Null };
        let amount = self.order.amount;
        let paid_amount = (self.fate == Fate::OtherAmount).then(|| amount.amount.saturating_sub(1));
        json!({
            "reference": attempt.reference, "amount": amount.amount, "currency": amount.currency, "dialect": attempt.provider,
            "script": {"steps": [{"answer": "open"}], "paid_amount": paid_amount},
        })
    }

    /// What the gateway knows its payment by.
    #[must_use]
    pub fn reference(&self) -> &str {
        self.order.payments.first().map_or("", |attempt| attempt.reference.as_str())
    }
}
