//! PostgreSQL: how it is reached, how its schema comes about, and what its errors mean.

mod classify;
mod connect;
mod coupon;
mod migrate;
mod pool;
mod settings;

pub use classify::{classify, classify_raw};
pub use connect::{ConnectError, describe, raw_client};
pub use coupon::{COUPON_COLUMNS, CouponRow, RowError, coupon_of_row};
pub use domain::failure::ErrorKind;
pub use migrate::{MigrateError, migrate};
pub use pool::{Connection, Db, DbError};
pub use settings::{PostgresSettings, TlsMode};
