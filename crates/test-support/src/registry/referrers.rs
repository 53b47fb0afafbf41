//! Who refers to a manifest (distribution-spec, *Listing Referrers*).

use http::header;
use http::request::Parts;
use serde_json::{Value, json};
use unlade_oci::{Digest, MediaType};

use super::respond::{Reply, document, error, value};
use super::state::State;
use crate::image::StoredManifest;
use crate::json;

/// How much of the referrers API a registry has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReferrersApi {
    /// All of it.
    #[default]
    Full,
    /// It lists, and leaves the filter by type to its clients.
    Unfiltered,
    /// None: 404.
    Missing,
}

/// Answers with an index of the manifests whose subject is `digest`.
pub(super) fn list(state: &State, parts: &Parts, repository: &str, digest: &str) -> Reply {
    if state.referrers == ReferrersApi::Missing {
        return error(404, "NOT_FOUND", "there is no such endpoint here");
    }
    let query: Vec<_> = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
        .into_owned()
        .collect();
    let field = |wanted: &str| {
        query
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_str())
    };
    let wanted = field("artifactType").filter(|_| state.referrers == ReferrersApi::Full);
    let known = state.repositories.get(repository);
    let mut all: Vec<Value> = known
        .into_iter()
        .flat_map(|known| &known.manifests)
        .filter_map(|(own, stored)| descriptor(own, stored, digest))
        .filter(|referrer| wanted.is_none_or(|wanted| referrer["artifactType"] == wanted))
        .collect();
    let start = field("start").and_then(|start| start.parse().ok()).unwrap_or(0);
    let mut rest = all.split_off(usize::min(start, all.len()));
    let size = state.page_size.unwrap_or(usize::MAX);
    let more = rest.len() > size;
    rest.truncate(size);
    let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX.as_str(), "manifests": rest});
    let mut reply = document(200, MediaType::OCI_INDEX.as_str(), json::to_bytes(&index));
    if wanted.is_some() {
        reply.headers.insert("oci-filters-applied", value("artifactType"));
    }
    if more {
        let encoded = |wanted: &str| url::form_urlencoded::byte_serialize(wanted.as_bytes()).collect::<String>();
        let filter = wanted.map_or_else(String::new, |wanted| format!("&artifactType={}", encoded(wanted)));
        let link = format!(
            "</v2/{repository}/referrers/{digest}?start={}{filter}>; rel=\"next\"",
            start + size
        );
        reply.headers.insert(header::LINK, value(&link));
    }
    reply
}

fn descriptor(own: &Digest, stored: &StoredManifest, subject: &str) -> Option<Value> {
    let manifest: Value = serde_json::from_slice(&stored.bytes).ok()?;
    if manifest["subject"]["digest"] != subject {
        return None;
    }
    let artifact_type = match &manifest["artifactType"] {
        Value::Null => &manifest["config"]["mediaType"],
        given => given,
    };
    Some(json!({
        "mediaType": stored.media_type,
        "digest": own.to_string(),
        "size": stored.bytes.len(),
        "artifactType": artifact_type,
        "annotations": manifest.get("annotations").cloned().unwrap_or_else(|| json!({})),
    }))
}
