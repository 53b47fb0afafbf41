//! What the fake registry holds, and what a path asks for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use unlade_oci::Digest;

use crate::image::StoredManifest;

/// One repository.
#[derive(Debug, Default)]
pub(super) struct Repository {
    pub(super) tags: BTreeMap<String, Digest>,
    pub(super) manifests: BTreeMap<Digest, StoredManifest>,
    pub(super) blobs: BTreeMap<Digest, Content>,
}

impl Repository {
    /// Finds a manifest by tag or digest.
    pub(super) fn manifest(&self, reference: &str) -> Option<(Digest, StoredManifest)> {
        let digest = self.tags.get(reference).cloned().or_else(|| reference.parse().ok())?;
        let stored = self.manifests.get(&digest)?.clone();
        Some((digest, stored))
    }
}

/// Bytes in memory, or in a file that is opened for each request.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Memory(Bytes),
    File(PathBuf),
}

impl Content {
    /// Makes the content readable.
    pub(super) fn open(&self) -> io::Result<OpenContent> {
        match self {
            Self::Memory(bytes) => Ok(OpenContent::Memory(bytes.clone())),
            Self::File(path) => {
                let file = File::open(path)?;
                let length = file.metadata()?.len();
                Ok(OpenContent::File {
                    file: Arc::new(file),
                    length,
                })
            }
        }
    }
}

/// Content that a response is about to send.
#[derive(Clone, Debug)]
pub(super) enum OpenContent {
    Memory(Bytes),
    File { file: Arc<File>, length: u64 },
}

impl OpenContent {
    /// Returns the whole length in bytes.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }

    /// Reads up to `most` bytes at `offset`; fewer only at the end.
    ///
    /// A file is read in place, on the server's own threads: it is in the page cache in every test, and a detour
    /// over another thread would cost more than the read.
    pub(super) fn read(&self, offset: u64, most: usize) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(most).min(bytes.len());
                Ok(bytes.slice(start..end))
            }
            Self::File { file, length } => {
                let left = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
                let mut buffer = vec![0; most.min(left)];
                file.read_exact_at(&mut buffer, offset)?;
                Ok(buffer.into())
            }
        }
    }
}

/// What a request's path asks for (distribution-spec, *Endpoints*).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Ping,
    Manifest { repository: String, reference: String },
    Blob { repository: String, digest: String },
    Tags { repository: String },
    Referrers { repository: String, digest: String },
    Token,
    Other,
}

impl Route {
    pub(super) fn of(path: &str) -> Self {
        if path == "/token" {
            return Self::Token;
        }
        let Some(rest) = path.strip_prefix("/v2") else {
            return Self::Other;
        };
        if rest.is_empty() || rest == "/" {
            return Self::Ping;
        }
        let rest = rest.trim_start_matches('/');
        if let Some(repository) = rest.strip_suffix("/tags/list") {
            return Self::Tags {
                repository: repository.to_owned(),
            };
        }
        if let Some((repository, reference)) = rest.rsplit_once("/manifests/") {
            return Self::Manifest {
                repository: repository.to_owned(),
                reference: reference.to_owned(),
            };
        }
        if let Some((repository, digest)) = rest.rsplit_once("/blobs/") {
            return Self::Blob {
                repository: repository.to_owned(),
                digest: digest.to_owned(),
            };
        }
        if let Some((repository, digest)) = rest.rsplit_once("/referrers/") {
            return Self::Referrers {
                repository: repository.to_owned(),
                digest: digest.to_owned(),
            };
        }
        Self::Other
    }

    /// Returns the repository that the request is about.
    pub(super) fn repository(&self) -> Option<&str> {
        match self {
            Self::Manifest { repository, .. }
            | Self::Blob { repository, .. }
            | Self::Tags { repository }
            | Self::Referrers { repository, .. } => Some(repository),
            Self::Ping | Self::Token | Self::Other => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        assert_eq!(Route::of("/v2/"), Route::Ping);
        assert_eq!(
            Route::of("/v2/a/b/tags/list"),
            Route::Tags {
                repository: "a/b".into()
            }
        );
        assert_eq!(
            Route::of("/v2/manifests/manifests/latest"),
            Route::Manifest {
                repository: "manifests".into(),
                reference: "latest".into()
            }
        );
        assert_eq!(
            Route::of("/v2/a/blobs/sha256:00"),
            Route::Blob {
                repository: "a".into(),
                digest: "sha256:00".into()
            }
        );
        assert_eq!(Route::of("/files/x"), Route::Other);
    }
}
