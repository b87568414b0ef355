//! Reads a gateway's list and the book, piece by piece, and compares them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    clock::Timestamp,
    payment::{PgAnswer, PgReference, ProviderName},
};
use payment_providers::port::PaymentProvider;
use postgres_io::Db;
use serde::Serialize;
use uuid::Uuid;

use super::{
    AuditSettings,
    compare::{Difference, Entry, Line, compare},
    store,
};
use crate::{error::LineError, task_lease::TaskLease};

/// How long a replica that falls silent keeps the others from auditing a gateway.
const LEASE: Duration = Duration::from_secs(120);
/// Pages of a list that are followed for one piece; a list without an end is no list.
const PAGES_MAX: usize = 100_000;
/// Tries of one page.
const TRIES: u32 = 3;
/// The pause before the second try; it doubles.
const TRY_PAUSE: Duration = Duration::from_secs(1);

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

/// Why a piece could not be compared.
enum Broken {
    Gateway(String),
    Line(LineError),
}

impl From<LineError> for Broken {
    fn from(error: LineError) -> Self {
        Self::Line(error)
    }
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

    /// Audits a gateway for a time and keeps the report; none if another replica is at it.
    ///
    /// # Errors
    /// PostgreSQL. A gateway that does not answer is a report: it cannot be told.
    pub async fn audit(&self, name: &ProviderName, span: Span, actor: &str) -> Result<Option<AuditReport>, LineError> {
        self.audit_if(name, span, actor, false).await
    }

    /// The same, unless this time was audited already: looked for again under the lease, because another replica may just have ended it.
    pub(super) async fn audit_once(
        &self,
        name: &ProviderName,
        span: Span,
        actor: &str,
    ) -> Result<Option<AuditReport>, LineError> {
        if store::is_made(&self.db, name.as_str(), span).await? {
            return Ok(None);
        }
        self.audit_if(name, span, actor, true).await
    }

    async fn audit_if(&self, name: &ProviderName, span: Span, actor: &str, once: bool) -> Result<Option<AuditReport>, LineError> {
        let provider = self.providers.get(name).ok_or_else(|| LineError::UnknownProvider(name.to_string()))?;
        let task = format!("audit:{name}");
        if !self.lease.acquire(&task, LEASE, Duration::ZERO).await? {
            return Ok(None);
        }
        let report = self.audit_under_lease(provider.as_ref(), &task, span, actor, once).await;
        self.lease.give_back(&task, report.is_ok()).await?;
        if let Ok(Some(report)) = &report {
            tell(report);
        }
        report
    }

    async fn audit_under_lease(
        &self,
        provider: &dyn PaymentProvider,
        task: &str,
        span: Span,
        actor: &str,
        once: bool,
    ) -> Result<Option<AuditReport>, LineError> {
        if once && store::is_made(&self.db, provider.name().as_str(), span).await? {
            return Ok(None);
        }
        let report = self.compare_all(provider, task, span, actor).await?;
        store::keep(&self.db, &report).await?;
        Ok(Some(report))
    }

    async fn compare_all(
        &self,
        provider: &dyn PaymentProvider,
        task: &str,
        span: Span,
        actor: &str,
    ) -> Result<AuditReport, LineError> {
        let started_at = store::now(&self.db).await?;
        let mut report = AuditReport {
            provider: provider.name().to_string(),
            from: span.from,
            to: span.to,
            verdict: "clean",
            reason: None,
            compared: 0,
            differences: Vec::new(),
            differences_total: 0,
            actor: actor.to_owned(),
            started_at,
        };
        if span.to.signed_duration_since(span.from) > TimeDelta::days(i64::from(self.settings.days_max)) {
            report.verdict = "cannot_tell";
            report.reason = Some(format!("more than {} days at once", self.settings.days_max));
            return Ok(report);
        }
        let mut asks_left = self.settings.asks_max;
        for piece in span.pieces(TimeDelta::minutes(i64::from(self.settings.window_minutes))) {
            self.lease.acquire(task, LEASE, Duration::ZERO).await?;
            match self.compare_piece(provider, piece, started_at, &mut report, &mut asks_left).await {
                Ok(()) => {}
                Err(Broken::Line(error)) => return Err(error),
                Err(Broken::Gateway(reason)) => {
                    report.reason = Some(reason);
                    break;
                }
            }
        }
        // What was found is a difference, whatever could not be read.
        report.verdict = match (report.differences_total, &report.reason) {
            (1.., _) => "difference",
            (0, Some(_)) => "cannot_tell",
            (0, None) => "clean",
        };
        Ok(report)
    }

    async fn compare_piece(
        &self,
        provider: &dyn PaymentProvider,
        piece: Span,
        now: DateTime<Utc>,
        report: &mut AuditReport,
        asks_left: &mut u32,
    ) -> Result<(), Broken> {
        let margin = TimeDelta::minutes(i64::from(self.settings.margin_minutes));
        let lines = self.list(provider, piece.widened(margin)).await?;
        let references: Vec<String> =
            lines.iter().map(|line| line.reference.clone()).collect::<BTreeSet<_>>().into_iter().collect();
        let rows_max = i64::try_from(self.settings.window_lines_max).unwrap_or(i64::MAX).saturating_mul(4);
        let entries = store::entries(&self.db, &report.provider, piece, &references, rows_max).await?;
        if i64::try_from(entries.len()).is_ok_and(|rows| rows >= rows_max) {
            return Err(Broken::Gateway(
                "the book has too many entries for one piece; give a shorter audit.window_minutes".to_owned(),
            ));
        }
        let known = store::known(&self.db, &report.provider, &references).await?;
        // What has just moved may not have been settled yet: that is no difference, and the next audit sees it.
        let settled_by = now.checked_sub_signed(margin).unwrap_or(now);
        let inside = |line: &Line| line.at >= piece.from && line.at < piece.to && line.at < settled_by;
        report.compared = report.compared.saturating_add(lines.iter().filter(|line| inside(line)).count());
        let compared = compare(&lines, entries, |reference| known.contains(reference), inside);
        let mut found = compared.differences;
        found.extend(self.ask_about(provider, compared.unlisted, asks_left).await?);
        report.differences_total = report.differences_total.saturating_add(found.len());
        let room = self.settings.differences_max.saturating_sub(report.differences.len());
        report.differences.extend(found.into_iter().take(room));
        Ok(())
    }

    /// The whole list of a time.
    async fn list(&self, provider: &dyn PaymentProvider, span: Span) -> Result<Vec<Line>, Broken> {
        let (from, to) = (Timestamp::from(span.from), Timestamp::from(span.to));
        let (mut lines, mut cursor) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let mut pause = TRY_PAUSE;
            let mut tries = 1;
            let page = loop {
                match provider.transactions(from, to, cursor.as_deref()).await {
                    Ok(page) => break page,
                    Err(error) if tries >= TRIES => return Err(Broken::Gateway(format!("the list could not be read: {error}"))),
                    Err(error) => {
                        tracing::warn!(provider = %provider.name(), %error, "reading the gateway's list waits");
                        tokio::time::sleep(pause).await;
                        (pause, tries) = (pause.saturating_mul(2), tries + 1);
                    }
                }
            };
            lines.extend(page.transactions.into_iter().map(|line| Line {
                id: line.id,
                reference: line.reference.to_string(),
                kind: line.kind,
                amount: line.amount.amount,
                currency: line.amount.currency.to_string(),
                at: line.at.to_datetime(),
            }));
            if lines.len() > self.settings.window_lines_max {
                let reason = "the list is too long for one piece; give a shorter audit.window_minutes".to_owned();
                return Err(Broken::Gateway(reason));
            }
            cursor = match page.next {
                Some(next) if Some(&next) != cursor.as_ref() => Some(next),
                Some(_) => return Err(Broken::Gateway("the list goes in a circle".to_owned())),
                None => return Ok(lines),
            };
        }
        Err(Broken::Gateway("the list has no end".to_owned()))
    }

    /// Lists come late, and not every gateway lists everything: the payment itself has the last word.
    async fn ask_about(
        &self,
        provider: &dyn PaymentProvider,
        unlisted: Vec<Entry>,
        asks_left: &mut u32,
    ) -> Result<Vec<Difference>, Broken> {
        let mut differences = Vec::new();
        let mut asked = BTreeSet::new();
        for entry in unlisted {
            if !asked.insert((entry.reference.clone(), entry.currency.clone())) {
                continue;
            }
            *asks_left = asks_left
                .checked_sub(1)
                .ok_or_else(|| Broken::Gateway(format!("more than {} payments are not in the list", self.settings.asks_max)))?;
            let reference = PgReference::new(&entry.reference).map_err(|error| LineError::Row(format!("reference {error}")))?;
            let answer = provider.query(&reference).await;
            let answer = answer.map_err(|error| Broken::Gateway(format!("a payment that is not in the list: {error}")))?;
            let (captured, refunded) =
                store::book_of(&self.db, provider.name().as_str(), &entry.reference, &entry.currency).await?;
            let says = match &answer {
                PgAnswer::Found(pg) if pg.captured.currency.as_str() == entry.currency => {
                    Some((pg.captured.amount, pg.refunded.amount))
                }
                _ => None,
            };
            if says != Some((captured, refunded)) {
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

fn tell(report: &AuditReport) {
    let AuditReport { provider, verdict, compared, differences_total, reason, .. } = report;
    if *verdict == "clean" {
        tracing::info!(provider, compared, "the gateway's list and the book agree");
    } else {
        tracing::error!(provider, verdict, compared, differences_total, reason, "the gateway's list and the book do not agree");
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
