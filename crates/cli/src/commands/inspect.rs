//! `unlade inspect`: all that is known of an image, in the shape of `docker inspect` with more in it.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;

use serde_json::{Map, Value, json};
use unlade_extract::Summary;
use unlade_images::{Artifact, Inspection, Layer, Store};
use unlade_reference::Reference;

use super::artifact;
use crate::arguments;
use crate::error::Error;
use crate::quantity::{bytes, rfc3339};
use crate::session::{self, Session, json_path};

/// What has the name.
enum Found {
    Image(Box<Inspection>),
    Artifact(Box<Artifact>),
}

/// Runs the command. Its result is JSON: an array with one object for each name.
pub(crate) fn run(session: &Session, arguments: &arguments::Inspect) -> Result<(), Error> {
    let (store, found) = look_up(session, arguments)?;
    let object = |found: &Found| match found {
        Found::Image(inspection) => object(inspection),
        Found::Artifact(artifact) => artifact::inspected(&store, artifact),
    };
    let objects: Vec<Value> = found.iter().map(object).collect();
    session::write(|out| {
        serde_json::to_writer_pretty(&mut *out, &objects)?;
        writeln!(out)
    })
}

/// Runs the command for people: for each name what it stands for, and its layers with what was done other than they say.
pub(crate) fn show(session: &Session, arguments: &arguments::Inspect) -> Result<(), Error> {
    let (store, found) = look_up(session, arguments)?;
    session::write(|out| {
        for found in &found {
            match found {
                Found::Image(inspection) => text(inspection, out)?,
                Found::Artifact(artifact) => artifact::text(&store, artifact, out)?,
            }
        }
        Ok(())
    })
}

fn look_up(session: &Session, arguments: &arguments::Inspect) -> Result<(Store, Vec<Found>), Error> {
    let references = arguments
        .names
        .iter()
        .map(|name| session.reference(name))
        .collect::<Result<Vec<_>, _>>()?;
    let store = session.store()?;
    let mut found = Vec::with_capacity(references.len());
    for reference in &references {
        match store.inspect(reference, arguments.platform.as_ref()) {
            Ok(inspection) => found.push(Found::Image(Box::new(inspection))),
            Err(unlade_images::Error::NotAnImage { .. }) if arguments.platform.is_none() => {
                found.extend(
                    store
                        .artifact(reference)?
                        .map(|artifact| Found::Artifact(Box::new(artifact))),
                );
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((store, found))
}

fn text(inspection: &Inspection, out: &mut dyn Write) -> io::Result<()> {
    let image = &inspection.image;
    writeln!(out, "{}", image.reference.clone().with_digest(image.digest().clone()))?;
    let pulled_at = rfc3339(image.pulled_at).unwrap_or_default();
    writeln!(out, "  {}, pulled {pulled_at}", inspection.actual_platform)?;
    for (layer, summary) in image.layers.iter().zip(&inspection.summaries) {
        layer_text(layer, summary, out)?;
    }
    Ok(())
}

/// Writes what is there of a layer, and a line for each kind of thing that was done other than it says.
fn layer_text(layer: &Layer, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"  ")?;
    match &layer.directory {
        Some(directory) => out.write_all(directory.as_os_str().as_bytes())?,
        None => write!(out, "{}, not extracted here", layer.blob)?,
    }
    let entries = if summary.entries == 1 { "entry" } else { "entries" };
    writeln!(out, "\n    {} {entries}, {}", summary.entries, bytes(summary.bytes))?;
    for (note, count) in &summary.notes {
        write!(out, "    {note}: {}", count.count)?;
        match &count.first {
            Some(path) if path.as_bytes().is_empty() => writeln!(out, ", first the root")?,
            Some(path) => writeln!(out, ", first {path}")?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}

/// Returns the members that docker shows, under docker's names, and ours below `Unlade`.
fn object(inspection: &Inspection) -> Value {
    let Inspection { image, config, .. } = inspection;
    let document: Value = serde_json::from_slice(&config.raw).unwrap_or_default();
    let manifest: Value = serde_json::from_slice(&inspection.manifest).unwrap_or_default();
    let (tags, digests) = names(inspection);
    let mut object = json!({
        "Id": image.config,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Parent": config.parent.clone().unwrap_or_default(),
        "Comment": config.comment.clone().unwrap_or_default(),
        "Created": config.created,
        "DockerVersion": config.docker_version.clone().unwrap_or_default(),
        "Author": config.author.clone().unwrap_or_default(),
        "Config": document.get("config").cloned().unwrap_or_else(|| json!({})),
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": image.layers.iter().map(|layer| layer.raw_size).sum::<u64>(),
        "RootFS": {
            "Type": config.rootfs_type.as_deref().unwrap_or("layers"),
            "Layers": config.diff_ids,
        },
        "Metadata": { "LastTagTime": rfc3339(image.pulled_at) },
        "History": config.history.clone().unwrap_or_else(|| json!([])),
        "Unlade": {
            "Reference": image.reference.to_string(),
            "Names": inspection.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "Digest": image.digest(),
            "Index": image.index,
            "Manifest": image.manifest,
            "ManifestMediaType": manifest.get("mediaType"),
            "Config": image.config,
            "ConfigMediaType": config.media_type,
            "Annotations": manifest.get("annotations"),
            "Platform": inspection.actual_platform.to_string(),
            "RequestedPlatform": image.platform.to_string(),
            "PulledAt": rfc3339(image.pulled_at),
            "CompressedSize": image.layers.iter().map(|layer| layer.size).sum::<u64>(),
            "Layers": layers(inspection),
        },
    });
    // Docker leaves these out where the configuration does.
    let optional = [
        ("Variant", config.variant.as_ref().map(|text| json!(text))),
        ("OsVersion", config.os_version.as_ref().map(|text| json!(text))),
        ("OsFeatures", config.os_features.clone()),
        ("Container", config.container.as_ref().map(|text| json!(text))),
    ];
    if let Some(members) = object.as_object_mut() {
        let present = optional
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        members.extend(present.collect::<Map<_, _>>());
    }
    object
}

fn layers(inspection: &Inspection) -> Vec<Value> {
    let layer = |(position, layer): (usize, &unlade_images::Layer)| {
        json!({
            "Digest": layer.blob,
            "DiffId": layer.diff_id,
            "MediaType": layer.media_type,
            "Size": layer.size,
            "RawSize": layer.raw_size,
            "ChainId": layer.chain_id,
            "Directory": layer.directory.as_deref().map(json_path),
            "Summary": inspection.summaries.get(position),
        })
    };
    inspection.image.layers.iter().enumerate().map(layer).collect()
}

/// Returns the names with a tag and those with a digest, as docker shows them.
fn names(inspection: &Inspection) -> (Vec<String>, Vec<String>) {
    let image = &inspection.image;
    let mut tags = Vec::new();
    let mut digests = Vec::new();
    for name in std::iter::once(&image.reference).chain(&inspection.names) {
        if let Some(tag) = name.tag() {
            tags.push(Reference::tagged(name.repository().clone(), tag.clone()).familiar());
        }
        // What an index of another repository is, is not known here; the manifest is the same everywhere.
        let same = name.repository() == image.reference.repository();
        let digest = name
            .digest()
            .unwrap_or(if same { image.digest() } else { &image.manifest });
        digests.push(Reference::digested(name.repository().clone(), digest.clone()).familiar());
    }
    for list in [&mut tags, &mut digests] {
        list.sort_unstable();
        list.dedup();
    }
    (tags, digests)
}
