//! Tags.

use std::fmt;
use std::str::FromStr;

use crate::error::{ParseError, Part};
use crate::grammar;
use crate::text::serde_as_text;

/// A tag: a name that a repository may move from one image to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

impl Tag {
    /// Returns `latest`, the tag meant where neither tag nor digest is given.
    pub fn latest() -> Self {
        Self("latest".into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes a text that the grammar has checked.
    pub(crate) fn checked(text: &str) -> Self {
        Self(text.into())
    }
}

impl AsRef<str> for Tag {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        grammar::check_tag(text, 0).map_err(|fault| fault.of(Part::Tag, text))?;
        Ok(Self::checked(text))
    }
}

serde_as_text!(Tag, |text| text.parse());
