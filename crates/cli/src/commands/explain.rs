//! `unlade explain`: what a pull would do, and why.

use std::io::{self, Write};
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use unlade_oci::Digest;
use unlade_pull::{Choice, Explanation, ImageExplanation, LayerExplanation, Options, Puller, Recorded};
use unlade_registry::{CredentialsNote, EndpointDescription, Origin, Role};

use crate::arguments;
use crate::error::Error;
use crate::interrupt;
use crate::progress::Mode;
use crate::quantity;
use crate::session::{Report, Session, json_path, utf8};

/// The version of the JSON form. Within one, members are only added.
const VERSION: u32 = 1;

/// Runs the command. What can be told is told also if the image cannot be had, and that is then the error.
pub(crate) fn run(session: &Session, arguments: &arguments::Explain) -> Result<(), Error> {
    let reference = session.reference(&arguments.name)?;
    let platform = session.settings.platform.as_ref();
    let options = Options {
        platform: platform.map(|platform| platform.value.clone()),
        policy: arguments.policy.into(),
        extract: !arguments.no_extract,
        ..Options::default()
    };
    let store = session.store()?;
    let progress = session.progress(Mode::None);
    let client = session.client([reference.registry()], &progress.watcher())?;
    let puller = Puller::new(store, client).with_observer(Arc::new(progress.watcher()));
    let result = interrupt::run(session.settings.network.limit, async {
        Ok(puller.explain(&reference, &options).await?)
    });
    progress.finish(result.is_ok());
    let explained = Explained {
        typed: utf8(&arguments.name)?.to_owned(),
        platform_by: platform.map_or_else(|| "this machine".to_owned(), |platform| platform.source.to_string()),
        extract: options.extract,
        explanation: result?,
    };
    session.print(&explained)?;
    match explained.explanation.image {
        Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

struct Explained {
    typed: String,
    platform_by: String,
    extract: bool,
    explanation: Explanation,
}

impl Serialize for Explained {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Explanation {
            reference,
            endpoints,
            recorded,
            wanted,
            image,
            ..
        } = &self.explanation;
        let alias = reference
            .aliased_from()
            .map(|alias| json!({"named": alias.named.as_str(), "used": alias.used.as_str()}));
        let chosen = image.as_ref().ok().map(|image| {
            let (offered, exact) = match &image.choice {
                Choice::Offered { offered, exact } => (Some(offered), Some(*exact)),
                _ => (None, None),
            };
            json!({
                "platform": image.resolution.config().get().platform().to_string(),
                "exact": exact,
                "offered": offered.map(|offered| offered.iter().map(ToString::to_string).collect::<Vec<_>>()),
            })
        });
        let (state, digest) = recorded_as(recorded);
        let error = image
            .as_ref()
            .err()
            .map(|error| json!({"class": error.class(), "message": chain(error)}));
        let object = json!({
            "v": VERSION,
            "typed": self.typed,
            "reference": reference.to_string(),
            "alias": alias,
            "endpoints": endpoints.iter().map(endpoint_object).collect::<Vec<_>>(),
            "platform": {"wanted": wanted.to_string(), "by": self.platform_by, "chosen": chosen},
            "recorded": {"state": state, "digest": digest},
            "image": image.as_ref().ok().map(image_object),
            "error": error,
        });
        object.serialize(serializer)
    }
}

fn recorded_as(recorded: &Recorded) -> (&'static str, Option<&Digest>) {
    match recorded {
        Recorded::Complete { digest } => ("complete", Some(digest)),
        Recorded::Incomplete { digest } => ("incomplete", Some(digest)),
        Recorded::Absent => ("absent", None),
    }
}

fn endpoint_object(endpoint: &EndpointDescription) -> Value {
    let settings = &endpoint.settings;
    let origin = match &settings.origin {
        Origin::File { path, line } => json!({"file": json_path(path), "line": (*line > 0).then_some(line)}),
        _ => Value::Null,
    };
    let credentials = match &endpoint.credentials {
        CredentialsNote::Sent { kind, source } => json!({"kind": kind, "source": source}),
        _ => Value::Null,
    };
    let tls = is_secure(endpoint).then(|| {
        let client = settings.tls.client.iter().map(|client| json_path(&client.certificate));
        json!({
            "authorities": settings.tls.ca.iter().map(|path| json_path(path)).collect::<Vec<_>>(),
            "client_certificates": client.collect::<Vec<_>>(),
            "any_certificate": settings.tls.skip_verify,
        })
    });
    json!({
        "url": endpoint.url.to_string(),
        "role": role(endpoint),
        "origin": origin,
        "capabilities": capabilities(endpoint),
        "namespace": settings.namespace,
        "repository": endpoint.repository.to_string(),
        "credentials": credentials,
        "tls": tls,
        "proxy": endpoint.proxy,
        "headers": headers(endpoint),
        "connect_seconds": settings.connect_timeout.map(|time| time.as_secs_f64()),
    })
}

fn image_object(image: &ImageExplanation) -> Value {
    let document = |document: &unlade_pull::DocumentState| json!({"kind": document.kind, "digest": document.digest, "size": document.size, "local": document.is_local});
    let layer = |layer: &LayerExplanation| {
        let LayerExplanation {
            blob, diff_id, state, ..
        } = layer;
        json!({
            "digest": blob.digest,
            "size": blob.size,
            "diff_id": diff_id,
            "blob": state.blob,
            "directory": state.directory,
            "partial": state.partial,
        })
    };
    json!({
        "digest": image.resolution.digest(),
        "documents": image.documents.iter().map(document).collect::<Vec<_>>(),
        "layers": image.layers.iter().map(layer).collect::<Vec<_>>(),
        "layers_present": image.layers_present,
        "bytes_local": image.bytes_local,
        "bytes_to_fetch": image.bytes_to_fetch,
    })
}

fn is_secure(endpoint: &EndpointDescription) -> bool {
    endpoint.settings.base.scheme() == "https"
}

fn role(endpoint: &EndpointDescription) -> &'static str {
    match endpoint.settings.role {
        Role::Mirror => "mirror",
        Role::Registry => "registry",
    }
}

fn capabilities(endpoint: &EndpointDescription) -> Vec<&'static str> {
    let capabilities = endpoint.settings.capabilities;
    let known = [(capabilities.pull, "pull"), (capabilities.resolve, "resolve")];
    known
        .into_iter()
        .filter_map(|(has, name)| has.then_some(name))
        .collect()
}

/// The names alone: values may be secrets.
fn headers(endpoint: &EndpointDescription) -> Vec<&str> {
    endpoint.settings.headers.keys().map(AsRef::<str>::as_ref).collect()
}

impl Report for Explained {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let explanation = &self.explanation;
        let reference = &explanation.reference;
        line(out, "reference", &reference.to_string())?;
        if let Some(alias) = reference.aliased_from() {
            line(
                out,
                "typed",
                &format!("{}, and {} is an alias of {}", self.typed, alias.named, alias.used),
            )?;
        }
        for (index, endpoint) in explanation.endpoints.iter().enumerate() {
            writeln!(out)?;
            endpoint_text(out, index + 1, endpoint)?;
        }
        writeln!(out)?;
        line(
            out,
            "platform",
            &format!("{} is wanted, by {}", explanation.wanted, self.platform_by),
        )?;
        let (state, digest) = recorded_as(&explanation.recorded);
        let at = digest.map(|digest| format!(", {digest}")).unwrap_or_default();
        match &explanation.image {
            Ok(image) => {
                line(out, "chosen", &chosen(image))?;
                line(out, "digest", &image.resolution.digest().to_string())?;
                line(out, "in the store", &format!("{state}{at}"))?;
                self.image_text(out, image)
            }
            Err(error) => {
                line(out, "in the store", &format!("{state}{at}"))?;
                line(out, "image", &format!("not to be had: {}", chain(error)))
            }
        }
    }
}

impl Explained {
    fn image_text(&self, out: &mut dyn Write, image: &ImageExplanation) -> io::Result<()> {
        for document in image.documents.iter().filter(|document| !document.is_local) {
            let size = quantity::bytes(document.size);
            line(
                out,
                "would fetch",
                &format!("{} {}, {size}", document.kind, document.digest),
            )?;
        }
        for layer in &image.layers {
            let size = quantity::bytes(layer.blob.size);
            let name = format!("layer {}, {size}", layer.blob.digest);
            match (layer.state.blob, layer.state.directory || !self.extract) {
                (true, true) => line(out, "has", &name)?,
                (true, false) => line(out, "would extract", &name)?,
                (false, _) if layer.state.partial > 0 => {
                    let there = quantity::bytes(layer.state.partial);
                    line(out, "would fetch", &format!("{name}, of which {there} are there"))?;
                }
                (false, _) => line(out, "would fetch", &name)?,
            }
        }
        let total = format!(
            "{} of layers to fetch, {} there",
            quantity::bytes(image.bytes_to_fetch),
            quantity::bytes(image.bytes_local)
        );
        line(out, "in all", &total)
    }
}

fn endpoint_text(out: &mut dyn Write, number: usize, endpoint: &EndpointDescription) -> io::Result<()> {
    let settings = &endpoint.settings;
    let only = match capabilities(endpoint)[..] {
        ["pull"] => ", for content by digest only",
        ["resolve"] => ", for tags only",
        [] => ", for nothing",
        _ => "",
    };
    line(
        out,
        &format!("{number}. {}", role(endpoint)),
        &format!("{}{only}", endpoint.url),
    )?;
    line(out, "   from", &settings.origin.to_string())?;
    if let Some(namespace) = &settings.namespace {
        line(out, "   asked for", namespace)?;
    }
    let login = match &endpoint.credentials {
        CredentialsNote::Sent { kind, source } => format!("{kind} from {source}"),
        CredentialsNote::Unavailable { warnings } => {
            let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
            format!("none: {}", warnings.join("; "))
        }
        _ => format!("none for {}", endpoint.repository),
    };
    line(out, "   login", &login)?;
    line(out, "   TLS", &tls_text(endpoint))?;
    if let Some(proxy) = &endpoint.proxy {
        line(out, "   through", proxy)?;
    }
    if !settings.headers.is_empty() {
        line(out, "   headers", &headers(endpoint).join(", "))?;
    }
    if let Some(time) = settings.connect_timeout {
        line(out, "   connects", &format!("within {}", quantity::duration(time)))?;
    }
    Ok(())
}

fn tls_text(endpoint: &EndpointDescription) -> String {
    if !is_secure(endpoint) {
        return "none, plain http".to_owned();
    }
    let tls = &endpoint.settings.tls;
    let mut text = if tls.skip_verify {
        "any certificate is accepted".to_owned()
    } else {
        "authorities of the system".to_owned()
    };
    for authority in tls.ca.iter().filter(|_| !tls.skip_verify) {
        text = format!("{text}, {}", authority.display());
    }
    for client in &tls.client {
        text = format!("{text}; client certificate {}", client.certificate.display());
    }
    text
}

fn chosen(image: &ImageExplanation) -> String {
    let platform = image.resolution.config().get().platform();
    match &image.choice {
        Choice::Offered { offered, exact } => {
            let offered: Vec<_> = offered.iter().map(ToString::to_string).collect();
            let why = if *exact {
                "exactly that"
            } else {
                "the nearest that runs there"
            };
            format!("{platform}, {why}, of {}", offered.join(", "))
        }
        _ => format!("{platform}, the only one there is"),
    }
}

/// One line, the name in a column of its own.
fn line(out: &mut dyn Write, name: &str, text: &str) -> io::Result<()> {
    writeln!(out, "{name:<14} {text}")
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}
