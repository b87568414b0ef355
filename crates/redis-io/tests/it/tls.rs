//! Redis behind TLS, with an authority of one's own.

use std::{fs, net::TcpListener, path::Path, process::Command};

use redis_io::{Gate, GateError, RedisSettings};

use crate::server::{Server, code, open, rules, seat};

fn openssl(dir: &Path, args: &[&str]) {
    let output = Command::new("openssl").args(args).current_dir(dir).output().expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, and a certificate of its for `localhost`.
fn certificates(dir: &Path) {
    let authority = ["-subj", "/CN=Test authority", "-addext", "basicConstraints=critical,CA:TRUE"];
    let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", "ca.key", "-out", "ca.crt"];
    openssl(dir, &[&new[..], &authority[..]].concat());
    openssl(
        dir,
        &["req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"],
    );
    fs::write(dir.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    let sign = ["x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"];
    openssl(dir, &[&sign[..], &["-extfile", "names", "-out", "server.crt"]].concat());
}

#[tokio::test]
async fn a_gate_works_behind_tls_and_only_with_the_right_authority() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = [
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &path("server.crt"),
        "--tls-key-file",
        &path("server.key"),
        "--tls-ca-cert-file",
        &path("ca.crt"),
        "--tls-auth-clients",
        "no",
    ];
    let _server = Server::start_with(&options).await;
    let url = format!("rediss://localhost:{port}/");
    let trusting =
        RedisSettings { url: url.as_str().into(), tls_ca_file: Some(path("ca.crt").into()), ..RedisSettings::default() };
    let gate = Gate::connect(&trusting).await.unwrap();
    gate.check().await.unwrap();
    let coupon = code("c");
    open(&gate, &coupon, &rules(1)).await;
    seat(&gate, &coupon, 1, 1).await;

    // The system's authorities do not know this server.
    let distrusting = RedisSettings { url: url.as_str().into(), ..RedisSettings::default() };
    let stranger = Gate::connect(&distrusting).await.unwrap();
    assert!(matches!(stranger.check().await, Err(GateError::Unavailable { maybe_executed: false, .. })));
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_told_without_the_password() {
    let bad_url = RedisSettings { url: "http://user:hunter2@host/".into(), ..RedisSettings::default() };
    let missing = RedisSettings { tls_ca_file: Some("no-such-file.pem".into()), ..RedisSettings::default() };
    for (settings, named) in [(bad_url, "redis.url"), (missing, "redis.tls_ca_file")] {
        let error = Gate::connect(&settings).await.unwrap_err();
        assert!(matches!(&error, GateError::Settings(_)), "{error}");
        let told = error.to_string();
        assert!(told.contains(named) && !told.contains("hunter2"), "{told}");
    }
}
