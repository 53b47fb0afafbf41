//! `index.json`: the database's names, as other tools read them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt as _;

use serde::Serialize;
use unlade_metadata::{ArtifactRecord, NameRecord, Target};
use unlade_oci::{Descriptor, Platform};
use unlade_sys::Durability;

use crate::store::OrderedLock;
use crate::{Error, Store};

/// The annotation by which an image layout names an entry (image-spec, `annotations.md`).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexFile {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

/// What the file that carries the lock says while the names in the database may be others than those in `index.json`, and what it
/// says else. Both are one byte, so that it takes no room on a full disk to say so.
const CHANGING: &[u8] = b"1";
const CURRENT: &[u8] = b"0";

/// A change of what `index.json` lists, from before the database is changed until the file is written. If the process ends or
/// fails between the two, whoever comes next writes it.
#[derive(Debug)]
#[must_use = "the index is written by `write`"]
pub(crate) struct IndexChange<'a> {
    store: &'a Store,
    lock: OrderedLock,
}

impl IndexChange<'_> {
    /// Writes `index.json` anew from the database.
    pub(crate) fn write(self) -> Result<(), Error> {
        self.store.blobs.write_index(&self.store.index_bytes()?)?;
        self.say(CURRENT)
    }

    fn say(&self, state: &[u8]) -> Result<(), Error> {
        let failed = |source| unlade_sys::Error::new("write", self.store.index_lock(), source);
        let file = self.lock.file();
        file.write_all_at(state, 0).map_err(failed)?;
        if state == CHANGING && self.store.durability == Durability::Sync {
            file.sync_all().map_err(failed)?;
        }
        Ok(())
    }

    fn is_unfinished(&self) -> bool {
        let mut state = [0];
        self.lock.file().read_exact_at(&mut state, 0).is_ok() && state == *CHANGING
    }
}

impl Store {
    /// Begins a change of what `index.json` lists: before the database is changed.
    pub(crate) fn change_index(&self) -> Result<IndexChange<'_>, Error> {
        let change = self.hold_index()?;
        change.say(CHANGING)?;
        Ok(change)
    }

    fn hold_index(&self) -> Result<IndexChange<'_>, Error> {
        Ok(IndexChange {
            store: self,
            lock: self.lock_index()?,
        })
    }

    /// Writes `index.json` anew from the database.
    pub(crate) fn write_index(&self) -> Result<(), Error> {
        self.hold_index()?.write()
    }

    /// Writes `index.json` if a process has ended after it had changed the names, and before it had written them there.
    pub(crate) fn finish_index(&self) -> Result<(), Error> {
        if !fs::read(self.index_lock()).is_ok_and(|state| state == CHANGING) {
            return Ok(());
        }
        // Who is at it holds the lock, and is waited for.
        let change = self.hold_index()?;
        if change.is_unfinished() { change.write() } else { Ok(()) }
    }

    /// Returns whether `index.json` is what the database gives. What a process that has ended had still to write there is written
    /// first.
    pub(crate) fn index_is_current(&self) -> Result<bool, Error> {
        let is_current =
            || -> Result<bool, Error> { Ok(self.index_bytes()? == self.blobs.read_index().unwrap_or_default()) };
        let seen: bool = is_current()?;
        if seen || self.database.is_read_only() {
            return Ok(seen);
        }
        // Whoever changes the names has the lock until the index is written.
        let change = self.hold_index()?;
        if change.is_unfinished() {
            change.write()?;
            return Ok(true);
        }
        is_current()
    }

    fn index_bytes(&self) -> Result<Vec<u8>, Error> {
        let file = IndexFile {
            schema_version: 2,
            media_type: "application/vnd.oci.image.index.v1+json",
            manifests: entries(&self.database.names()?)
                .into_iter()
                .chain(self.database.artifacts()?.iter().map(artifact))
                .collect(),
        };
        // A structure of strings and numbers always has a JSON form.
        Ok(serde_json::to_vec(&file).unwrap_or_default())
    }
}

/// Makes an entry of an artifact.
fn artifact(record: &ArtifactRecord) -> Descriptor {
    let mut entry = Descriptor::new(
        record.manifest.media_type.clone(),
        record.manifest.digest.clone(),
        record.manifest.size,
    );
    entry.artifact_type = Some(record.artifact_type.clone());
    entry.annotations = BTreeMap::from([(REF_NAME.to_owned(), record.name.to_string())]);
    entry
}

/// Makes an entry of each name. It points at the index that led there if that is kept whole, else at the manifest: of an index's
/// other platforms the store has nothing then, and other tools stumble over a child that is missing.
///
/// A name must be found once. Where it stands for several platforms, it goes to the one of this machine, or else to the first;
/// the others are listed by platform, without the name.
fn entries(names: &[NameRecord]) -> Vec<Descriptor> {
    let host = Platform::host();
    let whole: BTreeMap<String, &Target> = names
        .iter()
        .filter(|record| record.is_whole)
        .filter_map(|record| Some((record.name.to_string(), record.index.as_ref()?)))
        .collect();
    let mut listed: BTreeSet<String> = BTreeSet::new();
    let mut owner: BTreeMap<String, usize> = BTreeMap::new();
    for (at, record) in names.iter().enumerate() {
        let holder = owner.entry(record.name.to_string()).or_insert(at);
        if record.platform == host {
            *holder = at;
        }
    }
    let entry = |(at, record): (usize, &NameRecord)| {
        let name = record.name.to_string();
        if let Some(index) = whole.get(&name) {
            // All that the index leads to is reached by it, so its platforms are not listed beside it.
            if record.index.as_ref().is_some_and(|of| of.digest == index.digest) {
                if !listed.insert(name.clone()) {
                    return None;
                }
                let mut entry = Descriptor::new(index.media_type.clone(), index.digest.clone(), index.size);
                entry.annotations = BTreeMap::from([(REF_NAME.to_owned(), name)]);
                return Some(entry);
            }
        }
        let annotations = match owner.get(&name) {
            Some(holder) if *holder == at && !whole.contains_key(&name) => {
                BTreeMap::from([(REF_NAME.to_owned(), name)])
            }
            _ => BTreeMap::new(),
        };
        Some(Descriptor {
            media_type: record.manifest.media_type.clone(),
            digest: record.manifest.digest.clone(),
            size: record.manifest.size,
            platform: Some(record.actual_platform.clone()),
            annotations,
            artifact_type: None,
            urls: Vec::new(),
        })
    };
    names.iter().enumerate().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use unlade_metadata::ImageName;
    use unlade_oci::{Digest, MediaType};

    use super::*;

    fn record(tag: &str, platform: &str) -> NameRecord {
        let platform: Platform = platform.parse().unwrap();
        NameRecord {
            name: ImageName {
                registry: "docker.io".into(),
                repository: "library/alpine".into(),
                tag: Some(tag.into()),
                digest: None,
            },
            platform: platform.clone(),
            actual_platform: platform.clone(),
            manifest: Target {
                digest: Digest::sha256(format!("{tag}{platform}")),
                media_type: MediaType::OCI_MANIFEST,
                size: 7,
            },
            index: None,
            is_whole: false,
        }
    }

    #[test]
    fn a_whole_index_is_listed_once_and_has_the_name() {
        let index = Target {
            digest: Digest::sha256("index"),
            media_type: MediaType::OCI_INDEX,
            size: 9,
        };
        let whole = |platform| NameRecord {
            index: Some(index.clone()),
            is_whole: true,
            ..record("3", platform)
        };
        // One platform is of what the name stood for before.
        let names = [whole("linux/amd64"), whole("linux/arm64"), record("3", "linux/s390x")];
        let entries = entries(&names);
        let named: Vec<_> = entries
            .iter()
            .map(|entry| (&entry.digest, entry.annotations.contains_key(REF_NAME)))
            .collect();
        assert_eq!(named, [(&index.digest, true), (&names[2].manifest.digest, false)]);
    }

    #[test]
    fn a_name_is_found_once_and_means_this_machine() {
        let host = Platform::host().to_string();
        let names = [
            record("3", "linux/s390x"),
            record("3", &host),
            record("4", "linux/s390x"),
        ];
        let entries = entries(&names);
        let named: Vec<_> = entries
            .iter()
            .map(|entry| entry.annotations.get(REF_NAME).map(String::as_str))
            .collect();
        assert_eq!(
            named,
            [
                None,
                Some("docker.io/library/alpine:3"),
                Some("docker.io/library/alpine:4")
            ]
        );
        assert_eq!(entries.iter().filter_map(|entry| entry.platform.clone()).count(), 3);
    }
}
