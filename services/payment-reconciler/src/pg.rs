//! Sessions with PostgreSQL for the line's own statements: prepared once a session, pipelined, and never handed on in the middle of a
//! transaction.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool::managed::{self, Metrics, Object, RecycleError, RecycleResult};
use postgres_io::{ConnectError, PostgresSettings, raw_client};
use tokio_postgres::{Client, Row, Statement, types::ToSql};

use crate::error::LineError;

/// Values of a statement.
pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// One connection with its prepared statements.
pub struct Session {
    client: Client,
    statements: Mutex<HashMap<&'static str, Statement>>,
    in_transaction: AtomicBool,
    /// Whether an answer did not come in time: what the server does with what it was sent is unknown, and nothing more is sent.
    is_silent: AtomicBool,
    answer_max: Duration,
}

/// Makes sessions for the pool.
pub struct Sessions(PostgresSettings);

/// A bounded pool of sessions.
pub type Pool = managed::Pool<Sessions>;

/// A session of the pool; it goes back when dropped. One on which a transaction was left open, or of which nothing is heard, is closed instead, at
/// once: lying in the pool, it would keep its locks.
pub struct Pooled(Option<Object<Sessions>>);

impl Deref for Pooled {
    type Target = Session;

    fn deref(&self) -> &Session {
        match &self.0 {
            Some(object) => object,
            None => unreachable!("only a session that is being dropped is empty"),
        }
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(object) = self.0.take()
            && object.is_unfit()
        {
            drop(Object::take(object));
        }
    }
}

impl managed::Manager for Sessions {
    type Type = Session;
    type Error = ConnectError;

    async fn create(&self) -> Result<Session, ConnectError> {
        let client = raw_client(&self.0).await?;
        // The server ends what takes longer than its own bound, and tells; the rest is the way there and back.
        let answer_max = Duration::from_millis(self.0.statement_timeout_ms.saturating_add(self.0.peer_timeout_ms));
        Ok(Session {
            client,
            statements: Mutex::default(),
            in_transaction: AtomicBool::new(false),
            is_silent: AtomicBool::new(false),
            answer_max,
        })
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<ConnectError> {
        if session.client.is_closed() || session.is_unfit() {
            return Err(RecycleError::message("closed, silent, or left in the middle of a transaction"));
        }
        Ok(())
    }
}

/// Makes the pool. It connects at first use.
///
/// # Errors
/// The pool cannot be made.
pub fn pool(settings: &PostgresSettings) -> Result<Pool, LineError> {
    let timeout = |ms: u64| Some(Duration::from_millis(ms));
    Pool::builder(Sessions(settings.clone()))
        .max_size(settings.pool_size)
        .wait_timeout(timeout(settings.pool_wait_ms))
        .create_timeout(timeout(settings.connect_timeout_ms))
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .map_err(|error| LineError::Session(error.to_string()))
}

/// A session of the pool.
///
/// # Errors
/// No connection in time.
pub async fn session(pool: &Pool) -> Result<Pooled, LineError> {
    let object = pool.get().await.map_err(|error| LineError::Session(error.to_string()))?;
    Ok(Pooled(Some(object)))
}

impl Session {
    /// Waits for the server no longer than it may take, also when the connection itself gives no sign that it is dead. What was begun then is
    /// unknown, and the session is not handed on.
    fn answered<T>(
        &self,
        call: impl Future<Output = Result<T, tokio_postgres::Error>> + Send,
    ) -> impl Future<Output = Result<T, LineError>> + Send {
        // Held elsewhere, so that whoever waits for one statement behind another does not carry all of them.
        let call = Box::pin(call);
        async move {
            if !self.is_silent.load(Ordering::SeqCst)
                && let Ok(answer) = tokio::time::timeout(self.answer_max, call).await
            {
                return Ok(answer?);
            }
            self.is_silent.store(true, Ordering::SeqCst);
            Err(LineError::Session(format!("no answer within {} ms", self.answer_max.as_millis())))
        }
    }

    fn is_unfit(&self) -> bool {
        self.in_transaction.load(Ordering::SeqCst) || self.is_silent.load(Ordering::SeqCst)
    }

    async fn statement(&self, sql: &'static str) -> Result<Statement, LineError> {
        let known = self.statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.answered(self.client.prepare(sql)).await?;
        self.statements.lock().unwrap_or_else(PoisonError::into_inner).insert(sql, statement.clone());
        Ok(statement)
    }

    /// Prepares what is going to be pipelined, so that nothing of it waits for its preparation and is overtaken.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn ready(&self, statements: &[&'static str]) -> Result<(), LineError> {
        for sql in statements {
            self.statement(sql).await?;
        }
        Ok(())
    }

    /// The rows of a query.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn rows(&self, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>, LineError> {
        let statement = self.statement(sql).await?;
        self.answered(self.client.query(&statement, params)).await
    }

    /// The one row of a query.
    ///
    /// # Errors
    /// PostgreSQL, or another number of rows.
    pub async fn row(&self, sql: &'static str, params: Params<'_>) -> Result<Row, LineError> {
        let statement = self.statement(sql).await?;
        self.answered(self.client.query_one(&statement, params)).await
    }

    /// Runs a statement; how many rows it touched.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn run(&self, sql: &'static str, params: Params<'_>) -> Result<u64, LineError> {
        let statement = self.statement(sql).await?;
        self.answered(self.client.execute(&statement, params)).await
    }

    /// Begins a transaction. Whoever begins one ends it by [`Self::commit`] or [`Self::rollback`]; a session that is dropped before that
    /// is closed, which rolls it back.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn begin(&self) -> Result<(), LineError> {
        self.in_transaction.store(true, Ordering::SeqCst);
        self.answered(self.client.batch_execute("BEGIN")).await
    }

    /// Commits. Call it only if every statement of the transaction succeeded: PostgreSQL answers a commit of a failed one without an error.
    ///
    /// # Errors
    /// PostgreSQL; it may have committed if the connection broke or nothing was heard.
    pub async fn commit(&self) -> Result<(), LineError> {
        let committed = self.answered(self.client.batch_execute("COMMIT")).await;
        if committed.is_ok() || !self.client.is_closed() {
            self.in_transaction.store(false, Ordering::SeqCst);
        }
        committed
    }

    /// Rolls back; a failure closes the session, which does the same.
    pub async fn rollback(&self) {
        if self.answered(self.client.batch_execute("ROLLBACK")).await.is_ok() {
            self.in_transaction.store(false, Ordering::SeqCst);
        }
    }
}
