//! `trueup orders …`, `trueup refunds …`, `trueup payments …`: by the payment reconcilers' admin API.

mod answers;
mod api;
mod arguments;
mod audits;
mod orders;
mod refunds;
mod totals;

pub use arguments::{OrdersCommand, PaymentsCommand, RefundsCommand};
pub use audits::{Audited, audit_at_rest, audited};
pub use orders::orders;
pub use refunds::refunds;

use self::{answers::report, api::Api};
use crate::{exit::Exit, settings::Settings};

/// Audits, totals and reports.
///
/// # Errors
/// No reconciler can be reached, or a time that is none.
pub async fn payments(settings: &Settings, command: &PaymentsCommand, json: bool) -> anyhow::Result<Exit> {
    let api = Api::new(settings)?;
    match command {
        PaymentsCommand::Audit(args) => audits::audit(&api, args, json).await,
        PaymentsCommand::Audits(args) => audits::audits(&api, args, json).await,
        PaymentsCommand::Totals(args) => totals::totals(&api, args, json).await,
        PaymentsCommand::Runs(arg) => {
            let columns = [
                "startedAt",
                "found",
                "asked",
                "looked",
                "settled",
                "failed",
                "waiting",
                "refunded",
                "attention",
                "errors",
                "durationMs",
            ];
            report(&api, &format!("/v1/admin/runs?limit={}", arg.limit), "runs", columns, "no run was made yet", json).await
        }
        PaymentsCommand::Callbacks(arg) => {
            let columns = ["provider", "reference", "times", "authenticated", "receivedAt", "attentionSince"];
            let path = format!("/v1/admin/callbacks?limit={}", arg.limit);
            report(&api, &path, "callbacks", columns, "every callback is about a payment that is known", json).await
        }
    }
}
