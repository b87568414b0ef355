//! What stands at the edges of the line: orders in, outcomes out, callbacks, operators, audits. All of it starts and ends together.

use std::{
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use anyhow::Context;
use domain::{clock::SystemClock, ids::RequestId};
use kafka_io::CommandProducer;
use payment_providers::port::PaymentProvider;
use postgres_io::Db;
use service_kit::{lifecycle::phase, probes::Health};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use uuid::Uuid;

use crate::{
    Settings,
    admin::{Admin, Hands},
    audit::{Auditor, Nightly},
    callbacks::{Desk, Sweeper},
    http::App,
    intake::{Intake, Progress},
    observe,
    outbox::Relay,
};

/// A task that shows no sign of life for so long stands still. Above every time-out of one step.
const SILENT_MAX: Duration = Duration::from_secs(120);

/// The running tasks.
pub struct Edges {
    stop: CancellationToken,
    tasks: Vec<(&'static str, JoinHandle<()>)>,
    producer: CommandProducer,
}

impl Edges {
    /// Starts what is enabled, and gives what the HTTP interface needs.
    ///
    /// # Errors
    /// The Kafka client refuses its settings.
    pub fn start(
        settings: &Settings,
        db: &Db,
        health: &Health,
        providers: &[Arc<dyn PaymentProvider>],
        audited: Vec<Arc<dyn PaymentProvider>>,
        hands: Arc<dyn Hands>,
    ) -> anyhow::Result<(Self, App)> {
        let stop = CancellationToken::new();
        let producer = CommandProducer::new(&settings.kafka, &settings.producer).context("Kafka")?;
        // Only an id of this process; nothing else is derived from it.
        let holder = RequestId::fresh(&SystemClock).uuid();
        let mut edges = Self { stop, tasks: Vec::new(), producer };
        if settings.intake.enabled {
            edges.intake(settings, db, health)?;
        }
        if settings.outbox.enabled {
            edges.relay(settings, db, health, holder);
        }
        let waiting = Arc::new(AtomicU32::new(0));
        let sweeper = Sweeper::new(db.clone(), holder, settings.callbacks.clone(), Arc::clone(&waiting));
        let beat = health.heartbeat("callbacks", SILENT_MAX);
        edges.spawn("callbacks", |stop| sweeper.run(stop, move || beat.beat()));
        let beat = health.heartbeat("observer", SILENT_MAX);
        let watch = observe::Watch {
            gateways: providers.iter().map(|provider| provider.name().to_string()).collect(),
            stale_after_ms: settings.line.run.stale_after_ms,
            nightly: settings.audit.nightly.then(|| settings.audit.clone()),
        };
        let observed = db.clone();
        edges.spawn("observer", |stop| observe::run(observed, watch, stop, move || beat.beat()));
        let all = || providers.iter().cloned();
        let auditor = Arc::new(Auditor::new(db.clone(), holder, audited, settings.audit.clone()));
        if settings.audit.nightly {
            // An audit takes as long as the gateway's list does, so this task has no heartbeat.
            let nightly = Nightly::new(Arc::clone(&auditor));
            edges.spawn("audit", |stop| nightly.run(stop, || {}));
        }
        let app = App {
            desk: Desk::new(db.clone(), Arc::new(SystemClock), settings.callbacks.clone(), all(), waiting),
            admin: Admin::new(settings.admin.clone(), db.clone(), all(), hands, auditor),
        };
        Ok((edges, app))
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&mut self, name: &'static str, task: impl FnOnce(CancellationToken) -> F) {
        let task = tokio::spawn(task(self.stop.clone()));
        self.tasks.push((name, task));
    }

    fn intake(&mut self, settings: &Settings, db: &Db, health: &Health) -> anyhow::Result<()> {
        let (open, beat) = (health.flag("orders"), health.heartbeat("intake", SILENT_MAX));
        let beat = Arc::new(beat);
        let told = Arc::clone(&beat);
        let progress = Progress { beat: Arc::new(move || told.beat()), open: Arc::new(move |is_open| open.set(is_open)) };
        let (kafka, own) = (settings.kafka.clone(), settings.intake.clone());
        let intake = Intake::join(kafka, own, db.clone(), self.producer.clone(), progress).context("Kafka")?;
        let stop = self.stop.clone();
        let task = tokio::spawn(async move {
            if let Err(reason) = intake.run(stop).await {
                // Only a new process can join the group again; its heart stands still, so that liveness asks for one.
                tracing::error!(reason, "the intake failed for good");
                std::future::pending::<()>().await;
            }
            drop(beat);
        });
        self.tasks.push(("intake", task));
        Ok(())
    }

    fn relay(&mut self, settings: &Settings, db: &Db, health: &Health, holder: Uuid) {
        let beat = health.heartbeat("outbox", SILENT_MAX);
        let topic = settings.kafka.topics.payment_outcome.clone();
        let relay = Relay::new(db.clone(), holder, self.producer.clone(), topic, settings.outbox.clone());
        self.spawn("outbox", |stop| relay.run(stop, move || beat.beat()));
    }

    /// Ends all tasks within `limit`: what they have begun is ended or rolled back, then what is in flight is sent.
    pub async fn stop(self, limit: Duration) {
        self.stop.cancel();
        let deadline = tokio::time::Instant::now() + limit;
        for (name, mut task) in self.tasks {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if phase(name, left, &mut task).await.is_none() {
                task.abort();
            }
        }
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if let Some(Err(error)) = phase("flush", left, self.producer.flush(left)).await {
            tracing::warn!(%error, "outcomes without an acknowledgement are told again by the next process");
        }
    }
}
