//! The files that make a directory an OCI image layout (image-spec, `image-layout.md`), and their upkeep.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use serde::Deserialize;
use unlade_sys::{Durability, FileLock, TEMPORARY_PREFIX};

use crate::ingest::remove_if_there;
use crate::{Error, Result};

pub(crate) const LAYOUT_FILE: &str = "oci-layout";
pub(crate) const INDEX_FILE: &str = "index.json";
pub(crate) const BLOBS: &str = "blobs";
pub(crate) const INGEST: &str = "ingest";

/// The mode of the documents of the layout: readers need them, and only the owner replaces them.
const DOCUMENT_MODE: u32 = 0o644;
/// The mode of directories with content for readers; the root above them is 0700.
pub(crate) const PUBLIC_DIR_MODE: u32 = 0o755;
/// The mode of `ingest/`, whose content concerns nobody else.
const PRIVATE_DIR_MODE: u32 = 0o700;

/// How much of `oci-layout` is read, in bytes.
const LAYOUT_LIMIT: u64 = 64 << 10;
const LAYOUT_JSON: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const EMPTY_INDEX: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// What may be in the root of a store before it is a layout: everything that a store consists of, since creation may
/// have been interrupted, and what a fresh filesystem brings.
const STORE_NAMES: &[&str] = &[INDEX_FILE, BLOBS, INGEST, "layers", "staging", "locks", "lost+found"];
const STORE_PREFIXES: &[&str] = &["metadata.db", TEMPORARY_PREFIX];

#[derive(Deserialize)]
struct LayoutDocument {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

/// Checks that the directory is a layout or may become one, and makes whatever is missing of it. Returns whether that was
/// `index.json`, which now names nothing.
pub(crate) fn prepare(root: &Path, durability: Durability) -> Result<bool> {
    let known = is_layout(root)?;
    if !known {
        check_only_ours(root)?;
    }
    let ingest = root.join(INGEST);
    unlade_sys::create_dir(&root.join(BLOBS), PUBLIC_DIR_MODE)?;
    unlade_sys::create_dir(&root.join(BLOBS).join("sha256"), PUBLIC_DIR_MODE)?;
    unlade_sys::create_dir(&ingest, PRIVATE_DIR_MODE)?;
    let index = root.join(INDEX_FILE);
    let mut made_index = true;
    if is_lost(&index)? {
        unlade_sys::write_atomic_in(&ingest, &index, EMPTY_INDEX, DOCUMENT_MODE, durability)?;
    } else if !index.exists() {
        // Another process may be a step ahead, and its index must not be replaced by an empty one.
        unlade_sys::create_atomic_in(&ingest, &index, EMPTY_INDEX, DOCUMENT_MODE, durability)?;
    } else {
        made_index = false;
    }
    // Last, since it says that the rest is there.
    if !known {
        let layout = root.join(LAYOUT_FILE);
        unlade_sys::write_atomic_in(&ingest, &layout, LAYOUT_JSON, DOCUMENT_MODE, durability)?;
    }
    sweep_temporaries(&ingest);
    Ok(made_index)
}

/// Says whether the directory is a layout that lacks nothing which [`prepare`] would make or mend for its readers.
pub(crate) fn is_complete(root: &Path) -> Result<bool> {
    let has_index = fs::metadata(root.join(INDEX_FILE)).is_ok_and(|index| index.is_file() && index.len() > 0);
    Ok(has_index && is_layout(root)?)
}

/// Replaces `index.json`, if the bytes are an image index.
pub(crate) fn write_index(root: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    #[derive(Deserialize)]
    struct IndexDocument {
        #[serde(rename = "schemaVersion")]
        schema_version: u64,
        #[serde(rename = "manifests")]
        _manifests: Vec<serde::de::IgnoredAny>,
    }
    let check = || -> Result<(), serde_json::Error> {
        let document: IndexDocument = serde_json::from_slice(bytes)?;
        if document.schema_version == 2 {
            Ok(())
        } else {
            Err(serde::de::Error::custom(format_args!(
                "schemaVersion is {}, not 2",
                document.schema_version
            )))
        }
    };
    check().map_err(|source| Error::InvalidIndex { source })?;
    Ok(unlade_sys::write_atomic_in(
        &root.join(INGEST),
        &root.join(INDEX_FILE),
        bytes,
        DOCUMENT_MODE,
        durability,
    )?)
}

/// Says whether the directory says that it is a layout; fails if it says so in a way that is not understood.
fn is_layout(root: &Path) -> Result<bool> {
    let path = root.join(LAYOUT_FILE);
    let mut bytes = Vec::with_capacity(LAYOUT_JSON.len() * 2);
    let read = File::open(&path).and_then(|file| file.take(LAYOUT_LIMIT).read_to_end(&mut bytes));
    match read {
        // Lost in a crash of the machine: the file is there, but empty.
        Ok(0) => return Ok(false),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io("read", &path)(error)),
    }
    let wrong = |reason: String| Error::NotALayout {
        path: root.to_owned(),
        reason,
    };
    let document: LayoutDocument =
        serde_json::from_slice(&bytes).map_err(|error| wrong(format!("{LAYOUT_FILE} cannot be read ({error})")))?;
    if document.version == "1" || document.version.starts_with("1.") {
        Ok(true)
    } else {
        Err(wrong(format!(
            "{LAYOUT_FILE} has the version {:?}, and 1.0.0 is what is understood",
            document.version
        )))
    }
}

/// Says whether a document was lost in a crash of the machine: the file is there, but empty.
///
/// The documents are not synced by default, so this happens; both can be made again.
fn is_lost(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_file() && metadata.len() == 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("look at", path)(error)),
    }
}

fn check_only_ours(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root).map_err(Error::io("read", root))? {
        let name = entry.map_err(Error::io("read", root))?.file_name();
        if !is_ours(&name) {
            return Err(Error::NotALayout {
                path: root.to_owned(),
                reason: format!("it has no {LAYOUT_FILE}, but it has {}", name.display()),
            });
        }
    }
    Ok(())
}

fn is_ours(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        name == LAYOUT_FILE
            || STORE_NAMES.contains(&name)
            || STORE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    })
}

/// Removes what killed writers left: a writer that lives holds the lock of its file. That it cannot be done (the store may
/// be read-only) is no reason to fail.
fn sweep_temporaries(ingest: &Path) {
    let Ok(entries) = fs::read_dir(ingest) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(TEMPORARY_PREFIX))
            && let Ok(Some(_lock)) = FileLock::try_exclusive_existing(&entry.path())
            && let Err(error) = remove_if_there(&entry.path())
        {
            tracing::debug!(%error, "a temporary file stays");
        }
    }
}
