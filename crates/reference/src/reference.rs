//! References: what names an image.

use std::fmt;
use std::str::FromStr;

use unlade_oci::{Digest, DigestError};

use crate::error::{Fault, ParseError, Part, Problem};
use crate::grammar;
use crate::text::serde_as_text;
use crate::{Alias, Defaults, Registry, Repository, Tag};

/// A complete reference to an image: a repository with a tag, a digest or both.
///
/// With both, the digest decides which image is meant; the tag is kept to be shown and recorded. Displayed, a reference
/// is in its canonical form, which parses to the same reference whatever the defaults are, as long as they make no alias
/// of its registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    repository: Repository,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference as a person types it, and completes it by `defaults`; see [`Repository::parse`] for what
    /// happens to the name. Without tag and digest, the tag is `latest`.
    pub fn parse(text: &str, defaults: &Defaults) -> Result<Self, ParseError> {
        Self::read(text, defaults).map_err(|fault| fault.of(Part::Whole, text))
    }

    /// Returns the reference to what a tag of a repository names.
    pub const fn tagged(repository: Repository, tag: Tag) -> Self {
        Self {
            repository,
            tag: Some(tag),
            digest: None,
        }
    }

    /// Returns the reference to an image of a repository by its digest.
    pub const fn digested(repository: Repository, digest: Digest) -> Self {
        Self {
            repository,
            tag: None,
            digest: Some(digest),
        }
    }

    /// Returns the reference with `digest` as its digest; a tag is kept.
    #[must_use]
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Returns the reference with `tag` as its tag; a digest is kept, and decides.
    #[must_use]
    pub fn with_tag(mut self, tag: Tag) -> Self {
        self.tag = Some(tag);
        self
    }

    /// Returns the repository.
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Returns the registry.
    pub const fn registry(&self) -> &Registry {
        self.repository.registry()
    }

    /// Returns the tag; there is always a tag or a digest.
    pub const fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// Returns the digest; there is always a tag or a digest.
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns the name by which the registry was called, if that was an alias.
    ///
    /// An alias surprises where the image is not one of docker's own ([`Repository::is_official`]): anybody may have
    /// put it on the registry that is meant.
    pub const fn aliased_from(&self) -> Option<&Alias> {
        self.repository.aliased_from()
    }

    /// Returns the shortest text that means this reference without any configuration, with its tag and digest: what
    /// docker shows.
    pub fn familiar(&self) -> String {
        self.with_name(&self.repository.familiar())
    }

    fn with_name(&self, name: &str) -> String {
        let mut text = name.to_owned();
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag.as_str());
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }

    fn read(text: &str, defaults: &Defaults) -> Result<Self, Fault> {
        if text.is_empty() {
            return Err(Fault::new(Part::Whole, 0, Problem::Empty));
        }
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Fault::new(Part::Whole, 0, Problem::ImageId));
        }
        let (before_digest, digest) = match text.split_once('@') {
            Some((before, digest)) => (before, Some(digest)),
            None => (text, None),
        };
        let tag_colon = tag_colon(before_digest);
        let name = &before_digest[..tag_colon.unwrap_or(before_digest.len())];
        let repository = Repository::read(name, defaults)?;
        let tag = match tag_colon {
            Some(colon) => {
                let tag = &before_digest[colon + 1..];
                grammar::check_tag(tag, colon + 1)?;
                Some(Tag::checked(tag))
            }
            None => None,
        };
        let digest = digest
            .map(|digest| read_digest(digest, before_digest.len() + 1))
            .transpose()?;
        let tag = tag.or_else(|| digest.is_none().then(Tag::latest));
        Ok(Self {
            repository,
            tag,
            digest,
        })
    }
}

/// Returns where the colon before the tag is: the first one that is no port's.
fn tag_colon(text: &str) -> Option<usize> {
    let path = match text.split_once('/') {
        Some((first, _)) if grammar::is_registry(first) => first.len() + 1,
        _ => 0,
    };
    text[path..].find(':').map(|colon| path + colon)
}

fn read_digest(text: &str, start: usize) -> Result<Digest, Fault> {
    if text.is_empty() {
        return Err(Fault::new(Part::Digest, start, Problem::Empty));
    }
    text.parse().map_err(|source| {
        let (within, problem) = match source {
            DigestError::NotHex { position, found } => (position, Problem::Character { found }),
            // What is missing is missing at the end; what is too much begins after the last digit that is due.
            DigestError::WrongLength { algorithm, .. } => {
                let due = algorithm.as_str().len() + 1 + algorithm.hex_len();
                (due.min(text.len()), Problem::Digest(source))
            }
            DigestError::NoSeparator => (text.len(), Problem::Digest(source)),
            _ => (0, Problem::Digest(source)),
        };
        Fault::new(Part::Digest, start + within, problem)
    })
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_name(&self.repository.to_string()))
    }
}

impl FromStr for Reference {
    type Err = ParseError;

    /// Reads a reference with the [standard defaults](Defaults::standard).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, &Defaults::standard())
    }
}

// What was written is canonical, and an alias of today must not change what was meant then.
serde_as_text!(Reference, |text| Reference::parse(text, &Defaults::without_aliases()));
