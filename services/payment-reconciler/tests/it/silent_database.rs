//! A PostgreSQL of which nothing is heard any more, behind something that still takes whatever is sent to it.

use std::time::{Duration, Instant};

use domain::secret::Secret;
use payment_reconciler::{error::LineError, pg};
use postgres_io::PostgresSettings;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use crate::database::database;

/// Between a client and the server: passes everything on, until it swallows everything.
async fn swallower(settings: &PostgresSettings) -> (PostgresSettings, watch::Sender<bool>) {
    let config: tokio_postgres::Config = settings.url.expose().parse().unwrap();
    let server = config.get_ports()[0];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = settings.url.expose().replace(&format!(":{server}/"), &format!(":{port}/"));
    assert_ne!(url, settings.url.expose());
    let (swallow, swallows) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = TcpStream::connect(("127.0.0.1", server)).await.unwrap().into_split();
            tokio::spawn(pass_on(from_client, to_server, swallows.clone()));
            tokio::spawn(pass_on(from_server, to_client, swallows.clone()));
        }
    });
    (PostgresSettings { url: Secret::new(url), ..settings.clone() }, swallow)
}

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, swallows: watch::Receiver<bool>) {
    let mut buffer = vec![0_u8; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if !*swallows.borrow() && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_which_nothing_is_heard_ends_and_its_session_is_not_handed_on() {
    let settings =
        PostgresSettings { pool_size: 1, statement_timeout_ms: 1_000, peer_timeout_ms: 1_000, ..database("silent").await };
    let (settings, swallow) = swallower(&settings).await;
    let pool = pg::pool(&settings).unwrap();
    let session = pg::session(&pool).await.unwrap();
    session.begin().await.unwrap();
    let first: i32 = session.row("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    swallow.send(true).unwrap();
    let committed = tokio::time::timeout(Duration::from_secs(60), session.commit()).await.expect("it ends by itself");
    assert!(matches!(&committed, Err(LineError::Session(why)) if why.contains("2000 ms")), "{committed:?}");
    let began = Instant::now();
    session.rollback().await;
    assert!(began.elapsed() < Duration::from_secs(1), "nothing more is waited for on it");
    drop(session);
    swallow.send(false).unwrap();
    let session = pg::session(&pool).await.unwrap();
    let second: i32 = session.row("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    assert_ne!(first, second, "another session");
    // A statement outside of a transaction is the same.
    swallow.send(true).unwrap();
    let asked = tokio::time::timeout(Duration::from_secs(60), session.row("SELECT pg_backend_pid()", &[])).await;
    assert!(matches!(asked.expect("it ends by itself"), Err(LineError::Session(_))));
    drop(session);
    swallow.send(false).unwrap();
    let third: i32 = pg::session(&pool).await.unwrap().row("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    assert_ne!(second, third);
}
