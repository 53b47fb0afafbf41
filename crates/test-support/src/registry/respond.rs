//! One request in, one response out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::auth::error_document;
use super::body::{self, Body, Shape, Transfer};
use super::content::{Content, OpenContent, Route};
use super::fault::{Effects, RedirectTo};
use super::referrers;
use super::server::Flushes;
use super::state::{Shared, State};
use crate::json;

/// Request bodies are forms of the token endpoint; more than this is no such form.
const MAX_REQUEST_BODY: usize = 1 << 20;

/// The connection closes without an answer.
#[derive(Debug)]
pub(super) struct NoResponse;

impl fmt::Display for NoResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is closed without an answer, on purpose")
    }
}

impl std::error::Error for NoResponse {}

/// A response before faults touch it.
pub(super) struct Reply {
    status: u16,
    pub(super) headers: HeaderMap,
    content: OpenContent,
    offset: u64,
    end: u64,
}

/// Answers a request.
pub(super) async fn respond(
    shared: Arc<Shared>,
    flushes: Arc<Flushes>,
    request: Request<Incoming>,
) -> Result<Response<Body>, NoResponse> {
    let (parts, incoming) = request.into_parts();
    let sent = Limited::new(incoming, MAX_REQUEST_BODY)
        .collect()
        .await
        .map_err(|_| NoResponse)?
        .to_bytes();
    let route = Route::of(parts.uri.path());
    let outcome = shared
        .lock()
        .log
        .note(&parts, route.clone(), sent.clone(), shared.started);
    let (reply, effects) = decide(&shared, &parts, &route, &sent);
    if let Some(delay) = effects.delay {
        tokio::time::sleep(delay).await;
    }
    if effects.no_response {
        return Err(NoResponse);
    }
    let mut reply = reply;
    for (name, value) in &effects.headers {
        reply.headers.insert(name, value.clone());
    }
    let true_length = reply.end - reply.offset;
    let length = effects.declared_length.unwrap_or(true_length);
    let mut shape = Shape::of(&effects);
    if length > true_length {
        shape.cut_at(true_length);
    }
    reply.end = reply.end.min(reply.offset + length);
    reply.headers.insert(header::CONTENT_LENGTH, length.into());
    for name in &effects.without_headers {
        reply.headers.remove(name);
    }
    outcome.status.store(reply.status, Ordering::Release);
    let is_blob = matches!(route, Route::Blob { .. });
    let body = if parts.method == Method::HEAD {
        body::empty()
    } else {
        let transfer = Transfer {
            content: reply.content,
            offset: reply.offset,
            end: reply.end,
            outcome,
            flushes,
            guard: is_blob.then(|| Box::new(shared.blob_gauge.enter()) as Box<dyn Send>),
            shape,
        };
        transfer.into_body()
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = reply.headers;
    Ok(response)
}

/// Finds the answer and what faults do to it.
fn decide(shared: &Shared, parts: &Parts, route: &Route, sent: &[u8]) -> (Reply, Effects) {
    let mut state = shared.lock();
    let repository = route.repository();
    if repository.is_some() || matches!(route, Route::Ping) {
        // A fault on the version check must strike clients that have no token yet.
        let access = if repository.is_none() {
            Ok(())
        } else {
            check(&state, shared, parts, repository)
        };
        if let Err(challenges) = access {
            return (unauthorized(challenges), Effects::default());
        }
    }
    let effects = state.faults.strike(&parts.method, route, parts.uri.path());
    if effects.unauthorized {
        return (
            unauthorized(state.access.challenges(repository, &shared.url(), None)),
            effects,
        );
    }
    if let Some((status, target)) = effects.redirect.clone() {
        let path = parts.uri.path().to_owned();
        // The other registry may be this one: its state must not be locked twice.
        drop(state);
        return (redirect(status, &target, &path), effects);
    }
    if let Some(reply) = overridden(&effects) {
        return (reply, effects);
    }
    let reply = match route {
        Route::Ping => check(&state, shared, parts, None).err().map_or_else(ping, unauthorized),
        Route::Token => token(&state, parts, sent),
        Route::Manifest { repository, reference } => manifest(&state, parts, repository, reference, &effects),
        Route::Blob { repository, digest } => blob(&mut state, parts, repository, digest, &effects),
        Route::Tags { repository } => tags(&state, parts, repository),
        Route::Referrers { repository, digest } => referrers::list(&state, parts, repository, digest),
        Route::Other => file(&mut state, parts, &effects),
    };
    (reply, effects)
}

fn check(state: &State, shared: &Shared, parts: &Parts, repository: Option<&str>) -> Result<(), Vec<String>> {
    state.access.check(&parts.headers, repository, &shared.url())
}

fn unauthorized(challenges: Vec<String>) -> Reply {
    let mut reply = error(401, "UNAUTHORIZED", "authentication required");
    for challenge in challenges {
        reply.headers.append(header::WWW_AUTHENTICATE, value(&challenge));
    }
    reply
}

fn overridden(effects: &Effects) -> Option<Reply> {
    match (effects.status, &effects.body) {
        (None, None) => None,
        (status, Some(body)) => Some(document(status.unwrap_or(200), "application/json", body.clone())),
        (Some(status), None) => {
            let (code, message) = match status {
                401 => ("UNAUTHORIZED", "authentication required"),
                403 => ("DENIED", "requested access to the resource is denied"),
                404 => ("NOT_FOUND", "not found"),
                405 => ("UNSUPPORTED", "the operation is unsupported"),
                429 => ("TOOMANYREQUESTS", "too many requests"),
                _ => ("UNKNOWN", "a fault of the fake registry"),
            };
            Some(error(status, code, message))
        }
    }
}

fn redirect(status: u16, target: &RedirectTo, path: &str) -> Reply {
    let location = match target {
        RedirectTo::Url(url) => url.clone(),
        RedirectTo::Presigned(storage) => {
            let query = storage.lock().signatures.get_or_insert_default().sign();
            format!("{}{path}?{query}", storage.url())
        }
    };
    let mut reply = document(status, "text/plain", Bytes::from_static(b"see elsewhere\n"));
    reply.headers.insert(header::LOCATION, value(&location));
    reply
}

fn ping() -> Reply {
    let mut reply = document(200, "application/json", Bytes::from_static(b"{}"));
    reply.headers.insert(
        "docker-distribution-api-version",
        HeaderValue::from_static("registry/2.0"),
    );
    reply
}

fn token(state: &State, parts: &Parts, sent: &[u8]) -> Reply {
    match &state.access {
        super::auth::Access::Token(auth) => {
            let (status, answer) = auth.answer(&parts.method, parts.uri.query(), &parts.headers, sent);
            json_document(status, &answer)
        }
        _ => error(404, "NOT_FOUND", "there is no token endpoint here"),
    }
}

fn manifest(state: &State, parts: &Parts, repository: &str, reference: &str, effects: &Effects) -> Reply {
    let Some(known) = state.repositories.get(repository) else {
        return error(404, "NAME_UNKNOWN", "repository name not known to registry");
    };
    let Some((digest, stored)) = known.manifest(reference) else {
        return error(404, "MANIFEST_UNKNOWN", "manifest unknown");
    };
    if !accepts(&parts.headers, &stored.media_type) {
        return error(
            404,
            "MANIFEST_UNKNOWN",
            &format!("the Accept header does not list {}", stored.media_type),
        );
    }
    let bytes = effects.content.clone().unwrap_or(stored.bytes);
    let mut reply = document(200, &stored.media_type, bytes);
    reply
        .headers
        .insert("docker-content-digest", value(&digest.to_string()));
    reply
}

/// Registries answer 404 to a client whose Accept list lacks the type of the manifest.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let mut listed = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .peekable();
    if listed.peek().is_none() {
        return true;
    }
    listed.flat_map(|list| list.split(',')).any(|item| {
        let item = item.split(';').next().unwrap_or_default().trim();
        item == media_type || item == "*/*" || item == "application/*"
    })
}

fn blob(state: &mut State, parts: &Parts, repository: &str, digest: &str, effects: &Effects) -> Reply {
    if let Some(refusal) = unsigned(state, parts) {
        return refusal;
    }
    let known = state.repositories.get(repository);
    let Some(content) = digest.parse().ok().and_then(|digest| known?.blobs.get(&digest)) else {
        return error(404, "BLOB_UNKNOWN", "blob unknown to registry");
    };
    let mut reply = ranged(content, parts, effects);
    reply.headers.insert("docker-content-digest", value(digest));
    reply
}

fn file(state: &mut State, parts: &Parts, effects: &Effects) -> Reply {
    let Some(content) = state.files.get(parts.uri.path()).cloned() else {
        return error(404, "NOT_FOUND", "nothing is here");
    };
    unsigned(state, parts).unwrap_or_else(|| ranged(&content, parts, effects))
}

/// Refuses a request without a good signature, as object stores do, if signatures are asked for.
fn unsigned(state: &mut State, parts: &Parts) -> Option<Reply> {
    const EXPIRED: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
        <Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>\n";
    let signatures = state.signatures.as_mut()?;
    let good = signatures.accept(parts.uri.query());
    (!good).then(|| document(403, "application/xml", Bytes::from_static(EXPIRED.as_bytes())))
}

fn ranged(content: &Content, parts: &Parts, effects: &Effects) -> Reply {
    let content = effects.content.clone().map_or_else(|| content.clone(), Content::Memory);
    let open = match content.open() {
        Ok(open) => open,
        Err(failure) => return error(500, "UNKNOWN", &failure.to_string()),
    };
    let length = open.length();
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let range = parts.headers.get(header::RANGE).filter(|_| !effects.ignore_range);
    match range.map(|range| parse_range(range, length)) {
        None | Some(RequestedRange::Whole) => Reply {
            status: 200,
            headers,
            content: open,
            offset: 0,
            end: length,
        },
        Some(RequestedRange::Part { offset, end }) => {
            let text = format!("bytes {offset}-{}/{length}", end - 1);
            headers.insert(header::CONTENT_RANGE, value(&text));
            Reply {
                status: 206,
                headers,
                content: open,
                offset,
                end,
            }
        }
        Some(RequestedRange::Unsatisfiable) => {
            let mut reply = error(416, "RANGE_INVALID", "invalid range");
            reply
                .headers
                .insert(header::CONTENT_RANGE, value(&format!("bytes */{length}")));
            reply
        }
    }
}

enum RequestedRange {
    Whole,
    Part { offset: u64, end: u64 },
    Unsatisfiable,
}

/// Reads a `Range` header (RFC 9110, 14.1.2); several ranges or nonsense mean the whole.
fn parse_range(range: &HeaderValue, length: u64) -> RequestedRange {
    let parsed = range
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("bytes=")?.split_once('-'));
    let (offset, end) = match parsed {
        Some(("", last)) => match last.parse::<u64>() {
            Ok(last) => (length.saturating_sub(last), length),
            Err(_) => return RequestedRange::Whole,
        },
        Some((first, last)) => match (first.parse(), last) {
            (Ok(first), "") => (first, length),
            (Ok(first), last) => match last.parse::<u64>() {
                Ok(last) if last >= first => (first, last.saturating_add(1).min(length)),
                _ => return RequestedRange::Whole,
            },
            (Err(_), _) => return RequestedRange::Whole,
        },
        None => return RequestedRange::Whole,
    };
    if offset < length {
        RequestedRange::Part { offset, end }
    } else {
        RequestedRange::Unsatisfiable
    }
}

fn tags(state: &State, parts: &Parts, repository: &str) -> Reply {
    let Some(known) = state.repositories.get(repository) else {
        return error(404, "NAME_UNKNOWN", "repository name not known to registry");
    };
    let query: Vec<_> = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
        .into_owned()
        .collect();
    let field = |wanted: &str| {
        query
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_str())
    };
    let last = field("last").unwrap_or_default();
    let asked = field("n").and_then(|n| n.parse::<usize>().ok());
    let size = [asked, state.page_size]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(usize::MAX);
    let mut rest = known.tags.keys().filter(|tag| tag.as_str() > last);
    let page: Vec<_> = rest.by_ref().take(size).collect();
    let mut reply = json_document(200, &json!({"name": repository, "tags": page}));
    if rest.next().is_some()
        && let Some(end) = page.last()
    {
        let link = format!("</v2/{repository}/tags/list?n={size}&last={end}>; rel=\"next\"");
        reply.headers.insert(header::LINK, value(&link));
    }
    reply
}

pub(super) fn error(status: u16, code: &str, message: &str) -> Reply {
    json_document(status, &error_document(code, message))
}

fn json_document(status: u16, document_value: &Value) -> Reply {
    document(status, "application/json", json::to_bytes(document_value))
}

pub(super) fn document(status: u16, media_type: &str, bytes: Bytes) -> Reply {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, value(media_type));
    let end = bytes.len() as u64;
    Reply {
        status,
        headers,
        content: OpenContent::Memory(bytes),
        offset: 0,
        end,
    }
}

pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("not-a-header-value"))
}
