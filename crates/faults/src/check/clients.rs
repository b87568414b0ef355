//! C3 and C4: what clients were told stays true, and nobody is forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use domain::ids::{MemberId, RequestId};

use super::{Case, Kind};
use crate::evidence::{Answer, What};

/// Judges what clients were told.
pub fn hold(case: &mut Case<'_>) {
    outcomes(case);
    owners(case);
    refusals(case);
    for member in &case.coupon.unanswered {
        case.add(Kind::NoFinalAnswer, format!("member {member}"), "an answer that is final", "none, although all is up again");
    }
}

/// Every id that was told has one outcome, the ledger's.
fn outcomes(case: &mut Case<'_>) {
    let mut told: BTreeMap<RequestId, BTreeSet<&str>> = BTreeMap::new();
    for answer in &case.coupon.answers {
        if let What::Told { request, outcome } = &answer.what {
            let outcomes = told.entry(*request).or_default();
            outcomes.extend(outcome.as_deref());
        }
    }
    for (request, outcomes) in told {
        let subject = format!("request {request}");
        let said = outcomes.iter().copied().collect::<Vec<_>>().join(", then ");
        let Some(row) = case.rows.get(&request).copied() else {
            case.explained.insert(request);
            let said = if said.is_empty() { "told as pending".to_owned() } else { format!("told as {said}") };
            case.add(Kind::LostAccept, subject, format!("a row in the ledger ({said})"), "none");
            continue;
        };
        let contradicts = outcomes.iter().any(|outcome| *outcome != row.outcome);
        if contradicts && !case.explained.contains(&request) {
            case.explained.insert(request);
            case.add(Kind::ChangedOutcome, subject, format!("told as {said}"), format!("{} in the ledger", row.outcome));
        }
    }
}

/// A request belongs to the member who was told its id.
fn owners(case: &mut Case<'_>) {
    let mut seen = HashSet::new();
    for answer in &case.coupon.answers {
        let What::Told { request, .. } = &answer.what else { continue };
        let Some(row) = case.rows.get(request).copied() else { continue };
        if row.member.as_deref() != Some(answer.member.as_str()) && seen.insert(*request) {
            case.explained.insert(*request);
            let found = row.member.clone().unwrap_or_else(|| "nobody".to_owned());
            case.add(Kind::ChangedMember, format!("request {request}"), format!("member {}", answer.member), found);
        }
    }
}

/// Whoever asks by a key whose request was accepted before is told of that request: a final refusal instead has to be what the ledger says.
fn refusals(case: &mut Case<'_>) {
    let mut known: HashMap<(&MemberId, u8), (u64, RequestId)> = HashMap::new();
    for answer in case.coupon.answers.iter().filter(|answer| !answer.by_ticket) {
        let (Some(key), What::Told { request, .. }) = (answer.key, &answer.what) else { continue };
        let first = known.entry((&answer.member, key)).or_insert((answer.ended_ms, *request));
        if answer.ended_ms < first.0 {
            *first = (answer.ended_ms, *request);
        }
    }
    let mut found = Vec::new();
    for answer in &case.coupon.answers {
        let Answer { member, key: Some(key), what: What::Refused { code }, began_ms, .. } = answer else { continue };
        let Some((since_ms, request)) = known.get(&(member, *key)) else { continue };
        let Some(row) = case.rows.get(request).copied() else { continue };
        if answer.what.is_final() && *began_ms > *since_ms && row.outcome != *code {
            found.push((*request, code.clone(), row.outcome.clone()));
        }
    }
    for (request, code, outcome) in found {
        case.add(
            Kind::RefusedThoughKnown,
            format!("request {request}"),
            format!("{outcome}, as decided"),
            format!("refused {code}"),
        );
    }
}
