//! Live progress: bars on a terminal, a line now and then elsewhere.

use std::{
    io::IsTerminal,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often bars are drawn.
const DRAW_EVERY: Duration = Duration::from_millis(200);
/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Counters that every task moves.
#[derive(Debug, Default)]
pub struct Counters {
    /// Members who are done asking.
    pub asked: AtomicU64,
    /// 202s.
    pub accepted: AtomicU64,
    /// 202s that are watched until their outcome is visible.
    pub watched: AtomicU64,
    /// Outcomes seen.
    pub visible: AtomicU64,
}

impl Counters {
    fn read(&self) -> [u64; 4] {
        [&self.asked, &self.accepted, &self.watched, &self.visible].map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// Shows `counters` until the future that is given ends.
pub async fn shown<T>(counters: &Counters, asks: u64, quiet: bool, work: impl Future<Output = T>) -> T {
    if quiet {
        return work.await;
    }
    let bars = std::io::stderr().is_terminal().then(|| Bars::new(asks));
    let every = if bars.is_some() { DRAW_EVERY } else { LINE_EVERY };
    let started = Instant::now();
    let mut ticks = tokio::time::interval(every);
    // The first tick comes at once.
    ticks.tick().await;
    tokio::pin!(work);
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            _ = ticks.tick() => match &bars {
                Some(bars) => bars.draw(counters.read()),
                None => {
                    let [asked, accepted, _, visible] = counters.read();
                    eprintln!("  {:>4} s  {asked} of {asks} members done, {accepted} accepted, {visible} outcomes seen", started.elapsed().as_secs());
                }
            },
        }
    };
    if let Some(bars) = &bars {
        bars.draw(counters.read());
        bars.finish();
    }
    result
}

struct Bars {
    all: MultiProgress,
    asked: ProgressBar,
    visible: ProgressBar,
}

impl Bars {
    fn new(asks: u64) -> Self {
        let style = |template: &str| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let all = MultiProgress::new();
        let asked = all.add(ProgressBar::new(asks));
        asked.set_style(style("  asked    {bar:40} {pos}/{len}  {per_sec}  {msg}"));
        let visible = all.add(ProgressBar::new(0));
        visible.set_style(style("  outcomes {bar:40} {pos}/{len}"));
        Self { all, asked, visible }
    }

    fn draw(&self, [asked, accepted, watched, visible]: [u64; 4]) {
        self.asked.set_position(asked);
        self.asked.set_message(format!("{accepted} accepted"));
        self.visible.set_length(watched);
        self.visible.set_position(visible);
    }

    fn finish(&self) {
        self.asked.abandon();
        self.visible.abandon();
        // The bars have said all; the table follows.
        let _ = self.all.clear();
    }
}
