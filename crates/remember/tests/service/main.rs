//! The stores of the gateway: one suite that each of them passes, and what is particular to each.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test helper that fails should stop the test")]

mod postgres;
#[path = "../support/postgres_server.rs"]
mod postgres_server;
mod sqlite;
mod suite;
