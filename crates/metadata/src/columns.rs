//! How values of Rust stand in columns: both directions of each, in one place.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use rusqlite::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;
use unlade_oci::{Compression, Digest, MediaType, Platform};

use crate::error::Failure;

/// The most of a bad value that an error shows.
const SHOWN: usize = 80;

/// Returns a size as SQLite's signed integer; no real size is cut.
pub(crate) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Reads a size or count.
pub(crate) fn count(row: &Row<'_>, column: &str) -> Result<u64, Failure> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| bad("a size or count", &value.to_string()))
}

/// Returns `time` in milliseconds since 1970, as it is kept.
pub(crate) fn milliseconds(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

/// Returns the time now, as it is kept.
pub(crate) fn now() -> i64 {
    milliseconds(SystemTime::now())
}

/// Reads a time.
pub(crate) fn time(row: &Row<'_>, column: &str) -> Result<SystemTime, Failure> {
    let value: i64 = row.get(column)?;
    let distance = Duration::from_millis(value.unsigned_abs());
    let time = if value < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    time.ok_or_else(|| bad("a time", &value.to_string()))
}

/// Reads a digest.
pub(crate) fn digest(row: &Row<'_>, column: &str) -> Result<Digest, Failure> {
    parse_digest(row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?)
}

/// Reads a digest that may be NULL.
pub(crate) fn optional_digest(row: &Row<'_>, column: &str) -> Result<Option<Digest>, Failure> {
    row.get_ref(column)?
        .as_str_or_null()
        .map_err(rusqlite::Error::from)?
        .map(parse_digest)
        .transpose()
}

/// Parses a digest that was read.
pub(crate) fn parse_digest(text: &str) -> Result<Digest, Failure> {
    text.parse().map_err(|_| bad("a digest", text))
}

/// Reads a media type.
pub(crate) fn media_type(row: &Row<'_>, column: &str) -> Result<MediaType, Failure> {
    let text = row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?;
    text.parse().map_err(|_| bad("a media type", text))
}

/// Reads a compression.
pub(crate) fn compression(row: &Row<'_>, column: &str) -> Result<Compression, Failure> {
    let text = row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?;
    text.parse().map_err(|_| bad("a compression", text))
}

/// Returns a platform as it is kept: `os/architecture[/variant]`, or JSON if that would lose something.
///
/// The platform is normalised first, so that two spellings of one platform are one key.
pub(crate) fn platform_text(platform: &Platform) -> Result<String, Failure> {
    let platform = platform.normalized();
    let parts = [
        Some(&platform.os),
        Some(&platform.architecture),
        platform.variant.as_ref(),
    ];
    let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    let plain = platform.os_version.is_none()
        && platform.os_features.is_empty()
        && parts.iter().all(|part| !part.is_empty() && !part.contains(['/', '{']));
    if plain { Ok(parts.join("/")) } else { json(&platform) }
}

/// Reads a platform.
pub(crate) fn platform(row: &Row<'_>, column: &str) -> Result<Platform, Failure> {
    let text = row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?;
    if text.starts_with('{') {
        return serde_json::from_str(text).map_err(|_| bad("a platform", text));
    }
    let parts: Vec<&str> = text.split('/').collect();
    let (os, architecture, variant) = match parts[..] {
        [os, architecture] => (os, architecture, None),
        [os, architecture, variant] => (os, architecture, Some(variant.to_owned())),
        _ => return Err(bad("a platform", text)),
    };
    Ok(Platform {
        os: os.to_owned(),
        architecture: architecture.to_owned(),
        variant,
        os_version: None,
        os_features: Vec::new(),
    })
}

/// Returns `value` as JSON text.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Sql(rusqlite::Error::ToSqlConversionFailure(Box::new(error))))
}

/// Reads JSON text.
pub(crate) fn from_json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<T, Failure> {
    let text = row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?;
    serde_json::from_str(text).map_err(|_| bad("a JSON column", text))
}

/// Reads JSON text that may be NULL.
pub(crate) fn from_optional_json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<Option<T>, Failure> {
    let Some(text) = row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from)? else {
        return Ok(None);
    };
    serde_json::from_str(text)
        .map(Some)
        .map_err(|_| bad("a JSON column", text))
}

/// Reads annotations.
pub(crate) fn annotations(row: &Row<'_>) -> Result<BTreeMap<String, String>, Failure> {
    from_json(row, "annotations")
}

/// Makes the failure for a stored value that breaks the schema's promise.
pub(crate) fn bad(what: &'static str, value: &str) -> Failure {
    let mut end = value.len().min(SHOWN);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    Failure::Value {
        what,
        value: value[..end].to_owned(),
    }
}
