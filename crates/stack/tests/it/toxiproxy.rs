//! Links that are slow, cut, or swallow answers, on real servers.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    process::Stdio,
    time::{Duration, Instant},
};

use stack::{
    Kafka, Lifetime, Redis, Toxiproxy,
    kafka::{self, Listener},
    ports,
    toxiproxy::Link,
};

use crate::folder;

/// How long a client waits before it takes an answer for lost.
const PATIENCE: Duration = Duration::from_millis(500);

/// A connection to Redis.
struct Client(TcpStream);

impl Client {
    fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    fn ask(&mut self, command: &str) -> std::io::Result<String> {
        self.0.write_all(command.as_bytes())?;
        let mut answer = [0u8; 64];
        match self.0.read(&mut answer)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            length => Ok(String::from_utf8_lossy(answer.get(..length).unwrap()).into_owned()),
        }
    }
}

struct Line {
    redis: Redis,
    link: Link,
    _toxiproxy: Toxiproxy,
    _folder: tempfile::TempDir,
}

fn line() -> Line {
    let folder = folder();
    let redis = Redis::start(&folder.path().join("redis"), ports::free().unwrap(), Lifetime::Owned).unwrap();
    let toxiproxy = Toxiproxy::start(&folder.path().join("toxiproxy"), ports::free().unwrap(), Lifetime::Owned).unwrap();
    let link = toxiproxy.link("redis", ports::free().unwrap(), redis.port()).unwrap();
    Line { redis, link, _toxiproxy: toxiproxy, _folder: folder }
}

#[test]
fn an_answer_is_lost_though_the_server_did_what_was_asked() {
    let line = line();
    let mut client = Client::connect(line.link.port()).unwrap();
    assert_eq!(client.ask("SET seat free\r\n").unwrap(), "+OK\r\n");
    line.link.lose_replies().unwrap();
    let error = client.ask("SET seat taken\r\n").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    let mut direct = Client::connect(line.redis.port()).unwrap();
    assert_eq!(direct.ask("GET seat\r\n").unwrap(), "$5\r\ntaken\r\n");
    // What was swallowed never comes: the old connection is closed, and a new one is as good as ever.
    line.link.clear().unwrap();
    assert!(client.ask("GET seat\r\n").is_err());
    assert_eq!(Client::connect(line.link.port()).unwrap().ask("GET seat\r\n").unwrap(), "$5\r\ntaken\r\n");
}

#[test]
fn an_answer_is_lost_and_the_connection_closed() {
    let line = line();
    line.link.lose_replies_and_close(50).unwrap();
    let error = Client::connect(line.link.port()).unwrap().ask("SET seat taken\r\n").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
    let mut direct = Client::connect(line.redis.port()).unwrap();
    assert_eq!(direct.ask("GET seat\r\n").unwrap(), "$5\r\ntaken\r\n");
}

#[test]
fn a_cut_link_refuses_as_a_dead_server_does_and_heals() {
    let line = line();
    let mut client = Client::connect(line.link.port()).unwrap();
    client.ask("PING\r\n").unwrap();
    line.link.cut().unwrap();
    assert!(client.ask("PING\r\n").is_err());
    assert_eq!(Client::connect(line.link.port()).err().unwrap().kind(), ErrorKind::ConnectionRefused);
    line.link.clear().unwrap();
    assert_eq!(Client::connect(line.link.port()).unwrap().ask("PING\r\n").unwrap(), "+PONG\r\n");
}

#[test]
fn a_link_is_reset_or_silent_or_slow() {
    let line = line();
    let mut client = Client::connect(line.link.port()).unwrap();
    client.ask("PING\r\n").unwrap();
    line.link.reset().unwrap();
    assert!(client.ask("PING\r\n").is_err());
    line.link.clear().unwrap();

    line.link.swallow().unwrap();
    let mut client = Client::connect(line.link.port()).unwrap();
    assert!(client.ask("SET seat taken\r\n").is_err());
    let mut direct = Client::connect(line.redis.port()).unwrap();
    assert_eq!(direct.ask("GET seat\r\n").unwrap(), "$-1\r\n", "it never arrived");
    line.link.clear().unwrap();

    line.link.slow(5_000, 0).unwrap();
    line.link.slow(200, 0).unwrap();
    let started = Instant::now();
    let mut client = Client::connect(line.link.port()).unwrap();
    client.0.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(client.ask("PING\r\n").unwrap(), "+PONG\r\n");
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(200), "{took:?}");
    assert!(took < Duration::from_secs(5), "the second setting counts: {took:?}");
}

#[test]
fn kafka_sends_its_clients_back_through_the_link_they_came_by() {
    let folder = folder();
    let toxiproxy = Toxiproxy::start(&folder.path().join("toxiproxy"), ports::free().unwrap(), Lifetime::Owned).unwrap();
    let listener = Listener { port: ports::free().unwrap(), advertised_port: ports::free().unwrap() };
    let link = toxiproxy.link("kafka", listener.advertised_port, listener.port).unwrap();
    let (port, controller) = (ports::free().unwrap(), ports::free().unwrap());
    let mut broker = Kafka::start_behind(&folder.path().join("kafka"), port, controller, &[listener], Lifetime::Owned).unwrap();
    let metadata = |brokers: &str| {
        let mut command = std::process::Command::new("kcat");
        let output = command.args(["-b", brokers, "-L", "-m", "10"]).stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for _ in 0..2 {
        let (through, direct) = (metadata(&link.address()), metadata(&broker.brokers()));
        assert!(through.contains(&format!("broker 1 at {}", link.address())), "{through}");
        assert!(direct.contains(&format!("broker 1 at {}", broker.brokers())), "{direct}");
        broker.kill();
        broker.restart().unwrap();
    }
    // Its tools work through the link, too, until it is cut.
    let create = |topic: &str| {
        let mut command = kafka::tool("org.apache.kafka.tools.TopicCommand").unwrap();
        command.args(["--bootstrap-server", &link.address(), "--create", "--partitions", "1", "--topic", topic]);
        command.output().unwrap().status.success()
    };
    assert!(create("through-the-link"));
}
