//! Why a text is not a reference: which part, where, and what is the matter.

use std::fmt;

use unlade_oci::{DigestError, ErrorClass};

/// The part of a reference that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Part {
    /// The host, with its port.
    Registry,
    /// The path below the registry.
    Repository,
    /// What follows the colon.
    Tag,
    /// What follows the `@`.
    Digest,
    /// All of it.
    Whole,
}

impl Part {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Repository => "repository",
            Self::Tag => "tag",
            Self::Digest => "digest",
            Self::Whole => "text",
        }
    }

    /// Returns what the part is made of, as a clause.
    const fn alphabet(self) -> &'static str {
        match self {
            Self::Registry => "a registry is made of letters, digits, '.' and '-', perhaps with a port",
            Self::Repository => "a repository is made of lower-case letters, digits, '.', '_', '-' and '/'",
            Self::Tag => "a tag is made of letters, digits, '_', '.' and '-'",
            Self::Digest => "a digest has the form algorithm:hex, the hexadecimal digits in lower case",
            Self::Whole => "a reference has the form [registry/]repository[:tag][@digest]",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is the matter with a part.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// It is empty.
    Empty,
    /// It has a character that it may not have, or not there.
    Character {
        /// The character.
        found: char,
    },
    /// A repository has an upper-case letter.
    Uppercase {
        /// The letter.
        found: char,
    },
    /// A component of a path, or a label of a host, is empty.
    EmptyComponent,
    /// A separator stands first, last or next to another one.
    Separator {
        /// The separator, or as much of it as is too much.
        found: char,
    },
    /// It is longer than allowed.
    TooLong {
        /// The limit in characters.
        limit: usize,
    },
    /// What follows the colon of a host is not a port.
    Port,
    /// What is in brackets is not an IPv6 address.
    Ipv6,
    /// It would be read as a directory of the default registry.
    NotARegistry,
    /// It is 64 hexadecimal digits, which docker takes for the ID of an image.
    ImageId,
    /// It begins like a URL.
    Scheme,
    /// It is not a digest.
    Digest(DigestError),
}

/// A text is not a reference, or not the part of one that it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub(crate) subject: Part,
    pub(crate) text: Box<str>,
    pub(crate) fault: Fault,
}

/// The part, position and problem, before the whole text is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) part: Part,
    pub(crate) position: usize,
    pub(crate) problem: Problem,
}

impl Fault {
    pub(crate) const fn new(part: Part, position: usize, problem: Problem) -> Self {
        Self {
            part,
            position,
            problem,
        }
    }

    /// Returns the error about `text`, which was to be a `subject`.
    pub(crate) fn of(self, subject: Part, text: &str) -> ParseError {
        debug_assert!(text.is_char_boundary(self.position), "{self:?} in {text:?}");
        ParseError {
            subject,
            text: text.into(),
            fault: self,
        }
    }
}

impl ParseError {
    /// Returns the part that is wrong.
    pub const fn part(&self) -> Part {
        self.fault.part
    }

    /// Returns where the text leaves the grammar: a byte position on a character's boundary, the length of the text if
    /// something is missing at its end.
    pub const fn position(&self) -> usize {
        self.fault.position
    }

    /// Returns what is the matter.
    pub const fn problem(&self) -> &Problem {
        &self.fault.problem
    }

    /// Returns the text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the class of the failure.
    pub const fn class(&self) -> ErrorClass {
        ErrorClass::Invalid
    }

    /// Returns two lines for a terminal: the text, and a caret under the position.
    ///
    /// What is not printable ASCII is shown escaped: so the caret stands where it should, the text cannot do anything to
    /// the terminal, and a Cyrillic letter does not pass for a Latin one.
    pub fn pointer(&self) -> String {
        let shown = |text: &str| -> String {
            text.chars()
                .flat_map(|c| {
                    if matches!(c, ' '..='~') {
                        vec![c]
                    } else {
                        c.escape_default().collect()
                    }
                })
                .collect()
        };
        let column = shown(&self.text[..self.fault.position]).len();
        format!("{}\n{:column$}^", shown(&self.text), "")
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = if self.subject == Part::Whole {
            "reference"
        } else {
            self.subject.as_str()
        };
        let Fault {
            part,
            position,
            problem,
        } = &self.fault;
        write!(f, "invalid {subject} {:?}: ", self.text)?;
        match problem {
            Problem::Empty => write!(f, "the {part} at position {position} is empty; {}", part.alphabet()),
            // Many that are not ASCII look like letters that are allowed.
            Problem::Character { found } if !found.is_ascii() => {
                let code = u32::from(*found);
                write!(
                    f,
                    "the {part} has {found:?} (U+{code:04X}) at position {position}; {}",
                    part.alphabet()
                )
            }
            Problem::Character { found } => {
                write!(
                    f,
                    "the {part} has {found:?} at position {position}; {}",
                    part.alphabet()
                )
            }
            Problem::Uppercase { found } => write!(
                f,
                "the {part} has the upper-case letter {found:?} at position {position}; the name of a {part} is all lower-case"
            ),
            Problem::EmptyComponent => write!(f, "a component of the {part} is empty at position {position}"),
            Problem::Separator { found } => write!(
                f,
                "the {part} has {found:?} at position {position}, where a letter or digit is due; {}",
                match part {
                    Part::Registry => "the labels of a host neither begin nor end with '-'",
                    _ => "components are joined by '.', '_', '__' or any number of '-'",
                }
            ),
            Problem::TooLong { limit } => {
                write!(
                    f,
                    "the {part} has more than {limit} characters, the first too many at position {position}"
                )
            }
            Problem::Port => write!(
                f,
                "the registry has no valid port at position {position}; a port is a number from 1 to 65535"
            ),
            Problem::Ipv6 => write!(
                f,
                "the registry has no IPv6 address at position {position}; in brackets there is one, as in [2001:db8::1]"
            ),
            Problem::NotARegistry => write!(
                f,
                "a name without '.', ':' or upper-case letter would be read as part of a repository; a port makes it a registry, as in {}:443",
                self.text.escape_debug()
            ),
            Problem::ImageId => f.write_str(
                "64 hexadecimal digits are the ID of an image, not a name; a digest is written repository@sha256:hex",
            ),
            Problem::Scheme => write!(
                f,
                "it has a scheme that ends at position {position}; a reference is no URL, it has the form [registry/]repository[:tag][@digest]"
            ),
            Problem::Digest(source) => write!(f, "the digest is wrong at position {position}: {source}"),
        }
    }
}

// The digest's own error is in the sentence, so it is not a source besides.
impl std::error::Error for ParseError {}
