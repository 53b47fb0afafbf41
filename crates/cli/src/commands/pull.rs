//! `unlade pull`: from the registry into layer directories.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use unlade_extract::{RawPath, Summary};
use unlade_images::{Image, Layer, Store};
use unlade_oci::{Digest, MediaType};
use unlade_pull::{Budget, Options, Pulled, Puller, Timings, find_local, stages};
use unlade_reference::Reference;

use super::artifact::PulledArtifacts;
use crate::arguments::{self, Format, Platforms};
use crate::error::Error;
use crate::interrupt;
use crate::progress::Mode;
use crate::quantity;
use crate::session::{Report, Session, json_path, utf8};
use crate::settings::SettingsError;
use crate::timings::Measurement;

/// Runs the command.
///
/// What is complete in the store is answered from there: no runtime is started, no login is read, TLS is not set up.
pub(crate) fn run(session: &Session, arguments: &arguments::Pull) -> Result<(), Error> {
    let references = references(session, arguments)?;
    let all_platforms = arguments.platform == Some(Platforms::All);
    if all_platforms && (arguments.artifact || arguments.discard_blobs) {
        return Err(Error::Usage {
            message: "--platform all goes with neither --artifact nor --discard-blobs".to_owned(),
            hint: Some("it keeps the blobs of all platforms, and extracts none".to_owned()),
        });
    }
    let options = Options {
        all_platforms,
        extract: !(arguments.no_extract || all_platforms),
        discard_blobs: arguments.discard_blobs,
        discard_partial: arguments.discard_partial,
        #[cfg(feature = "bench-skip-verify")]
        unverified: arguments.bench_skip_verify,
        ..self::options(session, arguments.policy)
    };
    let measurement = Measurement::begin(arguments.timings, arguments.trace.clone())?;
    let result = if arguments.artifact {
        artifacts(session, arguments, &references, &options, &measurement)
    } else {
        images(session, arguments, &references, &options, &measurement)
    };
    let json = session.format == Format::Json || arguments.progress == arguments::Progress::Json;
    // Also of what has failed: the error is told last.
    let written = measurement.finish(&session.stderr, json);
    result.and(written)
}

fn images(
    session: &Session,
    arguments: &arguments::Pull,
    references: &[Reference],
    options: &Options,
    measurement: &Measurement,
) -> Result<(), Error> {
    let mut track = measurement.track();
    track.busy(stages::LOOK_UP);
    if let Some(store) = session.store_at_rest()?
        && let Some(pulled) = find_local(&store, references, options)?
    {
        drop(track);
        let pulled = PulledImages::new(session, &store, pulled)?;
        session.print(&pulled)?;
        let mut track = measurement.track();
        track.busy(stages::FLUSH);
        session.settle_at_rest(store, &pulled.into_images());
        return Ok(());
    }
    let store = session.store()?;
    let found = find_local(&store, references, options)?;
    drop(track);
    let pulled = if let Some(pulled) = found {
        pulled
    } else {
        if store.uses_user_namespace() {
            unlade_images::enter_user_namespace()?;
        }
        let timings = measurement.timings();
        fetch(session, arguments.progress, store.clone(), references, options, timings)?
    };
    let pulled = PulledImages::new(session, &store, pulled)?;
    session.print(&pulled)?;
    let mut track = measurement.track();
    track.busy(stages::FLUSH);
    Session::settle(&store, &pulled.into_images());
    Ok(())
}

/// Returns what the settings and one flag say of a pull.
pub(super) fn options(session: &Session, policy: arguments::Policy) -> Options {
    Options {
        platform: session
            .settings
            .platform
            .as_ref()
            .map(|platform| platform.value.clone()),
        policy: policy.into(),
        limits: session.settings.limits.clone(),
        ..Options::default()
    }
}

/// Pulls images while progress is shown.
pub(super) fn fetch(
    session: &Session,
    shown: arguments::Progress,
    store: Store,
    references: &[Reference],
    options: &Options,
    timings: Option<&Timings>,
) -> Result<Vec<Pulled>, Error> {
    let progress = session.progress(mode(session, shown));
    let client = session.client(references.iter().map(Reference::registry), &progress.watcher())?;
    let mut puller = Puller::new(store, client)
        .with_budget(Budget::new(session.settings.budget.limits()))
        .with_observer(Arc::new(progress.watcher()));
    if let Some(timings) = timings {
        puller = puller.with_timings(timings.clone());
    }
    let result = interrupt::run(session.settings.network.limit, async {
        Ok(puller.pull(references, options).await?)
    });
    progress.finish(result.is_ok());
    result
}

/// Returns what the store has of the images, or pulls them.
pub(super) fn find_or_fetch(
    session: &Session,
    shown: arguments::Progress,
    store: &Store,
    references: &[Reference],
    options: &Options,
) -> Result<Vec<Pulled>, Error> {
    match find_local(store, references, options)? {
        Some(pulled) => Ok(pulled),
        None => fetch(session, shown, store.clone(), references, options, None),
    }
}

/// Returns the image of a pull of one.
pub(super) fn only(pulled: Vec<Pulled>, reference: &Reference) -> Result<Image, Error> {
    let image = pulled.into_iter().next().map(|pulled| pulled.image);
    Ok(image.ok_or_else(|| unlade_images::Error::NoImage {
        name: reference.to_string(),
    })?)
}

fn artifacts(
    session: &Session,
    arguments: &arguments::Pull,
    references: &[Reference],
    options: &Options,
    measurement: &Measurement,
) -> Result<(), Error> {
    let store = session.store()?;
    let progress = session.progress(mode(session, arguments.progress));
    let client = session.client(references.iter().map(Reference::registry), &progress.watcher())?;
    let mut puller = Puller::new(store.clone(), client)
        .with_budget(Budget::new(session.settings.budget.limits()))
        .with_observer(Arc::new(progress.watcher()));
    if let Some(timings) = measurement.timings() {
        puller = puller.with_timings(timings.clone());
    }
    let result = interrupt::run(session.settings.network.limit, async {
        Ok(puller.pull_artifacts(references, options).await?)
    });
    progress.finish(result.is_ok());
    let pulled = result?;
    session.print(&PulledArtifacts { store, pulled })
}

/// The images that are meant: those named, or those of the groups named.
fn references(session: &Session, arguments: &arguments::Pull) -> Result<Vec<Reference>, Error> {
    if !arguments.image_group {
        return arguments.names.iter().map(|name| session.reference(name)).collect();
    }
    let groups = &session.settings.image_groups;
    let mut references = Vec::new();
    for name in &arguments.names {
        let name = utf8(name)?;
        let group = groups.get(name).ok_or_else(|| SettingsError::NoGroup {
            name: name.to_owned(),
            known: groups.keys().cloned().collect(),
        })?;
        for text in &group.value {
            let parsed = Reference::parse(text, &session.settings.defaults.value);
            references.push(parsed.map_err(|source| SettingsError::GroupReference {
                group: name.to_owned(),
                place: group.source.clone(),
                source,
            })?);
        }
    }
    Ok(references)
}

pub(super) fn mode(session: &Session, wanted: arguments::Progress) -> Mode {
    let can_draw = session.stderr.is_terminal();
    match wanted {
        // Lines of a log would tear the bars; lines for people are of no use to who reads JSON.
        arguments::Progress::Auto if can_draw && !session.has_log => Mode::Terminal,
        arguments::Progress::Auto if session.format == Format::Json => Mode::None,
        arguments::Progress::Tty if can_draw => Mode::Terminal,
        arguments::Progress::Auto | arguments::Progress::Tty | arguments::Progress::Plain => Mode::Plain,
        arguments::Progress::Json => Mode::Json,
        arguments::Progress::None => Mode::None,
    }
}

/// What was pulled, or was there; each with the summaries of its layers, if they are to be shown.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct PulledImages(#[serde(serialize_with = "objects")] Vec<(Pulled, Vec<Summary>)>);

impl PulledImages {
    pub(super) fn into_images(self) -> Vec<Image> {
        self.0.into_iter().map(|(pulled, _)| pulled.image).collect()
    }

    pub(super) fn new(session: &Session, store: &Store, pulled: Vec<Pulled>) -> Result<Self, Error> {
        let with_summaries = |pulled: Pulled| {
            // They may be long, and nothing of them is text for people here.
            let summaries = match session.format {
                Format::Text => Vec::new(),
                Format::Json => store.summaries(&pulled.image)?,
            };
            Ok((pulled, summaries))
        };
        pulled
            .into_iter()
            .map(with_summaries)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn objects<S: Serializer>(pulled: &[(Pulled, Vec<Summary>)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(pulled.iter().map(|(pulled, summaries)| PulledObject {
        image: ImageObject::of(&pulled.image, summaries),
        asked_registry: pulled.asked_registry,
    }))
}

#[derive(Serialize)]
struct PulledObject<'a> {
    #[serde(flatten)]
    image: ImageObject<'a>,
    asked_registry: bool,
}

#[derive(Serialize)]
struct ImageObject<'a> {
    reference: String,
    /// What the name stands for: the index, or the manifest where there is none.
    digest: &'a Digest,
    platform: String,
    index: Option<&'a Digest>,
    manifest: &'a Digest,
    config: &'a Digest,
    pulled_at: Option<String>,
    layers: Vec<LayerObject<'a>>,
}

#[derive(Serialize)]
struct LayerObject<'a> {
    digest: &'a Digest,
    diff_id: &'a Digest,
    media_type: &'a MediaType,
    size: u64,
    raw_size: u64,
    /// Set if the directory is that of the layer on top of those below it.
    chain_id: Option<&'a Digest>,
    directory: Option<RawPath>,
    /// What its extraction found, skipped or altered.
    summary: Option<&'a Summary>,
}

impl<'a> ImageObject<'a> {
    fn of(image: &'a Image, summaries: &'a [Summary]) -> Self {
        Self {
            reference: image.reference.to_string(),
            digest: image.digest(),
            platform: image.platform.to_string(),
            index: image.index.as_ref(),
            manifest: &image.manifest,
            config: &image.config,
            pulled_at: quantity::rfc3339(image.pulled_at),
            layers: image
                .layers
                .iter()
                .enumerate()
                .map(|(at, layer)| LayerObject::of(layer, summaries.get(at)))
                .collect(),
        }
    }
}

impl<'a> LayerObject<'a> {
    fn of(layer: &'a Layer, summary: Option<&'a Summary>) -> Self {
        Self {
            digest: &layer.blob,
            diff_id: &layer.diff_id,
            media_type: &layer.media_type,
            size: layer.size,
            raw_size: layer.raw_size,
            chain_id: layer.chain_id.as_ref(),
            directory: layer.directory.as_deref().map(json_path),
            summary,
        }
    }
}

impl Report for PulledImages {
    /// A line for each image, and below it one for each layer directory, the lowest first.
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for (Pulled { image, .. }, _) in &self.0 {
            writeln!(out, "{}", image.reference.clone().with_digest(image.digest().clone()))?;
            for directory in image.layers.iter().filter_map(|layer| layer.directory.as_deref()) {
                out.write_all(b"  ")?;
                out.write_all(directory.as_os_str().as_bytes())?;
                out.write_all(b"\n")?;
            }
        }
        Ok(())
    }
}
