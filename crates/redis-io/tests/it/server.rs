//! A private Redis server, and small words for the tests.

use std::{
    io::Read,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use deadpool_redis::redis::{self, FromRedisValue, aio::MultiplexedConnection};
use domain::{
    clock::Timestamp,
    ids::{CouponCode, MemberId, RequestId},
};
use redis_io::{Gate, GateRules, LoadToken, RedisSettings, Reservation, Reserve};
use tempfile::TempDir;
use uuid::Uuid;

const START_DEADLINE: Duration = Duration::from_secs(15);

/// A Redis of this test alone; killed when dropped.
pub struct Server {
    dir: TempDir,
    port: u16,
    options: Vec<String>,
    child: Child,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With further command line options.
    pub async fn start_with(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let child = spawn(&dir, port, &options);
        let mut server = Self { dir, port, options, child };
        server.wait_until_it_answers().await;
        server
    }

    pub fn settings(&self) -> RedisSettings {
        RedisSettings { url: format!("redis://127.0.0.1:{}/", self.port).into(), ..RedisSettings::default() }
    }

    pub async fn gate(&self) -> Gate {
        Gate::connect(&self.settings()).await.unwrap()
    }

    /// A connection behind the gate's back.
    pub async fn connection(&self) -> MultiplexedConnection {
        self.try_connection().await.unwrap()
    }

    async fn try_connection(&self) -> redis::RedisResult<MultiplexedConnection> {
        redis::Client::open(format!("redis://127.0.0.1:{}/", self.port))?.get_multiplexed_async_connection().await
    }

    /// Runs a command written as words.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.connection().await).await.unwrap()
    }

    /// SIGKILL, and the same data folder again under a new run id.
    pub async fn kill_and_restart(&mut self) {
        self.kill();
        self.child = spawn(&self.dir, self.port, &self.options);
        self.wait_until_it_answers().await;
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap().success());
    }

    async fn wait_until_it_answers(&mut self) {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if let Ok(mut connection) = self.try_connection().await
                && redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok()
            {
                return;
            }
            if Instant::now() > deadline || self.child.try_wait().unwrap().is_some() {
                let mut output = String::new();
                self.child.kill().ok();
                self.child.stdout.take().unwrap().read_to_string(&mut output).ok();
                panic!("redis-server did not start:\n{output}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A stopped process takes SIGKILL as well.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn spawn(dir: &TempDir, port: u16, options: &[String]) -> Child {
    // The server dies with the test's thread, even when that is killed.
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "redis-server", "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
        .args(["--appendfsync", "always", "--port", &port.to_string()])
        .arg("--dir")
        .arg(dir.path())
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("setpriv and redis-server are installed")
}

pub fn code(text: &str) -> CouponCode {
    CouponCode::new(text).unwrap()
}

pub fn member(number: u32) -> MemberId {
    MemberId::new(format!("user-{number}")).unwrap()
}

pub fn request(number: u32) -> RequestId {
    RequestId::from_uuid(Uuid::from_u128(u128::from(number)))
}

pub fn token(number: u32) -> LoadToken {
    LoadToken::new(Uuid::from_u128(u128::from(number)))
}

/// Rules without a window.
pub fn rules(total: i64) -> GateRules {
    GateRules::always_open(total, 3)
}

/// Opens an empty gate at cursor 10.
pub async fn open(gate: &Gate, code: &CouponCode, rules: &GateRules) {
    assert!(gate.begin_load(code, token(1)).await.unwrap());
    assert_eq!(gate.open(code, token(1), rules, 10).await.unwrap(), Some(0));
}

/// A fresh reservation in [`timeless`] answers.
pub const RESERVED: Reserve = Reserve::Reserved { at: Timestamp::from_unix_ms(0) };

/// Answers without the moments of their reservations.
pub fn timeless(answers: Vec<Reserve>) -> Vec<Reserve> {
    answers.into_iter().map(|answer| if matches!(answer, Reserve::Reserved { .. }) { RESERVED } else { answer }).collect()
}

/// Reserves a seat for a member who has none.
pub async fn seat(gate: &Gate, code: &CouponCode, number: u32, id: u32) -> Reservation {
    let (member, request) = (member(number), request(id));
    match gate.reserve(code, &[(member.clone(), request)]).await.unwrap()[..] {
        [Reserve::Reserved { at: reserved_at }] => Reservation { member, request, reserved_at },
        ref other => panic!("no fresh reservation: {other:?}"),
    }
}
