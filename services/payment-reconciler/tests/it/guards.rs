//! What the schema refuses, whatever the code above it does: every move that is not in the state tables, and every commit after which money,
//! stock and states would not agree.

use domain::payment::{OrderState, PaymentState, RefundState};
use tokio_postgres::Client;

use crate::database::client;

/// An order of 2 pieces at 15,000 won with one payment, and a product with 10 pieces.
const PLACED: &str = "INSERT INTO product (product_id, stock) VALUES ('p', 10);
    INSERT INTO customer_order (order_id, amount, currency) VALUES ('o', 15000, 'KRW');
    INSERT INTO order_line VALUES ('o', 'p', 2);
    INSERT INTO payment (payment_id, order_id, provider, reference, amount, currency) VALUES ('y', 'o', 'pg', 'r', 15000, 'KRW');";

/// The parts of a settle.
const SUCCESS: &str = "UPDATE payment SET state = 'SUCCESS' WHERE payment_id = 'y';";
const COMPLETED: &str = "UPDATE customer_order SET state = 'COMPLETED' WHERE order_id = 'o';";
const SOLD: &str = "INSERT INTO stock_movement (order_id, product_id, kind, change) VALUES ('o', 'p', 'sold', -2);";
const CAPTURED: &str = "INSERT INTO money_entry (payment_id, kind, pg_transaction_id, amount, currency, actor) VALUES ('y', 'capture', 't', 15000, 'KRW', 'settle');";

/// The parts of a refund.
const REFUNDING: &str = "UPDATE payment SET state = 'REFUNDING' WHERE payment_id = 'y';";
const REFUND: &str = "INSERT INTO refund (refund_id, payment_id, amount, currency, reason, actor, automatic) VALUES ('f', 'y', 15000, 'KRW', 'OUT_OF_STOCK', 'settle', true);";
const CONFIRMED: &str = "UPDATE refund SET state = 'CONFIRMED', sending_since = NULL, confirmed_at = now(), watch_until = now();";
const REFUNDED: &str = "UPDATE payment SET state = 'REFUNDED' WHERE payment_id = 'y';";
const GIVEN_BACK: &str = "INSERT INTO money_entry (payment_id, kind, pg_transaction_id, amount, currency, actor) VALUES ('y', 'refund', 'u', 15000, 'KRW', 'refund-driver');";

async fn placed() -> Client {
    let client = client("guards").await;
    client.batch_execute(PLACED).await.unwrap();
    client
}

/// Runs statements in one transaction: the name of the constraint that refused, or `committed`.
async fn attempt(client: &Client, parts: &[&str]) -> String {
    let result = client.batch_execute(&format!("BEGIN; {} COMMIT;", parts.join(" "))).await;
    match result {
        Ok(()) => "committed".to_owned(),
        Err(error) => {
            client.batch_execute("ROLLBACK").await.unwrap();
            error
                .as_db_error()
                .unwrap_or_else(|| panic!("{error}"))
                .constraint()
                .unwrap_or_else(|| panic!("{error:?}"))
                .to_owned()
        }
    }
}

/// Puts a row into a state behind the triggers' back.
async fn plant(client: &Client, sql: &str) {
    let planted = format!("SET session_replication_role = replica; {sql}; SET session_replication_role = origin;");
    client.batch_execute(&planted).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_moves_only_along_its_table() {
    let client = placed().await;
    for from in OrderState::ALL {
        for to in OrderState::ALL {
            plant(&client, &format!("UPDATE customer_order SET state = '{from}'")).await;
            let moved = attempt(&client, &[&format!("UPDATE customer_order SET state = '{to}';")]).await;
            let allowed = from == to || from.may_become(*to);
            assert_eq!(moved != "customer_order_moves", allowed, "{from} to {to}: {moved}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_moves_only_along_its_table() {
    let client = placed().await;
    for from in PaymentState::ALL {
        for to in PaymentState::ALL {
            plant(&client, &format!("UPDATE payment SET state = '{from}'")).await;
            let moved = attempt(&client, &[&format!("UPDATE payment SET state = '{to}';")]).await;
            let allowed = from == to || from.may_become(*to);
            assert_eq!(moved != "payment_moves", allowed, "{from} to {to}: {moved}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_moves_only_along_its_table() {
    let client = placed().await;
    assert_eq!(attempt(&client, &[REFUNDING, REFUND]).await, "committed");
    for from in RefundState::ALL {
        for to in RefundState::ALL {
            let since = |state: &RefundState| if *state == RefundState::Sending { "now()" } else { "NULL" };
            let extra = "confirmed_at = now(), watch_until = now()";
            plant(&client, &format!("UPDATE refund SET {extra}, state = '{from}', sending_since = {}", since(from))).await;
            let moved = attempt(&client, &[&format!("UPDATE refund SET state = '{to}', sending_since = {};", since(to))]).await;
            let allowed = from == to || from.may_become(*to);
            assert_eq!(moved != "refund_moves", allowed, "{from} to {to}: {moved}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_begins_in_the_middle() {
    let client = placed().await;
    for state in ["COMPLETED", "FAILED", "CANCELLED"] {
        let sql = format!("INSERT INTO customer_order (order_id, amount, currency, state) VALUES ('o2', 1, 'KRW', '{state}');");
        assert_eq!(attempt(&client, &[&sql]).await, "customer_order_moves");
    }
    for state in ["SUCCESS", "FAILED", "REFUNDING", "REFUNDED"] {
        let sql = format!(
            "INSERT INTO payment (payment_id, order_id, provider, reference, amount, currency, state) VALUES ('y2', 'o', 'pg', 'r2', 1, 'KRW', '{state}');"
        );
        assert_eq!(attempt(&client, &[&sql]).await, "payment_moves");
    }
    for (state, attempts) in [("SENDING", 1), ("ACCEPTED", 1), ("CONFIRMED", 1), ("REQUESTED", 2)] {
        let sql = format!(
            "INSERT INTO refund (refund_id, payment_id, amount, currency, reason, actor, automatic, state, attempt, sending_since, confirmed_at, watch_until) \
             VALUES ('f', 'y', 1, 'KRW', 'x', 'x', true, '{state}', {attempts}, CASE WHEN '{state}' = 'SENDING' THEN now() END, now(), now());"
        );
        assert_eq!(attempt(&client, &[&sql]).await, "refund_moves");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settle_is_whole_or_not_at_all() {
    let client = placed().await;
    let all = [SUCCESS, COMPLETED, SOLD, CAPTURED];
    let refusals = ["customer_order_holds", "payment_holds", "customer_order_holds", "payment_holds"];
    for (left_out, refusal) in refusals.into_iter().enumerate() {
        let parts: Vec<_> = all.iter().enumerate().filter(|(place, _)| *place != left_out).map(|(_, part)| *part).collect();
        let refused = attempt(&client, &parts).await;
        assert!([refusal, "stock_movement_holds"].contains(&refused.as_str()), "without {}: {refused}", all[left_out]);
    }
    let another_amount = CAPTURED.replace("15000", "14999");
    assert_eq!(attempt(&client, &[SUCCESS, COMPLETED, SOLD, &another_amount]).await, "payment_holds");
    let another_currency = CAPTURED.replace("KRW", "USD");
    assert_eq!(attempt(&client, &[SUCCESS, COMPLETED, SOLD, &another_currency]).await, "payment_holds");
    let too_few = SOLD.replace("-2", "-1");
    assert_eq!(attempt(&client, &[SUCCESS, COMPLETED, &too_few, CAPTURED]).await, "stock_movement_of_a_line");
    assert_eq!(attempt(&client, &[SUCCESS, COMPLETED, SOLD, SOLD, CAPTURED]).await, "stock_movement_once");

    assert_eq!(attempt(&client, &all).await, "committed");
    let stock: i64 = client.query_one("SELECT stock FROM product", &[]).await.unwrap().get(0);
    assert_eq!(stock, 8);
    let second = "INSERT INTO payment (payment_id, order_id, provider, reference, amount, currency) VALUES ('z', 'o', 'pg', 'r2', 15000, 'KRW');
        UPDATE payment SET state = 'SUCCESS' WHERE payment_id = 'z';";
    assert_eq!(attempt(&client, &[second]).await, "payment_one_success_an_order");
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_never_falls_below_zero_and_each_change_leaves_a_row() {
    let client = placed().await;
    client.batch_execute("UPDATE product SET stock = 1").await.unwrap();
    assert_eq!(attempt(&client, &[SUCCESS, COMPLETED, SOLD, CAPTURED]).await, "product_stock_not_negative");
    client.batch_execute("UPDATE product SET stock = 7").await.unwrap();
    assert_eq!(attempt(&client, &[SUCCESS, COMPLETED, SOLD, CAPTURED]).await, "committed");
    let returned = SOLD.replace("'sold', -2", "'returned', 2");
    assert_eq!(attempt(&client, &[&returned]).await, "stock_movement_holds");
    let sql = "SELECT stock, initial_stock + (SELECT sum(change) FROM stock_movement)::bigint, (SELECT count(*) FROM stock_movement) FROM product";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)), (5, 5, 3));
    client.batch_execute("DELETE FROM product").await.unwrap();
    client.batch_execute("INSERT INTO product (product_id, stock) VALUES ('p', 4)").await.unwrap();
    let row = client.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_fails_only_when_no_money_can_be_kept() {
    let client = placed().await;
    let failed = "UPDATE customer_order SET state = 'FAILED';";
    assert_eq!(attempt(&client, &[failed]).await, "customer_order_holds");
    assert_eq!(attempt(&client, &[CAPTURED, REFUNDING, REFUND, failed]).await, "customer_order_holds");
    assert_eq!(attempt(&client, &[CAPTURED, "UPDATE payment SET state = 'FAILED';", failed]).await, "payment_holds");
    assert_eq!(attempt(&client, &["UPDATE payment SET state = 'FAILED';", failed]).await, "committed");
    // Late money of a failed order still finds its way back.
    assert_eq!(attempt(&client, &[CAPTURED, REFUNDING, REFUND]).await, "committed");
    assert_eq!(attempt(&client, &[GIVEN_BACK, CONFIRMED, REFUNDED]).await, "committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_and_its_payment_move_together() {
    let client = placed().await;
    assert_eq!(attempt(&client, &[CAPTURED, REFUNDING]).await, "payment_holds");
    assert_eq!(attempt(&client, &[CAPTURED, REFUND]).await, "refund_holds");
    assert_eq!(attempt(&client, &[CAPTURED, REFUNDING, REFUND]).await, "committed");
    assert_eq!(attempt(&client, &[GIVEN_BACK, CONFIRMED]).await, "refund_holds");
    assert_eq!(attempt(&client, &[GIVEN_BACK, REFUNDED]).await, "payment_holds");
    assert_eq!(attempt(&client, &[CONFIRMED, REFUNDED]).await, "payment_holds", "the book still holds money");
    assert_eq!(attempt(&client, &[GIVEN_BACK, CONFIRMED, REFUNDED]).await, "committed");
    assert_eq!(attempt(&client, &[REFUNDING]).await, "payment_holds");
    let reopened = "UPDATE refund SET state = 'REQUESTED', attempt = attempt + 1, sends = 0;";
    assert_eq!(attempt(&client, &[reopened]).await, "refund_holds");
    assert_eq!(attempt(&client, &[REFUNDING, reopened]).await, "committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_order_is_cancelled_only_when_its_money_is_back() {
    let client = placed().await;
    assert_eq!(attempt(&client, &[SUCCESS, COMPLETED, SOLD, CAPTURED]).await, "committed");
    let cancelled = "UPDATE customer_order SET state = 'CANCELLED';";
    let returned = SOLD.replace("'sold', -2", "'returned', 2");
    assert_eq!(attempt(&client, &[cancelled]).await, "customer_order_holds");
    assert_eq!(attempt(&client, &[REFUNDING, REFUND]).await, "committed");
    assert_eq!(attempt(&client, &[cancelled]).await, "customer_order_holds");
    assert_eq!(attempt(&client, &[GIVEN_BACK, CONFIRMED, REFUNDED, cancelled, &returned]).await, "committed");
    assert_eq!(attempt(&client, &[&returned]).await, "stock_movement_once");
}

/// Another attempt `z` to pay the same order.
const SECOND: &str = "INSERT INTO payment (payment_id, order_id, provider, reference, amount, currency) VALUES ('z', 'o', 'pg', 'r2', 15000, 'KRW');";
const CANCELLED: &str = "UPDATE customer_order SET state = 'CANCELLED' WHERE order_id = 'o';";

/// The same part, of the other attempt and its refund.
fn of_second(part: &str) -> String {
    part.replace("'y'", "'z'").replace("'f'", "'g'")
}

/// A payment's refund is confirmed, and its money is out of the book.
fn back(of: impl Fn(&str) -> String) -> String {
    let confirmed = CONFIRMED.replace(';', " WHERE payment_id = 'y';");
    [GIVEN_BACK, &confirmed, REFUNDED].map(of).join(" ")
}

/// An order that was paid twice; both attempts are on their way back.
async fn paid_twice_and_both_on_their_way_back() -> Client {
    let client = placed().await;
    let other = [CAPTURED, REFUNDING, REFUND].map(of_second).join(" ");
    for parts in [&[SECOND][..], &[SUCCESS, COMPLETED, SOLD, CAPTURED], &[&other], &[REFUNDING, REFUND]] {
        assert_eq!(attempt(&client, parts).await, "committed");
    }
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_order_is_not_cancelled_for_another_attempts_refund() {
    let client = paid_twice_and_both_on_their_way_back().await;
    let (own, other) = (back(str::to_owned), back(of_second));
    assert_eq!(attempt(&client, &[&other, CANCELLED]).await, "customer_order_holds", "what paid for it is not back");
    assert_eq!(attempt(&client, &[&other]).await, "committed");
    assert_eq!(attempt(&client, &[CANCELLED]).await, "customer_order_holds");
    // Its money may be out of the book before the gateway's final word.
    assert_eq!(attempt(&client, &[GIVEN_BACK]).await, "committed");
    assert_eq!(attempt(&client, &[CANCELLED]).await, "customer_order_holds");
    let own = own.replace(GIVEN_BACK, "");
    // Whatever the order of a transaction's statements is.
    let returned = SOLD.replace("'sold', -2", "'returned', 2");
    assert_eq!(attempt(&client, &[CANCELLED, &returned, &own]).await, "committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_order_is_not_cancelled_while_another_attempt_holds_money() {
    let client = paid_twice_and_both_on_their_way_back().await;
    let (own, other) = (back(str::to_owned), back(of_second));
    assert_eq!(attempt(&client, &[&own, CANCELLED]).await, "customer_order_holds", "the other one is still on its way");
    assert_eq!(attempt(&client, &[&own]).await, "committed");
    // An attempt that nobody has decided yet may hold money, too.
    let third = |part: &str| part.replace("'y'", "'x'").replace("'z'", "'x'").replace("'r2'", "'r3'");
    assert_eq!(attempt(&client, &[&third(SECOND), &third(CAPTURED)]).await, "committed");
    assert_eq!(attempt(&client, &[&other, CANCELLED]).await, "customer_order_holds", "a third one holds some");
    assert_eq!(attempt(&client, &[&third(GIVEN_BACK), &other, CANCELLED]).await, "committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn which_attempt_paid_for_an_order_is_kept_for_good_and_by_nobody_else() {
    let client = paid_twice_and_both_on_their_way_back().await;
    let paid = async || {
        let sql = "SELECT string_agg(payment_id, ' ' ORDER BY payment_id) FROM payment WHERE paid_order";
        client.query_one(sql, &[]).await.unwrap().get::<_, Option<String>>(0)
    };
    assert_eq!(paid().await.as_deref(), Some("y"));
    assert_eq!(attempt(&client, &["UPDATE payment SET paid_order = NOT paid_order;"]).await, "committed");
    assert_eq!(paid().await.as_deref(), Some("y"), "the schema alone writes it");
    assert_eq!(attempt(&client, &[&back(str::to_owned)]).await, "committed");
    assert_eq!(paid().await.as_deref(), Some("y"));
    // It was paid for once: no further success, also when the first one is none any more.
    let third = |part: &str| part.replace("'y'", "'x'").replace("'z'", "'x'").replace("'r2'", "'r3'");
    let again = [SECOND, SUCCESS, CAPTURED].map(third).join(" ");
    assert_eq!(attempt(&client, &[&again]).await, "payment_one_success_an_order");
}

#[tokio::test(flavor = "multi_thread")]
async fn which_attempt_paid_is_known_of_orders_from_before_it_was_kept() {
    const UP: &str = include_str!("../../../../migrations/0032_cancelled_when_all_is_back/up.sql");
    const DOWN: &str = include_str!("../../../../migrations/0032_cancelled_when_all_is_back/down.sql");
    let client = paid_twice_and_both_on_their_way_back().await;
    plant(&client, "UPDATE refund SET reason = CASE payment_id WHEN 'y' THEN 'OPERATOR' ELSE 'SECOND_PAYMENT' END").await;
    let of_another_order =
        |part: &str| part.replace("'o'", "'n'").replace("'y'", "'x'").replace("'p'", "'q'").replace("'r'", "'r3'");
    let settled = [PLACED, SUCCESS, COMPLETED, SOLD, CAPTURED].map(of_another_order);
    assert_eq!(attempt(&client, &settled.each_ref().map(String::as_str)).await, "committed");
    assert_eq!(attempt(&client, &[DOWN, UP]).await, "committed");
    let sql = "SELECT string_agg(payment_id, ' ' ORDER BY payment_id) FROM payment WHERE paid_order";
    assert_eq!(client.query_one(sql, &[]).await.unwrap().get::<_, String>(0), "x y");
    let other = back(of_second);
    assert_eq!(attempt(&client, &[&other, CANCELLED]).await, "customer_order_holds");
    assert_eq!(attempt(&client, &[&other, &back(str::to_owned), CANCELLED]).await, "committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_means_one_call_and_what_is_held_is_not_sent() {
    let client = placed().await;
    assert_eq!(attempt(&client, &[CAPTURED, REFUNDING, REFUND]).await, "committed");
    let sending = "UPDATE refund SET state = 'SENDING', sending_since = now(), sends = sends + 1;";
    let hold = "UPDATE refund SET held = true, held_reason = 'limit';";
    assert_eq!(attempt(&client, &[hold, sending]).await, "refund_held_is_not_sent");
    assert_eq!(attempt(&client, &[sending]).await, "committed");
    assert_eq!(attempt(&client, &["UPDATE refund SET amount = 1;"]).await, "refund_attempt");
    assert_eq!(attempt(&client, &["UPDATE refund SET attempt = attempt + 1;"]).await, "refund_attempt");
    assert_eq!(
        attempt(&client, &["UPDATE refund SET attempt = attempt + 2, state = 'REQUESTED', sending_since = NULL;"]).await,
        "refund_attempt"
    );
    let again = "UPDATE refund SET attempt = attempt + 1, sends = 0, amount = 1, state = 'REQUESTED', sending_since = NULL;";
    assert_eq!(attempt(&client, &[again]).await, "committed");
    assert_eq!(attempt(&client, &["UPDATE refund SET attempt = attempt - 1;"]).await, "refund_attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_stays() {
    let client = placed().await;
    assert_eq!(attempt(&client, &[SUCCESS, COMPLETED, SOLD, CAPTURED]).await, "committed");
    for (sql, refusal) in [
        ("UPDATE money_entry SET amount = 1;", "payment_line_append_only"),
        ("DELETE FROM money_entry;", "payment_line_append_only"),
        ("TRUNCATE money_entry;", "payment_line_append_only"),
        ("DELETE FROM stock_movement;", "payment_line_append_only"),
        ("UPDATE order_line SET quantity = 1;", "payment_line_append_only"),
        ("DELETE FROM operator_action;", "payment_line_append_only"),
        ("DELETE FROM order_line;", "payment_line_stays"),
        ("DELETE FROM payment;", "payment_line_stays"),
        ("DELETE FROM refund;", "payment_line_stays"),
        ("DELETE FROM customer_order;", "payment_line_stays"),
        ("INSERT INTO order_line VALUES ('o', 'q', 1);", "order_line_in_time"),
        ("UPDATE customer_order SET amount = 1;", "customer_order_fixed"),
        ("UPDATE payment SET reference = 'other';", "payment_fixed"),
        ("UPDATE payment SET fence = -1;", "payment_fence"),
        (CAPTURED, "money_entry_once"),
    ] {
        assert_eq!(attempt(&client, &[sql]).await, refusal, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_the_code_refuses_is_refused_and_a_row_from_before_can_still_move() {
    let client = placed().await;
    for bad in [
        "INSERT INTO customer_order (order_id, amount, currency) VALUES ('bad 1', 15000, 'KRW');",
        "INSERT INTO order_line VALUES ('o', 'a product', 2);",
        "INSERT INTO payment (payment_id, order_id, provider, reference, amount, currency) VALUES ('y 2', 'o', 'pg', 'r2', 15000, 'KRW');",
        "INSERT INTO payment (payment_id, order_id, provider, reference, amount, currency) VALUES ('y2', 'o', 'pg', E'r\\t2', 15000, 'KRW');",
    ] {
        assert_eq!(attempt(&client, &[bad]).await, "payment_line_opaque_ids", "{bad}");
    }
    plant(&client, "INSERT INTO customer_order (order_id, amount, currency) VALUES ('bad 1', 15000, 'KRW')").await;
    assert_eq!(attempt(&client, &["UPDATE customer_order SET state = 'CANCELLED' WHERE order_id = 'bad 1';"]).await, "committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schemas_rule_for_ids_is_the_codes_for_every_character() {
    let client = placed().await;
    let sql = "SELECT array_agg(c ORDER BY c) FROM generate_series(1, 1114111) c WHERE NOT c BETWEEN 55296 AND 57343 AND NOT is_opaque_id(chr(c))";
    let refused: Vec<i32> = client.query_one(sql, &[]).await.unwrap().get(0);
    let refuses = |c: &char| c.to_string().parse::<domain::payment::OrderId>().is_err();
    let expected: Vec<i32> = ('\u{1}'..=char::MAX).filter(refuses).map(|c| i32::try_from(u32::from(c)).unwrap()).collect();
    assert_eq!(refused, expected);
    for (length, fits) in [(0, false), (1, true), (64, true), (65, false)] {
        let id = "회".repeat(length);
        let row = client.query_one("SELECT is_opaque_id($1)", &[&id]).await.unwrap();
        assert_eq!((row.get::<_, bool>(0), id.parse::<domain::payment::OrderId>().is_ok()), (fits, fits));
    }
}
