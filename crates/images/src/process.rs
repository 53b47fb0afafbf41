//! What to start in an image's root filesystem.

use serde_json::Value;
use unlade_metadata::ConfigRecord;

/// The process that an image's configuration describes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// The entry point and its default arguments; empty if there are none.
    pub command: Vec<String>,
    /// The environment, each `NAME=value`.
    pub environment: Vec<String>,
    /// The user, and perhaps group, by name or number; root if there is none.
    pub user: Option<String>,
    /// The working directory; `/` if there is none.
    pub working_directory: Option<String>,
}

impl Process {
    /// Takes it out of a configuration.
    pub fn of(config: &ConfigRecord) -> Self {
        let run = &config.run;
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Self {
            command: [strings(run.entrypoint.as_ref()), strings(run.cmd.as_ref())].concat(),
            environment: strings(run.env.as_ref()),
            user: filled(&run.user),
            working_directory: filled(&run.working_dir),
        }
    }
}

fn strings(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|value| value.as_str().map(ToOwned::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use unlade_oci::{Digest, MediaType};

    use super::*;

    #[test]
    fn the_entry_point_comes_before_the_arguments() {
        let raw = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},
            "config":{"Entrypoint":["/init"],"Cmd":["-x"],"Env":["A=b"],"User":"","WorkingDir":"/srv"}}"#;
        let config = ConfigRecord::parse(&Digest::sha256(raw), &MediaType::OCI_CONFIG, raw).unwrap();
        let expected = Process {
            command: vec!["/init".to_owned(), "-x".to_owned()],
            environment: vec!["A=b".to_owned()],
            user: None,
            working_directory: Some("/srv".to_owned()),
        };
        assert_eq!(Process::of(&config), expected);
    }
}
