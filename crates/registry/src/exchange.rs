//! What a failed request was, for its error.

use std::fmt;

use http::Method;
use unlade_auth::{Lookup, Warning};
use url::Url;

use crate::{Attempts, Proxy, SafeUrl};

/// A request as an error tells it: method, URL, and how often it was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exchange {
    /// The method.
    pub method: Method,
    /// Where the request went; after a redirect, where that led.
    pub url: SafeUrl,
    /// The proxy that it went through, if any.
    pub proxy: Option<Proxy>,
    /// How often it was tried, and how long between.
    pub attempts: Attempts,
}

impl Exchange {
    pub(crate) fn new(method: &Method, url: &Url) -> Box<Self> {
        Box::new(Self {
            method: method.clone(),
            url: url.into(),
            proxy: None,
            attempts: Attempts::default(),
        })
    }

    pub(crate) fn through(mut self: Box<Self>, proxy: Option<&Proxy>) -> Box<Self> {
        self.proxy = proxy.cloned();
        self
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)?;
        match &self.proxy {
            Some(proxy) => write!(f, " through the proxy {proxy}"),
            None => Ok(()),
        }
    }
}

/// Whether credentials were sent with a request, and whose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialsNote {
    /// None were sent.
    #[default]
    Anonymous,
    /// None were sent, since none could be had.
    Unavailable {
        /// What went wrong with the sources of credentials.
        warnings: Vec<Warning>,
    },
    /// Some were sent.
    Sent {
        /// What kind: `password`, `identity token`, `registry token`.
        kind: &'static str,
        /// Where they were found.
        source: String,
    },
}

impl CredentialsNote {
    pub(crate) fn of(lookup: &Lookup) -> Self {
        match &lookup.found {
            Some(found) => Self::Sent {
                kind: found.credential.kind(),
                source: found.source.to_string(),
            },
            None if lookup.warnings.is_empty() => Self::Anonymous,
            None => Self::Unavailable {
                warnings: lookup.warnings.clone(),
            },
        }
    }
}

impl fmt::Display for CredentialsNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("no credentials were sent"),
            Self::Unavailable { warnings } => {
                f.write_str("no credentials were sent")?;
                warnings.iter().try_for_each(|warning| write!(f, "; {warning}"))
            }
            Self::Sent { kind, source } => write!(f, "the {kind} from {source} was sent"),
        }
    }
}
