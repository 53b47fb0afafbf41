//! An OCI image layout: the directory itself, and the names in its index.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use unlade_oci::{Descriptor, Digest, Index, MAX_MANIFEST_BYTES, MediaType, Parsed, parse_manifest};
use unlade_sys::{Dir, Links};

use super::{Contents, IMAGE_NAME, REF_NAME, SuppliedImage, SuppliedName, Supply, SupplyForm, read_limited};
use crate::{Error, Store};

const INDEX_FILE: &str = "index.json";

impl Store {
    /// Opens an OCI image layout. It is read in place, and stays as it is.
    ///
    /// # Errors
    /// The directory is no layout, or cannot be read.
    pub fn open_layout(&self, directory: &Path) -> Result<Supply, Error> {
        let root = Dir::open(directory)?;
        let file = match root.open_file(OsStr::new(INDEX_FILE)) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => {
                let problem = format!(
                    "{} has no {INDEX_FILE}, so it is no OCI image layout",
                    directory.display()
                );
                return Err(Error::NotImportable { problem });
            }
            Err(error) => return Err(error.into()),
        };
        let bytes = read_limited(
            file,
            &directory.join(INDEX_FILE),
            &Digest::sha256(""),
            MAX_MANIFEST_BYTES,
        )?;
        Ok(Supply {
            form: SupplyForm::OciLayout,
            images: images(bytes)?,
            contents: Contents::Layout(root),
            _leases: Vec::new(),
        })
    }
}

/// Opens a blob of a layout. A directory of blobs may be a link, as it is where several layouts share one; it does not lead out
/// of the layout.
pub(super) fn open_blob(root: &Dir, digest: &Digest) -> Result<Option<(File, PathBuf)>, Error> {
    let place = PathBuf::from(format!("blobs/{}", digest.algorithm()));
    let found = root
        .resolve(&place, Links::Follow)
        .and_then(|blobs| blobs.open_file(OsStr::new(digest.hex())));
    let file = match found {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let path = root.path().join(place).join(digest.hex());
    let is_file = file
        .metadata()
        .map_err(|source| unlade_sys::Error::new("look at", &path, source))?
        .is_file();
    // A pipe or a directory of that name is no blob.
    Ok(is_file.then_some((file, path)))
}

/// Reads the images of an `index.json`, with their names.
///
/// Entries that say the same name are for several platforms; those without any name are taken only if no entry has one.
pub(super) fn images(bytes: Vec<u8>) -> Result<Vec<SuppliedImage>, Error> {
    let parsed = parse_manifest(bytes.into(), Some(&MediaType::OCI_INDEX), None);
    let index = match parsed.map_err(|source| Error::Index {
        source: Box::new(source),
    })? {
        Parsed::Index(index) => index,
        Parsed::Manifest(_) => {
            let problem = format!("its {INDEX_FILE} is no index");
            return Err(Error::NotImportable { problem });
        }
    };
    let images: Vec<SuppliedImage> = collect(index.get());
    let named = images.iter().any(|image| !image.names.is_empty());
    Ok(images
        .into_iter()
        .filter(|image| !named || !image.names.is_empty())
        .collect())
}

fn collect(index: &Index) -> Vec<SuppliedImage> {
    let mut images: Vec<SuppliedImage> = Vec::new();
    for entry in &index.manifests {
        let names = names(entry);
        // The same content may be listed once for each of its names.
        match images
            .iter_mut()
            .find(|image| image.document.digest == entry.digest && !names.is_empty() && !image.names.is_empty())
        {
            Some(image) => {
                let all: BTreeSet<SuppliedName> = image.names.drain(..).chain(names).collect();
                image.names = all.into_iter().collect();
            }
            None => images.push(SuppliedImage {
                names,
                document: entry.clone(),
            }),
        }
    }
    images
}

/// Returns the names of an entry: the full one where a tool has written it, else what the specification's annotation says.
fn names(entry: &Descriptor) -> Vec<SuppliedName> {
    let annotation = |name: &str| entry.annotations.get(name).filter(|text| !text.is_empty());
    match (annotation(IMAGE_NAME), annotation(REF_NAME)) {
        (Some(full), _) => vec![SuppliedName::Reference(full.clone())],
        (None, Some(name)) => vec![SuppliedName::of_annotation(name)],
        (None, None) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(content: &str, annotations: &[(&str, &str)]) -> String {
        let annotations: Vec<_> = annotations
            .iter()
            .map(|(key, value)| format!("{key:?}: {value:?}"))
            .collect();
        format!(
            r#"{{"mediaType": "{}", "digest": "{}", "size": 7, "annotations": {{{}}}}}"#,
            MediaType::OCI_MANIFEST,
            Digest::sha256(content),
            annotations.join(", ")
        )
    }

    fn read(entries: &[String]) -> Vec<Vec<SuppliedName>> {
        let text = format!(r#"{{"schemaVersion": 2, "manifests": [{}]}}"#, entries.join(", "));
        images(text.into_bytes())
            .unwrap()
            .into_iter()
            .map(|image| image.names)
            .collect()
    }

    fn reference(text: &str) -> SuppliedName {
        SuppliedName::Reference(text.to_owned())
    }

    #[test]
    fn names_are_those_of_the_annotations() {
        let found = read(&[
            entry(
                "a",
                &[(REF_NAME, "3.20"), (IMAGE_NAME, "docker.io/library/alpine:3.20")],
            ),
            entry("b", &[(REF_NAME, "ghcr.io/o/i:v1")]),
            entry("c", &[(REF_NAME, "latest")]),
            entry("a", &[(REF_NAME, "alpine:3")]),
            entry("d", &[]),
        ]);
        let expected = [
            vec![reference("alpine:3"), reference("docker.io/library/alpine:3.20")],
            vec![reference("ghcr.io/o/i:v1")],
            vec![SuppliedName::Tag("latest".into())],
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_nameless_entry_counts_where_none_has_a_name() {
        assert_eq!(read(&[entry("a", &[]), entry("b", &[("other", "x")])]).len(), 2);
    }

    #[test]
    fn what_is_no_index_is_refused() {
        assert!(images(br#"{"config": {}, "layers": []}"#.to_vec()).is_err());
        assert!(images(b"not even json".to_vec()).is_err());
    }
}
