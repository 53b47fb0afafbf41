//! The parts together: the command as it is built, registries false and real, and other people's tools.
//!
//! What one crate can show alone is tested in that crate. Here it is the wiring: the exit code of a failure deep below,
//! processes that share a store, what a kill leaves behind, and that others see the same image as we do.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod all_ways;
mod crashes;
mod crowds;
mod debian;
mod discard;
mod exit_codes;
mod export;
mod full;
mod import;
mod interop;
mod interruptions;
mod memory;
mod offline;
mod ordinary_user;
mod ownership;
mod platforms;
mod power;
mod processes;
mod proxies;
mod prune;
mod pulls;
mod real_images;
mod real_logins;
mod real_servers;
mod real_user_namespace;
mod requests;
mod rootfs;
mod secrets;
mod single_calls;
mod support;
mod takeover;
mod verify;
