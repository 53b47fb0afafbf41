//! The grammar: checks of parts, each of which says at which byte of the whole text the part goes wrong.
//!
//! Every function takes the part and the position in the whole text at which it starts.

use std::net::Ipv6Addr;

use crate::error::{Fault, Part, Problem};

/// The greatest length of a path, in bytes; a valid path is ASCII.
pub(crate) const MAX_PATH: usize = 255;

/// The greatest length of a tag.
pub(crate) const MAX_TAG: usize = 128;

/// Returns whether a first component names a registry rather than a directory of the default registry's.
pub(crate) fn is_registry(component: &str) -> bool {
    component == "localhost" || component.contains(['.', ':']) || component.chars().any(char::is_uppercase)
}

/// Checks `host[:port]`.
pub(crate) fn check_registry(text: &str, start: usize) -> Result<(), Fault> {
    let fault = |at: usize, problem| Err(Fault::new(Part::Registry, start + at, problem));
    if text.is_empty() {
        return fault(0, Problem::Empty);
    }
    let (host, port) = split_port(text);
    if let Some(address) = host.strip_prefix('[') {
        let Some(address) = address.strip_suffix(']') else {
            return fault(0, Problem::Ipv6);
        };
        // Addresses with an IPv4 tail and zones are not part of the grammar.
        let is_plain = address.chars().all(|c| c.is_ascii_hexdigit() || c == ':');
        if !is_plain || address.parse::<Ipv6Addr>().is_err() {
            return fault(1, Problem::Ipv6);
        }
    } else {
        check_host_name(host, start)?;
    }
    match port {
        Some(port) if !is_port(port) => fault(host.len() + 1, Problem::Port),
        _ => Ok(()),
    }
}

/// Splits the port off, if there is a colon outside of brackets.
pub(crate) fn split_port(registry: &str) -> (&str, Option<&str>) {
    let host_end = if registry.starts_with('[') {
        registry.find(']').map_or(registry.len(), |at| at + 1)
    } else {
        0
    };
    match registry[host_end..].find(':') {
        Some(colon) => (&registry[..host_end + colon], Some(&registry[host_end + colon + 1..])),
        None => (registry, None),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port != 0)
}

fn check_host_name(host: &str, start: usize) -> Result<(), Fault> {
    let fault = |at: usize, problem| Err(Fault::new(Part::Registry, start + at, problem));
    if let Some((at, found)) = host
        .char_indices()
        .find(|(_, c)| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-'))
    {
        return fault(at, Problem::Character { found });
    }
    let mut at = 0;
    for label in host.split('.') {
        if label.is_empty() {
            return fault(at, Problem::EmptyComponent);
        }
        if label.starts_with('-') {
            return fault(at, Problem::Separator { found: '-' });
        }
        if label.ends_with('-') {
            return fault(at + label.len() - 1, Problem::Separator { found: '-' });
        }
        at += label.len() + 1;
    }
    Ok(())
}

/// Checks a path; `implied` bytes stand before it in the repository's full name (`library/`) and count for its length.
pub(crate) fn check_path(path: &str, start: usize, implied: usize) -> Result<(), Fault> {
    let fault = |at: usize, problem| Err(Fault::new(Part::Repository, start + at, problem));
    if path.is_empty() {
        return fault(0, Problem::Empty);
    }
    for (at, found) in path.char_indices() {
        match found {
            'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/' => {}
            _ if found.is_uppercase() => return fault(at, Problem::Uppercase { found }),
            _ => return fault(at, Problem::Character { found }),
        }
    }
    let mut at = 0;
    for component in path.split('/') {
        if component.is_empty() {
            return fault(at, Problem::EmptyComponent);
        }
        if let Some((within, found)) = misplaced_separator(component) {
            return fault(at + within, Problem::Separator { found });
        }
        at += component.len() + 1;
    }
    if implied + path.len() > MAX_PATH {
        return fault(MAX_PATH - implied, Problem::TooLong { limit: MAX_PATH });
    }
    Ok(())
}

/// Returns the first byte of a component where a letter or digit should be. The component has no other characters than
/// those of atoms and separators.
fn misplaced_separator(component: &str) -> Option<(usize, char)> {
    let bytes = component.as_bytes();
    let is_atom = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphanumeric);
    let mut at = 0;
    loop {
        if !is_atom(at) {
            // At the end of the component it is the last separator that is too much.
            let at = at.min(bytes.len() - 1);
            return Some((at, char::from(bytes[at])));
        }
        while is_atom(at) {
            at += 1;
        }
        at += match &bytes[at..] {
            [] => return None,
            [b'_', b'_', ..] => 2,
            [b'-', ..] => bytes[at..].iter().take_while(|byte| **byte == b'-').count(),
            _ => 1,
        };
    }
}

/// Checks a tag.
pub(crate) fn check_tag(tag: &str, start: usize) -> Result<(), Fault> {
    let fault = |at: usize, problem| Err(Fault::new(Part::Tag, start + at, problem));
    if tag.is_empty() {
        return fault(0, Problem::Empty);
    }
    for (at, found) in tag.char_indices() {
        let is_allowed = found.is_ascii_alphanumeric() || found == '_' || (at > 0 && matches!(found, '.' | '-'));
        if !is_allowed {
            return fault(at, Problem::Character { found });
        }
    }
    if tag.len() > MAX_TAG {
        fault(MAX_TAG, Problem::TooLong { limit: MAX_TAG })
    } else {
        Ok(())
    }
}
