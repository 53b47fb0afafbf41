//! TOML files read by hand, so that whatever is wrong in them has a line.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, Origin};

/// Reads a file that may be missing.
pub(super) fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(unreadable(path, error)),
    }
}

pub(crate) fn unreadable(path: &Path, error: io::Error) -> ConfigError {
    ConfigError::Read {
        path: path.to_owned(),
        source: Arc::new(error),
    }
}

/// The file that something stands in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Document<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl<'a> Document<'a> {
    pub(super) fn parse(self) -> Result<Table<'a>, ConfigError> {
        let table = DeTable::parse(self.text)
            .map_err(|error| self.invalid(&error.span().unwrap_or_default(), error.message()))?;
        Ok(Table {
            document: self,
            entries: sorted(table.into_inner()),
        })
    }

    pub(super) fn line(self, span: &Range<usize>) -> usize {
        let start = span.start.min(self.text.len());
        self.text[..self.text.floor_char_boundary(start)].matches('\n').count() + 1
    }

    pub(super) fn invalid(self, span: &Range<usize>, message: impl Into<String>) -> ConfigError {
        ConfigError::Invalid {
            path: self.path.to_owned(),
            line: self.line(span),
            message: message.into(),
        }
    }

    pub(super) fn origin(self, span: &Range<usize>) -> Origin {
        Origin::File {
            path: self.path.to_owned(),
            line: self.line(span),
        }
    }
}

/// A table whose entries are taken one by one, in the order of the file.
#[derive(Debug)]
pub(super) struct Table<'a> {
    document: Document<'a>,
    entries: Vec<Entry<'a>>,
}

/// A key and its value.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) key: String,
    /// Where the key stands.
    pub(super) span: Range<usize>,
    value: Spanned<DeValue<'a>>,
}

/// The parser sorts keys by name; where they stand says in which order they were written.
fn sorted(table: DeTable<'_>) -> Vec<Entry<'_>> {
    let entries = table.into_iter().map(|(key, value)| Entry {
        span: key.span(),
        key: key.into_inner().into_owned(),
        value,
    });
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(|entry| entry.span.start);
    entries
}

impl<'a> Table<'a> {
    pub(super) fn document(&self) -> Document<'a> {
        self.document
    }

    /// Takes an entry out.
    pub(super) fn take(&mut self, key: &str) -> Option<Value<'a>> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        let Entry { key, span, value } = self.entries.remove(index);
        Some(Value {
            document: self.document,
            key,
            span,
            content: value,
        })
    }

    /// Takes all entries out.
    pub(super) fn into_entries(self) -> impl Iterator<Item = Value<'a>> {
        let document = self.document;
        self.entries.into_iter().map(move |entry| Value {
            document,
            key: entry.key,
            span: entry.span,
            content: entry.value,
        })
    }

    /// Says that whatever has not been taken out does not belong here.
    pub(super) fn finish(self, known: &[&str]) -> Result<(), ConfigError> {
        let Some(entry) = self.entries.first() else {
            return Ok(());
        };
        let known: BTreeSet<_> = known.iter().copied().collect();
        let known: Vec<_> = known.into_iter().collect();
        Err(self.document.invalid(
            &entry.span,
            format!("unknown key {:?}; known here: {}", entry.key, known.join(", ")),
        ))
    }
}

/// A value and the key that it was written under.
#[derive(Debug)]
pub(super) struct Value<'a> {
    document: Document<'a>,
    pub(super) key: String,
    /// Where the key stands.
    pub(super) span: Range<usize>,
    content: Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    pub(super) fn invalid(&self, message: impl std::fmt::Display) -> ConfigError {
        self.document.invalid(&self.span, format!("{}: {message}", self.key))
    }

    fn wrong(&self, wanted: &str) -> ConfigError {
        self.invalid(format_args!(
            "{wanted} is wanted, not a value of type {}",
            self.content.get_ref().type_str()
        ))
    }

    pub(super) fn origin(&self) -> Origin {
        self.document.origin(&self.span)
    }

    pub(super) fn string(&self) -> Result<String, ConfigError> {
        let text = self.content.get_ref().as_str().ok_or_else(|| self.wrong("a string"))?;
        Ok(text.to_owned())
    }

    pub(super) fn boolean(&self) -> Result<bool, ConfigError> {
        self.content
            .get_ref()
            .as_bool()
            .ok_or_else(|| self.wrong("true or false"))
    }

    /// A string, or a list of strings.
    pub(super) fn strings(&self) -> Result<Vec<String>, ConfigError> {
        match self.items() {
            None => Ok(vec![self.string()?]),
            Some(items) => items.iter().map(Self::string).collect(),
        }
    }

    /// The elements, if it is a list.
    pub(super) fn items(&self) -> Option<Vec<Value<'a>>> {
        let array = self.content.get_ref().as_array()?;
        let items = array.iter().map(|value| Value {
            document: self.document,
            key: self.key.clone(),
            span: value.span(),
            content: value.clone(),
        });
        Some(items.collect())
    }

    pub(super) fn table(self) -> Result<Table<'a>, ConfigError> {
        let wrong = self.wrong("a table");
        match self.content.into_inner() {
            DeValue::Table(table) => Ok(Table {
                document: self.document,
                entries: sorted(table),
            }),
            _ => Err(wrong),
        }
    }

    /// An array of tables (`[[registry]]`), each with the place where it begins.
    pub(super) fn tables(self) -> Result<Vec<(Range<usize>, Table<'a>)>, ConfigError> {
        let wrong = self.wrong("an array of tables");
        let Some(items) = self.items() else {
            return Err(wrong);
        };
        items
            .into_iter()
            .map(|item| Ok((item.span.clone(), item.table()?)))
            .collect()
    }
}

/// Makes a path absolute that a file gives relative to its own directory.
pub(super) fn beside(path: &Path, text: &str) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(text)
}
