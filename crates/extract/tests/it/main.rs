//! Layers of all sorts, extracted into a directory beside a canary tree that must never change.
//!
//! Each test works as whoever runs it. Run as root, one more test runs all the others again as a user without privilege.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod attributes;
mod comparison;
mod confined;
mod dialects;
mod differential;
mod helpers;
mod hostile;
mod links;
mod overlay;
mod ownership;
mod race;
mod replacing;
mod sandbox;
mod streams;
mod timings;
mod unprivileged;
mod whiteouts;
