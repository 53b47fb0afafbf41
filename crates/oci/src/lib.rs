//! OCI digests, descriptors, documents that keep their bytes, platforms and their matching.
//!
//! No I/O happens here: the crate turns bytes into checked values and back. Whoever fetched or read the bytes says
//! where they came from; the errors of this crate say what is wrong with them.
//!
//! | module | what it owns |
//! |---|---|
//! | `digest` | [`Digest`], [`Algorithm`] |
//! | `hasher` | [`Hasher`] |
//! | `media_type` | [`MediaType`] and the names of all types that images are made of |
//! | `compression` | [`Compression`], told by the bytes |
//! | `descriptor` | [`Descriptor`] |
//! | `document` | [`Document`], [`parse_manifest`], [`parse_config`] |
//! | `config` | [`ImageConfig`] and what is in it |
//! | `platform`, `matcher` | [`Platform`], [`PlatformMatcher`] |
//! | `chain` | [`chain_id_on`] |
//! | `class` | [`ErrorClass`], the vocabulary of failure that all crates share |
//!
//! # On `oci-spec`
//!
//! Documents are parsed by structs of this crate rather than by those of [`oci_spec`], since the latter refuse
//! documents that docker, containerd and skopeo accept (`null` for an empty list, a descriptor whose platform is `{}`,
//! a command given as one string), look for `os_version` where the specification says `os.version`, and drop what only
//! docker writes (health checks, shell). Where a program wants `oci-spec`'s own types,
//! [`Document::<Manifest>::to_spec`] and its siblings give them; tests hold the two readings against each other.

mod chain;
mod class;
mod compression;
mod config;
mod descriptor;
mod digest;
mod document;
mod error;
mod hasher;
mod lenient;
mod matcher;
mod media_type;
mod platform;
mod spec;

pub use chain::chain_id_on;
pub use class::ErrorClass;
pub use compression::{Compression, UnknownCompression};
pub use config::{ContainerConfig, Healthcheck, History, ImageConfig};
pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, DigestError};
pub use document::{
    Document, Index, MAX_CONFIG_BYTES, MAX_INDEX_DEPTH, MAX_MANIFEST_BYTES, Manifest, Parsed, parse_config,
    parse_manifest,
};
pub use error::DocumentError;
pub use hasher::{CompressTwo, Hasher};
pub use matcher::{PlatformMatcher, platforms_offered};
pub use media_type::MediaType;
pub use platform::{Platform, PlatformError};
