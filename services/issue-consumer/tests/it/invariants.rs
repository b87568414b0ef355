//! What must hold after every test: the log is folded once more, and compared with the ledger; the schema's promises are counted again.

use std::collections::BTreeMap;

use domain::{
    coupon::{CouponFold, FoldState, Here, decide},
    ids::CouponCode,
};
use issue_consumer::batch::Batch;
use testkit::{World, log_key, read_all};

use crate::harness::{Sql, Writer};

/// C1, C2, C3 and C6 for everything in this world's log, and nothing is lost: every record that can be decided has its row.
pub async fn hold(world: &World, writer: &Writer, sql: &Sql) {
    counted(sql).await;
    let client = kafka_io::LogClient::new(&world.kafka).expect("a client");
    let log = client.incarnation(&world.kafka.topics.created).await.expect("the log's identity");
    let home_of = |code: &CouponCode| writer.home(code);
    let mut expected = BTreeMap::new();
    for partition in 0..writer.partitions {
        let raw = read_all(&world.kafka, &world.kafka.topics.created, partition).await;
        let batch = Batch::read(raw, &log_key(), &log);
        let mut state = FoldState::default();
        // A record of another partition's coupon is known to be one by that coupon.
        for (code, home) in homes(sql).await {
            if home != partition {
                state.coupons.insert(code.clone(), elsewhere(code, home));
            }
        }
        let decisions = decide(&mut state, &Here { partition, home_of: &home_of }, batch.whole().records());
        for new in decisions.rows {
            let row = new.row;
            let value = (row.outcome.as_str().to_owned(), row.outcome.sequence(), partition, row.place.offset, new.told_offset);
            expected.insert((row.coupon.to_string(), row.request.to_string()), value);
        }
    }
    let found = ledger(sql).await;
    for (key, value) in &expected {
        assert_eq!(found.get(key), Some(value), "the ledger differs from the log at {key:?}");
    }
    assert_eq!(found.len(), expected.len(), "rows that no record explains");
}

fn elsewhere(code: CouponCode, partition: i32) -> CouponFold {
    use domain::coupon::{Admission, Coupon};
    let coupon = Coupon {
        code,
        name: String::new(),
        admission: Admission::Queued,
        partition,
        total: 0,
        issued: 0,
        opens_at: None,
        closes_at: None,
        paused: false,
        ended: false,
        rules_offset: 0,
    };
    CouponFold { coupon: Some(coupon), ..CouponFold::default() }
}

pub async fn counted(sql: &Sql) {
    let none = [
        (
            "C1",
            "SELECT count(*) FROM coupon WHERE issued_quantity > total_quantity OR issued_quantity <> (SELECT count(*) FROM \
                coupon_request r WHERE r.coupon_code = coupon.coupon_code AND r.outcome = 'issued')",
        ),
        (
            "C2",
            "SELECT count(*) FROM (SELECT 1 FROM coupon_request WHERE outcome = 'issued' GROUP BY coupon_code, member_id \
                HAVING count(*) > 1) twice",
        ),
        ("C3", "SELECT count(*) FROM (SELECT 1 FROM coupon_request GROUP BY coupon_code, request_id HAVING count(*) > 1) twice"),
        (
            "sequences",
            "SELECT count(*) FROM (SELECT 1 FROM coupon_request WHERE outcome = 'issued' GROUP BY coupon_code \
                HAVING count(DISTINCT sequence) <> count(*) OR max(sequence) <> count(*) OR min(sequence) <> 1) holes",
        ),
    ];
    for (name, query) in none {
        assert_eq!(sql.number(query).await, 0, "{name}: {query}");
    }
}

async fn connect(sql: &Sql) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(sql.url(), tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

async fn homes(sql: &Sql) -> Vec<(CouponCode, i32)> {
    let rows = connect(sql).await.query("SELECT coupon_code, partition FROM coupon", &[]).await.expect("coupons");
    rows.iter().map(|row| (CouponCode::new(row.get::<_, &str>(0)).unwrap(), row.get(1))).collect()
}

type Value = (String, Option<i64>, i32, i64, i64);

async fn ledger(sql: &Sql) -> BTreeMap<(String, String), Value> {
    let query =
        "SELECT coupon_code, request_id::text, outcome::text, sequence, partition, log_offset, told_offset FROM coupon_request";
    let rows = connect(sql).await.query(query, &[]).await.expect("the ledger");
    rows.iter().map(|row| ((row.get(0), row.get(1)), (row.get(2), row.get(3), row.get(4), row.get(5), row.get(6)))).collect()
}
