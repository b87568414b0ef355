//! `trueup topics`.

use std::time::{Duration, Instant};

use anyhow::Context;
use kafka_io::topics::{TopicChange, create, has_append_time, plans};
use kafka_io::{KafkaIoError, LogClient};
use serde::Serialize;

use crate::{cli::TopicsArgs, exit::Exit, output, settings::Settings};

#[derive(Serialize)]
struct Topic {
    name: String,
    change: TopicChange,
    append_time: bool,
}

/// How long a new topic's settings may take to be seen: the broker answers a creation before it describes it fully.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// How often they are looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);

async fn stamps_append_time(client: &LogClient, name: &str) -> Result<bool, KafkaIoError> {
    let began = Instant::now();
    loop {
        if has_append_time(client, name).await? {
            return Ok(true);
        }
        if began.elapsed() > SEEN_WITHIN {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Creates what is missing, and checks what is there.
///
/// # Errors
/// Kafka cannot be reached, or refuses.
pub async fn run(settings: &Settings, args: &TopicsArgs, json: bool) -> anyhow::Result<Exit> {
    let client = settings.log_client()?;
    let wanted = plans(&settings.kafka.topics, args.partitions, args.replication, args.retention_days);
    let mut topics = Vec::with_capacity(wanted.len());
    for (name, change) in create(&client, &wanted).await.with_context(|| settings.kafka_hint())? {
        let append_time = stamps_append_time(&client, &name).await.with_context(|| settings.kafka_hint())?;
        topics.push(Topic { name, change, append_time });
    }
    let all_good = topics.iter().all(|topic| topic.append_time);
    if json {
        output::print_json(&topics)?;
    } else {
        for Topic { name, change, append_time } in &topics {
            let what = match change {
                TopicChange::Created => format!("created with {} partitions", args.partitions),
                TopicChange::Unchanged { partitions } => format!("is there, {partitions} partitions"),
                TopicChange::Grown { from, to } => format!("grown from {from} to {to} partitions"),
            };
            let problem = if *append_time {
                ""
            } else {
                "; it does not stamp the append time, which the rules need: set message.timestamp.type=LogAppendTime"
            };
            println!("{name}: {what}{problem}");
        }
    }
    Ok(if all_good { Exit::Done } else { Exit::Difference })
}
