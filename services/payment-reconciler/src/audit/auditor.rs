//! Reads a gateway's list and the book, piece by piece, and compares them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use domain::payment::{PgAnswer, PgReference, ProviderName};
use payment_providers::port::PaymentProvider;
use postgres_io::Db;
use serde::Serialize;
use uuid::Uuid;

use super::{
    AuditSettings, book,
    compare::{Difference, Entry, Line, compare},
    list::{Broken, Patience, is_within, list, patiently},
    store,
};
use crate::{error::LineError, task_lease::TaskLease};

/// How long a replica that falls silent keeps the others from auditing a gateway.
const LEASE: Duration = Duration::from_secs(120);
/// Entries of the book that a piece may have for each line that its list may have.
const ENTRIES_A_LINE: usize = 4;

/// What an audit can come to.
pub const VERDICTS: [&str; 3] = ["clean", "difference", "cannot_tell"];

/// A time with a beginning and an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From this moment.
    pub from: DateTime<Utc>,
    /// To just before this one.
    pub to: DateTime<Utc>,
}

impl Span {
    /// A time that does not end before it begins.
    ///
    /// # Errors
    /// It does.
    pub fn new(from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Self, &'static str> {
        if from < to { Ok(Self { from, to }) } else { Err("is not after the beginning") }
    }

    fn widened(self, by: TimeDelta) -> Self {
        let from = self.from.checked_sub_signed(by).unwrap_or(self.from);
        Self { from, to: self.to.checked_add_signed(by).unwrap_or(self.to) }
    }

    fn pieces(self, length: TimeDelta) -> impl Iterator<Item = Self> {
        let next = move |from: DateTime<Utc>| from.checked_add_signed(length).map_or(self.to, |to| to.min(self.to));
        let first = Some(Self { from: self.from, to: next(self.from) });
        std::iter::successors(first, move |last| (last.to < self.to).then(|| Self { from: last.to, to: next(last.to) }))
    }
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditReport {
    /// The gateway.
    pub provider: String,
    /// The audited time.
    pub from: DateTime<Utc>,
    /// Its end.
    pub to: DateTime<Utc>,
    /// `clean`, `difference` or `cannot_tell`.
    pub verdict: &'static str,
    /// Why it cannot be told.
    pub reason: Option<String>,
    /// Lines of the gateway's list that were looked at.
    pub compared: usize,
    /// Payments that the list did not have, and about which the gateway, when asked, said what the book says.
    pub confirmed: usize,
    /// Lines of the audited time that were not looked at, because they are younger than `settled_by`.
    pub left_out: usize,
    /// What moved from here on may not have been settled when the audit began.
    pub settled_by: DateTime<Utc>,
    /// What does not agree, as many as a report names.
    pub differences: Vec<Difference>,
    /// How many there are in all.
    pub differences_total: usize,
    /// Who wanted it.
    pub actor: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
}

/// Audits gateways.
pub struct Auditor {
    db: Db,
    lease: TaskLease,
    providers: BTreeMap<ProviderName, Arc<dyn PaymentProvider>>,
    settings: AuditSettings,
}

/// What is to be audited.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The time.
    pub span: Span,
    /// What moved in the last so many minutes is left out; None: as the settings say. With 0 whoever wishes knows that all is at rest.
    pub settling_minutes: Option<u32>,
    /// Who wants it.
    pub actor: &'a str,
    /// Not if this time was audited to an end already.
    pub once: bool,
}

/// An audit under way.
struct Audit<'a> {
    provider: &'a dyn PaymentProvider,
    report: AuditReport,
    asks_left: u32,
    patience: Patience,
}

impl Auditor {
    /// Audits these gateways in the name of `holder`.
    #[must_use]
    pub fn new(
        db: Db,
        holder: Uuid,
        providers: impl IntoIterator<Item = Arc<dyn PaymentProvider>>,
        settings: AuditSettings,
    ) -> Self {
        let providers = providers.into_iter().map(|provider| (provider.name().clone(), provider)).collect();
        Self { lease: TaskLease::new(db.clone(), holder), db, providers, settings }
    }

    pub(super) fn providers(&self) -> impl Iterator<Item = &ProviderName> {
        self.providers.keys()
    }

    pub(super) const fn settings(&self) -> &AuditSettings {
        &self.settings
    }

    pub(super) const fn db(&self) -> &Db {
        &self.db
    }

    /// Audits a gateway for a time and keeps the report; none if another replica is at it, or it is made already and wanted once.
    ///
    /// # Errors
    /// PostgreSQL, where the report cannot be kept. A book that cannot be read is a report, as is a gateway that does not answer: it cannot be told.
    pub async fn audit(&self, name: &ProviderName, wish: Wish<'_>) -> Result<Option<AuditReport>, LineError> {
        let provider = self.providers.get(name).ok_or_else(|| LineError::UnknownProvider(name.to_string()))?;
        if wish.once && self.is_made(name, wish.span).await? {
            return Ok(None);
        }
        let task = format!("audit:{name}");
        if !self.lease.acquire(&task, LEASE, Duration::ZERO).await? {
            return Ok(None);
        }
        let report = self.audit_under_lease(provider.as_ref(), &task, wish).await;
        self.lease.give_back(&task, report.is_ok()).await?;
        if let Ok(Some(report)) = &report {
            tell(report);
        }
        report
    }

    async fn is_made(&self, name: &ProviderName, span: Span) -> Result<bool, LineError> {
        store::is_made(&self.db, name.as_str(), span, self.settings.retry_after_minutes).await
    }

    async fn audit_under_lease(
        &self,
        provider: &dyn PaymentProvider,
        task: &str,
        wish: Wish<'_>,
    ) -> Result<Option<AuditReport>, LineError> {
        // Looked for again under the lease, because another replica may just have ended it.
        if wish.once && self.is_made(provider.name(), wish.span).await? {
            return Ok(None);
        }
        let mut audit = self.begin(provider, wish).await?;
        let too_long = TimeDelta::days(i64::from(self.settings.days_max));
        let broken = if wish.span.to.signed_duration_since(wish.span.from) > too_long {
            Some(Broken::Gateway(format!("more than {} days at once", self.settings.days_max)))
        } else {
            self.compare_all(&mut audit, task, wish.span).await.err()
        };
        let mut report = audit.report;
        report.reason = broken.map(|broken| broken.reason()).or_else(|| report.nothing_to_compare());
        // What was found is a difference, whatever could not be read.
        report.verdict = match (report.differences_total, &report.reason) {
            (1.., _) => "difference",
            (0, Some(_)) => "cannot_tell",
            (0, None) => "clean",
        };
        store::keep(&self.db, &report).await?;
        Ok(Some(report))
    }

    async fn begin<'a>(&self, provider: &'a dyn PaymentProvider, wish: Wish<'_>) -> Result<Audit<'a>, LineError> {
        let started_at = store::now(&self.db).await?;
        let settling = wish.settling_minutes.unwrap_or(self.settings.settling_minutes);
        let report = AuditReport {
            provider: provider.name().to_string(),
            from: wish.span.from,
            to: wish.span.to,
            verdict: "cannot_tell",
            reason: None,
            compared: 0,
            confirmed: 0,
            left_out: 0,
            settled_by: started_at.checked_sub_signed(TimeDelta::minutes(i64::from(settling))).unwrap_or(started_at),
            differences: Vec::new(),
            differences_total: 0,
            actor: wish.actor.to_owned(),
            started_at,
        };
        let patience = Patience::new(Duration::from_millis(self.settings.pause_wait_ms));
        Ok(Audit { provider, report, asks_left: self.settings.asks_max, patience })
    }

    async fn compare_all(&self, audit: &mut Audit<'_>, task: &str, span: Span) -> Result<(), Broken> {
        for piece in span.pieces(TimeDelta::minutes(i64::from(self.settings.window_minutes))) {
            if !self.lease.acquire(task, LEASE, Duration::ZERO).await? {
                return Err(Broken::Gateway("another replica audits it meanwhile, because this one took too long".to_owned()));
            }
            self.compare_piece(audit, piece).await?;
        }
        Ok(())
    }

    async fn compare_piece(&self, audit: &mut Audit<'_>, piece: Span) -> Result<(), Broken> {
        let margin = TimeDelta::minutes(i64::from(self.settings.margin_minutes));
        let lines_max = self.settings.window_lines_max;
        let lines = list(audit.provider, piece.widened(margin), lines_max, &mut audit.patience).await?;
        let references: Vec<String> =
            lines.iter().map(|line| line.reference.clone()).collect::<BTreeSet<_>>().into_iter().collect();
        let rows_max = lines_max.saturating_mul(ENTRIES_A_LINE);
        let provider = audit.provider.name().as_str();
        let entries = book::entries(&self.db, provider, piece, &references, rows_max).await?;
        if entries.len() >= rows_max {
            return Err(Broken::Gateway(
                "the book has too many entries for one piece; give a shorter audit.window_minutes".to_owned(),
            ));
        }
        let known = book::known(&self.db, provider, &references).await?;
        // What has just moved may not have been settled yet: that is no difference, and the next audit sees it.
        let settled_by = audit.report.settled_by;
        let inside = |line: &Line| is_within(piece, line.at) && line.at < settled_by;
        let left_out = lines.iter().filter(|line| is_within(piece, line.at) && line.at >= settled_by).count();
        audit.report.left_out = audit.report.left_out.saturating_add(left_out);
        audit.report.compared = audit.report.compared.saturating_add(lines.iter().filter(|line| inside(line)).count());
        let compared = compare(&lines, entries, |reference| known.contains(reference), inside);
        let mut found = compared.differences;
        found.extend(self.ask_about(audit, compared.unlisted).await?);
        audit.report.differences_total = audit.report.differences_total.saturating_add(found.len());
        let room = self.settings.differences_max.saturating_sub(audit.report.differences.len());
        audit.report.differences.extend(found.into_iter().take(room));
        Ok(())
    }

    /// Lists come late, and not every gateway lists everything: the payment itself has the last word.
    async fn ask_about(&self, audit: &mut Audit<'_>, unlisted: Vec<Entry>) -> Result<Vec<Difference>, Broken> {
        let provider = audit.provider;
        let mut differences = Vec::new();
        let mut asked = BTreeSet::new();
        for entry in unlisted {
            if !asked.insert((entry.reference.clone(), entry.currency.clone())) {
                continue;
            }
            audit.asks_left = audit
                .asks_left
                .checked_sub(1)
                .ok_or_else(|| Broken::Gateway(format!("more than {} payments are not in the list", self.settings.asks_max)))?;
            let reference = PgReference::new(&entry.reference).map_err(|error| LineError::Row(format!("reference {error}")))?;
            let what = "a payment that is not in the list";
            let answer = patiently(provider, &mut audit.patience, what, || provider.query(&reference)).await?;
            let (captured, refunded) =
                book::book_of(&self.db, provider.name().as_str(), &entry.reference, &entry.currency).await?;
            let says = match &answer {
                PgAnswer::Found(pg) if pg.captured.currency.as_str() == entry.currency => {
                    Some((pg.captured.amount, pg.refunded.amount))
                }
                _ => None,
            };
            if says == Some((captured, refunded)) {
                audit.report.confirmed = audit.report.confirmed.saturating_add(1);
            } else {
                differences.push(Difference {
                    kind: "not_at_gateway",
                    reference: entry.reference,
                    transaction_id: entry.transaction_id,
                    gateway_amount: says.map(|(captured, refunded)| captured.saturating_sub(refunded)),
                    book_amount: Some(captured.saturating_sub(refunded)),
                    currency: entry.currency,
                });
            }
        }
        Ok(differences)
    }
}

impl AuditReport {
    /// Why nothing at all was compared, though something may have moved: that is not called clean.
    fn nothing_to_compare(&self) -> Option<String> {
        let settled_by = self.settled_by.to_rfc3339_opts(SecondsFormat::Secs, true);
        if self.compared == 0 && self.confirmed == 0 && self.left_out > 0 {
            let lines = self.left_out;
            return Some(format!("all {lines} lines of the list are from {settled_by} on, and may not have been settled yet"));
        }
        (self.from >= self.settled_by).then(|| format!("what moves from {settled_by} on may not have been settled yet"))
    }
}

fn tell(report: &AuditReport) {
    let AuditReport { provider, verdict, compared, left_out, differences_total, reason, .. } = report;
    if *verdict == "clean" {
        tracing::info!(provider, compared, left_out, "the gateway's list and the book agree");
    } else {
        tracing::error!(
            provider,
            verdict,
            compared,
            left_out,
            differences_total,
            reason,
            "the gateway's list and the book do not agree"
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pieces_cover_a_time_once() {
        let at = |minute: i64| DateTime::from_timestamp(minute * 60, 0).unwrap();
        let span = Span::new(at(0), at(150)).unwrap();
        let pieces: Vec<Span> = span.pieces(TimeDelta::minutes(60)).collect();
        assert_eq!(
            pieces,
            [Span { from: at(0), to: at(60) }, Span { from: at(60), to: at(120) }, Span { from: at(120), to: at(150) }]
        );
        assert!(Span::new(at(1), at(1)).is_err());
    }
}
