//! What Prometheus reads of running processes, and the alerts' own expressions on it: over one replica, after a restart, and over two.

use std::{collections::BTreeMap, ops::RangeInclusive};

use payment_providers::ProviderKind;
use pg_simulator::{Outage, RefundScript, Script};
use testkit::eventually_some;

use crate::{
    line_world::Process,
    orders::PATIENCE,
    refund_stage::{DAY, HOUR, MINUTE, SECOND, Stage, reference},
};

type Labels = BTreeMap<String, String>;

/// A line of `/metrics`.
struct Sample {
    name: String,
    labels: Labels,
    value: f64,
}

/// A replica, and where its metrics are.
struct Replica {
    process: Process,
    url: String,
}

impl Replica {
    /// Runs once, at its start, and then only looks at what is due.
    fn start(stage: &Stage) -> Self {
        Self::start_with(stage, &[])
    }

    fn start_with(stage: &Stage, own: &[(&str, &str)]) -> Self {
        let port = stack::ports::free().unwrap();
        let process = Process::start_on(stage, port, &[&[("LINE__RUN__INTERVAL_MS", "3600000")], own].concat(), &[]);
        Self { process, url: format!("http://127.0.0.1:{port}/metrics") }
    }

    async fn samples(&self) -> Vec<Sample> {
        let text = reqwest::get(&self.url).await.unwrap().text().await.unwrap();
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(sample).collect()
    }

    /// The one value of a metric with this label, if it has one.
    async fn value(&self, name: &str, label: Option<(&str, &str)>) -> Option<f64> {
        let samples = self.samples().await;
        let fits = |sample: &&Sample| {
            sample.name == name && label.is_none_or(|(label, value)| sample.labels.get(label).is_some_and(|has| has == value))
        };
        samples.iter().find(fits).map(|sample| sample.value)
    }

    async fn last_run(&self) -> Vec<Option<f64>> {
        let mut counts = Vec::new();
        for count in ["found", "asked", "settled", "failed", "waiting", "refunded", "attention", "errors"] {
            counts.push(self.value("trueup_payment_last_run", Some(("count", count))).await);
        }
        counts
    }

    /// Waits until the gateway's last good answer is so many seconds old.
    async fn answered_ago(&self, seconds: RangeInclusive<f64>) {
        eventually_some(PATIENCE, &format!("the last answer is {seconds:?} seconds old"), || async {
            match self.value("trueup_payment_last_answer_seconds", Some(("provider", "sim"))).await {
                Some(ago) if seconds.contains(&ago) => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }

    async fn has_run(&self) {
        eventually_some(PATIENCE, "it has run once", || async {
            match self.value("trueup_payment_runs_total", None).await {
                Some(runs) if runs >= 1.0 => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    Sample { name: name.to_owned(), labels: pairs(labels.trim_end_matches('}')), value: value.parse().unwrap() }
}

/// `a="b",c="d"`
fn pairs(text: &str) -> Labels {
    let pair = |pair: &str| {
        let (label, value) = pair.split_once('=').unwrap();
        (label.to_owned(), value.trim_matches('"').to_owned())
    };
    text.split(',').filter(|part| !part.is_empty()).map(pair).collect()
}

/// The expression of an alert, as it stands in the rules.
fn expression(alert: &str) -> String {
    let path = stack::paths::workspace().unwrap().join("deploy/alerts/payment-line.yaml");
    let rules = std::fs::read_to_string(path).unwrap();
    let rule = rules.split("- alert: ").find(|rule| rule.lines().next() == Some(alert)).unwrap_or_else(|| panic!("no {alert}"));
    rule.lines().find_map(|line| line.trim().strip_prefix("expr: ")).unwrap().to_owned()
}

/// What an alert's expression gives over these replicas, one value for each group: those of the form `max by (label) (metric{label="value"}) > 1`.
async fn firing(alert: &str, replicas: &[&Replica]) -> Result<Vec<(Labels, f64)>, String> {
    let expression = expression(alert);
    let (compared, bound) = expression.rsplit_once(' ').unwrap();
    let (aggregate, compares) = compared.rsplit_once(' ').unwrap();
    assert!(aggregate.starts_with("max") && [">", "=="].contains(&compares), "{expression} is of another form");
    let (by, selector) = match aggregate["max".len()..].strip_prefix(" by (") {
        Some(grouped) => grouped.split_once(") (").unwrap(),
        None => ("", aggregate["max(".len()..].trim_start()),
    };
    let (name, wanted) = selector.trim_end_matches(')').split_once('{').unwrap_or((selector.trim_end_matches(')'), ""));
    let (wanted, bound) = (pairs(wanted.trim_end_matches('}')), bound.parse::<f64>().unwrap());
    let mut groups: BTreeMap<Labels, f64> = BTreeMap::new();
    for replica in replicas {
        for sample in replica.samples().await {
            if sample.name == name && wanted.iter().all(|(label, value)| sample.labels.get(label) == Some(value)) {
                let group = sample.labels.iter().filter(|(label, _)| label.as_str() == by);
                let most = groups.entry(group.map(|(k, v)| (k.clone(), v.clone())).collect()).or_insert(f64::MIN);
                *most = most.max(sample.value);
            }
        }
    }
    if groups.is_empty() {
        return Err(format!("no replica writes {name} with these labels, so {alert} could never fire"));
    }
    Ok(groups.into_iter().filter(|(_, value)| if compares == ">" { *value > bound } else { *value == bound }).collect())
}

/// Waits until an alert fires with a value between these, for this gateway if it is about one.
async fn fires(alert: &str, replicas: &[&Replica], provider: Option<&str>, least: f64, most: f64) {
    eventually_some(PATIENCE, &format!("{alert} fires with {least} to {most}"), || async {
        match firing(alert, replicas).await?.as_slice() {
            [(labels, value)] if (least..=most).contains(value) && labels.get("provider").map(String::as_str) == provider => {
                Ok(())
            }
            others => Err(format!("{others:?}")),
        }
    })
    .await;
}

async fn is_quiet(alert: &str, replicas: &[&Replica]) {
    eventually_some(PATIENCE, &format!("{alert} is quiet"), || async {
        match firing(alert, replicas).await?.as_slice() {
            [] => Ok(()),
            others => Err(format!("{others:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refunds_that_are_held_raise_their_alert_until_nobody_holds_them_any_more() {
    let stage = Stage::new("alert-held", ProviderKind::Generic).await;
    stage.place("well", Script::paid()).await;
    let one = Replica::start(&stage);
    one.has_run().await;
    is_quiet("RefundsHeld", &[&one]).await;
    // Nothing is to be asked for an hour: that is no silence of the gateway.
    stage.sql.time_passes(HOUR).await;
    one.answered_ago(3_600.0..=4_500.0).await;
    is_quiet("PaymentGatewaySilent", &[&one]).await;
    stage.sql.run("DELETE FROM product").await;
    for number in 0..25 {
        stage.place(&format!("o{number}"), Script::paid()).await;
    }
    // Twenty go by themselves, and the rest is held.
    stage.sql.run("UPDATE payment SET hinted_at = payment_now()").await;
    fires("RefundsHeld", &[&one], None, 5.0, 5.0).await;
    let two = Replica::start(&stage);
    fires("RefundsHeld", &[&two], None, 5.0, 5.0).await;
    fires("RefundsHeld", &[&one, &two], None, 5.0, 5.0).await;
    drop(one.process);
    // One is given back by hand, and the others are released.
    let held = "SELECT string_agg(payment_id, ' ') FROM refund WHERE held";
    let held = stage.sql.text(held).await;
    stage.simulator.refund_at_dashboard(&reference(held.split(' ').next().unwrap()), None).unwrap();
    fires("RefundsHeld", &[&two], None, 4.0, 4.0).await;
    stage.sql.run("UPDATE refund SET held = false, held_reason = NULL").await;
    is_quiet("RefundsHeld", &[&two]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ages_and_reports_are_those_of_the_database_in_every_replica_and_after_a_restart() {
    let hours = |hours: i64| (hours * HOUR) as f64 / 1_000.0;
    let slack = (15 * MINUTE) as f64 / 1_000.0;
    let stage = Stage::new("alert-ages", ProviderKind::Generic).await;
    stage.place("paid", Script::paid()).await;
    stage.place("failed", Script::failed()).await;
    stage.place("open", Script::open()).await;
    stage.place_of("gone", "nothing", vec![Script::paid().refund(RefundScript::Pending(u32::MAX))]).await;
    let one = Replica::start(&stage);
    one.has_run().await;
    // Of the first run: found, asked, settled, failed, waiting, refunded, attention, errors. A look beside it may have asked about the refund again.
    let told = one.last_run().await;
    assert_eq!([told[0], told[2], told[3], told[6], told[7]], [4.0, 1.0, 1.0, 0.0, 1.0].map(Some), "{told:?}");
    assert!(told[1] >= Some(4.0) && told[4] >= Some(1.0) && told[5] >= Some(1.0), "{told:?}");
    assert_eq!(one.value("trueup_payment_runs_total", None).await, Some(1.0));
    let runs = one.value("trueup_payment_run_seconds_count", None).await;
    assert_eq!((runs, stage.sql.number("SELECT count(*) FROM payment_run").await), (Some(1.0), 1));
    for alert in ["RefundOpenTooLong", "PaymentChecksLate", "PaymentGatewaySilent"] {
        is_quiet(alert, &[&one]).await;
    }
    // A day and an hour: the refund is still on its way, and the gateway answers all the time.
    stage.sql.time_passes(25 * HOUR).await;
    fires("RefundOpenTooLong", &[&one], None, hours(25), hours(25) + slack).await;
    is_quiet("PaymentGatewaySilent", &[&one]).await;
    one.answered_ago(0.0..=slack).await;

    // The gateway is away for an hour, while there is something to ask.
    stage.simulator.set_outage(Outage::Unavailable);
    for id in ["late1", "late2", "late3"] {
        stage.place(id, Script::paid()).await;
    }
    stage.sql.run("UPDATE payment SET hinted_at = payment_now() WHERE payment_id LIKE 'p-late%'").await;
    eventually_some(PATIENCE, "the breaker is open", || async {
        let breaker = stage.sql.text("SELECT breaker FROM provider_state").await;
        if breaker == "open" { Ok(()) } else { Err(breaker) }
    })
    .await;
    // What is still being asked about would be noted after the hour.
    eventually_some(PATIENCE, "nothing is being asked about", || async {
        match stage.sql.number("SELECT count(*) FROM payment WHERE holder IS NOT NULL").await {
            0 => Ok(()),
            held => Err(held),
        }
    })
    .await;
    stage.sql.time_passes(HOUR).await;
    fires("PaymentGatewaySilent", &[&one], Some("sim"), hours(1), hours(1) + slack).await;
    fires("PaymentChecksLate", &[&one], None, hours(1) - slack, hours(1) + slack).await;
    one.answered_ago(hours(1)..=hours(1) + slack).await;

    // A restart forgets none of it, and a second replica doubles none of it.
    drop(one.process);
    let (one, two) = (Replica::start(&stage), Replica::start(&stage));
    for replicas in [vec![&one], vec![&two], vec![&one, &two]] {
        fires("PaymentGatewaySilent", &replicas, Some("sim"), hours(1), hours(1) + slack).await;
        fires("PaymentChecksLate", &replicas, None, hours(1) - slack, hours(1) + slack).await;
        fires("RefundOpenTooLong", &replicas, None, hours(26), hours(26) + slack).await;
    }
    for replica in [&one, &two] {
        replica.has_run().await;
        let runs = replica.value("trueup_payment_runs_total", None).await;
        assert_eq!(runs, Some(1.0), "each counts its own runs, from nought, so that their increases add up");
    }
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment_run").await, 3);
    let latest = "SELECT concat_ws(' ', found, asked) FROM payment_run ORDER BY run_id DESC LIMIT 1";
    let found: f64 = stage.sql.text(latest).await.split(' ').next().unwrap().parse().unwrap();
    for replica in [&one, &two] {
        assert_eq!(replica.last_run().await[0], Some(found), "both found the same orders");
    }

    stage.simulator.set_outage(Outage::None);
    stage.sql.time_passes(31 * SECOND).await;
    for alert in ["PaymentGatewaySilent", "PaymentChecksLate"] {
        is_quiet(alert, &[&one, &two]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nights_difference_is_shown_by_every_replica_until_that_day_is_clean() {
    let stage = Stage::new("alert-audit", ProviderKind::Generic).await;
    stage.sql.time_is("2026-05-02T03:00:00Z").await;
    let audited = async |day: &str, actor: &str, verdict: &str, differences: &str| {
        let insert = format!(
            "INSERT INTO payment_audit (provider, from_at, to_at, verdict, compared, differences, actor, started_at, finished_at) \
             VALUES ('sim', '{day}T00:00:00Z', timestamptz '{day}T00:00:00Z' + interval '1 day', '{verdict}', 1, '{differences}', '{actor}', \
             payment_now(), payment_now())"
        );
        stage.sql.run(&insert).await;
    };
    audited("2026-05-01", "nightly", "difference", r#"[{"kind": "orphan"}, {"kind": "orphan"}]"#).await;
    let one = Replica::start(&stage);
    fires("GatewayAndBookDiffer", &[&one], Some("sim"), 1.0, 1.0).await;
    assert_eq!(one.value("trueup_payment_audit_differences", Some(("provider", "sim"))).await, Some(2.0));
    drop(one.process);
    // Somebody's look at another day changes nothing; the day itself, put right and audited again, does.
    audited("2026-04-01", "operator:anna", "clean", "[]").await;
    audited("2026-04-02", "operator:anna", "cannot_tell", "[]").await;
    let (one, two) = (Replica::start(&stage), Replica::start(&stage));
    fires("GatewayAndBookDiffer", &[&one, &two], Some("sim"), 1.0, 1.0).await;
    is_quiet("AuditCannotTell", &[&one, &two]).await;
    audited("2026-05-01", "operator:anna", "clean", "[]").await;
    is_quiet("GatewayAndBookDiffer", &[&one, &two]).await;
    stage.sql.time_passes(DAY).await;
    audited("2026-05-02", "nightly", "cannot_tell", "[]").await;
    fires("AuditCannotTell", &[&one, &two], Some("sim"), 2.0, 2.0).await;
    // A night before it that is made up for is looked at like the newest, and as long.
    audited("2026-04-30", "nightly", "difference", r#"[{"kind": "orphan"}]"#).await;
    fires("GatewayAndBookDiffer", &[&one, &two], Some("sim"), 1.0, 1.0).await;
    assert_eq!(two.value("trueup_payment_audit_differences", Some(("provider", "sim"))).await, Some(1.0));
    stage.sql.time_passes(DAY).await;
    audited("2026-05-03", "nightly", "clean", "[]").await;
    for alert in ["GatewayAndBookDiffer", "AuditCannotTell"] {
        is_quiet(alert, &[&one, &two]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_that_nobody_audits_raises_its_alert_until_it_is_made_up_for() {
    let stage = Stage::new("alert-missing", ProviderKind::Generic).await;
    // They look once, at their start: whatever comes later is missed.
    let nightly = [("AUDIT__NIGHTLY", "true"), ("AUDIT__LOOK_INTERVAL_MS", "3600000")];
    let (one, two) = (Replica::start_with(&stage, &nightly), Replica::start_with(&stage, &nightly));
    is_quiet("AuditMissing", &[&one]).await;
    is_quiet("AuditMissing", &[&two]).await;
    eventually_some(PATIENCE, "yesterday's audit", || async {
        let made = stage.sql.number("SELECT count(*) FROM payment_audit").await;
        if made > 0 { Ok(()) } else { Err(made) }
    })
    .await;
    // From here on somebody has the task and stands still, whoever looks.
    let stands_still = "UPDATE payment_task SET holder = gen_random_uuid(), expires_at = now() + interval '220 seconds' WHERE task = 'audit:sim'";
    stage.sql.run(stands_still).await;
    // Behind the end of the first day and half past two of the next.
    stage.sql.time_passes(30 * HOUR).await;
    let (least, most) = (3.4 * 3_600.0, 27.6 * 3_600.0);
    for replicas in [vec![&one], vec![&two], vec![&one, &two]] {
        stage.sql.run(stands_still).await;
        fires("AuditMissing", &replicas, Some("sim"), least, most).await;
    }
    // Who does not audit by night misses no night.
    let other = Replica::start(&stage);
    eventually_some(PATIENCE, "it has looked", || async {
        other.value("trueup_payment_attention", None).await.ok_or("it has not looked yet")
    })
    .await;
    assert_eq!(other.value("trueup_payment_audit_overdue_seconds", None).await, None);
    drop(one.process);
    stage.sql.run("DELETE FROM payment_task WHERE task = 'audit:sim'").await;
    let one = Replica::start_with(&stage, &nightly);
    is_quiet("AuditMissing", &[&one, &two]).await;
    is_quiet("AuditCannotTell", &[&one, &two]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_that_are_not_told_are_shown_by_the_replica_that_should_tell_them_alone() {
    let stage = Stage::new("alert-outbox", ProviderKind::Generic).await;
    stage.place("a", Script::paid()).await;
    // Nobody listens at the address of Kafka that these processes have.
    let own = [("OUTBOX__ENABLED", "true"), ("OUTBOX__LEASE_MS", "600000"), ("PRODUCER__DELIVERY_TIMEOUT_MS", "1000")];
    let one = Replica::start_with(&stage, &own);
    one.has_run().await;
    is_quiet("OutcomesNotTold", &[&one]).await;
    assert_eq!(one.value("trueup_payment_outbox_unreadable_total", None).await, Some(0.0), "there before the first one");
    stage.sql.time_passes(HOUR).await;
    fires("OutcomesNotTold", &[&one], None, 3_600.0, 4_500.0).await;
    let two = Replica::start_with(&stage, &own);
    is_quiet("OutcomesNotTold", &[&two]).await;
    fires("OutcomesNotTold", &[&one, &two], None, 3_600.0, 4_500.0).await;
    // Somebody else takes the outbox over, and would tell: what the first one saw is over.
    let taken =
        "UPDATE payment_task SET holder = gen_random_uuid(), expires_at = now() + interval '15 minutes' WHERE task = 'outbox'";
    assert_eq!(stage.sql.execute(taken, &[]).await, 1);
    is_quiet("OutcomesNotTold", &[&one, &two]).await;
}
