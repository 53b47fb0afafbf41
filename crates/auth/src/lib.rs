//! Finds credentials for a container registry; never speaks HTTP and never reads the environment.
//!
//! A [`CredentialSource`] answers one question: what is known for this repository? Three of them are here, and a
//! program may bring its own:
//!
//! - [`Anonymous`] knows nothing.
//! - [`Given`] knows one credential for one registry, told by a person or a program.
//! - [`ConfigFiles`] reads docker's `config.json` and the containers tools' `auth.json`, and asks the credential
//!   helpers that these files name.
//!
//! [`Chain`] asks several in order. [`Locations`] says where the files are on a machine, [`LoginFile`] changes one of them,
//! and [`ConfigFiles::logins`] lists what all of them know.
//!
//! Secrets are held in [`Secret`], which prints as `[redacted]`; what a person may see is the [`Source`].

mod config;
mod credential;
mod error;
mod files;
mod helper;
mod key;
mod locations;
mod login_file;
mod logins;
mod members;
mod place;
mod secret;
mod source;
mod warning;

pub use credential::{Credential, Found, Source};
pub use error::Error;
pub use files::ConfigFiles;
pub use locations::Locations;
pub use login_file::{LoginFile, Removed};
pub use logins::{KnownLogin, Logins};
pub use place::Place;
pub use secret::Secret;
pub use source::{Anonymous, Chain, CredentialSource, Given, Lookup};
pub use warning::Warning;
