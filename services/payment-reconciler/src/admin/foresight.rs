//! What an answer of the gateway will come to, in words, for a dry run. The line decides by itself, under its locks.

use domain::payment::{Money, PgAnswer, PgPayment, PgRefundState, PgState};

/// Where an order and its payment stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing<'a> {
    pub order: &'a str,
    pub payment: &'a str,
    pub amount: Money,
    pub product_gone: bool,
    pub short: bool,
}

/// What follows.
pub(super) fn foresee(standing: &Standing<'_>, answer: &PgAnswer) -> String {
    let PgAnswer::Found(pg) = answer else {
        return "wait: the gateway does not know the payment; that is unknown until twice its payment window".to_owned();
    };
    let Some(held) = pg.held().filter(|held| held.amount >= 0) else {
        return "wait, and show it to an operator: the gateway's amounts do not add up".to_owned();
    };
    match standing.payment {
        "REFUNDING" => refunding(pg, held),
        "REFUNDED" if held.amount > 0 => format!("give back again: the gateway holds {held} of what was refunded"),
        "REFUNDED" => "nothing: its money is back".to_owned(),
        _ => open(standing, pg, held),
    }
}

fn refunding(pg: &PgPayment, held: Money) -> String {
    if pg.refunds.iter().any(|refund| refund.state == PgRefundState::Pending) {
        "wait: the gateway works on the refund".to_owned()
    } else if held.amount == 0 {
        "confirm the refund: nothing is held any more".to_owned()
    } else if pg.refund_needs_payer {
        format!("wait for a person: giving {held} back needs the payer's data")
    } else {
        format!("send the refund of {held}, unless it is held")
    }
}

fn open(standing: &Standing<'_>, pg: &PgPayment, held: Money) -> String {
    match pg.state {
        _ if pg.captured.amount > 0 && held.amount == 0 => "take note: the money came and is back already".to_owned(),
        PgState::Paid if held.amount > 0 => paid(standing, held),
        PgState::Open => "wait: it is not paid yet, and may still be".to_owned(),
        PgState::Failed if held.amount == 0 => match standing.payment {
            "PENDING" => "fail the payment; and the order, if no other attempt is left".to_owned(),
            _ => "nothing: it has failed already".to_owned(),
        },
        PgState::Returned => "wait: its money is on the way back".to_owned(),
        PgState::Manual => "wait, and show it to an operator: its status is one for people".to_owned(),
        PgState::Unknown => "wait: its status is not known here; after a time it is shown to an operator".to_owned(),
        PgState::Paid | PgState::Failed => "wait, and show it to an operator: status and amounts do not agree".to_owned(),
    }
}

fn paid(standing: &Standing<'_>, held: Money) -> String {
    let why = match (standing.order, standing.payment) {
        ("PENDING", "PENDING") if held != standing.amount => Some(format!("the order costs {}", standing.amount)),
        ("PENDING", "PENDING") if standing.product_gone => Some("a product does not exist any more".to_owned()),
        ("PENDING", "PENDING") if standing.short => Some("there is not enough stock".to_owned()),
        ("PENDING", "PENDING") => None,
        ("PENDING", _) => Some("the attempt had failed, and the money came late".to_owned()),
        ("COMPLETED", _) => Some("another attempt has paid the order".to_owned()),
        (state, _) => Some(format!("the order is {state}")),
    };
    match why {
        None => format!("complete the order: {held} are paid, and the stock is there"),
        Some(why) => format!("give {held} back: {why}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use domain::payment::Currency;

    use super::*;

    fn standing(order: &'static str, payment: &'static str) -> Standing<'static> {
        Standing { order, payment, amount: Money::new(100, Currency::KRW), product_gone: false, short: false }
    }

    fn answer(state: PgState, captured: i64, refunded: i64) -> PgAnswer {
        PgAnswer::Found(PgPayment {
            state,
            status: "x".to_owned(),
            transaction_id: None,
            paid_at: None,
            captured: Money::new(captured, Currency::KRW),
            refunded: Money::new(refunded, Currency::KRW),
            refunds: Vec::new(),
            refund_needs_payer: false,
            expires_at: None,
            callback_secret: None,
        })
    }

    #[test]
    fn the_words_begin_with_what_will_be_done() {
        use PgState::{Failed, Manual, Open, Paid, Returned, Unknown};
        let pending = standing("PENDING", "PENDING");
        let cases = [
            (pending, PgAnswer::NotFound, "wait"),
            (pending, answer(Paid, 100, 0), "complete the order"),
            (pending, answer(Paid, 99, 0), "give 99 KRW back: the order costs"),
            (Standing { product_gone: true, ..pending }, answer(Paid, 100, 0), "give 100 KRW back: a product"),
            (Standing { short: true, ..pending }, answer(Paid, 100, 0), "give 100 KRW back: there is not enough"),
            (pending, answer(Paid, 100, 100), "take note"),
            (pending, answer(Paid, 0, 0), "wait, and show it"),
            (pending, answer(Paid, 0, 5), "wait, and show it"),
            (pending, answer(Open, 0, 0), "wait: it is not paid"),
            (pending, answer(Failed, 0, 0), "fail the payment"),
            (pending, answer(Returned, 100, 10), "wait: its money"),
            (pending, answer(Manual, 100, 10), "wait, and show it"),
            (pending, answer(Unknown, 0, 0), "wait: its status"),
            (standing("FAILED", "FAILED"), answer(Failed, 0, 0), "nothing"),
            (standing("FAILED", "FAILED"), answer(Paid, 100, 0), "give 100 KRW back: the order is FAILED"),
            (standing("PENDING", "FAILED"), answer(Paid, 100, 0), "give 100 KRW back: the attempt"),
            (standing("COMPLETED", "PENDING"), answer(Paid, 100, 0), "give 100 KRW back: another"),
            (standing("CANCELLED", "PENDING"), answer(Paid, 100, 0), "give 100 KRW back: the order is CANCELLED"),
            (standing("PENDING", "REFUNDING"), answer(Paid, 100, 0), "send the refund of 100 KRW"),
            (standing("PENDING", "REFUNDING"), answer(Returned, 100, 100), "confirm"),
            (standing("FAILED", "REFUNDED"), answer(Returned, 100, 100), "nothing"),
            (standing("FAILED", "REFUNDED"), answer(Paid, 100, 0), "give back again"),
        ];
        for (index, (standing, answer, begins)) in cases.into_iter().enumerate() {
            let words = foresee(&standing, &answer);
            assert!(words.starts_with(begins), "case {index}: {words}");
        }
    }
}
