//! `unlade resolve`: what a name stands for now.

use std::io::{self, Write};
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::json;
use unlade_oci::Document;
use unlade_pull::{Puller, Resolution};

use crate::arguments;
use crate::error::Error;
use crate::interrupt;
use crate::progress::Mode;
use crate::session::{Report, Session};

/// Runs the command.
pub(crate) fn run(session: &Session, arguments: &arguments::Resolve) -> Result<(), Error> {
    let reference = session.reference(&arguments.name)?;
    let platform = session.settings.platform.as_ref().map(|platform| &platform.value);
    let store = session.store()?;
    let progress = session.progress(Mode::None);
    let client = session.client([reference.registry()], &progress.watcher())?;
    let puller = Puller::new(store, client).with_observer(Arc::new(progress.watcher()));
    let result = interrupt::run(session.settings.network.limit, async {
        Ok(puller.resolve(&reference, platform).await?)
    });
    progress.finish(result.is_ok());
    session.print(&Resolved(result?))
}

#[derive(Serialize)]
#[serde(transparent)]
struct Resolved(#[serde(serialize_with = "object")] Resolution);

fn object<S: Serializer>(resolution: &Resolution, serializer: S) -> Result<S::Ok, S::Error> {
    let layer = |(blob, diff_id): (&unlade_oci::Descriptor, &unlade_oci::Digest)| json!({"digest": blob.digest, "diff_id": diff_id, "media_type": blob.media_type, "size": blob.size});
    let layers: Vec<_> = resolution.layers().map(layer).collect();
    let object = json!({
        "reference": resolution.reference().to_string(),
        "digest": resolution.digest(),
        "platform": resolution.config().get().platform().to_string(),
        "indexes": resolution.indexes().iter().map(document).collect::<Vec<_>>(),
        "manifest": document(resolution.manifest()),
        "config": document(resolution.config()),
        "layers": layers,
        "compressed_size": resolution.layers().map(|(blob, _)| blob.size).sum::<u64>(),
    });
    object.serialize(serializer)
}

fn document<T>(document: &Document<T>) -> serde_json::Value {
    json!({"digest": document.digest(), "media_type": document.media_type(), "size": document.bytes().len()})
}

impl Report for Resolved {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{}",
            self.0.reference().clone().with_digest(self.0.digest().clone())
        )
    }
}
