//! Real servers: they start, die by kill -9 with what they hold, and come back.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod local;
mod run;
mod support;
mod toxiproxy;

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    time::Duration,
};

use stack::{
    Kafka, Lifetime, Postgres, Redis, kafka, ports,
    postgres::Durability,
    process::{Identity, wait_until},
};

/// A folder that the account of PostgreSQL can enter.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn postgres_keeps_what_was_committed_before_kill_9() {
    let folder = folder();
    let mut server =
        Postgres::start(&folder.path().join("pg"), ports::free().unwrap(), Durability::Full, Lifetime::Owned).unwrap();
    server.psql("trueup", "CREATE TABLE kept(n int); INSERT INTO kept VALUES (42)").unwrap();
    server.kill();
    assert!(server.psql("trueup", "SELECT 1").is_err());
    server.restart().unwrap();
    assert_eq!(server.psql("trueup", "SELECT n FROM kept").unwrap(), "42");
}

#[test]
fn postgres_comes_back_although_one_of_its_processes_is_busy_when_it_dies() {
    let folder = folder();
    let port = ports::free().unwrap();
    let mut server = Postgres::start(&folder.path().join("pg"), port, Durability::ProcessDeath, Lifetime::Owned).unwrap();
    // It never looks whether the server is still there, but ends by itself.
    let busy = "DO $$ DECLARE till timestamptz := clock_timestamp() + interval '1 minute'; \
        BEGIN WHILE clock_timestamp() < till LOOP END LOOP; END $$";
    let busy = std::thread::spawn(move || stack::postgres::psql(port, "trueup", busy));
    let is_busy = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO %'";
    assert!(wait_until(Duration::from_secs(60), || server.psql("trueup", is_busy).is_ok_and(|count| count == "1")));
    server.kill();
    server.restart().unwrap();
    assert!(busy.join().unwrap().is_err());
    assert_eq!(server.psql("trueup", "SELECT 40 + 2").unwrap(), "42");
}

#[test]
fn postgres_starts_in_a_folder_that_is_closed_to_its_account() {
    // As a checkout in /root is: nobody but its owner may enter.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let server =
        Postgres::start(&folder.path().join("pg"), ports::free().unwrap(), Durability::ProcessDeath, Lifetime::Owned).unwrap();
    assert_eq!(server.psql("trueup", "SELECT 40 + 2").unwrap(), "42");
}

#[test]
fn a_server_that_does_not_come_up_says_why_and_leaves_no_process() {
    let folder = folder();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let error = Postgres::start(&folder.path().join("pg"), port, Durability::ProcessDeath, Lifetime::Detached).unwrap_err();
    assert!(format!("{error:#}").contains("Address already in use"), "{error:#}");
    assert!(!folder.path().join("pg/data/postmaster.pid").exists());
}

#[test]
fn redis_comes_back_with_its_append_only_file() {
    let folder = folder();
    let mut server = Redis::start(folder.path(), ports::free().unwrap(), Lifetime::Owned).unwrap();
    let ask = |port: u16, command: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(command.as_bytes()).unwrap();
        let mut answer = [0u8; 64];
        let n = stream.read(&mut answer).unwrap();
        String::from_utf8_lossy(answer.get(..n).unwrap()).into_owned()
    };
    assert_eq!(ask(server.port(), "SET kept 42\r\n"), "+OK\r\n");
    server.restart().unwrap();
    assert_eq!(ask(server.port(), "GET kept\r\n"), "$2\r\n42\r\n");
    assert!(ask(server.port(), "CONFIG GET maxmemory-policy\r\n").contains("noeviction"));
}

#[test]
fn kafka_keeps_its_log_over_kill_9_and_makes_no_topic_by_accident() {
    let folder = folder();
    let mut broker = Kafka::start(folder.path(), ports::free().unwrap(), ports::free().unwrap(), Lifetime::Owned).unwrap();
    let topics = |broker: &Kafka, arguments: &[&str]| {
        let mut command = kafka::tool("org.apache.kafka.tools.TopicCommand").unwrap();
        let output =
            command.args(["--bootstrap-server", &broker.brokers()]).args(arguments).stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    topics(&broker, &["--create", "--topic", "kept", "--partitions", "3"]);
    broker.kill();
    broker.restart().unwrap();
    assert_eq!(topics(&broker, &["--list"]).trim(), "kept");
}

#[test]
fn an_owned_server_dies_when_its_owner_is_killed() {
    // The owner is this test binary again, told by the environment to start a Redis and then to stand still.
    let folder = folder();
    let port = ports::free().unwrap();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_of_a_redis", "--ignored", "--nocapture"])
        .env("STACK_TEST_OWNER", folder.path())
        .env("STACK_TEST_PORT", port.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert!(wait_until(Duration::from_secs(15), || stack::redis::answers(port)));
    let (pid, _) = ports::holder(port).unwrap();
    let server = Identity::of(pid).unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(server.wait_gone(Duration::from_secs(10)), "the server outlived its owner");
}

/// Not a test of its own: the owner that [`an_owned_server_dies_when_its_owner_is_killed`] kills.
#[test]
#[ignore = "the helper process of another test"]
fn owner_of_a_redis() {
    let folder = std::env::var_os("STACK_TEST_OWNER").unwrap();
    let port = std::env::var("STACK_TEST_PORT").unwrap().parse().unwrap();
    let _server = Redis::start(folder.as_ref(), port, Lifetime::Owned).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_recycled_pid_is_not_signalled() {
    let mine = Identity::of(std::process::id()).unwrap();
    let other = Identity { started_ticks: mine.started_ticks + 1, ..mine };
    assert!(!other.is_running());
    other.signal(rustix::process::Signal::KILL);
    assert!(mine.is_running());
}
