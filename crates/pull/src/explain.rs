//! What a pull would do, without doing it.

use unlade_images::{LayerState, Lookup, Store};
use unlade_oci::{Descriptor, Digest, Platform, platforms_offered};
use unlade_reference::Reference;
use unlade_registry::EndpointDescription;

use crate::error::Error;
use crate::resolve::{Documents, Resolution};
use crate::threads::Spawner;
use crate::{Options, Policy};

/// What a pull of one image would do.
#[derive(Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// What was asked for, complete.
    pub reference: Reference,
    /// Who would be asked, in order.
    pub endpoints: Vec<EndpointDescription>,
    /// What the store has recorded for the name.
    pub recorded: Recorded,
    /// The platform that is looked for.
    pub wanted: Platform,
    /// What the name stands for, or why that cannot be told.
    pub image: Result<ImageExplanation, Error>,
}

/// How much of an image the store has recorded under its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// All of it: a pull of what is missing would ask nobody.
    Complete {
        /// What the name stood for when it was pulled.
        digest: Digest,
    },
    /// The name, but not all that belongs to it.
    Incomplete {
        /// What the name stood for when it was pulled.
        digest: Digest,
    },
    /// Nothing.
    Absent,
}

/// An image, and what of it there is already.
#[derive(Debug)]
#[non_exhaustive]
pub struct ImageExplanation {
    /// The documents.
    pub resolution: Resolution,
    /// How the platform was chosen.
    pub choice: Choice,
    /// The indexes, the manifest and the configuration: bytes, and whether the store has them.
    pub documents: Vec<DocumentState>,
    /// The layers, from the lowest. A blob that is there twice is listed twice and counted once.
    pub layers: Vec<LayerExplanation>,
    /// Layers that a pull would have nothing to do for.
    pub layers_present: usize,
    /// Compressed bytes of layers that need not be fetched, partial downloads included.
    pub bytes_local: u64,
    /// Compressed bytes of layers that would be fetched.
    pub bytes_to_fetch: u64,
}

/// Why the image is for the platform that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// It was chosen from those that an index offers.
    Offered {
        /// The platforms offered, in the order of the index.
        offered: Vec<Platform>,
        /// Whether it is the very platform that was looked for, and not one that runs there, too.
        exact: bool,
    },
    /// The name stands for this image alone.
    Only,
}

/// A document of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentState {
    /// `index`, `manifest` or `configuration`.
    pub kind: &'static str,
    /// Its digest.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Whether the store has it.
    pub is_local: bool,
}

/// A layer, and how much of it there is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LayerExplanation {
    /// The layer's blob.
    pub blob: Descriptor,
    /// What it is uncompressed.
    pub diff_id: Digest,
    /// What the store has of it.
    pub state: LayerState,
}

pub(crate) async fn explain(
    documents: &Documents<'_>,
    store: &Store,
    reference: &Reference,
    options: &Options,
    lookup: Lookup,
    endpoints: Vec<EndpointDescription>,
) -> Result<Explanation, Error> {
    let wanted = options
        .platform
        .as_ref()
        .map_or_else(Platform::host, Platform::normalized);
    let recorded = match (lookup.target().cloned(), lookup.is_complete()) {
        (Some(digest), true) => Recorded::Complete { digest },
        (Some(digest), false) => Recorded::Incomplete { digest },
        (None, _) => Recorded::Absent,
    };
    let known = lookup.target().filter(|_| options.policy != Policy::Always);
    let resolved = documents.resolve(reference, options.platform.as_ref(), known).await;
    let image = match resolved {
        Ok(resolution) => image(store, resolution, &wanted, options.extract, documents.spawner).await,
        Err(error) => Err(error),
    };
    Ok(Explanation {
        reference: reference.clone(),
        endpoints,
        recorded,
        wanted,
        image,
    })
}

async fn image(
    store: &Store,
    resolution: Resolution,
    wanted: &Platform,
    extract: bool,
    spawner: &Spawner,
) -> Result<ImageExplanation, Error> {
    let choice = choice(&resolution, wanted);
    let store = store.clone();
    spawner
        .run(move || {
            let documents = document_states(&store, &resolution)?;
            let mut explained = ImageExplanation {
                choice,
                documents,
                layers: Vec::new(),
                layers_present: 0,
                bytes_local: 0,
                bytes_to_fetch: 0,
                resolution,
            };
            survey(&store, &mut explained, extract)?;
            Ok(explained)
        })
        .await
}

fn choice(resolution: &Resolution, wanted: &Platform) -> Choice {
    let Some(index) = resolution.indexes().last() else {
        return Choice::Only;
    };
    let entries = &index.get().manifests;
    let digest = resolution.manifest().digest();
    let chosen = entries
        .iter()
        .find(|entry| entry.digest == *digest)
        .and_then(|entry| entry.platform.as_ref());
    Choice::Offered {
        offered: platforms_offered(entries),
        exact: chosen.is_some_and(|chosen| chosen.normalized() == *wanted),
    }
}

fn document_states(store: &Store, resolution: &Resolution) -> Result<Vec<DocumentState>, Error> {
    let state = |kind, digest: &Digest, bytes: &[u8]| {
        let is_local = store.blobs().contains(digest).map_err(Error::store)?;
        Ok(DocumentState {
            kind,
            digest: digest.clone(),
            size: bytes.len() as u64,
            is_local,
        })
    };
    let indexes = resolution.indexes().iter();
    let mut states = indexes
        .map(|index| state("index", index.digest(), index.bytes()))
        .collect::<Result<Vec<_>, Error>>()?;
    let (manifest, config) = (resolution.manifest(), resolution.config());
    states.push(state("manifest", manifest.digest(), manifest.bytes())?);
    states.push(state("configuration", config.digest(), config.bytes())?);
    Ok(states)
}

fn survey(store: &Store, explained: &mut ImageExplanation, extract: bool) -> Result<(), Error> {
    let mut seen = std::collections::HashSet::new();
    let named: Vec<_> = explained
        .resolution
        .layers()
        .map(|(blob, diff_id)| (blob.digest.clone(), Digest::clone(diff_id)))
        .collect();
    let states = store.layer_states(&named).map_err(Error::store)?;
    for ((blob, diff_id), state) in explained.resolution.layers().zip(states) {
        if seen.insert(blob.digest.clone()) {
            let there = if state.blob {
                blob.size
            } else {
                state.partial.min(blob.size)
            };
            explained.bytes_local += there;
            explained.bytes_to_fetch += blob.size - there;
            explained.layers_present += usize::from(state.blob && (state.directory || !extract));
        }
        explained.layers.push(LayerExplanation {
            blob: blob.clone(),
            diff_id: diff_id.clone(),
            state,
        });
    }
    Ok(())
}
