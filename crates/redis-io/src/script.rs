//! The scripts, and how one is called: EVALSHA, and EVAL when the server has forgotten it.

use std::sync::LazyLock;

use deadpool_redis::redis::{self, Cmd, ErrorKind, RedisResult, ServerErrorKind, Value, aio::ConnectionLike};
use domain::ids::{CouponCode, RequestId};

use crate::keys;

/// A script and its hash.
pub(crate) struct Script {
    /// Its name in metrics.
    pub(crate) name: &'static str,
    source: &'static str,
    sha: String,
}

impl Script {
    fn new(name: &'static str, source: &'static str) -> Self {
        Self { name, source, sha: redis::Script::new(source).get_hash().to_owned() }
    }
}

macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new($file, concat!(include_str!("../lua/common.lua"), include_str!(concat!("../lua/", $file, ".lua"))))
        });
    };
}

script!(RESERVE, "reserve");
script!(RELEASE, "release");
script!(SETTLE, "settle");
script!(BEGIN_LOAD, "begin_load");
script!(LOAD, "load");
script!(OPEN, "open");
script!(SHUT, "shut");
script!(PENDING_OLDER_THAN, "pending_older_than");
script!(PENDING_OF, "pending_of");
script!(STATUS, "status");
script!(HOLDS, "holds");
script!(ADD, "add");
script!(REMOVE, "remove");

/// One call of a script with the keys of one coupon. Arguments are kept so that the call can be repeated as EVAL.
pub(crate) struct Call<'a> {
    pub(crate) script: &'a Script,
    keys: [String; 5],
    args: Vec<Arg<'a>>,
}

/// An argument, borrowed or small, so that a batch of a hundred members costs no hundred allocations.
enum Arg<'a> {
    Text(&'a str),
    Number(i64),
    Request(RequestId),
}

impl<'a> Call<'a> {
    pub(crate) fn new(script: &'a Script, code: &CouponCode, args: usize) -> Self {
        Self { script, keys: keys::all(code), args: Vec::with_capacity(args) }
    }

    pub(crate) fn text(mut self, text: &'a str) -> Self {
        self.args.push(Arg::Text(text));
        self
    }

    pub(crate) fn number(mut self, number: i64) -> Self {
        self.args.push(Arg::Number(number));
        self
    }

    pub(crate) fn optional_number(self, number: Option<i64>) -> Self {
        match number {
            Some(number) => self.number(number),
            None => self.text(""),
        }
    }

    pub(crate) fn flag(self, flag: bool) -> Self {
        self.text(if flag { "1" } else { "0" })
    }

    pub(crate) fn request(mut self, request: RequestId) -> Self {
        self.args.push(Arg::Request(request));
        self
    }

    /// Runs it. SCRIPT FLUSH, a restart or a failover may have emptied the server's cache; NOSCRIPT means that nothing
    /// ran, so that the same call goes again with the source, which fills the cache as well.
    pub(crate) async fn run(&self, connection: &mut impl ConnectionLike) -> RedisResult<Value> {
        match self.command("EVALSHA", &self.script.sha).query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.command("EVAL", self.script.source).query_async(connection).await
            }
            answer => answer,
        }
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let bytes = script.len() + self.keys.iter().map(String::len).sum::<usize>() + self.args.len() * 40;
        let mut command = Cmd::with_capacity(3 + self.keys.len() + self.args.len(), bytes);
        command.arg(name).arg(script).arg(self.keys.len());
        for key in &self.keys {
            command.arg(key);
        }
        let mut buffer = uuid::Uuid::encode_buffer();
        for arg in &self.args {
            match arg {
                Arg::Text(text) => command.arg(*text),
                Arg::Number(number) => command.arg(*number),
                Arg::Request(request) => command.arg(&*request.uuid().hyphenated().encode_lower(&mut buffer)),
            };
        }
        command
    }
}
