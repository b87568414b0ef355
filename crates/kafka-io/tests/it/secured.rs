//! TLS and SASL by settings alone, against a broker that insists on both.

use std::{fs, path::Path, process::Command};

use domain::secret::Secret;
use kafka_io::{CommandProducer, KafkaSettings, LogClient, ProducerSettings, SecurityProtocol};
use stack::{Kafka, Lifetime, ports};
use testkit::{TestFolder, create_topics, kafka_settings, read_all, show_logs, unique};

use crate::support::request;

const PASSWORD: &str = "correct horse battery staple";

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority of its own, a certificate for 127.0.0.1, and an authority that has nothing to do with it.
fn make_certificates(folder: &Path) {
    for authority in ["ca", "other-ca"] {
        openssl(
            folder,
            &format!(
                "req -x509 -newkey rsa:2048 -nodes -keyout {authority}.key -out {authority}.pem -days 2 -subj /CN={authority}"
            ),
        );
    }
    fs::write(folder.join("san.cnf"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(folder, "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=broker");
    openssl(folder, "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san.cnf -out server.pem");
    let both = fs::read_to_string(folder.join("server.key")).unwrap() + &fs::read_to_string(folder.join("server.pem")).unwrap();
    fs::write(folder.join("keystore.pem"), both).unwrap();
}

/// Adds a listener that takes TLS with a password only.
fn add_secure_listener(folder: &Path, port: u16) {
    let path = folder.join("server.properties");
    let mut lines: Vec<String> = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    for line in &mut lines {
        if line.starts_with("listeners=") || line.starts_with("advertised.listeners=") {
            line.push_str(&format!(",SECURE://127.0.0.1:{port}"));
        }
    }
    lines.push("listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL".to_owned());
    lines.push("listener.name.secure.ssl.keystore.type=PEM".to_owned());
    lines.push(format!("listener.name.secure.ssl.keystore.location={}", folder.join("keystore.pem").display()));
    lines.push("listener.name.secure.sasl.enabled.mechanisms=PLAIN".to_owned());
    lines.push(format!(
        "listener.name.secure.plain.sasl.jaas.config=\
         org.apache.kafka.common.security.plain.PlainLoginModule required user_trueup=\"{PASSWORD}\";"
    ));
    fs::write(path, lines.join("\n")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_password_are_settings() {
    show_logs();
    let folder = TestFolder::new("secured");
    let (plain, secure) = (ports::free().unwrap(), ports::free().unwrap());
    let mut kafka = Kafka::start(folder.path(), plain, ports::free().unwrap(), Lifetime::Owned).unwrap();
    make_certificates(folder.path());
    add_secure_listener(folder.path(), secure);
    kafka.restart().unwrap();

    let file = |name: &str| Some(folder.path().join(name).display().to_string());
    let good = KafkaSettings {
        security_protocol: SecurityProtocol::SaslSsl,
        ssl_ca_location: file("ca.pem"),
        sasl_mechanism: Some("PLAIN".to_owned()),
        sasl_username: Some("trueup".to_owned()),
        sasl_password: Some(Secret::new(PASSWORD)),
        request_timeout_ms: 10_000,
        ..kafka_settings(&format!("127.0.0.1:{secure}"), &unique("secured"))
    };
    create_topics(&good, 1).await;
    let topic = &good.topics.created;
    let producer = CommandProducer::new(&good, &ProducerSettings::default()).unwrap();
    producer.publish(topic, Some(0), &request("c", 1).1).unwrap().await.unwrap();
    assert_eq!(read_all(&good, topic, 0).await.len(), 1);

    let wrong = [
        ("the password", KafkaSettings { sasl_password: Some(Secret::new("guess")), ..good.clone() }),
        ("the authority", KafkaSettings { ssl_ca_location: file("other-ca.pem"), ..good.clone() }),
        ("no TLS", KafkaSettings { security_protocol: SecurityProtocol::SaslPlaintext, ..good.clone() }),
        ("nothing at all", KafkaSettings { security_protocol: SecurityProtocol::Plaintext, ..good.clone() }),
    ];
    for (what, settings) in wrong {
        let settings = KafkaSettings { request_timeout_ms: 1_500, ..settings };
        let client = LogClient::new(&settings).unwrap();
        assert!(client.watermarks(topic, 0).await.is_err(), "{what} is wrong and nobody minds");
    }
}

#[test]
fn a_password_is_in_no_dump() {
    let settings = KafkaSettings { sasl_password: Some(Secret::new(PASSWORD)), ..KafkaSettings::default() };
    assert!(!format!("{settings:?}").contains(PASSWORD));
}
