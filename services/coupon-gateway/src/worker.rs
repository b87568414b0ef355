//! What one worker thread has for itself: its queues, its wake-ups, its connection to the gate.

use std::{rc::Rc, sync::Arc};

use redis_io::Gate;

use crate::{find::Finder, intake::GateAsker, mailbox::Mailbox, state::AppState};

/// What one worker thread has for itself.
pub struct Worker {
    /// What all threads share.
    pub app: Arc<AppState>,
    /// Asks the gate.
    pub gate: GateAsker,
    /// Looks things up in PostgreSQL.
    pub find: Finder,
    /// Wakes this thread's requests.
    pub mailbox: Mailbox,
}

impl Worker {
    /// A worker of the current thread, which must have a local task set; `gate` is this thread's own.
    #[must_use]
    pub fn start(app: Arc<AppState>, gate: Arc<Gate>) -> Rc<Self> {
        let mailbox = Mailbox::default();
        // It ends with the thread's runtime.
        actix_web::rt::spawn(mailbox.clone().deliver());
        let asker = GateAsker::new(gate, app.settings.gate.clone(), app.settings.coupons.held_max, &app.metrics);
        let find = Finder::new(Arc::clone(&app));
        Rc::new(Self { app, gate: asker, find, mailbox })
    }
}
