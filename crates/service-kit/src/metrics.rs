//! Prometheus metrics of the process.

use std::{fs, time::Duration};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Buckets of every histogram of times, in seconds: from a cache hit to a time-out.
const SECONDS: [f64; 14] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Buckets of every other histogram: sizes of batches.
const SIZES: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0];

/// How often samples are folded into buckets, so that memory stays bounded when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(2);

/// The recorder of the process.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

/// Makes the recorder that `metrics::counter!` and its like write to. Once a process, inside a tokio runtime.
///
/// # Errors
/// A second call.
pub fn install() -> Result<Metrics, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets(&SIZES)?
        .install_recorder()?;
    let kept = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            kept.run_upkeep();
        }
    });
    Ok(Metrics(handle))
}

impl Metrics {
    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        observe_process();
        self.0.render()
    }
}

/// The metrics that every Prometheus client reports of its own process.
fn observe_process() {
    /// Clock ticks a second and bytes a page in /proc, on all machines that we run on.
    const TICKS_PER_SECOND: f64 = 100.0;
    const PAGE_BYTES: f64 = 4_096.0;
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return };
    let Some((_, rest)) = stat.rsplit_once(')') else { return };
    let field = |index: usize| rest.split_whitespace().nth(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    metrics::gauge!("process_cpu_seconds_total").set((field(11) + field(12)) / TICKS_PER_SECOND);
    metrics::gauge!("process_resident_memory_bytes").set(field(21) * PAGE_BYTES);
    metrics::gauge!("process_threads").set(field(17));
}
