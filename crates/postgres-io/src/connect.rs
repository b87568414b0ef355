//! One connection: time-outs set by the start-up message, TLS if asked for.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_postgres::{Client, Config, Connection, NoTls, Socket, tls::TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::settings::{PostgresSettings, TlsMode};

/// Where Debian and its relatives keep the certificates of the system.
const SYSTEM_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Of the time after which a silent server counts as gone, a connection is left in peace for the first half; then it is probed.
const PROBES: u32 = 2;
/// The shortest time between probes: the system counts it in seconds.
const PROBE_EVERY_MIN: Duration = Duration::from_secs(1);

/// Why there is no connection. No message holds the password.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address cannot be read. What it says is not repeated, as it may hold a password.
    #[error("postgres.url is not an address such as postgres://user:password@host:5432/database")]
    Url,
    /// The certificates cannot be read.
    #[error("the certificates in {file} cannot be read: {reason}")]
    Certificates {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The server does not answer, or says no.
    #[error("{}", describe(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// It took too long.
    #[error("no connection within {0} ms")]
    TimedOut(u64),
}

/// An error in words that are fit for a log. The client library's own text says only "db error" or "error connecting to server"; what helps stands
/// in the source. What the server adds as its detail is left out: it may be a whole row, with secrets in it.
#[must_use]
pub fn describe(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(db), _) => format!("{error}: {}: {} ({})", db.severity(), db.message(), db.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// A client outside the pool; its connection is driven by a task that ends with the client. Inside a tokio runtime.
///
/// # Errors
/// [`ConnectError`].
pub async fn raw_client(settings: &PostgresSettings) -> Result<Client, ConnectError> {
    let limit = Duration::from_millis(settings.connect_timeout_ms);
    match tokio::time::timeout(limit, connect(settings)).await {
        Ok(client) => client,
        Err(_) => Err(ConnectError::TimedOut(settings.connect_timeout_ms)),
    }
}

async fn connect(settings: &PostgresSettings) -> Result<Client, ConnectError> {
    let config = config(settings)?;
    match settings.tls {
        TlsMode::Disable => {
            let (client, connection) = config.connect(NoTls).await?;
            drive(connection);
            Ok(client)
        }
        TlsMode::VerifyFull => {
            let (client, connection) = config.connect(MakeRustlsConnect::new(tls(settings)?)).await?;
            drive(connection);
            Ok(client)
        }
    }
}

fn drive<T: TlsStream + Unpin + Send + 'static>(connection: Connection<Socket, T>) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = describe(&error), "a PostgreSQL connection ended");
        }
    });
}

fn config(settings: &PostgresSettings) -> Result<Config, ConnectError> {
    let mut config: Config = settings.url.expose().parse().map_err(|_| ConnectError::Url)?;
    let options = format!(
        "-c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout={}",
        settings.statement_timeout_ms, settings.lock_timeout_ms, settings.idle_in_transaction_timeout_ms
    );
    // What is sent and not acknowledged is given up by the user time-out; while an answer is waited for, the probes find out.
    let probe_every = (Duration::from_millis(settings.peer_timeout_ms) / PROBES.saturating_mul(2)).max(PROBE_EVERY_MIN);
    let ssl = match settings.tls {
        TlsMode::Disable => tokio_postgres::config::SslMode::Disable,
        TlsMode::VerifyFull => tokio_postgres::config::SslMode::Require,
    };
    config
        .application_name(&settings.application_name)
        .options(options)
        .ssl_mode(ssl)
        .connect_timeout(Duration::from_millis(settings.connect_timeout_ms))
        .keepalives_idle(probe_every.saturating_mul(PROBES))
        .keepalives_interval(probe_every)
        .keepalives_retries(PROBES)
        .tcp_user_timeout(probe_every.saturating_mul(PROBES.saturating_mul(2)));
    Ok(config)
}

fn tls(settings: &PostgresSettings) -> Result<ClientConfig, ConnectError> {
    let file = settings.tls_ca_file.as_deref().filter(|file| !file.is_empty()).unwrap_or(SYSTEM_CERTIFICATES);
    let unreadable =
        |reason: &dyn std::fmt::Display| ConnectError::Certificates { file: file.to_owned(), reason: reason.to_string() };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
        roots.add(certificate.map_err(|error| unreadable(&error))?)?;
    }
    if roots.is_empty() {
        return Err(unreadable(&"it holds no certificate"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use domain::secret::Secret;

    use super::*;

    #[tokio::test]
    async fn an_error_says_what_helps_and_shows_no_password() {
        let settings = |url: &str| PostgresSettings { url: Secret::new(url), ..PostgresSettings::default() };
        let error = raw_client(&settings("postgres://u:hunter2@127.0.0.1:1/d")).await.unwrap_err().to_string();
        assert!(error.contains("refused") && !error.contains("hunter2"), "{error}");
        let error = raw_client(&settings("nonsense hunter2")).await.unwrap_err().to_string();
        assert!(error.contains("postgres.url") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_server_that_is_gone_is_noticed_in_the_time_that_is_set() {
        let times = |peer_timeout_ms| {
            let config = config(&PostgresSettings { peer_timeout_ms, ..PostgresSettings::default() }).unwrap();
            assert!(config.get_keepalives());
            let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
            (
                seconds(config.get_tcp_user_timeout().copied()),
                config.get_keepalives_idle().as_secs(),
                seconds(config.get_keepalives_interval()),
                config.get_keepalives_retries(),
            )
        };
        assert_eq!(times(PostgresSettings::default().peer_timeout_ms), (Some(20), 10, Some(5), Some(2)));
        assert_eq!(times(8_000), (Some(8), 4, Some(2), Some(2)));
        assert_eq!(times(1), (Some(4), 2, Some(1), Some(2)), "the system counts in seconds");
    }

    #[test]
    fn certificates_that_cannot_be_read_are_named() {
        let settings = PostgresSettings { tls_ca_file: Some("no-such-file.pem".to_owned()), ..PostgresSettings::default() };
        assert!(tls(&settings).unwrap_err().to_string().contains("no-such-file.pem"));
    }
}
