use std::collections::BTreeMap;

use payment_providers::{ProviderKind, ProviderSettings, Providers};

#[test]
fn every_problem_is_told_and_none_of_a_good_account() {
    let good = ProviderSettings::new(ProviderKind::Toss, "", "sk");
    assert_eq!(good.url(), "https://api.tosspayments.com");
    assert!(good.problems().is_empty(), "{:?}", good.problems());
    for base_url in ["http://127.0.0.1:8099/toss", "http://[::1]:8099", "http://localhost:1"] {
        assert!(ProviderSettings::new(ProviderKind::Generic, base_url, "sk").problems().is_empty(), "{base_url}");
    }
    let bad = ProviderSettings {
        base_url: "http://pg.example.com".to_owned(),
        connect_timeout_ms: 0,
        request_timeout_ms: 0,
        response_bytes_max: 1,
        page_size: 0,
        ..ProviderSettings::default()
    };
    let fields: Vec<_> = bad.problems().iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["base_url", "api_key", "connect_timeout_ms", "request_timeout_ms", "response_bytes_max", "page_size"]);
    for base_url in ["", "nonsense", "https://user:pass@pg.example.com", "https://pg.example.com?key=1"] {
        let problems = ProviderSettings::new(ProviderKind::Generic, base_url, "sk").problems();
        assert_eq!(problems.first().map(|problem| problem.field), Some("base_url"), "{base_url}");
    }
}

#[test]
fn accounts_are_built_by_name_and_no_secret_is_shown() {
    service_kit::install_crypto_provider();
    let accounts = BTreeMap::from([
        ("toss".to_owned(), ProviderSettings::new(ProviderKind::Toss, "", "sk_hidden")),
        ("stripe-kr".to_owned(), ProviderSettings::new(ProviderKind::Stripe, "", "sk_hidden")),
    ]);
    let providers = Providers::build(&accounts).unwrap();
    assert_eq!(providers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["stripe-kr", "toss"]);
    assert!(providers.get(&"toss".parse().unwrap()).is_some() && providers.get(&"kakao".parse().unwrap()).is_none());
    assert!(!format!("{accounts:?}").contains("hidden"));
    let nameless = BTreeMap::from([("No Name".to_owned(), ProviderSettings::new(ProviderKind::Toss, "", "sk"))]);
    assert!(Providers::build(&nameless).is_err());
    let keyless = BTreeMap::from([("toss".to_owned(), ProviderSettings::new(ProviderKind::Toss, "", ""))]);
    assert!(Providers::build(&keyless).err().unwrap().to_string().contains("api_key"));
}
