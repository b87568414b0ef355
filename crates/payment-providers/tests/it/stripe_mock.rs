//! Stripe's adapter against the real stripe-mock, which checks paths and parameters against Stripe's OpenAPI document. It has no memory.

use std::{net::TcpStream, path::PathBuf, process::Command, time::Duration};

use domain::{clock::Timestamp, payment::PgReference};
use payment_providers::{
    ProviderKind, ProviderSettings, Providers,
    port::{PaymentProvider, ProviderError, RefundOrder},
};
use stack::{Lifetime, Process};

use crate::support::{LIMIT, found, krw};

/// Says loudly what is not tested here; where CI runs, that is a failure.
pub fn skipped(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "{what} needs stripe-mock: install Go, then run deploy/local/install.sh");
    eprintln!("SKIPPED: {what}. It needs stripe-mock: install Go, then run deploy/local/install.sh");
}

fn binary() -> Option<PathBuf> {
    let path = stack::paths::local().unwrap().join("tools/bin/stripe-mock");
    path.is_file().then_some(path)
}

struct StripeMock {
    // Ends with the test.
    _process: Process,
    folder: tempfile::TempDir,
    adapter: std::sync::Arc<dyn PaymentProvider>,
}

fn start(what: &str) -> Option<StripeMock> {
    let Some(binary) = binary() else {
        skipped(what);
        return None;
    };
    let (http, https) = (stack::ports::free().unwrap(), stack::ports::free().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary);
    command.args([
        "-http-addr",
        &format!("127.0.0.1:{http}"),
        "-https-addr",
        &format!("127.0.0.1:{https}"),
        "-strict-version-check",
    ]);
    let mut process = Process::spawn("stripe-mock", command, &folder.path().join("stripe-mock.log"), Lifetime::Owned).unwrap();
    process.wait_ready(LIMIT, || TcpStream::connect(("127.0.0.1", http)).is_ok()).unwrap();
    let mut settings = ProviderSettings::new(ProviderKind::Stripe, format!("http://127.0.0.1:{http}"), "sk_test_123");
    settings.request_timeout_ms = Duration::from_secs(30).as_millis() as u64;
    let adapter = Providers::one("stripe", &settings).unwrap();
    Some(StripeMock { _process: process, folder, adapter })
}

impl StripeMock {
    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stripe-mock.log")).unwrap_or_default()
    }
}

#[tokio::test]
async fn queries_refunds_closes_and_lists_are_as_stripe_takes_them() {
    let Some(mock) = start("the Stripe adapter against stripe-mock") else { return };
    let reference = PgReference::new("pi_123").unwrap();
    let adapter = &mock.adapter;
    let payment = found(adapter.query(&reference).await.unwrap_or_else(|error| panic!("{error:?}\n{}", mock.log())));
    assert!(!payment.status.is_empty(), "{payment:?}");
    let order = RefundOrder {
        reference: reference.clone(),
        transaction_id: payment.transaction_id,
        amount: krw(100),
        key: "r-1.1".to_owned(),
        reason: "out of stock & more = so".to_owned(),
    };
    let refund = adapter.refund(&order).await.unwrap_or_else(|error| panic!("{error:?}\n{}", mock.log()));
    // It echoes the amount, but no metadata.
    assert_eq!(refund.amount.amount, 100, "{refund:?}");
    let closed = adapter.close(&reference).await.unwrap_or_else(|error| panic!("{error:?}\n{}", mock.log()));
    found(closed);
    let (from, to) = (Timestamp::from_unix_ms(0), Timestamp::from_unix_ms(4_000_000_000_000));
    // stripe-mock gives one example, whatever is asked for; what is held here is that it takes the parameters.
    match adapter.transactions(from, to, Some("txn_1")).await {
        Ok(_) | Err(ProviderError::Malformed(_)) => {}
        Err(error) => panic!("{error:?}\n{}", mock.log()),
    }
}

#[tokio::test]
async fn a_key_that_is_none_is_the_accounts_fault() {
    let Some(mock) = start("a wrong key at stripe-mock") else { return };
    let port = mock.log();
    let address =
        port.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()).unwrap().to_owned();
    let settings = ProviderSettings::new(ProviderKind::Stripe, format!("http://127.0.0.1:{address}"), "no-key-at-all");
    let adapter = Providers::one("stripe", &settings).unwrap();
    let error = adapter.query(&"pi_123".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, ProviderError::Account { .. }), "{error:?}");
}
