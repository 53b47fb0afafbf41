//! Tests of the real binary, each with a home, a store and a configuration of its own, against a fake registry on loopback.

mod commands;
mod errors;
mod help;
mod interrupt;
mod progress;
mod pull;
mod sandbox;
mod settings;
