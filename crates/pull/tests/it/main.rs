//! The whole way from a registry into a store, against a registry that misbehaves when told to.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod artifacts;
mod example;
mod failure;
mod faults;
mod mirrors;
mod power;
mod processes;
mod pulls;
mod ranges;
mod repair;
mod support;
mod timings;
