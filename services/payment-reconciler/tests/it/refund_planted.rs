//! The money check itself: refunds that are lost, doubled or swapped on purpose, in the gateway's ledger or in our tables, are found and
//! named; what is right is not.

use payment_providers::ProviderKind;
use pg_simulator::{Answer, EntryKind, Script};

use crate::{
    money::Wrong,
    refund_stage::{AMOUNT, Stage, reference},
};

/// A quiet line with successes `s1…`, refunded payments `r1…`, and one that failed.
async fn quiet(name: &str) -> Stage {
    let stage = Stage::new(name, ProviderKind::Generic).await;
    for number in 1..=4 {
        stage.place(&format!("s{number}"), Script::paid()).await;
    }
    for number in 1..=8 {
        stage.place_of(&format!("r{number}"), "nothing", vec![Script::paid()]).await;
    }
    stage.place("f1", Script::default().then(Answer::Closed)).await;
    stage.becomes_quiet().await;
    stage.money().holds().await;
    stage
}

impl Stage {
    /// What is found, as its kind and with whose money.
    async fn found(&self) -> Vec<(Wrong, String)> {
        self.money().findings().await.into_iter().map(|finding| (finding.wrong, finding.with)).collect()
    }

    /// What a plant adds to what was found before.
    async fn finds(&self, before: &mut Vec<(Wrong, String)>, expected: &[(Wrong, &str)]) {
        let found = self.found().await;
        let mut new: Vec<(Wrong, &str)> =
            found.iter().filter(|finding| !before.contains(finding)).map(|(wrong, with)| (*wrong, with.as_str())).collect();
        new.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(new, expected);
        *before = found;
    }

    fn plant(&self, payment: &str, kind: EntryKind, key: Option<&str>) {
        self.plant_of(payment, kind, AMOUNT, key);
    }

    fn plant_of(&self, payment: &str, kind: EntryKind, amount: i64, key: Option<&str>) {
        self.simulator.plant(&reference(payment), kind, amount, key);
    }

    async fn key_of(&self, payment: &str) -> String {
        self.of_payment(payment, "r.refund_id || '-1'").await
    }

    /// Writes what the schema would refuse.
    async fn force(&self, sql: &str) {
        self.sql.run(&format!("SET session_replication_role = replica; {sql}; SET session_replication_role = DEFAULT")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_at_the_gateway_is_found_and_named() {
    use EntryKind::{Capture, Refund, RefundReversed};
    use Wrong::{BookDiffers, RefundDoubled, RefundLost, RefundSwapped, SuccessUnpaid, UnknownPayment};
    let stage = quiet("planted-ledger").await;
    let mut found = Vec::new();

    stage.plant("p-r1", RefundReversed, None);
    stage.finds(&mut found, &[(RefundLost, "p-r1"), (BookDiffers, "p-r1")]).await;

    let own = stage.key_of("p-r2").await;
    stage.plant("p-r2", Refund, Some(&own));
    // Two wrongs of the same amount might be one refund in the wrong place, and are told as that, too.
    stage.finds(&mut found, &[(RefundDoubled, "p-r2"), (BookDiffers, "p-r2"), (RefundSwapped, "p-r1")]).await;

    // The refund of one went to another, under its key.
    let others = stage.key_of("p-r3").await;
    stage.plant("p-r3", RefundReversed, Some(&others));
    stage.plant("p-s1", Refund, Some(&others));
    let swapped = [
        (RefundLost, "p-r3"),
        (BookDiffers, "p-r3"),
        (RefundSwapped, "p-r3"),
        (SuccessUnpaid, "p-s1"),
        (BookDiffers, "p-s1"),
        (RefundSwapped, "p-s1"),
    ];
    stage.finds(&mut found, &swapped).await;

    // Each of two went back under the other one's key: every sum is right.
    let keys = [stage.key_of("p-r4").await, stage.key_of("p-r5").await];
    for (payment, other) in [("p-r4", &keys[1]), ("p-r5", &keys[0])] {
        stage.plant(payment, RefundReversed, None);
        stage.plant(payment, Refund, Some(other));
    }
    stage.finds(&mut found, &[(RefundSwapped, "p-r4"), (RefundSwapped, "p-r5")]).await;

    stage.plant_of("p-f1", Capture, 700, None);
    stage.finds(&mut found, &[(RefundLost, "p-f1"), (BookDiffers, "p-f1")]).await;
    stage.plant_of("nobodys", Capture, 700, None);
    stage.finds(&mut found, &[(UnknownPayment, "ref_nobodys")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_in_our_tables_is_found_and_named() {
    use Wrong::{BookDiffers, Open, RefundLost, RefundSwapped, StatesDisagree, StockDiffers, SuccessUnpaid};
    let stage = quiet("planted-tables").await;
    let mut found = Vec::new();

    // Told as given back, and it never was.
    stage.force("UPDATE payment SET state = 'REFUNDED' WHERE payment_id = 'p-s1'").await;
    stage.finds(&mut found, &[(RefundLost, "p-s1"), (StatesDisagree, "s1")]).await;
    // Told as a success, and it was given back.
    stage.force("UPDATE payment SET state = 'SUCCESS' WHERE payment_id = 'p-r1'").await;
    let both = [(SuccessUnpaid, "p-r1"), (StatesDisagree, "p-r1"), (StatesDisagree, "r1"), (RefundSwapped, "p-s1")];
    stage.finds(&mut found, &both).await;
    // Two refunds that point at each other's payment.
    stage
        .force(
            "ALTER TABLE refund DROP CONSTRAINT refund_one_a_payment; \
             UPDATE refund SET payment_id = CASE payment_id WHEN 'p-r2' THEN 'p-r3' ELSE 'p-r2' END WHERE payment_id IN ('p-r2', 'p-r3')",
        )
        .await;
    stage.finds(&mut found, &[(RefundSwapped, "p-r2"), (RefundSwapped, "p-r3")]).await;
    stage.force("DELETE FROM money_entry WHERE payment_id = 'p-r4' AND kind = 'refund'").await;
    stage.finds(&mut found, &[(BookDiffers, "p-r4")]).await;
    let again = "INSERT INTO money_entry (payment_id, kind, pg_transaction_id, amount, currency, actor) \
        VALUES ('p-r5', 'refund', 'again', 15000, 'KRW', 'a test')";
    stage.force(again).await;
    stage.finds(&mut found, &[(BookDiffers, "p-r5")]).await;
    stage.force("UPDATE refund SET state = 'SENDING', sending_since = payment_now() WHERE payment_id = 'p-r6'").await;
    stage.finds(&mut found, &[(Open, "p-r6")]).await;
    stage.force("UPDATE payment SET state = 'REFUNDING' WHERE payment_id = 'p-r7'").await;
    stage.finds(&mut found, &[(Open, "p-r7"), (StatesDisagree, "p-r7")]).await;
    stage.force("UPDATE customer_order SET state = 'PENDING' WHERE order_id = 'r8'").await;
    stage.finds(&mut found, &[(Open, "r8")]).await;

    stage.force("DELETE FROM stock_movement WHERE order_id = 's2'").await;
    stage.finds(&mut found, &[(StockDiffers, "s2"), (StockDiffers, "book")]).await;
    stage.force("UPDATE product SET stock = stock + 1 WHERE product_id = 'rarity'").await;
    stage.finds(&mut found, &[(StockDiffers, "rarity")]).await;
    let unsold = "INSERT INTO stock_movement (order_id, product_id, kind, change) VALUES ('f1', 'book', 'sold', -2)";
    stage.force(unsold).await;
    stage.finds(&mut found, &[(StockDiffers, "f1")]).await;
}
