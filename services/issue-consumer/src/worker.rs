//! One partition's tasks: intake, decider, publisher and settler, started and stopped together.

use kafka_io::Tie;
use tokio::task::JoinHandle;

use crate::{
    board::Alarm,
    decider::{Decider, End},
    feed::Feed,
    intake::Intake,
    publisher::Publisher,
    settler::Settler,
};

/// What a partition's tasks are made of.
pub struct Parts {
    /// Reads.
    pub intake: Intake,
    /// Decides.
    pub decider: Decider,
    /// Announces.
    pub publisher: (Publisher, Feed),
    /// Tells the gates.
    pub settler: (Settler, Feed),
}

impl Parts {
    /// Starts the tasks; `tie` hears why deciding ended, unless it was stopped.
    #[must_use]
    pub fn start(self, tie: Tie<Alarm>) -> Vec<JoinHandle<()>> {
        let Self { intake, decider, publisher: (publisher, publisher_feed), settler: (settler, settler_feed) } = self;
        let hopper = intake.hopper.clone();
        let deciding = async move {
            let filling = hopper.clone();
            let reading = tokio::spawn(async move {
                let end = intake.run().await;
                filling.close();
                end
            });
            let decided = Box::pin(decider.run(&hopper)).await;
            // The intake sees its hopper closed, or has ended itself and says why.
            hopper.close();
            let read = reading.await.unwrap_or(End::Cancelled);
            let end = if decided == End::Cancelled { read } else { decided };
            tie.ended(if let End::Alarm(alarm) = end { Some(alarm) } else { None }).await;
        };
        vec![tokio::spawn(deciding), tokio::spawn(publisher.run(publisher_feed)), tokio::spawn(settler.run(settler_feed))]
    }
}
