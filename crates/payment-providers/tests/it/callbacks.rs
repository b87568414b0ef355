//! Callbacks: who signed them, when, and what they hint at.

use domain::clock::Timestamp;
use hmac_by_hand::sign;
use payment_providers::{
    ProviderKind, ProviderSettings, Providers,
    port::{Callback, CallbackError, CallbackHint},
};

const SECRET: &str = "whsec_now";
const NOW_S: i64 = 1_700_000_000;

/// Signs with openssl's words in mind: an implementation of its own, so that the adapters' one is held against something.
mod hmac_by_hand {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    pub fn sign(secret: &str, seconds: i64, body: &str) -> String {
        let mut child = Command::new("openssl")
            .args(["dgst", "-sha256", "-hmac", secret, "-hex"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("openssl is on this machine");
        child.stdin.take().unwrap().write_all(format!("{seconds}.{body}").as_bytes()).unwrap();
        let text = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let hex = text.trim().rsplit(' ').next().unwrap().to_owned();
        assert_eq!(hex.len(), 64, "{text}");
        hex
    }
}

fn read(kind: ProviderKind, headers: &[(&str, String)], body: &str) -> Result<CallbackHint, CallbackError> {
    service_kit::install_crypto_provider();
    let settings = ProviderSettings {
        callback_secret: SECRET.into(),
        callback_secret_previous: "whsec_before".into(),
        ..ProviderSettings::new(kind, "http://127.0.0.1:1", "sk")
    };
    let headers: Vec<(String, String)> = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let received_at = Timestamp::from_unix_ms(NOW_S * 1_000);
    Providers::one("pg", &settings).unwrap().read_callback(&Callback { headers: &headers, body: body.as_bytes(), received_at })
}

fn bodies() -> [(ProviderKind, &'static str, &'static str); 2] {
    [
        (
            ProviderKind::Generic,
            "payment-signature",
            r#"{"event_id":"evt_1","type":"payment.changed","reference":"order_0001","occurred_at":"2023-11-14T22:13:20Z"}"#,
        ),
        (
            ProviderKind::Stripe,
            "stripe-signature",
            r#"{"id":"evt_1","object":"event","type":"payment_intent.succeeded","data":{"object":{"id":"order_0001","object":"payment_intent"}}}"#,
        ),
    ]
}

#[test]
fn a_good_signature_is_taken_and_names_the_payment() {
    for (kind, header, body) in bodies() {
        let expected = CallbackHint {
            reference: "order_0001".parse().unwrap(),
            event_id: "evt_1".to_owned(),
            authenticated: true,
            secret: None,
        };
        let now = sign(SECRET, NOW_S, body);
        assert_eq!(read(kind, &[(header, format!("t={NOW_S},v1={now}"))], body), Ok(expected.clone()), "{kind:?}");
        let before = sign("whsec_before", NOW_S - 200, body);
        let both = format!("t={},v0=00,v1={},v1={before}", NOW_S - 200, "0".repeat(64));
        assert_eq!(read(kind, &[(header, both)], body), Ok(expected), "{kind:?}: the secret before, behind a wrong one");
    }
}

#[test]
fn every_other_signature_is_refused() {
    for (kind, header, body) in bodies() {
        let good = sign(SECRET, NOW_S, body);
        let old = NOW_S - 301;
        let future = NOW_S + 301;
        let cases = [
            ("wrong", format!("t={NOW_S},v1={}", sign("other", NOW_S, body))),
            ("wrong", format!("t={},v1={good}", NOW_S - 1)),
            ("too old or from the future", format!("t={old},v1={}", sign(SECRET, old, body))),
            ("too old or from the future", format!("t={future},v1={}", sign(SECRET, future, body))),
            ("unreadable", format!("v1={good}")),
            ("unreadable", format!("t={NOW_S}")),
            ("unreadable", format!("t={NOW_S},v1={}", &good[..62])),
            ("unreadable", "nonsense".to_owned()),
        ];
        for (what, value) in cases {
            assert_eq!(read(kind, &[(header, value.clone())], body), Err(CallbackError::Signature(what)), "{kind:?} {value}");
        }
        assert_eq!(read(kind, &[], body), Err(CallbackError::Signature("missing")), "{kind:?}");
        let changed = body.replace("order_0001", "order_0002");
        let signature = format!("t={NOW_S},v1={good}");
        assert_eq!(read(kind, &[(header, signature)], &changed), Err(CallbackError::Signature("wrong")), "{kind:?}");
    }
}

#[test]
fn without_a_secret_nothing_is_believed() {
    for (kind, header, body) in bodies() {
        let settings = ProviderSettings::new(kind, "http://127.0.0.1:1", "sk");
        let headers = [(header.to_owned(), format!("t={NOW_S},v1={}", sign("", NOW_S, body)))];
        let callback = Callback { headers: &headers, body: body.as_bytes(), received_at: Timestamp::from_unix_ms(NOW_S * 1_000) };
        let read = Providers::one("pg", &settings).unwrap().read_callback(&callback);
        assert!(matches!(read, Err(CallbackError::Signature(_))), "{kind:?}: {read:?}");
    }
}

#[test]
fn events_about_nothing_of_ours_are_told_apart_from_unreadable_ones() {
    for (kind, header, body) in [
        (ProviderKind::Generic, "payment-signature", r#"{"event_id":"e","type":"payout.done","reference":"r"}"#),
        (
            ProviderKind::Stripe,
            "stripe-signature",
            r#"{"id":"e","type":"customer.created","data":{"object":{"id":"cus_1","object":"customer"}}}"#,
        ),
        (
            ProviderKind::Stripe,
            "stripe-signature",
            r#"{"id":"e","type":"charge.succeeded","data":{"object":{"id":"ch_1","object":"charge","payment_intent":null}}}"#,
        ),
    ] {
        let signature = format!("t={NOW_S},v1={}", sign(SECRET, NOW_S, body));
        assert_eq!(read(kind, &[(header, signature)], body), Err(CallbackError::Irrelevant), "{kind:?} {body}");
        let signature = format!("t={NOW_S},v1={}", sign(SECRET, NOW_S, "{}"));
        assert!(matches!(read(kind, &[(header, signature)], "{}"), Err(CallbackError::Malformed(_))), "{kind:?}");
    }
    let charge =
        r#"{"id":"evt_2","type":"charge.refunded","data":{"object":{"id":"ch_1","object":"charge","payment_intent":"pi_1"}}}"#;
    let signature = format!("t={NOW_S},v1={}", sign(SECRET, NOW_S, charge));
    let hint = read(ProviderKind::Stripe, &[("stripe-signature", signature)], charge).unwrap();
    assert_eq!((hint.reference.as_str(), hint.event_id.as_str()), ("pi_1", "evt_2"));
}

#[test]
fn toss_callbacks_are_hints_of_nobody_and_a_deposits_secret_is_handed_on() {
    let deposit = r#"{"createdAt":"2022-01-01T00:00:00.000000","secret":"ps_1","status":"DONE","transactionKey":"t","orderId":"order_0001"}"#;
    let hint = read(ProviderKind::Toss, &[], deposit).unwrap();
    assert_eq!((hint.reference.as_str(), hint.authenticated), ("order_0001", false));
    assert_eq!(hint.secret.as_ref().map(domain::secret::Secret::expose), Some("ps_1"));
    assert!(!format!("{hint:?}").contains("ps_1"), "{hint:?}");
    let changed = r#"{"eventType":"PAYMENT_STATUS_CHANGED","createdAt":"2022-01-01T00:00:00.000","data":{"orderId":"order_0001","status":"DONE","secret":null}}"#;
    let hint = read(ProviderKind::Toss, &[], changed).unwrap();
    assert_eq!((hint.reference.as_str(), hint.authenticated, hint.secret.is_none()), ("order_0001", false, true));
    assert_eq!(hint.event_id, read(ProviderKind::Toss, &[], changed).unwrap().event_id, "a repeat is one event");
    assert_ne!(hint.event_id, read(ProviderKind::Toss, &[], deposit).unwrap().event_id);
    let other = r#"{"eventType":"PAYOUT_STATUS_CHANGED","createdAt":"2022-01-01T00:00:00.000","data":{"payoutKey":"x"}}"#;
    assert_eq!(read(ProviderKind::Toss, &[], other), Err(CallbackError::Irrelevant));
    assert!(matches!(read(ProviderKind::Toss, &[], "not json"), Err(CallbackError::Malformed(_))));
}
