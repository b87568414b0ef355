//! Errors as a real server makes them, and the kind that each is.

use std::time::Duration;

use diesel::{QueryResult, sql_query};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};
use postgres_io::{Db, ErrorKind, PostgresSettings, classify, classify_raw, raw_client};

use crate::server::database;

async fn run(db: &Db, sql: &str) -> QueryResult<usize> {
    sql_query(sql).execute(&mut db.conn().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn time_outs_pass_and_bad_data_does_not() {
    let settings = PostgresSettings { statement_timeout_ms: 100, lock_timeout_ms: 50, ..database().await };
    let db = Db::connect(&settings).await.unwrap();
    let kind = async |sql: &str| classify(&run(&db, sql).await.unwrap_err());
    assert_eq!(kind("SELECT pg_sleep(5)").await, ErrorKind::Transient);
    assert_eq!(kind("SELECT 'x'::bigint").await, ErrorKind::Data);
    assert_eq!(kind("SELECT convert_from('\\x00', 'UTF8')").await, ErrorKind::Data);
    assert_eq!(kind("SELECT * FROM no_such_table").await, ErrorKind::Fatal);
    assert_eq!(kind("SELECT pg_terminate_backend(pg_backend_pid())").await, ErrorKind::Transient);

    let raw = raw_client(&settings).await.unwrap();
    let raw_kind = async |sql: &str| classify_raw(&raw.batch_execute(sql).await.unwrap_err());
    assert_eq!(raw_kind("SELECT pg_sleep(5)").await, ErrorKind::Transient);
    assert_eq!(raw_kind("SELECT 'x'::bigint").await, ErrorKind::Data);
    assert_eq!(raw_kind("SELECT * FROM no_such_table").await, ErrorKind::Fatal);
    assert_eq!(raw_kind("SELECT pg_terminate_backend(pg_backend_pid())").await, ErrorKind::Transient);
    assert_eq!(raw_kind("SELECT 1").await, ErrorKind::Transient, "the connection is closed now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_not_had_in_time_is_transient() {
    let settings = PostgresSettings { lock_timeout_ms: 50, ..database().await };
    let holder = raw_client(&settings).await.unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE coupon").await.unwrap();
    let db = Db::connect(&settings).await.unwrap();
    let error = run(&db, "SELECT 1 FROM coupon").await.unwrap_err();
    assert_eq!(classify(&error), ErrorKind::Transient, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_wait_for_each_other_are_told_so_and_may_try_again() {
    let settings = database().await;
    let (first, second) = (raw_client(&settings).await.unwrap(), raw_client(&settings).await.unwrap());
    first.batch_execute("BEGIN; LOCK TABLE coupon").await.unwrap();
    second.batch_execute("BEGIN; LOCK TABLE coupon_command").await.unwrap();
    let (a, b) = tokio::join!(first.batch_execute("LOCK TABLE coupon_command"), second.batch_execute("LOCK TABLE coupon"));
    let errors: Vec<_> = [a, b].into_iter().filter_map(Result::err).collect();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors.iter().map(classify_raw).next(), Some(ErrorKind::Transient));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_was_left_open_does_not_come_back_from_the_pool() {
    let settings = PostgresSettings { pool_size: 1, ..database().await };
    let db = Db::connect(&settings).await.unwrap();
    // A transaction whose future is dropped half-way, as by a time-out.
    let left = async {
        let mut connection = db.conn().await.unwrap();
        connection
            .transaction::<(), diesel::result::Error, _>(async |connection| {
                connection.batch_execute("LOCK TABLE coupon").await?;
                std::future::pending().await
            })
            .await
    };
    assert!(tokio::time::timeout(Duration::from_millis(300), left).await.is_err());
    let other = raw_client(&PostgresSettings { lock_timeout_ms: 2_000, ..settings }).await.unwrap();
    // The next check-out must not continue in the open transaction.
    let mut next = db.conn().await.unwrap();
    next.batch_execute("SELECT 1").await.unwrap();
    drop(next);
    let told: i64 = other.query_one("SELECT count(*) FROM coupon", &[]).await.unwrap().get(0);
    assert_eq!(told, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pool_says_no_in_bounded_time() {
    let settings = PostgresSettings { pool_size: 1, pool_wait_ms: 100, ..database().await };
    let db = Db::connect(&settings).await.unwrap();
    let _held = db.conn().await.unwrap();
    assert!(db.conn().await.is_err());
}
