//! Orders, payments and answers of gateways, as tests of the payment rules make them.

use domain::{
    clock::Timestamp,
    payment::{
        Case, Currency, Judgement, Money, Order, OrderState, Payment, PaymentMethod, PaymentState, PgAnswer, PgPayment, PgRefund,
        PgRefundState, PgState, Policy, Refund, RefundReason, RefundState, Stock, judge,
    },
};

/// What every order costs.
pub const AMOUNT: i64 = 15_000;

pub const MINUTE: i64 = 60_000;
pub const DAY: i64 = 24 * 60 * MINUTE;

pub const fn krw(amount: i64) -> Money {
    Money::new(amount, Currency::KRW)
}

/// A payment of an order, and what is known of both.
#[derive(Debug, Clone)]
pub struct Given {
    pub order: Order,
    pub payment: Payment,
    pub stock: Stock,
    pub now: Timestamp,
    pub outage_ms: i64,
}

/// An order that was placed eleven minutes ago, with products on hand.
pub fn given(order: OrderState, payment: PaymentState) -> Given {
    let created_at = Timestamp::from_unix_ms(0);
    Given {
        order: Order { id: "o".parse().unwrap(), amount: krw(AMOUNT), state: order, created_at },
        payment: Payment {
            id: "p".parse().unwrap(),
            order: "o".parse().unwrap(),
            provider: "pg".parse().unwrap(),
            reference: "ref".parse().unwrap(),
            method: PaymentMethod::Card,
            amount: krw(AMOUNT),
            state: payment,
            created_at,
            expires_at: None,
            sweep_until: (payment == PaymentState::Failed).then(|| Timestamp::from_unix_ms(5 * DAY)),
            checks: 0,
            was_not_found: false,
        },
        stock: Stock::Enough,
        now: Timestamp::from_unix_ms(11 * MINUTE),
        outage_ms: 0,
    }
}

impl Given {
    pub fn judged(&self, answer: &PgAnswer) -> Judgement {
        let Self { order, payment, stock, now, outage_ms } = self;
        judge(&Case { order, payment, stock: *stock, now: *now, outage_ms: *outage_ms }, answer, &Policy::default())
    }

    /// What follows if the gateway says this.
    pub fn says(&self, pg: PgPayment) -> Judgement {
        self.judged(&PgAnswer::Found(pg))
    }
}

/// What a gateway says: its state, what it took ever, and what is back for certain.
pub fn pg(state: PgState, captured: i64, refunded: i64) -> PgPayment {
    PgPayment {
        state,
        status: "x".to_owned(),
        transaction_id: Some("t".to_owned()),
        paid_at: None,
        captured: krw(captured),
        refunded: krw(refunded),
        refunds: Vec::new(),
        refund_needs_payer: false,
        expires_at: None,
        contradictory: false,
        callback_secret: None,
    }
}

/// The same with a refund that the gateway shows.
pub fn showing(mut pg: PgPayment, id: &str, key: Option<&str>, amount: i64, state: PgRefundState) -> PgPayment {
    let key = key.map(str::to_owned);
    pg.refunds.push(PgRefund { id: id.to_owned(), key, amount: krw(amount), at: None, state });
    pg
}

/// A refund of all that an order costs, in its first attempt.
pub fn refund(state: RefundState, sends: i32) -> Refund {
    Refund {
        id: "rf".parse().unwrap(),
        amount: krw(AMOUNT),
        reason: RefundReason::OutOfStock,
        state,
        attempt: 1,
        sends,
        pg_refund_id: None,
        held: false,
        restock: false,
        watch_until: None,
    }
}
