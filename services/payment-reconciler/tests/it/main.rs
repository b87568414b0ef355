//! The payment line against real PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]

mod admin;
mod audit;
mod callbacks;
mod contradictions;
mod database;
mod foresight;
mod guards;
mod http;
mod intake;
mod interleavings;
mod interleavings_gateway;
mod interleavings_judge;
mod interleavings_play;
mod interleavings_replica;
mod line_acceptance;
mod line_clock;
mod line_failpoints;
mod line_fairness;
mod line_limits;
mod line_outage;
mod line_replicas;
mod line_reports;
mod line_shutdown;
mod line_world;
mod money;
mod orders;
mod outbox;
mod refund_ages;
mod refund_dialects;
mod refund_driver;
mod refund_operators;
mod refund_planted;
mod refund_stage;
mod resolving;
mod scripted;
