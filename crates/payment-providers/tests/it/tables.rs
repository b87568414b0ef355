//! The tables know every word that the gateways document, and no other.

use std::{collections::BTreeSet, path::PathBuf, process::Command};

use domain::payment::PgState;
use payment_providers::{
    port::Advice,
    tables::{
        BalanceKind, GenericCode, GenericRefundStatus, GenericStatus, Meaning, Moved, StripeChargeStatus, StripeCode,
        StripeErrorType, StripeIntentStatus, StripeRefundStatus, TossCancelCode, TossCancelStatus, TossQueryCode, TossStatus,
    },
};

const STRIPE: &str = include_str!("../../tables/stripe.txt");
const TOSS: &str = include_str!("../../tables/toss.txt");

/// The version of stripe-mock that the list was taken from.
const STRIPE_MOCK_VERSION: &str = "v0.203.0";

fn section<'a>(list: &'a str, name: &str) -> BTreeSet<&'a str> {
    let header = format!("[{name}]");
    let words: BTreeSet<&str> =
        list.lines().skip_while(|line| *line != header).skip(1).take_while(|line| !line.is_empty()).collect();
    assert!(!words.is_empty(), "no section {header}");
    words
}

fn set<'a>(all: &[&'a str]) -> BTreeSet<&'a str> {
    let words: BTreeSet<&str> = all.iter().copied().collect();
    assert_eq!(words.len(), all.len(), "a word stands twice");
    words
}

#[test]
fn stripes_words_are_all_known() {
    assert_eq!(set(StripeIntentStatus::ALL), section(STRIPE, "payment_intent.status"));
    assert_eq!(set(StripeChargeStatus::ALL), section(STRIPE, "charge.status"));
    assert_eq!(set(StripeRefundStatus::ALL), section(STRIPE, "refund.status"));
    assert_eq!(set(StripeErrorType::ALL), section(STRIPE, "api_errors.type"));
    assert_eq!(set(BalanceKind::ALL), section(STRIPE, "balance_transaction.type"));
}

#[test]
fn tosss_words_are_all_known() {
    assert_eq!(set(TossStatus::ALL), section(TOSS, "payment.status"));
    assert_eq!(set(TossCancelStatus::ALL), section(TOSS, "cancel.status"));
    assert_eq!(set(TossQueryCode::ALL), section(TOSS, "query"));
    let cancel: BTreeSet<&str> = section(TOSS, "cancel").union(&section(TOSS, "idempotency")).copied().collect();
    assert_eq!(set(TossCancelCode::ALL), cancel);
}

/// stripe-mock's own document, where the module has been downloaded (`deploy/local/install.sh` does).
fn stripe_mock_document() -> Option<PathBuf> {
    let output = Command::new("go").args(["env", "GOMODCACHE"]).output().ok()?;
    let cache = String::from_utf8(output.stdout).ok()?;
    let path = format!("{}/github.com/stripe/stripe-mock@{STRIPE_MOCK_VERSION}/embedded/openapi/spec3.json", cache.trim());
    Some(PathBuf::from(path)).filter(|path| path.is_file())
}

#[test]
fn the_list_of_stripes_words_is_what_stripe_mock_says() {
    let Some(path) = stripe_mock_document() else {
        crate::stripe_mock::skipped("the comparison with stripe-mock's OpenAPI document");
        return;
    };
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for (schema, property) in
        [("payment_intent", "status"), ("charge", "status"), ("api_errors", "type"), ("balance_transaction", "type")]
    {
        let words = &document["components"]["schemas"][schema]["properties"][property]["enum"];
        let words: BTreeSet<&str> = words.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        assert_eq!(words, section(STRIPE, &format!("{schema}.{property}")), "{schema}.{property}");
    }
    let description = &document["components"]["schemas"]["refund"]["properties"]["status"]["description"];
    let quoted: BTreeSet<&str> = description.as_str().unwrap().split('`').skip(1).step_by(2).collect();
    assert_eq!(quoted, section(STRIPE, "refund.status"));
}

#[test]
fn a_word_is_written_as_it_is_read_and_an_unknown_one_is_kept() {
    for word in GenericStatus::ALL {
        assert_eq!(GenericStatus::parse(word).as_str(), *word);
    }
    assert_eq!(TossStatus::parse("NEW"), TossStatus::Unknown("NEW".to_owned()));
    assert_eq!(TossStatus::parse("NEW").as_str(), "NEW");
}

#[test]
fn unknown_words_wait_and_never_settle_fail_or_refund() {
    let new = || "brand_new".to_owned();
    assert_eq!(GenericStatus::Unknown(new()).state(), PgState::Unknown);
    assert_eq!(TossStatus::Unknown(new()).state(Some(15_000), 15_000), PgState::Unknown);
    assert_eq!(StripeIntentStatus::Unknown(new()).state(), PgState::Unknown);
    assert_eq!(StripeChargeStatus::Unknown(new()).state(), PgState::Unknown);
    assert_eq!(GenericCode::Unknown(new()).meaning(), Meaning::Unknown);
    assert_eq!(TossQueryCode::Unknown(new()).meaning(), Meaning::Unknown);
    assert_eq!(TossCancelCode::Unknown(new()).meaning(), Meaning::Unknown);
    assert_eq!(StripeCode::Unknown(new()).meaning(), None);
    assert_eq!(StripeErrorType::Unknown(new()).meaning(), Meaning::Unknown);
    assert_eq!(TossStatus::Unknown(new()).moved(), Moved::Unknown);
    assert_eq!(BalanceKind::Unknown(new()).moved(), Moved::Unknown);
}

/// The lines of the tables by which money is moved, one by one.
#[test]
fn what_settles_fails_and_returns() {
    let generic = |word| GenericStatus::parse(word).state();
    for (word, state) in [
        ("open", PgState::Open),
        ("waiting_for_deposit", PgState::Open),
        ("paid", PgState::Paid),
        ("partially_refunded", PgState::Manual),
        ("refunded", PgState::Returned),
        ("failed", PgState::Failed),
        ("closed", PgState::Failed),
        ("expired", PgState::Failed),
        ("disputed", PgState::Manual),
    ] {
        assert_eq!(generic(word), state, "{word}");
    }
    for (word, taken, balance, state) in [
        ("READY", None, 15_000, PgState::Open),
        ("IN_PROGRESS", None, 15_000, PgState::Open),
        ("WAITING_FOR_DEPOSIT", None, 15_000, PgState::Open),
        ("DONE", Some(15_000), 15_000, PgState::Paid),
        ("CANCELED", Some(15_000), 0, PgState::Returned),
        ("CANCELED", None, 0, PgState::Failed),
        // Approved for nothing: no failed payment, but a contradiction.
        ("CANCELED", Some(0), 0, PgState::Returned),
        ("PARTIAL_CANCELED", Some(0), 0, PgState::Paid),
        ("PARTIAL_CANCELED", Some(15_000), 5_000, PgState::Manual),
        ("PARTIAL_CANCELED", Some(15_000), 0, PgState::Returned),
        ("ABORTED", None, 15_000, PgState::Failed),
        ("EXPIRED", None, 15_000, PgState::Failed),
    ] {
        assert_eq!(TossStatus::parse(word).state(taken, balance), state, "{word} {taken:?} {balance}");
    }
    for (word, state) in [
        ("requires_payment_method", PgState::Open),
        ("requires_confirmation", PgState::Open),
        ("requires_action", PgState::Open),
        ("requires_capture", PgState::Open),
        ("processing", PgState::Open),
        ("succeeded", PgState::Paid),
        ("canceled", PgState::Failed),
    ] {
        assert_eq!(StripeIntentStatus::parse(word).state(), state, "{word}");
    }
    for word in GenericRefundStatus::ALL {
        assert_eq!(GenericRefundStatus::parse(word).as_str(), *word);
    }
    let toss = |code| TossCancelCode::parse(code).meaning();
    assert_eq!(toss("PROVIDER_ERROR"), Meaning::Refused(Advice::Later), "a 400 that passes by itself");
    assert_eq!(toss("FORBIDDEN_CONSECUTIVE_REQUEST"), Meaning::Throttled, "a 403 that is none");
    assert_eq!(toss("IDEMPOTENT_REQUEST_PROCESSING"), Meaning::Unavailable, "the first one is still at work");
}
