//! An audit waits for its turn at the gateway as everybody does, and not for ever.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use domain::clock::{Clock, SystemClock};
use payment_providers::ProviderKind;
use payment_reconciler::audit::{AuditReport, AuditSettings, Auditor, Span, Wish};
use pg_simulator::{Outage, Script};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    orders::db,
    refund_stage::{MINUTE, Stage},
};

const TURN: Duration = Duration::from_secs(5);
const BREAKER: &str = "SELECT breaker || ' ' || failures FROM provider_state";

async fn audit(stage: &Stage, pause_wait_ms: u64) -> AuditReport {
    let settings = AuditSettings { pause_wait_ms, settling_minutes: 0, ..AuditSettings::default() };
    let readings = stage.line.readings(TURN, &CancellationToken::new());
    let auditor = Auditor::new(db(&stage.world).await, Uuid::from_u128(9), readings, settings);
    let now: chrono::DateTime<Utc> = SystemClock.now().to_datetime();
    let span = Span::new(now - TimeDelta::minutes(30), now + TimeDelta::minutes(1)).unwrap();
    let wish = Wish { span, settling_minutes: Some(0), actor: "a test", once: false };
    auditor.audit(&"sim".parse().unwrap(), wish).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_keeps_the_pause_that_the_gateway_wants() {
    let stage = Stage::new("audit-turns", ProviderKind::Generic).await;
    stage.place("a", Script::paid()).await;
    stage.run_after(11 * MINUTE).await;
    assert_eq!(stage.states("a").await, "COMPLETED SUCCESS");
    let calls = || stage.simulator.calls_total();

    // A pause that is too long: the gateway is not called at all.
    let before = calls();
    let pause = |length: &str| {
        format!("UPDATE provider_state SET paused_until = payment_now() + interval '{length}', pause_reason = 'a test'")
    };
    stage.sql.run(&pause("10 minutes")).await;
    let report = audit(&stage, 2_000).await;
    assert_eq!((report.verdict, report.compared, calls()), ("cannot_tell", 0, before), "{report:?}");
    // A short one is waited for.
    stage.sql.run(&pause("2 seconds")).await;
    let report = audit(&stage, 60_000).await;
    assert_eq!((report.verdict, report.compared), ("clean", 1), "{report:?}");
    assert!(calls() > before);

    // What the gateway says to an audit holds for everybody: here it wants fewer calls than any.
    stage.simulator.set_throttle(Some(1));
    let throttled = async {
        for _ in 0..20 {
            let report = audit(&stage, 0).await;
            if report.verdict == "cannot_tell" {
                return report;
            }
        }
        panic!("a gateway that takes one call a second takes no twenty audits at once");
    }
    .await;
    assert!(throttled.reason.is_some_and(|reason| reason.contains("the list could not be read")));
    let pauses = "SELECT count(*) FROM provider_state WHERE paused_until > payment_now() - interval '1 minute' AND pause_reason <> 'a test'";
    assert_eq!(stage.sql.number(pauses).await, 1, "the pause is noted for all");
    stage.simulator.set_throttle(None);

    // A list that does not come opens no breaker for payments.
    stage.sql.run("UPDATE provider_state SET paused_until = NULL, pause_reason = NULL").await;
    stage.simulator.set_outage(Outage::Unavailable);
    assert_eq!(audit(&stage, 0).await.verdict, "cannot_tell");
    assert_eq!(stage.sql.text(BREAKER).await, "closed 0");
}

/// The breaker is about asks for payments. An audit may be the call that tries the gateway, but whichever way its list comes out, the breaker
/// is then as it was, and the next ask tries it.
#[tokio::test(flavor = "multi_thread")]
async fn no_list_closes_the_breaker_that_asks_have_opened() {
    let stage = Stage::new("audit-breaker", ProviderKind::Generic).await;
    stage.place("a", Script::paid()).await;
    stage.run_after(11 * MINUTE).await;
    let open = "UPDATE provider_state SET breaker = 'open', breaker_until = payment_now() - interval '1 second', failures = 5, \
        failing_since = payment_now() - interval '1 minute'";
    for outage in [Outage::None, Outage::Unavailable] {
        stage.sql.run(open).await;
        stage.simulator.set_outage(outage);
        let before = stage.simulator.calls_total();
        let report = audit(&stage, 0).await;
        assert_eq!(report.verdict == "clean", outage == Outage::None, "{report:?}");
        assert!(stage.simulator.calls_total() > before, "it asked for the list");
        assert_eq!(stage.sql.text(BREAKER).await, "open 5", "{outage:?}");
        assert_eq!(
            stage.sql.text("SELECT (breaker_until <= payment_now())::text FROM provider_state").await,
            "true",
            "{outage:?}"
        );
    }
    // An ask that is answered does.
    stage.simulator.set_outage(Outage::None);
    stage.place("b", Script::paid()).await;
    stage.run_after(11 * MINUTE).await;
    assert_eq!((stage.states("b").await.as_str(), stage.sql.text(BREAKER).await.as_str()), ("COMPLETED SUCCESS", "closed 0"));
}
