//! What a name leaves open: the default registry, and other names of registries.

use std::collections::BTreeMap;

use crate::Registry;

/// How a name that leaves something open is completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    registry: Registry,
    /// From name to registry; no registry is itself a name here.
    aliases: BTreeMap<Registry, Registry>,
}

impl Defaults {
    /// Returns what holds without any configuration: the default registry is `docker.io`, and `sandboxes.io` is another
    /// name of it.
    pub fn standard() -> Self {
        let sandboxes = "sandboxes.io".parse().map(|from| (from, Registry::docker_hub()));
        Self {
            registry: Registry::docker_hub(),
            aliases: sandboxes.into_iter().collect(),
        }
    }

    /// Returns what canonical names are read with: the default registry is `docker.io`, and every name means itself.
    pub fn without_aliases() -> Self {
        Self {
            registry: Registry::docker_hub(),
            aliases: BTreeMap::new(),
        }
    }

    /// Sets the registry of names that have none.
    #[must_use]
    pub fn with_default_registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Makes `from` another name of `to`.
    ///
    /// An alias of an alias leads to where that one leads; an alias that would lead back to itself is left out.
    #[must_use]
    pub fn with_alias(mut self, from: Registry, to: Registry) -> Self {
        self.aliases.remove(&from);
        let to = self.aliases.get(&to).cloned().unwrap_or(to);
        if from != to {
            for target in self.aliases.values_mut().filter(|target| **target == from) {
                *target = to.clone();
            }
            self.aliases.insert(from, to);
        }
        self
    }

    /// Returns the registry of names that have none, as it was set; it may be an alias.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns the aliases: name and registry meant.
    pub fn aliases(&self) -> impl Iterator<Item = (&Registry, &Registry)> {
        self.aliases.iter()
    }

    /// Returns the registry that a name means, and how it came to that if the name is an alias.
    pub(crate) fn resolve(&self, named: Registry) -> (Registry, Option<Alias>) {
        match self.aliases.get(&named) {
            Some(used) => (
                used.clone(),
                Some(Alias {
                    named,
                    used: used.clone(),
                }),
            ),
            None => (named, None),
        }
    }
}

impl Default for Defaults {
    fn default() -> Self {
        Self::standard()
    }
}

/// A registry was named by an alias.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alias {
    /// The registry as it was typed or configured.
    pub named: Registry,
    /// The registry that it stands for.
    pub used: Registry,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(text: &str) -> Registry {
        text.parse().unwrap()
    }

    #[test]
    fn an_alias_never_leads_to_an_alias() {
        let [a, b, c] = ["a.example", "b.example", "c.example"].map(registry);
        let to_c = [(&a, &c), (&b, &c)];
        let forward = Defaults::without_aliases()
            .with_alias(a.clone(), b.clone())
            .with_alias(b.clone(), c.clone());
        assert_eq!(forward.aliases().collect::<Vec<_>>(), to_c);
        let backward = Defaults::without_aliases()
            .with_alias(b.clone(), c.clone())
            .with_alias(a.clone(), b.clone());
        assert_eq!(backward.aliases().collect::<Vec<_>>(), to_c);
    }

    #[test]
    fn no_circle() {
        let [a, b] = ["a.example", "b.example"].map(registry);
        let circle = Defaults::without_aliases()
            .with_alias(a.clone(), b.clone())
            .with_alias(b.clone(), a.clone())
            .with_alias(a.clone(), a.clone());
        assert_eq!(circle.aliases().count(), 0);
        let once = Defaults::without_aliases()
            .with_alias(a.clone(), b.clone())
            .with_alias(b.clone(), a.clone());
        assert_eq!(once.aliases().collect::<Vec<_>>(), [(&a, &b)]);
    }
}
