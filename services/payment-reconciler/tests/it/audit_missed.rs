//! Nights that nobody could tell of, or on which nobody looked, are made up for.

use std::sync::Arc;

use payment_providers::port::{PaymentProvider, ProviderError};
use payment_reconciler::audit::{AuditSettings, Auditor, Nightly, overdue};
use testkit::World;
use uuid::Uuid;

use crate::{
    orders::{Sql, db},
    refund_stage::{DAY, HOUR},
    scripted::Scripted,
};

struct Nights {
    world: World,
    sql: Sql,
    pg: Arc<Scripted>,
    settings: AuditSettings,
}

impl Nights {
    /// Noon of the second of May; the first one is audited.
    async fn begin(name: &str, settings: AuditSettings) -> Self {
        let world = World::of_payments(name).await;
        let (sql, pg) = (Sql::of(&world).await, Scripted::named("sim"));
        sql.time_is("2026-05-02T12:00:00Z").await;
        let nights = Self { world, sql, pg, settings };
        assert_eq!(nights.look().await, 1);
        assert_eq!(nights.look().await, 0, "what ended before the gateway was audited is not made up for");
        nights
    }

    async fn look(&self) -> usize {
        let providers = [Arc::clone(&self.pg) as Arc<dyn PaymentProvider>];
        let auditor = Auditor::new(db(&self.world).await, Uuid::from_u128(1), providers, self.settings.clone());
        Nightly::new(Arc::new(auditor)).look().await.unwrap()
    }

    fn list_fails(&self, fails: bool) {
        *self.pg.list_fails.lock().unwrap() = fails.then(|| ProviderError::Unavailable("a test".to_owned()));
    }

    /// Every audit of the last looks, in their order.
    async fn audits(&self) -> String {
        let all = "WITH taken AS (UPDATE payment_audit SET actor = 'seen' WHERE actor = 'nightly' RETURNING audit_id, from_at, verdict) \
            SELECT string_agg(to_char(from_at AT TIME ZONE 'UTC', 'MM-DD') || ' ' || verdict, ', ' ORDER BY audit_id) FROM taken";
        self.sql.text(all).await
    }

    /// For how many hours the oldest untold night has been waiting.
    async fn overdue_hours(&self) -> f64 {
        let overdue = overdue(&db(&self.world).await, &["sim".to_owned()], &self.settings).await.unwrap();
        (overdue["sim"] / 360.0).round() / 10.0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nights_that_could_not_be_told_or_were_not_audited_are_made_up_for_behind_the_newest() {
    let nights = Nights::begin("missed-nights", AuditSettings::default()).await;
    assert_eq!((nights.audits().await.as_str(), nights.overdue_hours().await), ("05-01 clean", 0.0));
    nights.list_fails(true);
    nights.sql.time_passes(DAY).await;
    assert_eq!((nights.look().await, nights.look().await), (1, 0));
    assert_eq!((nights.audits().await.as_str(), nights.overdue_hours().await), ("05-02 cannot_tell", 9.5));
    nights.sql.time_passes(DAY).await;
    assert_eq!((nights.look().await, nights.look().await), (2, 0));
    assert_eq!(nights.audits().await, "05-03 cannot_tell, 05-02 cannot_tell");
    // On the next one no replica runs.
    nights.sql.time_passes(2 * DAY).await;
    assert_eq!(nights.overdue_hours().await, 81.5);
    nights.list_fails(false);
    assert_eq!((nights.look().await, nights.look().await), (4, 0));
    let made = "05-05 clean, 05-02 clean, 05-03 clean, 05-04 clean";
    assert_eq!((nights.audits().await.as_str(), nights.overdue_hours().await), (made, 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_nights_as_the_settings_say_are_made_up_for_but_those_that_an_operator_audited() {
    let nights = Nights::begin("bounded-nights", AuditSettings { nights_max: 4, ..AuditSettings::default() }).await;
    nights.audits().await;
    // From the third to the eighth nobody looks.
    nights.sql.time_passes(8 * DAY).await;
    assert_eq!(nights.overdue_hours().await, 81.5);
    let audited = "INSERT INTO payment_audit (provider, from_at, to_at, verdict, compared, differences, actor, started_at, finished_at, settled_by) \
        SELECT 'sim', '2026-05-06T06:00Z', '2026-05-09Z', 'clean', 0, '[]', 'anna', payment_now(), payment_now(), payment_now()";
    nights.sql.run(audited).await;
    // Of the sixth only a part was audited.
    assert_eq!((nights.look().await, nights.look().await), (2, 0));
    assert_eq!((nights.audits().await.as_str(), nights.overdue_hours().await), ("05-09 clean, 05-06 clean", 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_that_becomes_due_meanwhile_does_not_wait_for_those_before_it() {
    let nights = Nights::begin("nights-in-time", AuditSettings::default()).await;
    nights.audits().await;
    nights.sql.time_passes(3 * DAY).await;
    // The audit of the second takes until the next day's noon.
    let slow = format!(
        "CREATE FUNCTION a_slow_audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             UPDATE payment_clock SET offset_ms = offset_ms + {}; RETURN NEW; END $$;
         CREATE TRIGGER a_slow_audit AFTER INSERT ON payment_audit FOR EACH ROW WHEN (NEW.from_at = '2026-05-02Z') EXECUTE FUNCTION a_slow_audit()",
        24 * HOUR
    );
    nights.sql.run(&slow).await;
    assert_eq!(nights.look().await, 2);
    assert_eq!(nights.audits().await, "05-04 clean, 05-02 clean");
    assert_eq!(nights.look().await, 2);
    assert_eq!(nights.audits().await, "05-05 clean, 05-03 clean");
}
