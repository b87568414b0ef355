//! A service that runs in the test's own process until it is told to end.

use std::{
    fmt::{self, Debug},
    future::Future,
    thread::JoinHandle as Thread,
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a service may take to end, even on a busy machine.
const END_LIMIT: Duration = Duration::from_secs(120);

/// A part of the line in this process, such as a consumer.
#[derive(Debug)]
pub struct Running<E> {
    cancel: CancellationToken,
    task: JoinHandle<Result<(), E>>,
}

impl<E: Debug + Send + 'static> Running<E> {
    /// Runs what `run` gives until [`Running::stop`].
    pub fn start<F>(run: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let cancel = CancellationToken::new();
        Self { task: tokio::spawn(run(cancel.clone())), cancel }
    }

    /// Tells it to end, and waits for that.
    ///
    /// # Panics
    /// It does not end in time, or ends with an error.
    pub async fn stop(self) {
        self.cancel.cancel();
        let ended = tokio::time::timeout(END_LIMIT, self.task).await.expect("it stops in time");
        ended.expect("no panic").expect("a clean end");
    }
}

/// A part of the line on a thread of its own, such as an HTTP server with its own kind of runtime. It ends when this is dropped.
pub struct OnThread {
    end: Option<Box<dyn FnOnce() + Send>>,
    thread: Option<Thread<()>>,
}

impl OnThread {
    /// Runs `run` until it is told to return by `end`.
    #[must_use]
    pub fn start(run: impl FnOnce() + Send + 'static, end: impl FnOnce() + Send + 'static) -> Self {
        Self { end: Some(Box::new(end)), thread: Some(std::thread::spawn(run)) }
    }
}

impl Drop for OnThread {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed there.
            let _ = thread.join();
        }
    }
}

impl Debug for OnThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnThread").finish_non_exhaustive()
    }
}
