//! What the end-to-end tests stand on: the command as it was just built, a home for it, and other people's programs.
//!
//! - [`Home`]: a store of its own for the [`Command`] under test, and what lies in it.
//! - [`Finished`], [`Running`]: what a run gave, and one that is still going.
//! - [`Random`]: moments and choices at random, which a seed gives again.
//! - [`Filesystem`]: ext4, xfs or memory, mounted for one test, which can run full or lose its power.
//! - [`RealRegistry`]: Debian's `docker-registry` on a loopback port.
//! - [`Nginx`]: Debian's `nginx`, to which such a registry may send its clients for blobs.
//! - [`Valve`]: holds back what a server sends, until the test has seen enough.
//! - [`FarSide`]: a network namespace that is reached only through a [`RealProxy`].
//! - [`python`]: what Python's `tarfile` reads in layers, for a model of the tree.
//! - [`real`]: `skopeo` and `umoci`, the second opinion on what an image is.
//!
//! The tests themselves are in `tests/it`. Everything here fails the test that uses it by panicking; a test whose name
//! promises a program that this machine does not have fails and says so, see the tiers in `CONTRIBUTING.md`.
#![expect(
    clippy::missing_panics_doc,
    reason = "the harness fails its test by panicking, everywhere"
)]

mod account;
mod binary;
mod command;
mod filesystem;
mod home;
mod network;
mod nginx;
pub mod python;
mod random;
pub mod real;
mod registry;
mod valve;

pub use binary::binary;
pub use command::{Command, Finished, Running};
pub use filesystem::{Filesystem, Kind};
pub use home::{Home, Leftovers, NOBODY, Pulled};
pub use network::{FarSide, RealProxy};
pub use nginx::{Nginx, Served};
pub use random::{Random, count, setting};
pub use registry::RealRegistry;
pub use valve::Valve;
