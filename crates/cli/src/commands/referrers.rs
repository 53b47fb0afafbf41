//! `unlade referrers`: what refers to an image, such as its signatures.

use std::io::{self, Write};
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::json;
use unlade_oci::{Descriptor, Digest};
use unlade_pull::Puller;
use unlade_reference::Reference;
use unlade_registry::{Client, Referrers, ReferrersOrigin, Selector};

use crate::arguments;
use crate::error::Error;
use crate::interrupt;
use crate::progress::Mode;
use crate::quantity::bytes;
use crate::session::{Report, Session};
use crate::table;

/// Runs the command.
pub(crate) fn run(session: &Session, arguments: &arguments::Referrers) -> Result<(), Error> {
    let reference = session.reference(&arguments.name)?;
    let progress = session.progress(Mode::None);
    let client = session.client([reference.registry()], &progress.watcher())?;
    let puller = match &arguments.platform {
        Some(_) => {
            let puller = Puller::new(session.store()?, client.clone());
            Some(puller.with_observer(Arc::new(progress.watcher())))
        }
        None => None,
    };
    let wanted = arguments.artifact_type.as_deref();
    let result = interrupt::run(session.settings.network.limit, async {
        let digest = match &puller {
            Some(puller) => {
                let resolved = puller.resolve(&reference, arguments.platform.as_ref()).await?;
                resolved.manifest().digest().clone()
            }
            None => digest_of(&client, &reference).await?,
        };
        let found = client.referrers(reference.repository(), &digest, wanted).await?;
        Ok((digest, found))
    });
    progress.finish(result.is_ok());
    let (digest, found) = result?;
    session.print(&Listed {
        reference,
        digest,
        found,
    })
}

/// Returns what the name stands for now.
async fn digest_of(client: &Client, reference: &Reference) -> Result<Digest, Error> {
    if let Some(digest) = reference.digest() {
        return Ok(digest.clone());
    }
    let selector = Selector::from(reference);
    let head = client.head_manifest(reference.repository(), &selector).await?;
    // The header with the digest is optional.
    match head.digest {
        Some(digest) => Ok(digest),
        None => Ok(client.manifest(reference.repository(), &selector).await?.digest),
    }
}

struct Listed {
    reference: Reference,
    digest: Digest,
    found: Referrers,
}

impl Serialize for Listed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let object = |manifest: &Descriptor| {
            json!({
                "digest": manifest.digest,
                "media_type": manifest.media_type,
                "artifact_type": manifest.artifact_type,
                "size": manifest.size,
                "annotations": manifest.annotations,
            })
        };
        json!({
            "reference": self.reference.to_string(),
            "digest": self.digest,
            "origin": match self.found.origin {
                ReferrersOrigin::Tag => "tag",
                _ => "api",
            },
            "referrers": self.found.manifests.iter().map(object).collect::<Vec<_>>(),
        })
        .serialize(serializer)
    }
}

impl Report for Listed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = self.found.manifests.iter().map(|manifest| {
            [
                manifest.digest.to_string(),
                bytes(manifest.size),
                manifest.artifact_type.as_deref().unwrap_or("-").to_owned(),
            ]
        });
        table::write(out, ["DIGEST", "SIZE", "TYPE"], rows)
    }
}
