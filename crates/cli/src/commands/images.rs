//! `unlade images`: what is in the store.

use std::io::{self, Write};
use std::time::SystemTime;

use serde::{Serialize, Serializer};
use unlade_images::ImageSummary;
use unlade_oci::Digest;

use crate::error::Error;
use crate::quantity::{ago, bytes, rfc3339};
use crate::session::{Report, Session};
use crate::table;

/// Digits of a digest in the table.
const SHORT: usize = 12;

/// Runs the command.
pub(crate) fn run(session: &Session) -> Result<(), Error> {
    let store = session.store()?;
    session.print(&Images {
        images: store.images()?,
        now: SystemTime::now(),
    })?;
    Session::settle(&store, &[]);
    Ok(())
}

#[derive(Serialize)]
#[serde(transparent)]
struct Images {
    #[serde(serialize_with = "objects")]
    images: Vec<ImageSummary>,
    #[serde(skip)]
    now: SystemTime,
}

#[derive(Serialize)]
struct Object<'a> {
    reference: String,
    repository: String,
    tag: Option<&'a str>,
    /// What the name stands for: the index, or the manifest where there is none.
    digest: &'a Digest,
    index: Option<&'a Digest>,
    manifest: &'a Digest,
    config: &'a Digest,
    platform: String,
    requested_platform: String,
    created: Option<&'a str>,
    pulled_at: Option<String>,
    last_used_at: Option<String>,
    layers: u64,
    compressed_size: u64,
    size: u64,
}

fn objects<S: Serializer>(images: &[ImageSummary], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(images.iter().map(|image| Object {
        reference: image.reference.to_string(),
        repository: image.reference.repository().to_string(),
        tag: image.reference.tag().map(unlade_reference::Tag::as_str),
        digest: digest(image),
        index: image.index.as_ref(),
        manifest: &image.manifest,
        config: &image.config,
        platform: image.actual_platform.to_string(),
        requested_platform: image.platform.to_string(),
        created: image.created.as_deref(),
        pulled_at: rfc3339(image.pulled_at),
        last_used_at: rfc3339(image.last_used_at),
        layers: image.layers,
        compressed_size: image.compressed_size,
        size: image.raw_size,
    }))
}

fn digest(image: &ImageSummary) -> &Digest {
    image.index.as_ref().unwrap_or(&image.manifest)
}

impl Report for Images {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = self.images.iter().map(|image| {
            let hex = digest(image).hex();
            [
                image.reference.repository().to_string(),
                image
                    .reference
                    .tag()
                    .map_or_else(|| "-".to_owned(), ToString::to_string),
                hex.get(..SHORT).unwrap_or(hex).to_owned(),
                image.actual_platform.to_string(),
                bytes(image.raw_size),
                image.layers.to_string(),
                ago(image.pulled_at, self.now),
            ]
        });
        table::write(
            out,
            ["REPOSITORY", "TAG", "DIGEST", "PLATFORM", "SIZE", "LAYERS", "PULLED"],
            rows,
        )
    }
}
