//! The gateway as its clients see it: over HTTP, in front of a stub upstream or the embedded model.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test helper that fails should stop the test"
)]

mod api;
mod at_once;
mod browser;
mod budgets;
mod calibration;
mod clients;
mod description;
mod export;
mod faults;
mod feedback;
mod judges;
mod keeps;
mod keys;
mod limits;
mod page;
mod page_debug;
mod page_questions;
mod postgres;
#[path = "../../../remember/tests/support/postgres_server.rs"]
mod postgres_server;
mod rerun;
mod responses;
mod roles;
mod schema;
mod streaming;
mod support;
mod telemetry;
mod tls;
mod wire;
