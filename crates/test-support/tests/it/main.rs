//! Tests of the fakes and builders themselves: what every other test relies on.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod client;
mod layers;
mod registry;
mod snapshots;
mod trees;
