//! What a registry said when it said no.

use std::fmt;

use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

/// How many bytes of an error body are kept.
pub(crate) const MAX_ERROR_BYTES: usize = 64 << 10;
/// How much of a text that is not the registry protocol's is shown.
const SHOWN_CHARACTERS: usize = 200;
/// How long an error document may be that a registry has written into a blob.
const MAX_APPENDED_BYTES: usize = 4 << 10;

/// An answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorResponse {
    /// The status.
    pub status: StatusCode,
    /// The body's type, without parameters; empty if none was given.
    pub content_type: String,
    /// The errors in the body, if it is what the distribution specification says (*Error Codes*).
    pub errors: Vec<RegistryError>,
    /// The body if it is something else; at most 64 KiB.
    pub text: String,
}

/// One error of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegistryError {
    /// The code: `MANIFEST_UNKNOWN`, `TOOMANYREQUESTS` …; may be empty.
    pub code: String,
    /// What the registry says for people; may be empty.
    pub message: String,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Vec<BodyError>,
    // What token servers and gateways answer instead.
    error: Option<String>,
    error_description: Option<String>,
    details: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct BodyError {
    code: Option<serde_json::Value>,
    message: Option<String>,
}

impl ErrorResponse {
    pub(crate) fn new(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let content_type = content_type(headers);
        let body = &body[..body.len().min(MAX_ERROR_BYTES)];
        let errors = parse(body);
        let text = if errors.is_empty() {
            String::from_utf8_lossy(body).trim().to_owned()
        } else {
            String::new()
        };
        Self {
            status,
            content_type,
            errors,
            text,
        }
    }

    /// Tells whether the body is a web page, which no registry sends.
    pub fn is_page(&self) -> bool {
        is_page(&self.content_type) || looks_like_page(self.text.as_bytes())
    }

    /// Tells whether one of the errors has this code.
    pub fn has_code(&self, code: &str) -> bool {
        self.errors.iter().any(|error| error.code.eq_ignore_ascii_case(code))
    }
}

impl fmt::Display for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.status.as_u16())?;
        if let Some(reason) = self.status.canonical_reason() {
            write!(f, " {reason}")?;
        }
        if !self.errors.is_empty() {
            for error in &self.errors {
                write!(f, ", {error}")?;
            }
        } else if self.is_page() {
            let content_type = if self.content_type.is_empty() {
                "HTML"
            } else {
                &self.content_type
            };
            write!(f, ", a web page ({content_type}) from a proxy or portal?")?;
        } else if !self.text.is_empty() {
            write!(f, ", {}", shorten(&self.text))?;
        }
        Ok(())
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code.as_str(), shorten(&self.message)) {
            ("", message) => f.write_str(&message),
            (code, message) if message.is_empty() => f.write_str(&shorten(code)),
            (code, message) => write!(f, "{}: {message}", shorten(code)),
        }
    }
}

/// Returns the media type of a `Content-Type`, lower case and without parameters.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Tells whether a media type is a web page's.
pub(crate) fn is_page(content_type: &str) -> bool {
    matches!(content_type, "text/html" | "application/xhtml+xml")
}

/// Tells whether bytes begin as a web page does. JSON and archives never begin with `<`.
pub(crate) fn looks_like_page(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    [&b"<!doctype"[..], b"<html", b"<head", b"<body", b"<!--", b"<?xml"]
        .iter()
        .any(|tag| {
            start
                .get(..tag.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(tag))
        })
}

/// Returns where an error document (distribution-spec, *Error Codes*) begins that is the last of `bytes`.
pub(crate) fn error_document_at_end(bytes: &[u8]) -> Option<usize> {
    const START: &[u8] = b"{\"errors\":[";
    let text = bytes.trim_ascii_end();
    // What is no end of one is told by two bytes.
    if !text.ends_with(b"]}") {
        return None;
    }
    let first = text.len().saturating_sub(MAX_APPENDED_BYTES);
    let at = text[first..].windows(START.len()).rposition(|window| window == START)? + first;
    serde_json::from_slice::<Body>(&text[at..]).is_ok().then_some(at)
}

fn parse(body: &[u8]) -> Vec<RegistryError> {
    let Ok(body) = serde_json::from_slice::<Body>(body) else {
        return Vec::new();
    };
    let code = |code: Option<serde_json::Value>| match code {
        Some(serde_json::Value::String(code)) => code,
        Some(other) if !other.is_null() => other.to_string(),
        _ => String::new(),
    };
    let mut errors: Vec<_> = body
        .errors
        .into_iter()
        .map(|error| RegistryError {
            code: code(error.code),
            message: error.message.unwrap_or_default(),
        })
        .collect();
    if errors.is_empty() {
        let message = body.error_description.or(body.details).or(body.message);
        if body.error.is_some() || message.is_some() {
            let (code, message) = (body.error.unwrap_or_default(), message.unwrap_or_default());
            errors.push(RegistryError { code, message });
        }
    }
    errors.retain(|error| !error.code.is_empty() || !error.message.is_empty());
    errors
}

/// Puts a text of somebody else on one line of bounded length, without control characters.
fn shorten(text: &str) -> String {
    let mut line = String::new();
    let words = text.split_whitespace().flat_map(|word| [" ", word]).skip(1);
    for (count, c) in words.flat_map(str::chars).filter(|c| !c.is_control()).enumerate() {
        if count == SHOWN_CHARACTERS {
            line.push('…');
            break;
        }
        line.push(c);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(status: u16, content_type: &'static str, body: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        ErrorResponse::new(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes()).to_string()
    }

    #[test]
    fn tells_what_the_registry_said() {
        let json = "application/json";
        let table = [
            (
                text(
                    404,
                    json,
                    r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#,
                ),
                "status 404 Not Found, MANIFEST_UNKNOWN: manifest unknown",
            ),
            (
                text(401, json, r#"{"details":"incorrect username or password"}"#),
                "status 401 Unauthorized, incorrect username or password",
            ),
            (
                text(400, json, r#"{"error":"invalid_grant","error_description":"no"}"#),
                "status 400 Bad Request, invalid_grant: no",
            ),
            (
                text(400, json, r#"{"errors":[{"code":7}]}"#),
                "status 400 Bad Request, 7",
            ),
            (
                text(429, "text/html; charset=utf-8", "<html><body>slow down</body></html>"),
                "status 429 Too Many Requests, a web page (text/html) from a proxy or portal?",
            ),
            (
                text(502, "", "  <!DOCTYPE html>"),
                "status 502 Bad Gateway, a web page (HTML) from a proxy or portal?",
            ),
            (
                text(500, "text/plain", "out\nof \u{1b}[31mmemory"),
                "status 500 Internal Server Error, out of [31mmemory",
            ),
            (text(500, "text/plain", ""), "status 500 Internal Server Error"),
        ];
        for (actual, expected) in table {
            assert_eq!(actual, expected);
        }
    }

    #[test]
    fn an_error_at_the_end_of_other_bytes_is_found() {
        let document = br#"{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"a":[1]}}]}"#;
        let after = |bytes: &[u8], end: &[u8]| error_document_at_end(&[bytes, document, end].concat());
        assert_eq!(after(b"", b""), Some(0));
        assert_eq!(after(b"\x1f\x8b content", b"\n"), Some(10));
        assert_eq!(after(br#"{"errors":[]} and {"errors":["#, b"\r\n"), Some(29));
        assert_eq!(after(b"", b" and more content"), None);
        assert_eq!(after(b"", b"]}"), None);
        assert_eq!(error_document_at_end(&document[1..]), None);
        assert_eq!(error_document_at_end(b""), None);
        assert_eq!(error_document_at_end(b"x]}"), None);
        let long = [document.as_slice(), &vec![b' '; MAX_APPENDED_BYTES], b"]}"].concat();
        assert_eq!(error_document_at_end(&long), None);
    }

    #[test]
    fn long_texts_are_kept_within_bounds() {
        let response = ErrorResponse::new(
            StatusCode::BAD_REQUEST,
            &HeaderMap::new(),
            "x".repeat(1 << 20).as_bytes(),
        );
        assert_eq!(response.text.len(), MAX_ERROR_BYTES);
        assert!(response.to_string().len() < 300);
    }
}
