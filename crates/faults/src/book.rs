//! What every client was told, and the tickets they hold.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use domain::ids::{MemberId, RequestId};

use crate::evidence::{Answer, What};

/// A ticket and whose it is.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Index of the coupon.
    pub coupon: usize,
    /// Who holds it.
    pub member: MemberId,
    /// The text.
    pub text: String,
}

#[derive(Debug, Default)]
struct Pages {
    answers: Vec<(usize, Answer)>,
    tickets: HashMap<RequestId, Ticket>,
}

/// Everything that was answered in a round.
#[derive(Debug)]
pub struct Book {
    began: Instant,
    pages: Mutex<Pages>,
}

impl Book {
    /// An empty one, whose time begins now.
    #[must_use]
    pub fn begin() -> Self {
        Self { began: Instant::now(), pages: Mutex::default() }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since it began.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Notes an answer.
    pub fn note(&self, coupon: usize, answer: Answer, ticket: Option<String>) {
        let mut pages = self.pages();
        if let (What::Told { request, .. }, Some(text)) = (&answer.what, ticket) {
            let ticket = Ticket { coupon, member: answer.member.clone(), text };
            pages.tickets.entry(*request).or_insert(ticket);
        }
        pages.answers.push((coupon, answer));
    }

    /// Every ticket.
    #[must_use]
    pub fn tickets(&self) -> Vec<(RequestId, Ticket)> {
        self.pages().tickets.iter().map(|(request, ticket)| (*request, ticket.clone())).collect()
    }

    /// Every answer about a coupon.
    #[must_use]
    pub fn answers(&self, coupon: usize) -> Vec<Answer> {
        self.pages().answers.iter().filter(|(of, _)| *of == coupon).map(|(_, answer)| answer.clone()).collect()
    }

    /// Requests that were sent: coupons and tickets.
    #[must_use]
    pub fn requests(&self) -> u64 {
        u64::try_from(self.pages().answers.len()).unwrap_or(u64::MAX)
    }

    /// How many answers of each kind came to asks for coupons.
    #[must_use]
    pub fn tally(&self) -> BTreeMap<String, u64> {
        let mut tally: BTreeMap<String, u64> = BTreeMap::new();
        for (_, answer) in self.pages().answers.iter().filter(|(_, answer)| !answer.by_ticket) {
            let name = match &answer.what {
                What::Told { .. } => "accepted",
                What::Refused { code } | What::Again { code, .. } => code.as_str(),
                What::Lost => "lost",
            };
            let count = tally.entry(name.to_owned()).or_default();
            *count = count.saturating_add(1);
        }
        tally
    }

    /// How long answers with this code took, in milliseconds, sorted.
    #[must_use]
    pub fn times_of(&self, wanted: &str) -> Vec<u64> {
        let pages = self.pages();
        let times = pages.answers.iter().filter_map(|(_, answer)| match &answer.what {
            What::Again { code, .. } if code == wanted => Some(answer.ended_ms.saturating_sub(answer.began_ms)),
            _ => None,
        });
        let mut times: Vec<u64> = times.collect();
        times.sort_unstable();
        times
    }
}
