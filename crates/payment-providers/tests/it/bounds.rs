//! What goes wrong on the way: each fault has its error, nothing hangs, nothing grows, no secret is told.

use std::time::{Duration, Instant};

use domain::payment::PgState;
use payment_providers::{
    ProviderKind, ProviderSettings, Providers,
    port::{Advice, ProviderError},
};
use pg_simulator::{Call, Fault, Options, Outage, RefundScript, Script};

use crate::support::{Gateway, KINDS, LIMIT};

#[tokio::test]
async fn each_fault_has_its_error_and_the_next_ask_succeeds() {
    for kind in KINDS {
        let gateway = Gateway::start_with(kind, |settings| settings.response_bytes_max = 100_000);
        type Check = fn(&ProviderError) -> bool;
        let unavailable: Check = |error| matches!(error, ProviderError::Unavailable(_));
        let malformed: Check = |error| matches!(error, ProviderError::Malformed(_));
        let faults: [(Fault, Check); 8] = [
            (Fault::Throttled(Some(7)), |error| *error == ProviderError::Throttled { retry_after: Some(Duration::from_secs(7)) }),
            (Fault::Throttled(None), |error| *error == ProviderError::Throttled { retry_after: None }),
            (Fault::Status(500), unavailable),
            (Fault::Status(503), unavailable),
            (Fault::Dropped, unavailable),
            (Fault::ReplyLost, unavailable),
            (Fault::Malformed, malformed),
            (Fault::Huge, malformed),
        ];
        for (number, (fault, check)) in faults.into_iter().enumerate() {
            let reference = gateway.place(&format!("order_{number:04}"), Script::paid().fault(Call::Query, 1, fault.clone()));
            let error = gateway.adapter.query(&reference).await.unwrap_err();
            assert!(check(&error), "{kind:?} {fault:?}: {error:?}");
            assert!(!format!("{error} {error:?}").contains(Options::API_KEY), "{kind:?}: {error}");
            assert_eq!(gateway.found(&reference).await.state, PgState::Paid, "{kind:?} {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_slow_answer_ends_by_the_time_out() {
    for kind in KINDS {
        let gateway = Gateway::start_with(kind, |settings| settings.request_timeout_ms = 300);
        let reference = gateway.place("order_0001", Script::paid().fault(Call::Query, 1, Fault::Slow(60_000)));
        let began = Instant::now();
        let error = gateway.adapter.query(&reference).await.unwrap_err();
        assert!(matches!(&error, ProviderError::Unavailable(text) if text.contains("time-out")), "{kind:?}: {error:?}");
        assert!(began.elapsed() < LIMIT, "{kind:?}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn an_outage_is_unavailable_and_a_wrong_key_is_the_accounts() {
    for kind in KINDS {
        let gateway = Gateway::start(kind);
        let reference = gateway.place("order_0001", Script::paid());
        for outage in [Outage::Unavailable, Outage::Dropping] {
            gateway.simulator.set_outage(outage);
            let error = gateway.adapter.query(&reference).await.unwrap_err();
            assert!(matches!(error, ProviderError::Unavailable(_)), "{kind:?} {outage:?}: {error:?}");
        }
        gateway.simulator.set_outage(Outage::None);
        let wrong = Gateway::start_with(kind, |settings| settings.api_key = "sk_wrong_secret".into());
        let reference = wrong.place("order_0001", Script::paid());
        let error = wrong.adapter.query(&reference).await.unwrap_err();
        assert!(matches!(error, ProviderError::Account { .. }), "{kind:?}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("sk_wrong"), "{kind:?}: {error}");
    }
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    for kind in KINDS {
        let port = stack::ports::free().unwrap();
        let settings = ProviderSettings::new(kind, format!("http://127.0.0.1:{port}"), "sk");
        let adapter = Providers::one("pg", &settings).unwrap();
        let error = adapter.query(&"order_0001".parse().unwrap()).await.unwrap_err();
        assert!(matches!(&error, ProviderError::Unavailable(text) if text.contains("no connection")), "{kind:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_refusal_says_what_follows_from_it() {
    for (kind, code, advice) in [
        (ProviderKind::Generic, "try_later", Advice::Later),
        (ProviderKind::Generic, "refund_rejected", Advice::Manual),
        (ProviderKind::Generic, "already_refunded", Advice::Ask),
        (ProviderKind::Toss, "NOT_AVAILABLE_BANK", Advice::Later),
        (ProviderKind::Toss, "REFUND_REJECTED", Advice::Manual),
        (ProviderKind::Toss, "ALREADY_REFUND_PAYMENT", Advice::Ask),
        (ProviderKind::Stripe, "balance_insufficient", Advice::Later),
        (ProviderKind::Stripe, "charge_disputed", Advice::Manual),
        (ProviderKind::Stripe, "some_new_code", Advice::Manual),
    ] {
        let gateway = Gateway::start(kind);
        let reference = gateway.place("order_0001", Script::paid().refund(RefundScript::Refused(code.to_owned())));
        let order = gateway.order(&gateway.found(&reference).await, &reference, "r-1.1");
        let error = gateway.adapter.refund(&order).await.unwrap_err();
        assert!(
            matches!(&error, ProviderError::Refused { code: told, advice: by, .. } if told == code && *by == advice),
            "{kind:?} {code}: {error:?}"
        );
        let again = gateway.adapter.refund(&order).await.unwrap_err();
        assert_eq!(again, error, "{kind:?} {code}: the key's refusal is repeated");
        let next = gateway.adapter.refund(&gateway.order(&gateway.found(&reference).await, &reference, "r-1.2")).await;
        assert!(next.is_ok(), "{kind:?} {code}: another key is another try: {next:?}");
    }
}

#[tokio::test]
async fn a_code_in_no_table_is_unknown_and_no_refusal() {
    for (kind, code) in [(ProviderKind::Generic, "brand_new"), (ProviderKind::Toss, "BRAND_NEW")] {
        let gateway = Gateway::start(kind);
        let reference = gateway.place("order_0001", Script::paid().refund(RefundScript::Refused(code.to_owned())));
        let order = gateway.order(&gateway.found(&reference).await, &reference, "r-1.1");
        let error = gateway.adapter.refund(&order).await.unwrap_err();
        assert!(matches!(&error, ProviderError::Malformed(text) if text.contains(code)), "{kind:?}: {error:?}");
    }
}
