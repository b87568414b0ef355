//! Does what the schedule says, at its moments.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use deadpool_redis::redis;
use kafka_io::delete_group;
use serde::Serialize;
use tokio::runtime::Handle;

use crate::{
    action::{Action, Who},
    client::Client,
    collect::Marks,
    feed,
    places::GROUP,
    plan::Plan,
    steer,
    world::World,
};

/// How often a deletion is tried: the group is empty only once the broker has noticed that everybody left.
const DELETE_ATTEMPTS: u32 = 20;
/// The pause in between.
const DELETE_PAUSE: Duration = Duration::from_millis(200);

/// A step as it was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Done {
    /// When it was planned, in milliseconds.
    pub planned_ms: u64,
    /// When it began.
    pub began_ms: u64,
    /// When it was over.
    pub ended_ms: u64,
    /// What it was.
    pub action: String,
    /// What became of it.
    pub result: String,
    /// It did what it should.
    pub ok: bool,
}

/// Does the steps of one round. Blocks: run it on a thread of its own.
#[derive(Debug)]
pub struct Injector<'a> {
    /// The line.
    pub world: &'a mut World,
    /// The round.
    pub plan: &'a Plan,
    /// The operator.
    pub client: &'a Client,
    /// The log's ends before the round.
    pub since: &'a Marks,
    /// For what is asynchronous.
    pub runtime: &'a Handle,
}

impl Injector<'_> {
    /// Does all steps; a failed one does not stop the next.
    pub fn run(&mut self, began: Instant) -> Vec<Done> {
        let elapsed = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut done = Vec::with_capacity(self.plan.steps.len());
        for (index, step) in self.plan.steps.iter().enumerate() {
            thread::sleep(Duration::from_millis(step.at_ms.saturating_sub(elapsed())));
            let began_ms = elapsed();
            let result = self.act(&step.action, index);
            let (result, ok) = match result {
                Ok(text) => (text, true),
                Err(error) => (format!("{error:#}"), false),
            };
            let action = step.action.to_string();
            done.push(Done { planned_ms: step.at_ms, began_ms, ended_ms: elapsed(), action, result, ok });
        }
        done
    }

    fn act(&mut self, action: &Action, index: usize) -> Result<String> {
        let world = &mut *self.world;
        match action {
            Action::Kill(who) => world.kill(*who),
            Action::Freeze(who) => world.freeze(*who),
            Action::Wake(who) => world.wake(*who),
            Action::Terminate(who) => {
                let code = world.terminate(*who)?;
                return Ok(format!("exit code {code:?}"));
            }
            Action::Start(who) => {
                let was_down = world.start_again(*who)?;
                return Ok(if was_down { "it was down" } else { "it was running" }.to_owned());
            }
            Action::FlushRedis => return self.redis(&["FLUSHALL"]),
            Action::FlushScripts => return self.redis(&["SCRIPT", "FLUSH"]),
            Action::KeepRedisFiles => copy(&world.redis_folder().join("appendonlydir"), &kept(world))?,
            Action::BringBackOldRedisFiles => {
                world.kill(Who::Redis);
                let files = world.redis_folder().join("appendonlydir");
                fs::remove_dir_all(&files).context("Redis' newest files")?;
                copy(&kept(world), &files)?;
                world.start_again(Who::Redis)?;
            }
            Action::DeleteGroup => return self.delete_group(),
            Action::AddPartitions(more) => return self.runtime.block_on(feed::add_partitions(world.places(), *more)),
            Action::Foreign { coupon, records } => {
                return self.runtime.block_on(feed::foreign(world.places(), self.plan, *coupon, *records, index));
            }
            Action::Poison { coupon, records } => {
                return self.runtime.block_on(feed::poison(world.places(), self.plan, *coupon, *records, index));
            }
            Action::DoubleLog { coupon } => {
                return self.runtime.block_on(feed::double(world.places(), self.plan, *coupon, self.since));
            }
            Action::SetTotal { coupon, percent } => return self.set_total(*coupon, *percent, index),
            Action::Failpoint { who, step, plan } => {
                let port = world.port(*who).with_context(|| format!("there is no {who}"))?;
                return steer::plan(port, step, plan);
            }
            Action::AwaitPaused { who, step, at_most_ms } => {
                let port = world.port(*who).with_context(|| format!("there is no {who}"))?;
                return steer::await_paused(port, step, Duration::from_millis(*at_most_ms));
            }
            Action::Trouble { link, trouble } => world.trouble(*link, *trouble)?,
            Action::SetClock { who, offset_ms } => {
                let port = world.port(*who).with_context(|| format!("there is no {who}"))?;
                return steer::set_clock(port, *offset_ms);
            }
        }
        Ok("done".to_owned())
    }

    fn redis(&self, command: &[&str]) -> Result<String> {
        let (name, arguments) = command.split_first().context("no command")?;
        let client = redis::Client::open(self.world.places().redis.url.expose())?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
        let mut command = redis::cmd(name);
        for argument in arguments {
            command.arg(*argument);
        }
        Ok(command.query::<String>(&mut connection)?)
    }

    fn delete_group(&self) -> Result<String> {
        let log = self.world.places().log_client()?;
        let mut last = None;
        for _ in 0..DELETE_ATTEMPTS {
            match self.runtime.block_on(delete_group(&log, GROUP)) {
                Ok(true) => return Ok("the group and its offsets are gone".to_owned()),
                Ok(false) => return Ok("there was no group".to_owned()),
                Err(error) => last = Some(error),
            }
            thread::sleep(DELETE_PAUSE);
        }
        bail!("the group is still there: {last:?}");
    }

    fn set_total(&self, coupon: usize, percent: i64, index: usize) -> Result<String> {
        let coupon = self.plan.coupons.get(coupon).context("no such coupon")?;
        let total = coupon.total.saturating_mul(percent) / 100;
        let key = format!("{}-total-{index}", coupon.code);
        let (status, text) = self.runtime.block_on(self.client.set_total(&coupon.code, total, &key))?;
        let text: String = text.chars().take(120).collect();
        // A lowered total below what is issued is refused, which is right.
        if matches!(status, 200 | 202 | 409) { Ok(format!("{status} {text}")) } else { bail!("{status} {text}") }
    }
}

fn kept(world: &World) -> std::path::PathBuf {
    world.folder().join("redis-kept")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
