//! Kafka for the coupon line: a producer that says what it does not know, a group consumer that starts where PostgreSQL
//! says, a reader for audits, and the topics themselves.
//!
//! Everything that needs `unsafe` is in one file, `ffi`, because the safe wrapper hides the message status, the cluster's
//! and the topic's id, and trips over header names that are no UTF-8.

mod client;
mod consumer;
mod delivery;
mod error;
mod ffi;
mod group;
mod member;
mod owner;
mod partition;
mod producer;
mod reader;
mod repeat;
mod settings;
pub mod topics;

pub use client::{LogClient, Watermarks};
pub use consumer::{GroupConsumer, GroupContext, GroupEvent, GroupPartition};
pub use delivery::Delivery;
pub use domain::failure::ErrorKind;
pub use error::{KafkaIoError, PublishError};
pub use group::delete_group;
pub use member::{GroupMember, MemberSettings};
pub use owner::{PartitionOwner, Tie};
pub use partition::{BatchLimits, PartitionRecords};
pub use producer::{CommandProducer, FlushError};
pub use reader::LogReader;
pub use repeat::repeat_log;
pub use settings::{ConsumerSettings, KafkaSettings, ProducerSettings, SecurityProtocol, Topics};
