//! Corruption planted in a real database, past its own guards, is found and named, each kind by itself.

use std::collections::BTreeSet;

use testkit::{World, Writer};
use trueup_cli::{audit::difference::Kind, exit::Exit};

use crate::{
    audit::busy_coupon,
    support::{audited, execute, start_consumer},
};

/// What is planted, and what has to be found. `$C` is the coupon; `$W(n)` the n-th winner's request, `$L` a loser's.
fn plants() -> Vec<(&'static str, &'static str, Vec<Kind>)> {
    use Kind::{
        ChangedCommand, ChangedMember, ChangedOutcome, DoubleIssue, Extra, ExtraCommand, ExtraDeadLetter, LeakedSeat, Lost,
        LostCommand, LostCoupon, MissingDeadLetter, OverIssue, SequenceGap, WrongAdmitted, WrongCount, WrongOrder, WrongPlace,
        WrongReference, WrongRules, WrongTime, WrongTold,
    };
    let row = "UPDATE coupon_request SET";
    let one = |set: &str, which: &str| format!("{row} {set} WHERE coupon_code = '$C' AND request_id = {which}");
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    vec![
        ("a lost loser", leak("DELETE FROM coupon_request WHERE coupon_code = '$C' AND request_id = $L".into()), vec![Lost]),
        (
            "a lost winner",
            leak("DELETE FROM coupon_request WHERE coupon_code = '$C' AND request_id = $W(12)".into()),
            vec![Lost, LeakedSeat, WrongCount],
        ),
        (
            "an extra row",
            "INSERT INTO coupon_request (coupon_code, request_id, member_id, partition, log_offset, told_offset, appended_at, admitted, outcome)
             SELECT coupon_code, gen_random_uuid(), 'ghost', partition, log_offset, told_offset, appended_at, admitted, outcome
             FROM coupon_request WHERE coupon_code = '$C' AND request_id = $L",
            vec![Extra],
        ),
        ("one issue too many", leak(one("outcome = 'issued', sequence = 13", "$L")), vec![ChangedOutcome, OverIssue, WrongCount]),
        (
            "a second issue of a member",
            leak(one("outcome = 'issued', sequence = 13, issued_request_id = NULL", "$D")),
            vec![ChangedOutcome, DoubleIssue, OverIssue, WrongCount],
        ),
        (
            "an issue taken away",
            leak(one("outcome = 'sold_out', sequence = NULL", "$W(12)")),
            vec![ChangedOutcome, LeakedSeat, WrongCount],
        ),
        (
            "two winners swapped",
            leak(format!("{row} sequence = 3 - sequence WHERE coupon_code = '$C' AND sequence IN (1, 2)")),
            vec![WrongOrder],
        ),
        ("a hole in the sequences", leak(one("sequence = 99", "$W(12)")), vec![WrongOrder, SequenceGap]),
        ("another reason", leak(one("outcome = 'closed'", "$L")), vec![ChangedOutcome]),
        ("another member", leak(one("member_id = 'eve'", "$W(1)")), vec![ChangedMember]),
        ("another reference", leak(one("issued_request_id = gen_random_uuid()", "$D")), vec![WrongReference]),
        ("another place", leak(one("log_offset = log_offset - 1", "$L")), vec![WrongPlace]),
        ("a told offset ahead", leak(one("told_offset = told_offset + 1", "$L")), vec![WrongTold]),
        ("another time", leak(one("appended_at = appended_at - interval '1 ms'", "$L")), vec![WrongTime]),
        ("marked admitted", leak(one("admitted = NOT admitted", "$L")), vec![WrongAdmitted]),
        ("a wrong count", "UPDATE coupon SET issued_quantity = issued_quantity - 1 WHERE coupon_code = '$C'", vec![WrongCount]),
        ("a raised total", "UPDATE coupon SET total_quantity = 1000 WHERE coupon_code = '$C'", vec![WrongRules]),
        ("paused by hand", "UPDATE coupon SET paused = true WHERE coupon_code = '$C'", vec![WrongRules]),
        ("another window", "UPDATE coupon SET opens_at = now() WHERE coupon_code = '$C'", vec![WrongRules]),
        ("a lost coupon", "DELETE FROM coupon WHERE coupon_code = '$C'", vec![LostCoupon]),
        (
            "a lost command",
            "DELETE FROM coupon_command WHERE coupon_code = '$C' AND kind = 'change'",
            vec![LostCommand],
        ),
        (
            "a command turned round",
            "UPDATE coupon_command SET outcome = 'total_below_issued' WHERE coupon_code = '$C' AND kind = 'change'",
            vec![ChangedCommand],
        ),
        (
            "a made up command",
            "INSERT INTO coupon_command SELECT gen_random_uuid(), coupon_code, kind, actor, partition, log_offset, appended_at, outcome, payload
             FROM coupon_command WHERE coupon_code = '$C' AND kind = 'change'",
            vec![ExtraCommand],
        ),
        ("an unnoted dead letter", "DELETE FROM dead_letter WHERE cause = 'bad_json'", vec![MissingDeadLetter]),
        ("a dead letter's cause changed", "UPDATE dead_letter SET cause = 'too_large' WHERE cause = 'bad_json'", vec![MissingDeadLetter]),
        (
            "a made up dead letter",
            "INSERT INTO dead_letter (partition, log_offset, coupon_code, cause, detail, dlt_partition, dlt_offset)
             SELECT partition, log_offset, '$C', 'bad_id', '', 0, 0 FROM coupon_request WHERE coupon_code = '$C' AND request_id = $L",
            vec![ExtraDeadLetter],
        ),
    ]
}

/// Keeps copies of the tables, so that each corruption starts from clean data.
const KEEP: &str = "CREATE SCHEMA kept;
    CREATE TABLE kept.coupon_request AS TABLE coupon_request; CREATE TABLE kept.coupon AS TABLE coupon;
    CREATE TABLE kept.coupon_command AS TABLE coupon_command; CREATE TABLE kept.dead_letter AS TABLE dead_letter;";
/// Takes the guards away: what an operator with too many rights, or a bad restore, could do.
const DISARM: &str = "ALTER TABLE coupon_request DISABLE TRIGGER ALL; ALTER TABLE coupon DISABLE TRIGGER ALL;
    DROP INDEX coupon_request_one_issue_a_member; DROP INDEX coupon_request_one_sequence;
    ALTER TABLE coupon DROP CONSTRAINT coupon_not_over_issued; ALTER TABLE coupon_request DROP CONSTRAINT coupon_request_told;";
const RESTORE: &str = "TRUNCATE coupon_request, coupon_command, dead_letter; DELETE FROM coupon;
    INSERT INTO coupon_request SELECT * FROM kept.coupon_request; INSERT INTO coupon_command SELECT * FROM kept.coupon_command;
    INSERT INTO dead_letter SELECT * FROM kept.dead_letter;
    INSERT INTO coupon (coupon_code, name, admission, partition, total_quantity, issued_quantity, opens_at, closes_at, paused, ended,
        rules_offset, defined_by, created_at, updated_at)
    SELECT coupon_code, name, admission, partition, total_quantity, issued_quantity, opens_at, closes_at, paused, ended,
        rules_offset, defined_by, created_at, updated_at FROM kept.coupon;";

fn written_out(sql: &str, code: &str) -> String {
    let by = |what: &str| {
        format!(
            "(SELECT request_id FROM kept.coupon_request WHERE coupon_code = '{code}' AND {what} ORDER BY request_id LIMIT 1)"
        )
    };
    sql.replace("$W(12)", &by("sequence = 12"))
        .replace("$W(1)", &by("sequence = 1"))
        .replace("$L", &by("outcome = 'sold_out'"))
        .replace("$D", &by("outcome = 'duplicate'"))
        .replace("$C", code)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_planted_corruption_is_found_and_named() {
    let world = World::new("planted").await;
    let writer = Writer::new(&world.kafka).await;
    let code = world.coupon("planted");
    let consumer = start_consumer(&world).await;
    busy_coupon(&world, &writer, &code).await;
    consumer.stop().await;
    execute(&world, KEEP).await;
    execute(&world, DISARM).await;
    let report = audited(&world, &code).await;
    assert_eq!(report.exit(), Exit::Done, "{}", report.render());
    for (name, sql, expected) in plants() {
        execute(&world, &written_out(sql, code.as_str())).await;
        let report = audited(&world, &code).await;
        let found: BTreeSet<Kind> = report.differences.counts.keys().copied().collect();
        assert_eq!(found, expected.into_iter().collect(), "{name}: {}", report.render());
        assert_eq!(report.exit(), Exit::Difference, "{name}");
        execute(&world, RESTORE).await;
        let report = audited(&world, &code).await;
        assert_eq!(report.exit(), Exit::Done, "after {name}: {}", report.render());
    }
}
