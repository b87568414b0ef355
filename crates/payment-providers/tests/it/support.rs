use std::{sync::Arc, time::Duration};

use domain::payment::{Currency, Money, PgAnswer, PgPayment, PgReference};
use payment_providers::{
    ProviderKind, ProviderSettings, Providers,
    port::{PaymentProvider, RefundOrder},
};
use pg_simulator::{NewPayment, Options, Script, Simulator};

pub const KINDS: [ProviderKind; 3] = [ProviderKind::Generic, ProviderKind::Toss, ProviderKind::Stripe];

/// A simulator and an adapter that speaks one of its dialects.
pub struct Gateway {
    pub simulator: Simulator,
    pub adapter: Arc<dyn PaymentProvider>,
}

impl Gateway {
    pub fn start(kind: ProviderKind) -> Self {
        Self::start_with(kind, |_settings| {})
    }

    pub fn start_with(kind: ProviderKind, change: impl FnOnce(&mut ProviderSettings)) -> Self {
        let simulator = Simulator::start().unwrap();
        let url = match kind {
            ProviderKind::Generic => simulator.generic_url(),
            ProviderKind::Toss => simulator.toss_url(),
            ProviderKind::Stripe => simulator.stripe_url(),
        };
        let mut settings = ProviderSettings::new(kind, url, Options::API_KEY);
        settings.request_timeout_ms = 30_000;
        change(&mut settings);
        let adapter = Providers::one("pg", &settings).unwrap();
        Self { simulator, adapter }
    }

    pub fn place(&self, reference: &str, script: Script) -> PgReference {
        self.simulator.place(NewPayment::new(reference, 15_000, Currency::KRW, script)).unwrap();
        PgReference::new(reference).unwrap()
    }

    pub async fn found(&self, reference: &PgReference) -> PgPayment {
        found(self.adapter.query(reference).await.unwrap())
    }

    pub fn order(&self, payment: &PgPayment, reference: &PgReference, key: &str) -> RefundOrder {
        RefundOrder {
            reference: reference.clone(),
            transaction_id: payment.transaction_id.clone(),
            amount: payment.held().unwrap(),
            key: key.to_owned(),
            reason: "out of stock".to_owned(),
        }
    }
}

pub fn found(answer: PgAnswer) -> PgPayment {
    match answer {
        PgAnswer::Found(payment) => payment,
        PgAnswer::NotFound => panic!("not found"),
    }
}

pub fn krw(amount: i64) -> Money {
    Money::new(amount, Currency::KRW)
}

/// A generous bound of waiting for something that happens at once.
pub const LIMIT: Duration = Duration::from_secs(60);
