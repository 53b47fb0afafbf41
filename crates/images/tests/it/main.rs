//! Tests of the store as a whole, with images brought in by hand: no registry, no network.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod mount;
mod power;
mod prune;
mod stacks;
mod support;
mod unpack;
mod verify;
mod verify_stacks;
