//! Members: they come, ask, give up, ask again, look at their tickets, and in the end insist until they know.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use domain::ids::{CouponCode, MemberId, RequestId};
use futures::{StreamExt, stream, stream::FuturesUnordered};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    book::{Book, Ticket},
    client::Client,
    evidence::{Answer, What},
    plan::{AskPlan, GATEWAYS, MemberPlan, Plan},
};

/// Asks in progress at a time, once all is up again.
const AFTERWARDS_AT_ONCE: usize = 64;
/// The patience of somebody who insists.
const PATIENCE: Duration = Duration::from_secs(8);
/// The pause before he asks again.
const PAUSE: Duration = Duration::from_millis(100);

/// Somebody who does not know yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Open {
    /// Index of the coupon.
    pub coupon: usize,
    /// Who.
    pub member: MemberId,
    /// The key of his last ask.
    pub key: Option<u8>,
}

/// The members of a round.
#[derive(Debug)]
pub struct Load {
    codes: Vec<CouponCode>,
    client: Client,
    book: Arc<Book>,
}

impl Load {
    /// The members of `plan`.
    #[must_use]
    pub fn new(plan: &Plan, client: Client, book: Arc<Book>) -> Self {
        Self { codes: plan.coupons.iter().map(|coupon| coupon.code.clone()).collect(), client, book }
    }

    /// Sends all that is planned. Returns who was left without a final answer.
    pub async fn drive(self: Arc<Self>, plan: Arc<Plan>) -> BTreeSet<Open> {
        let room = Arc::new(Semaphore::new(plan.shape.concurrency));
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for index in 0..plan.members.len() {
            let (load, plan, room) = (Arc::clone(&self), Arc::clone(&plan), Arc::clone(&room));
            tasks.spawn(async move {
                let member = plan.members.get(index)?;
                sleep_until(began + Duration::from_millis(member.comes_ms)).await;
                if plan.shape.hammer > 0 && member.asks.len() > plan.shape.concurrency {
                    return load.hammer(member, &room).await;
                }
                load.visit(member, &room).await
            });
        }
        let mut open = BTreeSet::new();
        while let Some(done) = tasks.join_next().await {
            open.extend(done.ok().flatten());
        }
        open
    }

    async fn visit(&self, member: &MemberPlan, room: &Semaphore) -> Option<Open> {
        let mut last = None;
        for ask in &member.asks {
            sleep(Duration::from_millis(ask.after_ms)).await;
            let _permit = room.acquire().await.ok()?;
            last = Some((self.ask_as_planned(member, ask).await, ask.key));
        }
        match last {
            Some((what, key)) if !what.is_final() => Some(Open { coupon: member.coupon, member: member.id.clone(), key }),
            _ => None,
        }
    }

    /// One member asks many times at once.
    async fn hammer(&self, member: &MemberPlan, room: &Semaphore) -> Option<Open> {
        let mut asks = FuturesUnordered::new();
        for ask in &member.asks {
            asks.push(async move {
                let _permit = room.acquire().await.ok()?;
                Some(self.ask_as_planned(member, ask).await)
            });
        }
        while asks.next().await.is_some() {}
        Some(Open { coupon: member.coupon, member: member.id.clone(), key: None })
    }

    async fn ask_as_planned(&self, member: &MemberPlan, ask: &AskPlan) -> What {
        let patience = Duration::from_millis(ask.patience_ms);
        let (what, ticket) = self.ask(member.coupon, &member.id, ask.gateway, ask.key, patience).await;
        if ask.looks
            && let Some(ticket) = ticket
        {
            let ticket = Ticket { coupon: member.coupon, member: member.id.clone(), text: ticket };
            self.look(ask.gateway.saturating_add(1), &ticket, patience).await;
        }
        what
    }

    async fn ask(
        &self,
        coupon: usize,
        member: &MemberId,
        gateway: usize,
        key: Option<u8>,
        patience: Duration,
    ) -> (What, Option<String>) {
        let Some(code) = self.codes.get(coupon) else { return (What::Lost, None) };
        let gateway = gateway % GATEWAYS;
        let began_ms = self.book.now_ms();
        let (what, ticket) = self.client.ask(gateway, code, member, key, patience).await;
        let ended_ms = self.book.now_ms();
        let answer = Answer { member: member.clone(), gateway, key, by_ticket: false, began_ms, ended_ms, what: what.clone() };
        self.book.note(coupon, answer, ticket.clone());
        (what, ticket)
    }

    async fn look(&self, gateway: usize, ticket: &Ticket, patience: Duration) -> What {
        let gateway = gateway % GATEWAYS;
        let began_ms = self.book.now_ms();
        let what = self.client.look(gateway, &ticket.text, patience).await;
        let ended_ms = self.book.now_ms();
        let member = ticket.member.clone();
        let answer = Answer { member, gateway, key: None, by_ticket: true, began_ms, ended_ms, what: what.clone() };
        self.book.note(ticket.coupon, answer, None);
        what
    }

    /// Everybody in `open` asks until he has a final answer, by both gateways in turn. Returns who has none at the deadline.
    pub async fn insist(&self, open: &BTreeSet<Open>, limit: Duration) -> Vec<Open> {
        let deadline = Instant::now() + limit;
        let asks = stream::iter(open).map(|who| async move {
            let mut gateway = 0_usize;
            loop {
                let (what, _) = self.ask(who.coupon, &who.member, gateway, who.key, PATIENCE).await;
                if what.is_final() {
                    return None;
                }
                if Instant::now() >= deadline {
                    return Some(who.clone());
                }
                gateway = gateway.wrapping_add(1);
                sleep(PAUSE).await;
            }
        });
        asks.buffer_unordered(AFTERWARDS_AT_ONCE).filter_map(|left| async { left }).collect().await
    }

    /// Asks every ticket that is not in `known` yet at every gateway until it is told. Returns the requests that were not told at the deadline.
    pub async fn resolve(&self, known: &mut BTreeMap<RequestId, ()>, limit: Duration) -> Vec<(RequestId, Ticket)> {
        let deadline = Instant::now() + limit;
        let new: Vec<_> = self.book.tickets().into_iter().filter(|(request, _)| !known.contains_key(request)).collect();
        let looks = stream::iter(new).map(|(request, ticket)| async move {
            for gateway in 0..GATEWAYS {
                loop {
                    let what = self.look(gateway, &ticket, PATIENCE).await;
                    if matches!(what, What::Told { outcome: Some(_), .. }) {
                        break;
                    }
                    if Instant::now() >= deadline {
                        return (request, Some(ticket));
                    }
                    sleep(PAUSE).await;
                }
            }
            (request, None)
        });
        let looked: Vec<_> = looks.buffer_unordered(AFTERWARDS_AT_ONCE).collect().await;
        known.extend(looked.iter().map(|(request, _)| (*request, ())));
        looked.into_iter().filter_map(|(request, left)| Some((request, left?))).collect()
    }
}
