//! Tests of the database as its users see it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod artifacts;
mod collection;
mod concurrency;
mod images;
mod layers;
mod leases;
mod opening;
mod removal;
mod rest;
mod schema;
mod support;
