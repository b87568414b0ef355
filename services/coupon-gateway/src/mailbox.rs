//! Wakes the requests of a worker thread together.
//!
//! Delivery reports come from the Kafka client's thread, hundreds in one go. Waking another thread's task costs a system
//! call each time. So each request leaves its waker in its worker's mailbox, the first report that comes into an empty
//! mailbox wakes the worker, and the worker then wakes all of its own tasks, which costs nothing.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;

#[derive(Default)]
struct Shared {
    ready: Mutex<Vec<Waker>>,
    worker: AtomicWaker,
}

/// One worker thread's mailbox. Its number of wakers is bounded by the requests in flight.
#[derive(Clone, Default)]
pub struct Mailbox(Arc<Shared>);

/// What the report wakes: it puts the request's own waker into the mailbox.
struct Letter {
    to: Waker,
    mailbox: Arc<Shared>,
}

impl Wake for Letter {
    fn wake(self: Arc<Self>) {
        let was_empty = {
            let mut ready = self.mailbox.ready.lock().unwrap_or_else(PoisonError::into_inner);
            ready.push(self.to.clone());
            ready.len() == 1
        };
        if was_empty {
            self.mailbox.worker.wake();
        }
    }
}

impl Mailbox {
    /// Wakes the worker's tasks as reports come in. Runs on the worker's thread, for ever.
    pub async fn deliver(self) {
        let mut woken = Vec::new();
        poll_fn(|context| {
            self.0.worker.register(context.waker());
            std::mem::swap(&mut *self.0.ready.lock().unwrap_or_else(PoisonError::into_inner), &mut woken);
            woken.drain(..).for_each(Waker::wake);
            Poll::<()>::Pending
        })
        .await;
    }

    /// Waits for a future whose wake-up comes from another thread.
    pub async fn wait<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut letter: Option<(Waker, Waker)> = None;
        poll_fn(|context| {
            let mailbox = &self.0;
            // A request is polled again only when its report is there, or when its task moved: one letter is enough.
            let current = match &letter {
                Some((to, letter)) if to.will_wake(context.waker()) => letter,
                _ => {
                    let to = context.waker().clone();
                    let by_mail = Waker::from(Arc::new(Letter { to: to.clone(), mailbox: Arc::clone(mailbox) }));
                    &letter.insert((to, by_mail)).1
                }
            };
            Pin::as_mut(&mut future).poll(&mut Context::from_waker(current))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]
    use futures::{channel::oneshot, future::join_all};

    use super::*;

    #[actix_web::test]
    async fn everybody_is_woken_from_another_thread() {
        let mailbox = Mailbox::default();
        let worker = actix_web::rt::spawn(mailbox.clone().deliver());
        for round in 0..50_usize {
            let (senders, receivers): (Vec<_>, Vec<_>) = (0..200).map(|_| oneshot::channel::<usize>()).unzip();
            let thread = std::thread::spawn(move || {
                for (number, sender) in senders.into_iter().enumerate() {
                    sender.send(number + round).unwrap();
                }
            });
            let waits = receivers.into_iter().map(|receiver| {
                let mailbox = mailbox.clone();
                actix_web::rt::spawn(async move { mailbox.wait(receiver).await.unwrap() })
            });
            let numbers: Vec<usize> = join_all(waits).await.into_iter().map(Result::unwrap).collect();
            assert_eq!(numbers, (0..200).map(|number| number + round).collect::<Vec<_>>());
            thread.join().unwrap();
        }
        worker.abort();
    }
}
