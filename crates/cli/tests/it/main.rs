//! Tests of the real binary, each with a home, a store and a configuration of its own, against a fake registry on loopback.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod artifacts;
mod commands;
mod errors;
mod explain;
mod help;
mod interrupt;
mod login;
mod progress;
mod pull;
mod registries;
mod sandbox;
mod settings;
mod terminal;
mod timings;
mod unpack;
