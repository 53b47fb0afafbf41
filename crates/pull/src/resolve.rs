//! From a name to the documents of one image: index, platform, manifest, configuration.
//!
//! The digest of every document is computed from the bytes received and held against the one that led to it. A document that
//! the store already has is not asked for again.

use std::sync::Arc;

use bytes::Bytes;
use unlade_images::{Store, Supply};
use unlade_oci::{
    Descriptor, Digest, Document, ImageConfig, Index, MAX_CONFIG_BYTES, MAX_INDEX_DEPTH, MAX_MANIFEST_BYTES, Manifest,
    Parsed, Platform, PlatformMatcher, parse_config, parse_manifest,
};
use unlade_reference::Reference;
use unlade_registry::{Client, Selector};
use unlade_sys::{Track, Wait};

use crate::Warning;
use crate::error::Error;
use crate::observer::Watch;
use crate::stages::RESOLVE;
use crate::threads::Spawner;

/// What a name stands for, for one platform.
#[derive(Clone, Debug)]
pub struct Resolution {
    pub(crate) reference: Reference,
    pub(crate) wanted: Platform,
    pub(crate) indexes: Vec<Document<Index>>,
    pub(crate) manifest: Document<Manifest>,
    pub(crate) config: Document<ImageConfig>,
}

impl Resolution {
    /// Returns what was asked for.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Returns the indexes between the name and the manifest, the outermost first; none if the name is a manifest's.
    pub fn indexes(&self) -> &[Document<Index>] {
        &self.indexes
    }

    /// Returns the manifest.
    pub fn manifest(&self) -> &Document<Manifest> {
        &self.manifest
    }

    /// Returns the image configuration.
    pub fn config(&self) -> &Document<ImageConfig> {
        &self.config
    }

    /// Returns the digest that the name itself stands for: the index's, or the manifest's where there is no index.
    pub fn digest(&self) -> &Digest {
        self.indexes.first().map_or(self.manifest.digest(), Document::digest)
    }

    /// Returns the layers in order, from the lowest, each with its diff ID.
    pub fn layers(&self) -> impl Iterator<Item = (&Descriptor, &Digest)> {
        self.manifest.get().layers.iter().zip(&self.config.get().diff_ids)
    }
}

/// Where documents come from.
pub(crate) struct Documents<'a> {
    pub(crate) store: Option<&'a Store>,
    /// `None`: the network is not to be used.
    pub(crate) client: Option<&'a Client>,
    /// What stands in the registry's place.
    pub(crate) supply: Option<&'a Arc<Supply>>,
    pub(crate) watch: &'a Watch,
    pub(crate) spawner: &'a Spawner,
}

impl Documents<'_> {
    /// Resolves `reference` for `platform`, or for this machine.
    ///
    /// `known` is the digest that the store has recorded for the name; with it the name itself is not asked for.
    pub(crate) async fn resolve(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        known: Option<&Digest>,
    ) -> Result<Resolution, Error> {
        let task = self.watch.resolve(reference);
        let wanted = platform.map_or_else(Platform::host, Platform::normalized);
        let document = |source| Error::Document {
            reference: Box::new(reference.clone()),
            source: Box::new(source),
        };

        let (indexes, manifest) = self.descend(reference, &wanted, known).await?;
        manifest.is_image().map_err(document)?;
        let config = self.config(reference, &manifest.get().config).await?;
        manifest.check_against_config(config.get()).map_err(document)?;
        self.check_platform(reference, platform, &wanted, config.get())?;
        if let Some(alias) = reference
            .aliased_from()
            .filter(|_| !reference.repository().is_official())
        {
            self.watch.warn(&Warning::Alias {
                reference: Box::new(reference.clone()),
                alias: Box::new(alias.clone()),
            });
        }
        task.done();
        Ok(Resolution {
            reference: reference.clone(),
            wanted,
            indexes,
            manifest,
            config,
        })
    }

    /// Begins a track that is about documents from here on.
    pub(crate) fn track(&self) -> Track {
        let mut track = self.watch.whole_track();
        let wait = self.client.map_or(Wait::Thread, |_| Wait::Network);
        track.wait(RESOLVE, wait);
        track
    }

    /// Resolves `reference` to a manifest that need not be an image's.
    pub(crate) async fn artifact(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Result<Document<Manifest>, Error> {
        let task = self.watch.resolve(reference);
        let wanted = platform.map_or_else(Platform::host, Platform::normalized);
        let (_, manifest) = self.descend(reference, &wanted, None).await?;
        task.done();
        Ok(manifest)
    }

    /// Asks whether the name still stands for `recorded`, without having it sent: what is sent counts as a pull where pulls are
    /// counted. A registry that does not say is not believed to.
    pub(crate) async fn still_leads_to(&self, reference: &Reference, recorded: &Digest) -> Result<bool, Error> {
        if reference.digest().is_some() {
            return Ok(true);
        }
        let client = self.network(reference, "its manifest".to_owned())?;
        let selector = Selector::from(reference);
        match client.head_manifest(reference.repository(), &selector).await {
            Ok(head) => Ok(head.digest.as_ref() == Some(recorded)),
            Err(source) if source.is_retryable() => Err(Error::Resolve {
                reference: Box::new(reference.clone()),
                source: Box::new(source),
            }),
            // Some do not take the method as it is meant. What the answer is to be is told by the request that follows.
            Err(error) => {
                tracing::debug!(%reference, %error, "the registry does not tell what a name stands for");
                Ok(false)
            }
        }
    }

    /// Goes from the name through indexes, if there are any, to a manifest.
    async fn descend(
        &self,
        reference: &Reference,
        wanted: &Platform,
        known: Option<&Digest>,
    ) -> Result<(Vec<Document<Index>>, Document<Manifest>), Error> {
        let first = reference.digest().or(known);
        let mut parsed = self.manifest(reference, first).await?;
        let mut indexes = Vec::new();
        loop {
            match parsed {
                Parsed::Manifest(manifest) => return Ok((indexes, manifest)),
                Parsed::Index(found) => {
                    if indexes.len() == MAX_INDEX_DEPTH {
                        let reference = Box::new(reference.clone());
                        return Err(Error::TooDeep {
                            reference,
                            limit: MAX_INDEX_DEPTH,
                        });
                    }
                    let chosen = PlatformMatcher::new(wanted)
                        .select(&found.get().manifests)
                        .ok_or_else(|| Error::NoPlatform {
                            reference: Box::new(reference.clone()),
                            wanted: Box::new(wanted.clone()),
                            available: unlade_oci::platforms_offered(&found.get().manifests),
                        })?;
                    parsed = self.manifest(reference, Some(&chosen.digest)).await?;
                    indexes.push(found);
                }
            }
        }
    }

    /// Fetches an index or a manifest, by digest where one is known, else by the reference's tag.
    pub(crate) async fn manifest(&self, reference: &Reference, digest: Option<&Digest>) -> Result<Parsed, Error> {
        let document = |source| Error::Document {
            reference: Box::new(reference.clone()),
            source: Box::new(source),
        };
        if let Some(digest) = digest
            && let Some(bytes) = self.stored(digest, MAX_MANIFEST_BYTES).await?
            && let Ok(parsed) = parse_manifest(bytes, None, Some(digest))
        {
            return Ok(parsed);
        }
        let client = self.network(
            reference,
            digest.map_or("its manifest".to_owned(), |digest| format!("manifest {digest}")),
        )?;
        let selector = digest.map_or_else(|| Selector::from(reference), Selector::Digest);
        let raw = client
            .manifest(reference.repository(), &selector)
            .await
            .map_err(|source| Error::Resolve {
                reference: Box::new(reference.clone()),
                source: Box::new(source),
            })?;
        parse_manifest(raw.bytes, raw.media_type.as_ref(), digest).map_err(document)
    }

    pub(crate) async fn config(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> Result<Document<ImageConfig>, Error> {
        let document = |source| Error::Document {
            reference: Box::new(reference.clone()),
            source: Box::new(source),
        };
        if let Some(bytes) = self.stored(&descriptor.digest, MAX_CONFIG_BYTES).await?
            && let Ok(config) = parse_config(bytes, descriptor)
        {
            return Ok(config);
        }
        let client = self.network(reference, format!("configuration {}", descriptor.digest))?;
        let bytes = client
            .blob_bytes(reference.repository(), descriptor, MAX_CONFIG_BYTES)
            .await
            .map_err(|source| Error::Resolve {
                reference: Box::new(reference.clone()),
                source: Box::new(source),
            })?;
        parse_config(bytes, descriptor).map_err(document)
    }

    fn check_platform(
        &self,
        reference: &Reference,
        asked: Option<&Platform>,
        wanted: &Platform,
        config: &ImageConfig,
    ) -> Result<(), Error> {
        let actual = config.platform();
        if PlatformMatcher::new(wanted).accepts_config(&actual) {
            return Ok(());
        }
        if asked.is_some() {
            return Err(Error::WrongPlatform {
                reference: Box::new(reference.clone()),
                wanted: Box::new(wanted.clone()),
                actual: Box::new(actual),
            });
        }
        self.watch.warn(&Warning::OtherPlatform {
            reference: Box::new(reference.clone()),
            actual: Box::new(actual),
            wanted: Box::new(wanted.clone()),
        });
        Ok(())
    }

    /// Reads a document from what was supplied, or from the store. What does not match its digest there is as good as absent.
    async fn stored(&self, digest: &Digest, limit: u64) -> Result<Option<Bytes>, Error> {
        if let Some(supply) = self.supply {
            let (supply, digest) = (Arc::clone(supply), digest.clone());
            let bytes = self.spawner.run(move || supply.document(&digest, limit)).await;
            if let Some(bytes) = bytes.map_err(Error::supply)? {
                return Ok(Some(Bytes::from(bytes)));
            }
        }
        let Some(store) = self.store else { return Ok(None) };
        let (store, digest) = (store.clone(), digest.clone());
        let bytes = self
            .spawner
            .run(move || store.document(&digest, limit))
            .await
            .map_err(Error::store)?;
        Ok(bytes.map(Bytes::from))
    }

    fn network(&self, reference: &Reference, missing: String) -> Result<&Client, Error> {
        let reference = || Box::new(reference.clone());
        match self.client {
            Some(client) => Ok(client),
            None if self.supply.is_some() => Err(Error::NotSupplied {
                reference: reference(),
                missing,
            }),
            None => Err(Error::NotLocal {
                reference: reference(),
                missing,
            }),
        }
    }
}
