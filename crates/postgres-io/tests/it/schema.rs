//! Each line of the schema that guards an invariant, and the statement that it refuses.

use postgres_io::{ErrorKind, classify_raw, migrate};
use tokio_postgres::Client;

use crate::server::{database, with_coupon};

/// A row of the ledger: request number, member, outcome and sequence.
fn row(number: u32, member: &str, outcome: &str, sequence: &str) -> String {
    format!(
        "('c', '00000000-0000-7000-8000-{number:012}', {member}, 0, {number}, {number}, now(), false, '{outcome}', {sequence}, NULL)"
    )
}

async fn insert(client: &Client, rows: &[String]) -> Result<u64, tokio_postgres::Error> {
    let columns = "coupon_code, request_id, member_id, partition, log_offset, told_offset, appended_at, admitted, outcome, sequence, issued_request_id";
    client.execute(&format!("INSERT INTO coupon_request ({columns}) VALUES {}", rows.join(", ")), &[]).await
}

/// The name of the constraint that refused.
fn refused(result: Result<u64, tokio_postgres::Error>) -> String {
    let error = result.expect_err("the schema must refuse this");
    assert_eq!(classify_raw(&error), ErrorKind::Data);
    error.as_db_error().unwrap().constraint().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn issued_never_exceeds_total_not_even_within_one_statement() {
    let client = with_coupon().await;
    let over = [row(1, "'a'", "issued", "1"), row(2, "'b'", "issued", "2"), row(3, "'d'", "issued", "3")];
    assert_eq!(refused(insert(&client, &over).await), "coupon_request_not_over_issued");
    let [first, second, third] = over;
    assert_eq!(insert(&client, &[first, second]).await.unwrap(), 2);
    assert_eq!(refused(insert(&client, &[third]).await), "coupon_request_not_over_issued");
    let counted = client.execute("UPDATE coupon SET issued_quantity = 3", &[]).await;
    assert_eq!(refused(counted), "coupon_not_over_issued");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issue_needs_a_coupon_that_exists() {
    let client = with_coupon().await;
    client.batch_execute("DELETE FROM coupon").await.unwrap();
    assert_eq!(refused(insert(&client, &[row(1, "'a'", "issued", "1")]).await), "coupon_request_not_over_issued");
    // A refusal may name a coupon that never was.
    assert_eq!(insert(&client, &[row(2, "'a'", "unprocessable", "NULL")]).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_issue_a_member_one_row_a_request_one_sequence_an_issue() {
    let client = with_coupon().await;
    insert(&client, &[row(1, "'a'", "issued", "1")]).await.unwrap();
    assert_eq!(refused(insert(&client, &[row(2, "'a'", "issued", "2")]).await), "coupon_request_one_issue_a_member");
    assert_eq!(refused(insert(&client, &[row(3, "'b'", "issued", "1")]).await), "coupon_request_one_sequence");
    assert_eq!(refused(insert(&client, &[row(1, "'b'", "sold_out", "NULL")]).await), "coupon_request_pkey");
    assert_eq!(refused(insert(&client, &[row(4, "'b'", "sold_out", "2")]).await), "coupon_request_sequence");
    assert_eq!(refused(insert(&client, &[row(5, "'b'", "issued", "NULL")]).await), "coupon_request_sequence");
    assert_eq!(refused(insert(&client, &[row(6, "'b'", "issued", "0")]).await), "coupon_request_sequence");
    assert_eq!(refused(insert(&client, &[row(7, "NULL", "issued", "2")]).await), "coupon_request_member");
    insert(&client, &[row(8, "'a'", "duplicate", "NULL"), row(9, "'a'", "duplicate", "NULL")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_never_changes_and_told_only_moves_forward() {
    let client = with_coupon().await;
    insert(&client, &[row(1, "'a'", "issued", "1"), row(2, "'b'", "sold_out", "NULL")]).await.unwrap();
    for change in [
        "outcome = 'sold_out', sequence = NULL",
        "sequence = 2",
        "member_id = 'z'",
        "log_offset = 0",
        "told_offset = 0",
        "admitted = true",
    ] {
        let changed = client.execute(&format!("UPDATE coupon_request SET {change} WHERE told_offset = 1"), &[]).await;
        assert_eq!(refused(changed), "coupon_request_final", "{change}");
    }
    assert_eq!(client.execute("UPDATE coupon_request SET told_offset = 9 WHERE told_offset = 2", &[]).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_total_below_what_is_issued_is_refused_even_if_the_counter_lies() {
    let client = with_coupon().await;
    insert(&client, &[row(1, "'a'", "issued", "1"), row(2, "'b'", "issued", "2")]).await.unwrap();
    let lowered = client.execute("UPDATE coupon SET total_quantity = 1, issued_quantity = 0", &[]).await;
    assert_eq!(refused(lowered), "coupon_total_covers_issues");
    assert_eq!(client.execute("UPDATE coupon SET total_quantity = 5", &[]).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_views_say_what_people_search_for() {
    let client = with_coupon().await;
    insert(&client, &[row(1, "'a'", "issued", "1"), row(2, "'b'", "sold_out", "NULL")]).await.unwrap();
    let one = async |sql: &str| -> String { client.query_one(sql, &[]).await.unwrap().get(0) };
    assert_eq!(one("SELECT status FROM coupon").await, "ACTIVE");
    client.batch_execute("UPDATE coupon SET paused = true").await.unwrap();
    assert_eq!(one("SELECT status FROM coupon").await, "PAUSED");
    client.batch_execute("UPDATE coupon SET ended = true").await.unwrap();
    assert_eq!(one("SELECT status FROM coupon").await, "ENDED");
    assert_eq!(one("SELECT member_id FROM coupon_issue WHERE sequence = 1").await, "a");
    assert_eq!(one("SELECT reason FROM failed_coupon_issue WHERE member_id = 'b'").await, "sold_out");
}

#[tokio::test(flavor = "multi_thread")]
async fn migrating_twice_and_at_the_same_time_is_harmless() {
    let settings = database().await;
    let (first, second) = tokio::join!(migrate(&settings), migrate(&settings));
    assert_eq!((first.unwrap(), second.unwrap()), (vec![], vec![]));
}
