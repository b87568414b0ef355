//! Starts what does not run yet: servers side by side, then the schema and the topics, then the services.

use std::{fs, path::PathBuf, process::Command, thread};

use anyhow::{Context, Result, anyhow, bail, ensure};
use stack::{
    Kafka, Lifetime, Postgres, Process, Redis, ServiceProcess, paths, ports as port, postgres::Durability, process::Identity,
};

use super::{docker, down, environment::Environment, interrupt, lock, ports::Ports, progress::step, record::Record};

/// One of our services as the local run starts it.
struct Service {
    name: String,
    binary: &'static str,
    prefix: &'static str,
    port: u16,
    variable: &'static str,
}

/// Starts servers and, unless told otherwise, services. What runs already is left alone.
///
/// # Errors
/// A taken port, a missing program, or a part that does not come up; the message says what to do.
pub fn up(ports: &Ports, environment: &Environment, services: bool) -> Result<()> {
    let _lock = lock::starting()?;
    environment.save()?;
    start_servers(ports)?;
    if interrupt::noticed() {
        bail!("interrupted");
    }
    if services {
        start_services(ports, environment)?;
    }
    Ok(())
}

fn start_servers(ports: &Ports) -> Result<()> {
    if docker::wanted() {
        return step("servers by docker compose", || docker::compose(ports, &["up", "-d", "--wait"]));
    }
    let local = paths::local()?;
    step("PostgreSQL, Redis, Kafka", || {
        thread::scope(|scope| {
            let starts = [
                scope.spawn(|| {
                    once("postgres", ports.postgres, "POSTGRES_PORT", || {
                        let mut server =
                            Postgres::start(&local.join("postgres"), ports.postgres, Durability::Full, Lifetime::Detached)?;
                        Ok(seen(server.process()))
                    })
                }),
                scope.spawn(|| {
                    once("redis", ports.redis, "REDIS_PORT", || {
                        let mut server = Redis::start(&local.join("redis"), ports.redis, Lifetime::Detached)?;
                        Ok(seen(server.process()))
                    })
                }),
                scope.spawn(|| {
                    once("kafka", ports.kafka, "KAFKA_PORT", || {
                        port::require_free(ports.kafka_controller, "KAFKA_CONTROLLER_PORT")?;
                        let folder = local.join("kafka");
                        let mut server = Kafka::start(&folder, ports.kafka, ports.kafka_controller, Lifetime::Detached)?;
                        Ok(seen(server.process()))
                    })
                }),
            ];
            starts.into_iter().try_for_each(|start| start.join().map_err(|_| anyhow!("a start panicked"))?)
        })
    })
}

fn start_services(ports: &Ports, environment: &Environment) -> Result<()> {
    step("migrations", || trueup(environment, &["migrate"]))?;
    step("topics", || trueup(environment, &["topics"]))?;
    let mut started = Vec::new();
    for service in services(ports) {
        match Record::running(&service.name)? {
            Some(record) if is_outdated(record.identity) => {
                eprintln!("→ {} was built again since it started, and is started again", service.name);
                down::end(&[record])?;
            }
            Some(_) => continue,
            None => {}
        }
        started.push((start_service(&service, environment)?, service));
    }
    if started.is_empty() {
        eprintln!("✓ services run already");
        return Ok(());
    }
    step("gateways, consumers, reconcilers, payment gateways' simulator", || {
        started.iter_mut().try_for_each(|(process, _)| process.wait_ready())
    })
}

/// Whether the file of the running program has been replaced.
fn is_outdated(identity: Identity) -> bool {
    fs::read_link(format!("/proc/{}/exe", identity.pid)).is_ok_and(|program| program.to_string_lossy().ends_with(" (deleted)"))
}

fn services(ports: &Ports) -> Vec<Service> {
    let many = |list: &[u16], binary: &'static str, prefix: &'static str, variable: &'static str| {
        list.iter()
            .enumerate()
            .map(move |(index, &port)| Service {
                name: format!("{binary}-{}", index.saturating_add(1)),
                binary,
                prefix,
                port,
                variable,
            })
            .collect::<Vec<_>>()
    };
    let mut all = many(&ports.gateways, "coupon-gateway", "COUPON_GATEWAY", "GATEWAY_PORTS");
    all.extend(many(&ports.consumers, "issue-consumer", "ISSUE_CONSUMER", "CONSUMER_HTTP_PORTS"));
    all.extend(many(&[ports.reconciler], "reconciler", "RECONCILER", "RECONCILER_HTTP_PORT"));
    all.extend(many(&[ports.pg_simulator], "pg-simulator", "PG_SIMULATOR", "PG_SIMULATOR_PORT"));
    let variable = "PAYMENT_RECONCILER_HTTP_PORT";
    all.extend(many(&[ports.payment_reconciler], "payment-reconciler", "PAYMENT_RECONCILER", variable));
    all
}

fn start_service(service: &Service, environment: &Environment) -> Result<ServiceProcess> {
    port::require_free(service.port, service.variable)?;
    let listen = format!("{}__HTTP__LISTEN", service.prefix);
    let settings = environment.with(&[(&listen, format!("127.0.0.1:{}", service.port))]);
    let log = log_of(&service.name)?;
    let mut process =
        ServiceProcess::spawn(&service.name, &binary(service.binary)?, &settings, service.port, &log, Lifetime::Detached)?;
    let (identity, log) = seen(process.process());
    Record { name: service.name.clone(), identity, port: service.port, log }.save()?;
    Ok(process)
}

/// Starts a server and keeps its record, unless it runs.
fn once(name: &str, port: u16, variable: &str, start: impl FnOnce() -> Result<(Identity, PathBuf)>) -> Result<()> {
    if Record::running(name)?.is_some() {
        return Ok(());
    }
    port::require_free(port, variable)?;
    let (identity, log) = start()?;
    Record { name: name.to_owned(), identity, port, log }.save()
}

fn seen(process: &Process) -> (Identity, PathBuf) {
    (process.identity(), process.log().to_path_buf())
}

fn log_of(name: &str) -> Result<PathBuf> {
    let folder = paths::local()?.join("logs");
    fs::create_dir_all(&folder)?;
    Ok(folder.join(format!("{name}.log")))
}

/// A binary of ours: it lies beside this one, built in the same profile.
///
/// # Errors
/// It has not been built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe().context("cannot tell where this program lies")?.with_file_name(name);
    let debug = if cfg!(debug_assertions) { " (for tests: `cargo build --workspace --bins`)" } else { "" };
    ensure!(path.is_file(), "{name} is not built: run `make build`{debug}");
    Ok(path)
}

/// Runs the operator's command and shows what it says only when it fails.
fn trueup(environment: &Environment, arguments: &[&str]) -> Result<()> {
    let output =
        Command::new(binary("trueup")?).args(arguments).envs(environment.with(&[])).output().context("cannot start trueup")?;
    ensure!(
        output.status.success(),
        "trueup {} failed: {}{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
