//! Fakes and builders for tests: a registry with faults, images, layers, tree snapshots.
//!
//! Everything here is deterministic, needs no network beyond loopback, and fails the test that uses it by
//! panicking with the path or digest it was about. It is a dev-dependency and nothing that unlade ships sees it.
//!
//! - [`LayerBuilder`], [`ImageBuilder`], [`IndexBuilder`]: content, from one tar entry to a nested index.
//! - [`write_layout`]: the same content as an OCI image layout on disk.
//! - [`FakeRegistry`]: serves content over HTTP, misbehaves as told by [`Fault`] and [`TokenAuth`], records requests.
//! - [`Authority`], [`TlsFront`]: certificates, and TLS before a server that speaks none.
//! - [`FakeProxy`]: an HTTP or SOCKS proxy that finds every name at one address, and records requests.
//! - [`TreeSnapshot`]: a directory tree as comparable data.
//! - [`TreeModel`]: what applying layers one by one gives, by rules written out and in memory.
//! - [`fixtures`]: the images that the end-to-end tests and `cargo xtask fixtures` share.
#![expect(
    clippy::missing_panics_doc,
    reason = "a test fake fails its test by panicking, everywhere"
)]

pub mod fixtures;

mod image;
mod index;
mod json;
mod layer;
mod layout;
mod model;
mod proxy;
mod registry;
mod snapshot;
mod tls;

pub use image::{Artifact, Image, ImageBuilder, StoredManifest};
pub use index::{Index, IndexBuilder};
pub use layer::{Entry, Layer, LayerBuilder};
pub use layout::write_layout;
pub use model::{Change, Odd, TreeModel};
pub use proxy::FakeProxy;
pub use registry::{FakeRegistry, Fault, Gate, Recorded, ReferrersApi, TokenAuth, TokenFields, TokenSigner};
pub use snapshot::{Node, NodeKind, TreeSnapshot};
pub use tls::{Authority, Identity, TlsFront};
pub use unlade_oci::Compression;
