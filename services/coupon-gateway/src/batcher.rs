//! Requests that wait at the same time travel together: while one call is under way, the next keys gather, and one
//! call answers all of them.
//!
//! A batcher belongs to one worker thread. Its requests, its queue and its wake-ups stay on that thread, so that
//! gathering costs neither a lock nor a system call.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use futures::{channel::oneshot, future::LocalBoxFuture};

/// Why a key got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// The queue is full.
    Full,
    /// The call ended without an answer to this key.
    Lost,
}

/// The keys that wait, each with the one who waits for it.
type Waiting<K, V> = VecDeque<(K, oneshot::Sender<V>)>;

struct Inner<K, V> {
    waiting: RefCell<Waiting<K, V>>,
    running: Cell<bool>,
    batch_max: usize,
    queue_max: usize,
    call: Box<dyn Fn(Vec<K>) -> LocalBoxFuture<'static, Vec<V>>>,
}

/// Gathers keys for one call at a time. Cheap to clone.
pub struct Batcher<K, V>(Rc<Inner<K, V>>);

impl<K, V> Clone for Batcher<K, V> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<K: 'static, V: 'static> Batcher<K, V> {
    /// A batcher whose `call` answers the keys in their order. At most `batch_max` keys go into one call, and at
    /// most `queue_max` wait for the next.
    pub fn new(batch_max: usize, queue_max: usize, call: impl Fn(Vec<K>) -> LocalBoxFuture<'static, Vec<V>> + 'static) -> Self {
        let inner = Inner {
            waiting: RefCell::default(),
            running: Cell::new(false),
            batch_max: batch_max.max(1),
            queue_max: queue_max.max(1),
            call: Box::new(call),
        };
        Self(Rc::new(inner))
    }

    /// Waits for the answer to `key`. It must be called on a thread with a local task set, as every actix worker is.
    ///
    /// # Errors
    /// The queue is full, or the call broke off.
    pub async fn ask(&self, key: K) -> Result<V, NoAnswer> {
        let (answer, wait) = oneshot::channel();
        {
            let mut waiting = self.0.waiting.borrow_mut();
            if waiting.len() >= self.0.queue_max {
                return Err(NoAnswer::Full);
            }
            waiting.push_back((key, answer));
        }
        if !self.0.running.replace(true) {
            actix_web::rt::spawn(drive(Rc::clone(&self.0)));
        }
        wait.await.map_err(|oneshot::Canceled| NoAnswer::Lost)
    }

    /// Keys that wait for the next call.
    #[cfg(test)]
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting.borrow().len()
    }
}

/// Says that nobody drives the queue any more, even when a call panics. Whoever still waits is told by the next ask.
struct Running<K, V>(Rc<Inner<K, V>>);

impl<K, V> Drop for Running<K, V> {
    fn drop(&mut self) {
        self.0.running.set(false);
    }
}

async fn drive<K: 'static, V: 'static>(inner: Rc<Inner<K, V>>) {
    let running = Running(inner);
    loop {
        let (keys, answers) = take(&running.0);
        if keys.is_empty() {
            return;
        }
        let values = (running.0.call)(keys).await;
        for (answer, value) in answers.into_iter().zip(values) {
            // Whoever went away meanwhile needs no answer.
            drop(answer.send(value));
        }
    }
}

/// Takes the next batch, without those who went away.
fn take<K, V>(inner: &Inner<K, V>) -> (Vec<K>, Vec<oneshot::Sender<V>>) {
    let mut waiting = inner.waiting.borrow_mut();
    let size = waiting.len().min(inner.batch_max);
    let (mut keys, mut answers) = (Vec::with_capacity(size), Vec::with_capacity(size));
    while keys.len() < inner.batch_max {
        let Some((key, answer)) = waiting.pop_front() else { break };
        if !answer.is_canceled() {
            keys.push(key);
            answers.push(answer);
        }
    }
    (keys, answers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]
    use futures::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    /// Doubles its keys once it is let go, and keeps the size of each batch.
    fn doubling(batch_max: usize, queue_max: usize, go: &Rc<Notify>) -> (Batcher<u32, u32>, Rc<RefCell<Vec<usize>>>) {
        let sizes = Rc::new(RefCell::new(Vec::new()));
        let (go, seen) = (Rc::clone(go), Rc::clone(&sizes));
        let batcher = Batcher::new(batch_max, queue_max, move |keys: Vec<u32>| {
            let go = Rc::clone(&go);
            seen.borrow_mut().push(keys.len());
            Box::pin(async move {
                go.notified().await;
                keys.into_iter().map(|key| key * 2).collect()
            })
        });
        (batcher, sizes)
    }

    #[actix_web::test]
    async fn keys_gather_while_a_call_is_under_way() {
        let go = Rc::new(Notify::new());
        let (batcher, sizes) = doubling(3, 100, &go);
        let first = actix_web::rt::spawn({
            let batcher = batcher.clone();
            async move { batcher.ask(1).await }
        });
        while sizes.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        let rest = actix_web::rt::spawn({
            let batcher = batcher.clone();
            async move { join_all((2..9).map(|key| batcher.ask(key))).await }
        });
        while batcher.waiting() < 7 {
            tokio::task::yield_now().await;
        }
        for _ in 0..4 {
            go.notify_one();
            tokio::task::yield_now().await;
            while sizes.borrow().len() < 4 && batcher.waiting() > 0 {
                go.notify_one();
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(first.await.unwrap(), Ok(2));
        let answers: Vec<u32> = rest.await.unwrap().into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, (2..9).map(|key| key * 2).collect::<Vec<_>>());
        assert_eq!(*sizes.borrow(), [1, 3, 3, 1]);
    }

    #[actix_web::test]
    async fn a_full_queue_refuses_and_those_who_left_are_not_asked_for() {
        let go = Rc::new(Notify::new());
        let (batcher, sizes) = doubling(10, 2, &go);
        let first = actix_web::rt::spawn({
            let batcher = batcher.clone();
            async move { batcher.ask(1).await }
        });
        while sizes.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        let spawn = |key| {
            let batcher = batcher.clone();
            actix_web::rt::spawn(async move { batcher.ask(key).await })
        };
        let (leaves, stays) = (spawn(2), spawn(3));
        while batcher.waiting() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(batcher.ask(4).await, Err(NoAnswer::Full));
        leaves.abort();
        drop(leaves.await);
        go.notify_one();
        assert_eq!(first.await.unwrap(), Ok(2));
        go.notify_one();
        assert_eq!(stays.await.unwrap(), Ok(6));
        assert_eq!(*sizes.borrow(), [1, 1]);
    }

    #[actix_web::test]
    async fn a_call_that_breaks_off_leaves_a_batcher_that_works() {
        let broken = Rc::new(Cell::new(true));
        let still = Rc::clone(&broken);
        let batcher = Batcher::new(10, 10, move |keys: Vec<u32>| {
            let broken = still.replace(false);
            Box::pin(async move { if broken { Vec::new() } else { keys } })
        });
        assert_eq!(batcher.ask(1).await, Err(NoAnswer::Lost));
        assert_eq!(batcher.ask(2).await, Ok(2));
    }
}
