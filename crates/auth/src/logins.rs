//! Everything that files and helpers know, for a person who wonders which login is used.

use std::collections::BTreeSet;

use unlade_reference::Registry;

use crate::files::Step;
use crate::key::{Target, parse};
use crate::{ConfigFiles, Found, Warning};

/// All that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logins {
    /// The logins, ordered by name.
    pub known: Vec<KnownLogin>,
    /// What went wrong on the way to them.
    pub warnings: Vec<Warning>,
}

/// What is known for a registry, or for the repositories of one below a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownLogin {
    /// The registry.
    pub registry: Registry,
    /// The path below which the repositories are; empty if it is for all of the registry.
    pub path: String,
    /// What is used.
    pub used: Found,
    /// What would be used without that, in order.
    pub shadowed: Vec<Found>,
}

impl KnownLogin {
    /// Returns the name as it is written in a file: `ghcr.io`, `ghcr.io/team`.
    pub fn name(&self) -> String {
        if self.path.is_empty() {
            self.registry.to_string()
        } else {
            format!("{}/{}", self.registry, self.path)
        }
    }
}

impl ConfigFiles {
    /// Lists what the files and the helpers that they name know, each with all places that know it.
    ///
    /// Helpers are asked what they hold. One that does not answer in time is not asked again.
    pub fn logins(&self) -> Logins {
        let mut warnings = Vec::new();
        let mut names = BTreeSet::new();
        let mut silent = BTreeSet::new();
        let mut add = |key: &str| {
            names.extend(parse(key).map(|(registry, path)| (registry, path.to_owned())));
        };
        for config in &self.configs {
            config.keys().for_each(&mut add);
            for (name, keys) in config.helpers() {
                keys.into_iter().for_each(&mut add);
                if config.store() != Some(name) {
                    continue;
                }
                match self.helper(config, name).list(self.helper_timeout()) {
                    Ok(servers) => servers.iter().map(String::as_str).for_each(&mut add),
                    Err(warning) => {
                        if matches!(warning, Warning::HelperTimedOut { .. } | Warning::HelperMissing { .. }) {
                            silent.insert(name);
                        }
                        warnings.push(warning);
                    }
                }
            }
        }
        let mut known = Vec::new();
        for (registry, path) in &names {
            let target = Target { registry, path };
            let steps = self
                .steps(target)
                .filter(|step| !matches!(step, Step::Helper(_, _, name) if silent.contains(name)));
            let mut found = steps.filter_map(|step| self.take(&step, target, &mut warnings));
            if let Some(used) = found.next() {
                known.push(KnownLogin {
                    registry: registry.clone(),
                    path: path.clone(),
                    used,
                    shadowed: found.collect(),
                });
            }
        }
        let mut told = Vec::new();
        warnings.retain(|warning| {
            let is_new = !told.contains(warning);
            told.push(warning.clone());
            is_new
        });
        Logins { known, warnings }
    }
}
