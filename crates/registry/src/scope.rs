//! What a token may be used for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use unlade_reference::Repository;

/// A set of access scopes, `repository:library/alpine:pull` and the like, in one form whatever the order they came in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ScopeSet(BTreeMap<String, BTreeSet<String>>);

impl ScopeSet {
    /// Returns the scope of reading a repository.
    pub(crate) fn pull(repository: &Repository) -> Self {
        Self::parse(&format!("repository:{}:pull", repository.path()))
    }

    /// Parses scopes separated by blanks. A text without colons is a scope without actions.
    pub(crate) fn parse(text: &str) -> Self {
        let mut set = Self::default();
        for scope in text.split_whitespace() {
            let (resource, actions) = scope.rsplit_once(':').unwrap_or((scope, ""));
            let actions = actions
                .split(',')
                .filter(|action| !action.is_empty())
                .map(str::to_owned);
            set.0.entry(resource.to_owned()).or_default().extend(actions);
        }
        set
    }

    /// Adds the scopes of `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (resource, actions) in &other.0 {
            self.0
                .entry(resource.clone())
                .or_default()
                .extend(actions.iter().cloned());
        }
    }

    /// Returns the scopes one by one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(resource, actions)| {
            if actions.is_empty() {
                return resource.clone();
            }
            let actions: Vec<_> = actions.iter().map(String::as_str).collect();
            format!("{resource}:{}", actions.join(","))
        })
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iter().collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_repetition_do_not_count() {
        let a = ScopeSet::parse("repository:a/b:push,pull registry:catalog:*");
        let mut b = ScopeSet::parse("registry:catalog:*  repository:a/b:pull");
        assert_ne!(a, b);
        b.merge(&ScopeSet::parse("repository:a/b:push"));
        assert_eq!(a, b);
        assert_eq!(b.to_string(), "registry:catalog:* repository:a/b:pull,push");
    }

    #[test]
    fn odd_scopes_stay_as_they_are() {
        assert_eq!(ScopeSet::parse("aws").to_string(), "aws");
        assert_eq!(
            ScopeSet::parse("repository:host:5000/a:pull").to_string(),
            "repository:host:5000/a:pull"
        );
        assert_eq!(ScopeSet::parse("").to_string(), "");
    }
}
