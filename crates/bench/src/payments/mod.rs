//! How fast the payment line is, against ceilings of the same run: a greedy schedule of the gateway's latencies, and the same SQL run bare.

mod backlog;
mod bare;
mod report;
mod schedule;

use std::time::Duration;

use anyhow::Result;
use pg_simulator::{Latency, Limits, Options, Simulator};
use stack::ServiceProcess;
use tokio_postgres::Client;

use self::{backlog::Backlog, bare::Claims, report::Figures, schedule::greedy_ms};
use crate::{
    ledger::{self, count_as_f64},
    process,
    servers::{Servers, stop},
};

/// Asks at the same time, as by default.
pub const SLOTS: usize = 10;

/// Orders of the measurement of settles a second.
const SETTLES: u32 = 5_000;

/// Backlogs whose memory is compared.
const BACKLOGS: [u32; 2] = [100, 100_000];

/// How long the service works on each of them before its memory is read.
const MEMORY_WORK: Duration = Duration::from_secs(20);

/// Latencies of the mix.
const MIX: Latency = Latency { min_ms: 5, max_ms: 500 };

struct Bench<'a> {
    servers: &'a Servers,
    client: Client,
    simulator: Simulator,
    measurements: u32,
}

/// Measures; the page with its figures.
///
/// # Errors
/// A server, a service or a check fails.
pub async fn run(servers: &Servers, rounds: u32) -> Result<String> {
    let client = ledger::connect(&servers.postgres.url()).await?;
    ledger::require_durability(&client).await?;
    let limits = Limits { payments_max: 2_000_000, entries_max: 2_000_000, ..Limits::default() };
    let simulator = Simulator::start_with(Options { limits, ..Options::default() })?;
    let mut bench = Bench { servers, client, simulator, measurements: 0 };
    let mut figures = Figures::default();
    for round in 1..=rounds {
        eprintln!("payments, round {round}");
        for (orders, latency, side) in [
            (20, Latency::fixed(500), &mut figures.twenty),
            (100, Latency::fixed(500), &mut figures.hundred),
            (1_000, MIX, &mut figures.mix),
        ] {
            let (seconds, greedy) = bench.schedule(orders, latency, 1).await?;
            side.ours.push(seconds);
            side.ceiling.push(greedy);
        }
        let (seconds, _greedy) = bench.schedule(1_000, MIX, 2).await?;
        figures.two_replicas.push(seconds);
        let (ours, for_free, ahead) = bench.settles().await?;
        figures.settles.ours.push(ours);
        figures.settles.ceiling.push(for_free);
        figures.settles_ahead.push(ahead);
    }
    for orders in BACKLOGS {
        figures.memory_kib.push((orders, bench.memory(orders).await?));
    }
    Ok(report::markdown(rounds, &figures))
}

impl Bench<'_> {
    /// Places the backlog of the next measurement.
    async fn place(&mut self, orders: u32) -> Result<()> {
        self.measurements = self.measurements.saturating_add(1);
        self.backlog(orders).place(&self.simulator).await
    }

    fn backlog(&self, orders: u32) -> Backlog<'_> {
        Backlog::of(&self.client, &format!("b{}_", self.measurements), orders)
    }

    /// A service that makes its first run at once and the next one in an hour.
    fn replica(&self) -> Result<ServiceProcess> {
        let (url, slots) = (self.simulator.generic_url(), SLOTS.to_string());
        let settings = [
            ("INTAKE__ENABLED", "false"),
            // Its lists are asked for in the same slots.
            ("AUDIT__NIGHTLY", "false"),
            ("PROVIDERS__GENERIC__KIND", "generic"),
            ("PROVIDERS__GENERIC__BASE_URL", &url),
            ("PROVIDERS__GENERIC__API_KEY", Options::API_KEY),
            ("LINE__RUN__INTERVAL_MS", "3600000"),
            ("LINE__ASKING__ADAPTIVE", "false"),
            ("LINE__ASKING__CONCURRENCY_MAX", &slots),
            ("LINE__ASKING__RATE_PER_SECOND", "1000000"),
        ];
        self.servers.service_with("payment-reconciler", "PAYMENT_RECONCILER", &settings)
    }

    /// Seconds that the service took, and that a greedy schedule of the same latencies takes on one replica's slots.
    async fn schedule(&mut self, orders: u32, latency: Latency, replicas: u32) -> Result<(f64, f64)> {
        self.simulator.set_latency(latency);
        self.place(orders).await?;
        let greedy = greedy_ms(self.backlog(orders).references().map(|reference| latency.of(&reference)), SLOTS);
        Ok((self.settled(orders, replicas).await?, count_as_f64(greedy) / 1_000.0))
    }

    /// Seconds that so many replicas took for the backlog that was placed last.
    async fn settled(&self, orders: u32, replicas: u32) -> Result<f64> {
        let backlog = self.backlog(orders);
        let since = backlog.now().await?;
        let mut running = Vec::new();
        for _ in 0..replicas {
            running.push(self.replica()?);
        }
        let seconds = backlog.settled(since, i64::from(replicas)).await?;
        running.into_iter().try_for_each(stop)?;
        Ok(seconds)
    }

    /// Settles a second with a gateway that answers at once, and of the same SQL run bare with either way of claiming.
    async fn settles(&mut self) -> Result<(f64, f64, f64)> {
        self.simulator.set_latency(Latency::default());
        let per_second = |seconds: f64| f64::from(SETTLES) / seconds;
        self.place(SETTLES).await?;
        let ours = self.settled(SETTLES, 1).await?;
        self.place(SETTLES).await?;
        let for_free = bare::settle_all(&self.servers.postgres.url(), Claims::ForFreeSlots).await?;
        self.place(SETTLES).await?;
        let ahead = bare::settle_all(&self.servers.postgres.url(), Claims::Ahead).await?;
        Ok((per_second(ours), per_second(for_free), per_second(ahead)))
    }

    /// The most memory that the service held while it worked on such a backlog, in KiB.
    async fn memory(&mut self, orders: u32) -> Result<u64> {
        self.simulator.set_latency(Latency::fixed(5));
        eprintln!("memory with a backlog of {orders}");
        self.place(orders).await?;
        let mut replica = self.replica()?;
        tokio::time::sleep(MEMORY_WORK).await;
        let memory = process::memory_high_water_kib(replica.process().pid())?;
        stop(replica)?;
        Ok(memory)
    }
}
