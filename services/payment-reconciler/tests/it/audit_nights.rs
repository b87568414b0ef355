//! Nights on a real PostgreSQL and the simulator, in each gateway's own words: two replicas look by their own schedule, and one of them audits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::{clock::Timestamp, payment::Currency};
use payment_providers::ProviderKind;
use payment_reconciler::audit::{AuditSettings, Auditor, Nightly};
use pg_simulator::{NewPayment, Options, Script, Simulator};
use testkit::{FakeClock, eventually_some};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    orders::{PATIENCE, db},
    refund_stage::{AMOUNT, HOUR, MINUTE, Stage, gateway, line, patient, reference},
};

/// Looks of each replica after which nothing more is expected to come.
const LOOKS: usize = 10;

/// A stage whose gateway's clock is in the test's hands, too.
struct Nights {
    stage: Stage,
    clock: FakeClock,
}

impl Nights {
    async fn begin(kind: ProviderKind, moment: &str) -> Self {
        let clock = FakeClock::at(Timestamp::from(moment.parse::<chrono::DateTime<chrono::Utc>>().unwrap()));
        let simulator = Simulator::start_with(Options { clock: Arc::new(clock.clone()), ..Options::default() }).unwrap();
        let stage = Stage::new("nights", kind).await;
        let line = line(&stage.world, &simulator, kind, "sim", 1, patient());
        stage.sql.time_is(moment).await;
        Self { stage: Stage { simulator, line, ..stage }, clock }
    }

    async fn time_passes(&self, ms: i64) {
        self.clock.advance_ms(ms);
        self.stage.sql.time_passes(ms).await;
    }

    /// Time passes here and at the gateway, and runs are made, until all is settled.
    async fn settle(&self) {
        for _ in 0..12 {
            self.time_passes(10 * MINUTE).await;
            self.stage.run().await;
        }
    }

    /// Every audit so far, and what it found.
    async fn audits(&self) -> String {
        let all = "SELECT string_agg(concat_ws(' ', to_char(from_at AT TIME ZONE 'UTC', 'MM-DD'), actor, verdict, compared, found), ', ' ORDER BY audit_id) \
            FROM payment_audit LEFT JOIN LATERAL (SELECT string_agg(d ->> 'kind' || ' ' || (d ->> 'reference'), ' ' ORDER BY d ->> 'kind') AS found \
                FROM jsonb_array_elements(differences) d) f ON true";
        self.stage.sql.text(all).await
    }

    async fn come_to(&self, audits: &str) {
        eventually_some(PATIENCE, "the nights' audits", || async {
            let seen = self.audits().await;
            if seen == audits { Ok(()) } else { Err(seen) }
        })
        .await;
    }
}

/// A replica that looks as the service does, only more often.
struct Replica {
    looks: Arc<AtomicUsize>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Replica {
    async fn start(nights: &Nights, kind: ProviderKind, holder: u128) -> Self {
        let settings = AuditSettings { look_interval_ms: 10, ..AuditSettings::default() };
        let providers = [gateway(&nights.stage.simulator, kind, "sim")];
        let auditor = Auditor::new(db(&nights.stage.world).await, Uuid::from_u128(holder), providers, settings);
        let (looks, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let (counted, stopped) = (Arc::clone(&looks), stop.clone());
        let beat = move || {
            counted.fetch_add(1, Ordering::SeqCst);
        };
        let task = tokio::spawn(Nightly::new(Arc::new(auditor)).run(stopped, beat));
        Self { looks, stop, task }
    }

    /// It has looked so often again that it would have audited, if there were something to audit.
    async fn has_looked(&self) {
        let until = self.looks.load(Ordering::SeqCst) + LOOKS;
        testkit::eventually(PATIENCE, "it looks", || async { self.looks.load(Ordering::SeqCst) >= until }).await;
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(60), self.task).await.unwrap().unwrap();
    }
}

async fn each_night_is_audited_once(kind: ProviderKind) {
    let nights = Nights::begin(kind, "2026-05-01T09:00:00Z").await;
    let stage = &nights.stage;
    // A day on which all agrees: money that stays, and money that the line gave back.
    stage.place("stays", Script::paid()).await;
    stage.place_of("gone", "nothing", vec![Script::paid()]).await;
    nights.settle().await;
    assert_eq!(
        (stage.states("stays").await.as_str(), stage.states("gone").await.as_str()),
        ("COMPLETED SUCCESS", "FAILED REFUNDED")
    );
    let replicas = [Replica::start(&nights, kind, 1).await, Replica::start(&nights, kind, 2).await];
    let mut expected = "04-30 nightly clean 0".to_owned();
    nights.come_to(&expected).await;
    // 02:15: the gateway's list may not be complete yet.
    nights.time_passes(15 * HOUR + 15 * MINUTE).await;
    for replica in &replicas {
        replica.has_looked().await;
    }
    assert_eq!(nights.audits().await, expected, "not before half past two");
    nights.time_passes(20 * MINUTE).await;
    expected += ", 05-01 nightly clean 3";
    nights.come_to(&expected).await;

    // The next day: an order as it should be, and four that are not.
    nights.time_passes(6 * HOUR).await;
    for id in ["good", "there", "less"] {
        stage.place(id, Script::paid()).await;
    }
    nights.settle().await;
    stage.simulator.refund_at_dashboard(&reference("p-there"), None).unwrap();
    let orphan = NewPayment::new("ref_of_nobody_here", 700, Currency::KRW, Script::paid());
    stage.simulator.place(orphan).unwrap();
    // The book is closed against changes; a test has to break its seal.
    stage
        .sql
        .run(&format!(
            "BEGIN; SET LOCAL session_replication_role = replica;
             UPDATE money_entry SET amount = {AMOUNT} - 1 WHERE payment_id = 'p-less'; COMMIT"
        ))
        .await;
    nights.time_passes(17 * HOUR).await;
    expected += ", 05-02 nightly difference 5 amount_differs ref_p_less orphan ref_of_nobody_here refund_elsewhere ref_p_there";
    nights.come_to(&expected).await;
    for replica in &replicas {
        replica.has_looked().await;
    }
    assert_eq!(nights.audits().await, expected, "once, and one replica did it");
    for replica in replicas {
        replica.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_night_is_audited_once_against_the_generic_contracts_list() {
    each_night_is_audited_once(ProviderKind::Generic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_night_is_audited_once_against_toss_list() {
    each_night_is_audited_once(ProviderKind::Toss).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_night_is_audited_once_against_stripes_list() {
    each_night_is_audited_once(ProviderKind::Stripe).await;
}
