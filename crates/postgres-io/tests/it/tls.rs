//! TLS by settings alone: the server's certificate and name are verified.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Command};

use domain::secret::Secret;
use postgres_io::{Db, PostgresSettings, TlsMode, raw_client};
use stack::{Lifetime, Postgres, ports, postgres::Durability};

fn run(program: &str, folder: &Path, arguments: &str) {
    let output = Command::new(program).current_dir(folder).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, a certificate of it for 127.0.0.1 in the server's data, and an authority that has nothing to do with it.
fn make_certificates(folder: &Path, data: &Path) {
    for name in ["ca", "other-ca"] {
        let arguments = format!("req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}");
        run("openssl", folder, &arguments);
    }
    std::fs::write(folder.join("san.cnf"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    run("openssl", folder, "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=postgres");
    run(
        "openssl",
        folder,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san.cnf -out server.crt",
    );
    for file in ["server.key", "server.crt"] {
        let target = data.join(file);
        std::fs::copy(folder.join(file), &target).unwrap();
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o600)).unwrap();
        // The server refuses a key of somebody else's; its data has the right owner.
        run("chown", folder, &format!("--reference={} {}", data.display(), target.display()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_encrypted_and_verified_or_not_made() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let home = folder.path().join("pg");
    let mut server = Postgres::start(&home, ports::free().unwrap(), Durability::ProcessDeath, Lifetime::Owned).unwrap();
    make_certificates(folder.path(), &home.join("data"));
    server.psql("postgres", "ALTER SYSTEM SET ssl = on").unwrap();
    server.restart().unwrap();

    let settings = |ca: &str, host: &str| PostgresSettings {
        url: Secret::new(server.url().replace("127.0.0.1", host)),
        tls: TlsMode::VerifyFull,
        tls_ca_file: Some(folder.path().join(ca).display().to_string()),
        ..PostgresSettings::default()
    };
    let good = settings("ca.pem", "127.0.0.1");
    let client = raw_client(&good).await.unwrap();
    let encrypted = client.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await.unwrap();
    assert!(encrypted.get::<_, bool>(0));
    drop(Db::connect(&good).await.unwrap().conn().await.unwrap());

    let stranger = raw_client(&settings("other-ca.pem", "127.0.0.1")).await.unwrap_err().to_string();
    assert!(stranger.contains("certificate") || stranger.contains("UnknownIssuer"), "{stranger}");
    let other_name = raw_client(&settings("ca.pem", "localhost")).await.unwrap_err().to_string();
    assert!(other_name.contains("certificate") || other_name.contains("NotValidForName"), "{other_name}");
    assert!(Db::connect(&settings("other-ca.pem", "127.0.0.1")).await.unwrap().conn().await.is_err());
}
