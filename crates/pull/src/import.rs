//! Images from files: what was supplied takes the way of a pull, with files where a registry would be.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use unlade_extract::Progress;
use unlade_images::{Store, SuppliedImage, SuppliedName, Supply};
use unlade_oci::{Descriptor, Platform, PlatformMatcher};
use unlade_reference::{Defaults, Reference};

use crate::budget::Budget;
use crate::error::Error;
use crate::observer::{Observer, Silent, Watch};
use crate::puller::{Arrival, Options, Policy, Pulled, clean_up};
use crate::resolve::{Documents, Resolution};
use crate::threads::{Spawner, Threads};
use crate::unpack::StopOnDrop;

/// Where images are imported from.
pub enum Origin {
    /// An OCI image layout, a directory.
    Layout(PathBuf),
    /// An archive, as a stream: of an OCI image layout, or docker's; plain, or compressed with gzip or zstd.
    Archive(Box<dyn Read + Send>),
}

impl Origin {
    /// Opens what is at `path`: a directory is an image layout, a file an archive.
    ///
    /// # Errors
    /// It is not there or cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::supply(unlade_sys::Error::new("open", path, source));
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            Ok(Self::Layout(path.to_owned()))
        } else {
            Ok(Self::Archive(Box::new(file)))
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout(path) => f.debug_tuple("Layout").field(path).finish(),
            Self::Archive(_) => f.write_str("Archive"),
        }
    }
}

/// Brings images from files into a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Importer {
    store: Store,
    budget: Budget,
    watch: Watch,
}

impl Importer {
    /// Makes an importer with a budget of its own and nobody watching.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            budget: Budget::default(),
            watch: Watch::new(Arc::new(Silent)),
        }
    }

    /// Shares `budget` with others.
    #[must_use]
    pub fn with_budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Tells `observer` what happens.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.watch = self.watch.observed_by(observer);
        self
    }

    /// Brings all images of `origin` into the store and returns them.
    ///
    /// They get the names that they have there; where a name has no registry, it is one of docker's, `docker.io`. With `name`
    /// there must be one image, and that is what it is called. Where one name stands for several platforms, that of `options`
    /// is chosen, or this machine's, or all of them are kept. Of `options`, the policy does not count: nothing is ever fetched.
    ///
    /// Every document and blob is checked as in a pull. No image becomes visible in part, and after a failure nothing stays but
    /// layers that are complete and blobs that a later pull or import can use.
    ///
    /// Must run on a tokio runtime with time enabled. Dropping the future stops the import; a thread that waits for bytes of a
    /// pipe goes on until they come, or the pipe ends.
    ///
    /// # Errors
    /// The first failure, see [`Error`].
    pub async fn import(
        &self,
        origin: Origin,
        name: Option<&Reference>,
        options: &Options,
    ) -> Result<Vec<Pulled>, Error> {
        let threads = Threads::new();
        let staged = matches!(origin, Origin::Archive(_));
        let mut resolved = Vec::new();
        let work = self.import_with(origin, name, options, threads.spawner(), &mut resolved);
        let result = Box::pin(work).await;
        threads.ended().await;
        match result {
            Ok(imported) => Ok(imported),
            Err(error) => Err(clean_up(&self.store, error, resolved, options, staged).await),
        }
    }

    async fn import_with(
        &self,
        origin: Origin,
        name: Option<&Reference>,
        options: &Options,
        spawner: Spawner,
        resolved: &mut Vec<Resolution>,
    ) -> Result<Vec<Pulled>, Error> {
        let store = self.store.clone();
        spawner.start_aside(move || {
            if let Err(error) = store.sweep() {
                tracing::warn!(%error, "what a dead process has left could not be removed");
            }
        });
        let supply = Arc::new(self.receive(origin, options, &spawner).await?);
        let wanted = options.platform.as_ref();
        let documents = Documents {
            store: Some(&self.store),
            client: None,
            supply: Some(&supply),
            watch: &self.watch,
            spawner: &spawner,
        };
        let named = named(supply.images(), name)?;
        let arrival = Arrival {
            store: &self.store,
            client: None,
            supply: Some(&supply),
            budget: &self.budget,
            watch: &self.watch,
            spawner: &spawner,
        };
        let options = Options {
            policy: Policy::Never,
            ..options.clone()
        };
        if options.all_platforms {
            let (mut references, mut wholes) = (Vec::new(), Vec::new());
            for (reference, variants) in named {
                for document in variants {
                    wholes.push(documents.whole(&reference, Some(&document.digest)).await?);
                    references.push(reference.clone());
                }
            }
            resolved.extend(wholes.iter().flat_map(|whole| whole.images.iter().cloned()));
            return arrival.complete_whole(&references, wholes, &options).await;
        }
        let mut resolutions = Vec::new();
        for (reference, variants) in named {
            let document = choose(&reference, &variants, wanted)?;
            resolutions.push(documents.resolve(&reference, wanted, Some(&document.digest)).await?);
        }
        resolved.clone_from(&resolutions);
        arrival.complete(resolutions, &options).await
    }

    async fn receive(&self, origin: Origin, options: &Options, spawner: &Spawner) -> Result<Supply, Error> {
        let progress = Progress::new();
        let _stop = StopOnDrop(progress.clone());
        let (store, limits) = (self.store.clone(), options.limits.clone());
        let received = spawner
            .run(move || match origin {
                Origin::Layout(directory) => store.open_layout(&directory),
                Origin::Archive(input) => store.receive_archive(input, &limits, &progress),
            })
            .await;
        received.map_err(Error::supply)
    }
}

/// Returns each name with the documents that it stands for, in the order in which they are listed; several are for several
/// platforms.
fn named(images: &[SuppliedImage], name: Option<&Reference>) -> Result<Vec<(Reference, Vec<Descriptor>)>, Error> {
    if images.is_empty() {
        return Err(Error::NothingSupplied);
    }
    if let Some(reference) = name {
        let first = &images[0];
        if images.iter().any(|image| image.names != first.names) {
            let names = images.iter().map(title).collect();
            return Err(Error::OneNameForMany { names });
        }
        let documents = images.iter().map(|image| image.document.clone()).collect();
        return Ok(vec![(reference.clone(), documents)]);
    }
    let mut found: Vec<(Reference, Vec<Descriptor>)> = Vec::new();
    let mut at: BTreeMap<String, usize> = BTreeMap::new();
    for image in images {
        let mut tags = Vec::new();
        let mut is_named = false;
        for name in &image.names {
            let text = match name {
                SuppliedName::Reference(text) => text,
                SuppliedName::Tag(tag) => {
                    tags.push(tag.clone());
                    continue;
                }
            };
            is_named = true;
            let reference = Reference::parse(text, &Defaults::default()).map_err(|source| Error::SuppliedName {
                name: text.clone(),
                source,
            })?;
            let position = *at.entry(reference.to_string()).or_insert(found.len());
            if position == found.len() {
                found.push((reference, Vec::new()));
            }
            found[position].1.push(image.document.clone());
        }
        if !is_named {
            return Err(Error::Nameless { tags });
        }
    }
    Ok(found)
}

/// What to call an image in a message.
fn title(image: &SuppliedImage) -> String {
    match image.names.first() {
        Some(name) => name.to_string(),
        None => image.document.digest.to_string(),
    }
}

fn choose<'a>(
    reference: &Reference,
    variants: &'a [Descriptor],
    wanted: Option<&Platform>,
) -> Result<&'a Descriptor, Error> {
    if let [only] = variants {
        return Ok(only);
    }
    let wanted = wanted.map_or_else(Platform::host, Platform::normalized);
    PlatformMatcher::new(&wanted)
        .select(variants)
        .ok_or_else(|| Error::NoPlatform {
            reference: Box::new(reference.clone()),
            wanted: Box::new(wanted.clone()),
            available: unlade_oci::platforms_offered(variants),
        })
}

#[cfg(test)]
mod tests {
    use unlade_oci::{Digest, MediaType};

    use super::*;

    fn image(content: &str, platform: Option<&str>, names: &[SuppliedName]) -> SuppliedImage {
        let mut document = Descriptor::new(MediaType::OCI_MANIFEST, Digest::sha256(content), 7);
        document.platform = platform.map(|platform| platform.parse().unwrap());
        SuppliedImage::new(names.to_vec(), document)
    }

    fn reference(text: &str) -> SuppliedName {
        SuppliedName::Reference(text.to_owned())
    }

    #[test]
    fn names_are_dockers_unless_they_say_otherwise() {
        let images = [
            image("a", None, &[reference("alpine:3"), reference("ghcr.io/o/i")]),
            image("b", None, &[reference("localhost/x:y")]),
        ];
        let found: Vec<_> = named(&images, None)
            .unwrap()
            .into_iter()
            .map(|(reference, documents)| (reference.to_string(), documents[0].digest.clone()))
            .collect();
        let (a, b) = (Digest::sha256("a"), Digest::sha256("b"));
        let expected = [
            ("docker.io/library/alpine:3".to_owned(), a.clone()),
            ("ghcr.io/o/i:latest".to_owned(), a),
            ("localhost/x:y".to_owned(), b),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn one_name_may_stand_for_several_platforms() {
        let images = [
            image("a", Some("linux/amd64"), &[reference("x:y")]),
            image("b", Some("linux/s390x"), &[reference("x:y")]),
        ];
        let found = named(&images, None).unwrap();
        assert_eq!(found.len(), 1);
        let (reference, variants) = &found[0];
        let wanted = "linux/s390x".parse().unwrap();
        assert_eq!(
            choose(reference, variants, Some(&wanted)).unwrap().digest,
            Digest::sha256("b")
        );
        let wanted = "linux/arm/v6".parse().unwrap();
        let error = choose(reference, variants, Some(&wanted)).unwrap_err();
        assert!(error.to_string().contains("linux/amd64, linux/s390x"), "{error}");
    }

    #[test]
    fn what_has_no_name_needs_one() {
        let nameless = [image("a", None, &[])];
        assert!(matches!(named(&nameless, None), Err(Error::Nameless { .. })));
        let tagged = [image("a", None, &[SuppliedName::Tag("3".into())])];
        let error = named(&tagged, None).unwrap_err().to_string();
        assert!(error.contains("only the tag 3"), "{error}");
        let name: Reference = "docker.io/library/a:3".parse().unwrap();
        assert_eq!(named(&tagged, Some(&name)).unwrap()[0].0, name);
    }

    #[test]
    fn one_name_is_not_for_many() {
        let images = [
            image("a", None, &[reference("a:1")]),
            image("b", None, &[reference("b:1")]),
        ];
        let name: Reference = "x".parse().unwrap();
        let error = named(&images, Some(&name)).unwrap_err().to_string();
        assert!(error.contains("2 images: a:1, b:1"), "{error}");
        let wrong = [image("a", None, &[reference("no name:1")])];
        assert!(matches!(named(&wrong, None), Err(Error::SuppliedName { .. })));
        assert!(matches!(named(&[], None), Err(Error::NothingSupplied)));
    }
}
