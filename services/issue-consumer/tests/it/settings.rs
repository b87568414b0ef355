//! Settings that cannot work, as whoever starts the process sees them.

use std::process::Command;

#[test]
fn faulty_settings_are_told_in_words_and_without_a_backtrace() {
    let output = Command::new(env!("CARGO_BIN_EXE_issue-consumer"))
        .env("RUST_BACKTRACE", "1")
        .env("ISSUE_CONSUMER__BATCH__RECORDS_MAX", "0")
        .env("ISSUE_CONSUMER__MEMORY_BYTES_MAX", "1")
        .env("ISSUE_CONSUMER__HTTP__LISTEN", "nowhere")
        // To Kafka's client and to PostgreSQL, 0 is no bound at all.
        .env("ISSUE_CONSUMER__PRODUCER__DELIVERY_TIMEOUT_MS", "0")
        .env("ISSUE_CONSUMER__POSTGRES__LOCK_TIMEOUT_MS", "0")
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.starts_with("6 faulty settings:\n"), "{told}");
    let wrong = [
        "BATCH__RECORDS_MAX",
        "MEMORY_BYTES_MAX",
        "HTTP__LISTEN",
        "KEYS__LOG_SIGNING",
        "PRODUCER__DELIVERY_TIMEOUT_MS",
        "POSTGRES__LOCK_TIMEOUT_MS",
    ];
    for variable in wrong {
        assert!(told.contains(&format!("(ISSUE_CONSUMER__{variable})")), "{variable}: {told}");
    }
    assert_eq!(told.trim_end().lines().count(), 7, "nothing but the faults: {told}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}
