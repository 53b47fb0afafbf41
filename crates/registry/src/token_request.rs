//! Asking a token server (distribution's `token.md` and `oauth.md`).

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use unlade_auth::{Credential, Found, Lookup, Secret};
use url::Url;
use url::form_urlencoded::Serializer;

use crate::attempt::{self, Reply, Via};
use crate::body::{Body, ReadError};
use crate::client::Shared;
use crate::response::{content_type, is_page};
use crate::retry::{Failure, Retrier};
use crate::scope::ScopeSet;
use crate::token::Issued;
use crate::transport::Outgoing;
use crate::{CredentialsNote, Error, ErrorResponse};

/// The most that a token answer may have: tokens that list many rights reach some tens of kilobytes.
const MAX_TOKEN_ANSWER: u64 = 1 << 20;
/// What a token lives if the server does not say (distribution's `token.md`, `expires_in`).
const DEFAULT_LIFETIME: Duration = Duration::from_mins(1);
/// The name by which token servers know this program.
const CLIENT_ID: &str = "unlade";

/// What is asked of a token server.
#[derive(Debug)]
pub(crate) struct TokenRequest<'a> {
    pub(crate) realm: &'a Url,
    pub(crate) via: Via<'a>,
    pub(crate) service: Option<&'a str>,
    pub(crate) scopes: &'a ScopeSet,
    pub(crate) lookup: &'a Lookup,
}

// Not `Debug`: it holds a secret.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<serde_json::Value>,
}

impl TokenRequest<'_> {
    /// Asks, under the client's retry policy.
    pub(crate) async fn fetch(&self, shared: &Shared) -> Result<Issued, Error> {
        if let Some(Found {
            credential: Credential::IdentityToken(token),
            ..
        }) = &self.lookup.found
        {
            match self.ask(shared, || self.refresh_grant(token)).await {
                // Servers that know only the older way have no such page, or do not understand the form.
                Err(error)
                    if error
                        .response()
                        .is_some_and(|response| matches!(response.status.as_u16(), 400 | 404 | 405)) => {}
                answer => return answer,
            }
        }
        self.ask(shared, || self.get()).await
    }

    async fn ask(&self, shared: &Shared, outgoing: impl Fn() -> Outgoing) -> Result<Issued, Error> {
        let mut retrier = Retrier::new(shared.policy);
        loop {
            let asked = Instant::now();
            match self.attempt(shared, outgoing(), asked).await {
                Ok(issued) => return Ok(issued),
                Err(failure) => retrier.pause(failure).await?,
            }
        }
    }

    async fn attempt(&self, shared: &Shared, outgoing: Outgoing, asked: Instant) -> Result<Issued, Failure> {
        let reply = attempt::follow(shared, outgoing, HeaderMap::new(), self.via).await?;
        let exchange = reply.exchange();
        let status = reply.response.status();
        if status != StatusCode::OK {
            return Err(self.refused(shared, reply).await);
        }
        let headers = reply.response.headers().clone();
        let body = Body::new(reply.response.into_body(), shared.transport.timeouts());
        let body = body.read_all(MAX_TOKEN_ANSWER).await.map_err(|error| match error {
            ReadError::Transport(source) => attempt::broken(exchange.clone(), source, 0),
            ReadError::TooLarge => {
                let (document, limit) = ("token answer", MAX_TOKEN_ANSWER);
                Error::TooLarge {
                    exchange: exchange.clone(),
                    document,
                    limit,
                }
                .into()
            }
        })?;
        parse(&body, asked).map_err(|reason| {
            let content_type = content_type(&headers);
            Failure::last(if is_page(&content_type) || crate::response::looks_like_page(&body) {
                Error::Page {
                    exchange,
                    content_type,
                    due: "a token",
                }
            } else {
                Error::Malformed {
                    exchange,
                    document: "token answer",
                    reason,
                }
            })
        })
    }

    async fn refused(&self, shared: &Shared, reply: Reply) -> Failure {
        let exchange = reply.exchange();
        let (parts, incoming) = reply.response.into_parts();
        let body = Body::new(incoming, shared.transport.timeouts())
            .read_start(crate::response::MAX_ERROR_BYTES)
            .await;
        let response = Box::new(ErrorResponse::new(parts.status, &parts.headers, &body));
        if let Some(failure) = attempt::transient(&exchange, &parts.headers, &response) {
            return failure;
        }
        let credentials = Box::new(CredentialsNote::of(self.lookup));
        Failure::last(Error::TokenRefused {
            exchange,
            response,
            credentials,
        })
    }

    /// `GET`, with a name and a password as HTTP Basic.
    fn get(&self) -> Outgoing {
        let mut url = self.realm.clone();
        let mut headers = HeaderMap::new();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = self.service {
                query.append_pair("service", service);
            }
            for scope in self.scopes.iter() {
                query.append_pair("scope", &scope);
            }
            let pair = match self.lookup.found.as_ref().map(|found| &found.credential) {
                Some(Credential::Basic { username, password }) => Some((username.as_str(), password)),
                // Servers that take an identity token here expect it as the password of nobody.
                Some(Credential::IdentityToken(token)) => Some(("", token)),
                _ => None,
            };
            if let Some((username, password)) = pair {
                if !username.is_empty() {
                    query.append_pair("account", username);
                }
                headers.insert(header::AUTHORIZATION, basic(username, password));
            }
        }
        if url.query() == Some("") {
            url.set_query(None);
        }
        Outgoing {
            method: Method::GET,
            url,
            headers,
            body: Bytes::new(),
        }
    }

    /// `POST` of an OAuth 2 refresh token (RFC 6749, 6).
    fn refresh_grant(&self, token: &Secret) -> Outgoing {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token")
            .append_pair("client_id", CLIENT_ID);
        if let Some(service) = self.service {
            form.append_pair("service", service);
        }
        form.append_pair("scope", &self.scopes.to_string())
            .append_pair("refresh_token", token.expose());
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        Outgoing {
            method: Method::POST,
            url: self.realm.clone(),
            headers,
            body: form.finish().into(),
        }
    }
}

/// Returns the header of HTTP Basic (RFC 7617), marked so that nothing prints it.
pub(crate) fn basic(username: &str, password: &Secret) -> HeaderValue {
    sensitive("Basic ", &STANDARD.encode(format!("{username}:{}", password.expose())))
        // Base64 is ASCII.
        .unwrap_or_else(|| HeaderValue::from_static(""))
}

/// Returns the header of a Bearer token (RFC 6750), marked so that nothing prints it; `None` if the token cannot stand
/// in a header.
pub(crate) fn bearer(token: &Secret) -> Option<HeaderValue> {
    sensitive("Bearer ", token.expose())
}

fn sensitive(scheme: &str, value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("{scheme}{value}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn parse(body: &[u8], asked: Instant) -> Result<Issued, String> {
    // The parser's own text may quote the answer, and the answer is a secret.
    let answer: Answer = serde_json::from_slice(body).map_err(|error| {
        format!(
            "not the expected JSON, line {}, column {}",
            error.line(),
            error.column()
        )
    })?;
    let filled = |token: Option<String>| token.filter(|token| !token.is_empty());
    let value = filled(answer.token)
        .or_else(|| filled(answer.access_token))
        .ok_or("it holds no token")?;
    Ok(Issued {
        value: value.into(),
        asked,
        lifetime: lifetime(answer.expires_in.as_ref()),
    })
}

/// Reads `expires_in`, which some servers send as a text or a fraction.
fn lifetime(value: Option<&serde_json::Value>) -> Duration {
    let seconds = match value {
        Some(serde_json::Value::Number(number)) => number.as_f64(),
        Some(serde_json::Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    let year = 31_536_000.0;
    seconds
        .filter(|&seconds| seconds > 0.0)
        .map_or(DEFAULT_LIFETIME, |seconds| Duration::from_secs_f64(seconds.min(year)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let parse = |text: &str| {
            parse(text.as_bytes(), Instant::now())
                .map(|issued| (issued.value.expose().to_owned(), issued.lifetime.as_secs()))
        };
        assert_eq!(parse(r#"{"token": "t"}"#), Ok(("t".into(), 60)));
        assert_eq!(
            parse(r#"{"access_token": "a", "expires_in": 300}"#),
            Ok(("a".into(), 300))
        );
        assert_eq!(
            parse(r#"{"token": "t", "access_token": "a", "expires_in": "90"}"#),
            Ok(("t".into(), 90))
        );
        assert_eq!(
            parse(r#"{"token": "", "access_token": "a", "expires_in": 0}"#),
            Ok(("a".into(), 60))
        );
        assert_eq!(parse(r#"{"token": null}"#), Err("it holds no token".into()));
        assert!(!parse(r#"{"token": hunter2}"#).unwrap_err().contains("hunter2"));
        assert!(!parse(r#"{"token": {"x": "hunter2"}}"#).unwrap_err().contains("hunter2"));
    }

    #[test]
    fn headers_do_not_print() {
        let header = basic("u", &"hunter2".into());
        assert_eq!(header, "Basic dTpodW50ZXIy");
        assert_eq!(format!("{header:?}"), "Sensitive");
        assert_eq!(bearer(&"a\nb".into()), None);
    }
}
