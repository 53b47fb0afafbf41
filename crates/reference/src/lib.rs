//! Container image references: grammar, normalisation, defaults and aliases.
//!
//! A person types `alpine`; what is meant is `docker.io/library/alpine:latest`. This crate knows the way from the one
//! to the other and back, and says where a text leaves the grammar. It asks neither the network nor the environment:
//! which registry is the default is a value ([`Defaults`]) that its caller brings.
//!
//! The grammar is that of docker's and containerd's references (the module `distribution/reference`), read by hand so
//! that an error can point at the byte:
//!
//! ```text
//! reference  = [registry "/"] path [":" tag] ["@" digest]
//! registry   = host [":" port]
//! host       = label *("." label) | "[" IPv6 address "]"
//! label      = letters, digits and "-", neither first nor last a "-"
//! path       = component *("/" component)          at most 255 characters in all
//! component  = atom *(separator atom)              atom: a-z and 0-9
//! separator  = "." | "_" | "__" | 1*"-"
//! tag        = 1 to 128 of letters, digits, "_", "." and "-", the first neither "." nor "-"
//! digest     = algorithm ":" hexadecimal digits    see `unlade_oci::Digest`
//! ```
//!
//! A first component is a registry only if it could not be a directory of the default registry's: if it has a `.` or a
//! `:`, is `localhost`, or has an upper-case letter.
//!
//! Stricter than the original is what could never be reached: an IPv6 address must be one, a port lies between 1 and
//! 65535, a digest is SHA-256 or SHA-512. More lenient it is nowhere. Hosts are lower-cased, as names of hosts do not
//! care and keys of configurations do, unless that would make them no host (`FOO/x`).
//!
//! ```
//! use unlade_reference::Reference;
//!
//! let reference: Reference = "alpine".parse()?;
//! assert_eq!(reference.to_string(), "docker.io/library/alpine:latest");
//! assert_eq!(reference.registry().api_host(), "registry-1.docker.io");
//! assert_eq!(reference.familiar(), "alpine:latest");
//!
//! let error = "alpine:x y".parse::<Reference>().unwrap_err();
//! assert_eq!(error.position(), 8);
//! # Ok::<(), unlade_reference::ParseError>(())
//! ```

mod defaults;
mod error;
mod grammar;
mod reference;
mod registry;
mod repository;
mod tag;
mod text;

pub use defaults::{Alias, Defaults};
pub use error::{ParseError, Part, Problem};
pub use reference::Reference;
pub use registry::Registry;
pub use repository::Repository;
pub use tag::Tag;
