//! What can be wrong with configuration.

use std::io;
use std::path::PathBuf;

use unlade_oci::ErrorClass;

/// Configuration that cannot be used. Nothing of it is skipped silently: a mirror that is misspelt is not a mirror that is
/// missing.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file or directory that is there and cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says. Shared, since one failure may be the answer to many requests.
        source: std::sync::Arc<io::Error>,
    },
    /// A file that says something wrong.
    #[error("{}:{line}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A file of certificates or keys that holds none, or not the right ones.
    #[error("{}: {message}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// TLS cannot be set up at all.
    #[error("TLS cannot be set up")]
    Tls {
        /// What is wrong.
        source: std::sync::Arc<rustls::Error>,
    },
    /// A registry that the configuration forbids.
    #[error("{}:{line}: {name} is blocked by configuration", path.display())]
    Blocked {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The registry or repository.
        name: String,
    },
    /// The registry's name makes no URL.
    #[error("the registry {registry:?} has no usable address: {reason}")]
    Address {
        /// The name.
        registry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A proxy setting that cannot be used. Its value may hold a password and is not told.
    #[error("{name} is not a usable proxy: {reason}")]
    Proxy {
        /// The setting: `HTTPS_PROXY`.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ConfigError {
    /// Returns the class.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Invalid
    }
}
