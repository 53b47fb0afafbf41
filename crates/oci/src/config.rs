//! The image configuration: what an image runs on, how it runs, and what its layers are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::DocumentError;
use crate::lenient;
use crate::{Digest, Platform};

/// An image configuration (image-spec, `config.md`), with what docker adds to it.
///
/// Members that no specification names are not kept here; the bytes of the document have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageConfig {
    /// The CPU architecture, as written; may be empty.
    pub architecture: String,
    /// The operating system, as written; may be empty.
    pub os: String,
    /// The variant of the architecture.
    pub variant: Option<String>,
    /// The version of the operating system.
    pub os_version: Option<String>,
    /// Features of the operating system that the image needs.
    pub os_features: Vec<String>,
    /// When the image was made, as written; RFC 3339 in a valid document.
    pub created: Option<String>,
    /// Who made the image.
    pub author: Option<String>,
    /// The version of docker that made the image.
    pub docker_version: Option<String>,
    /// A remark of its maker.
    pub comment: Option<String>,
    /// How to run a container of the image.
    pub config: ContainerConfig,
    /// The digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
    /// How the image came to be, oldest first; entries that are not `empty_layer` belong to the layers, in order.
    pub history: Vec<History>,
}

impl ImageConfig {
    /// Returns the platform that the image was built for, normalised.
    ///
    /// Its parts are empty where the configuration does not say, see [`Platform::is_empty`].
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
        }
        .normalized()
    }

    /// Checks what was read from a document.
    pub(crate) fn from_wire(wire: WireConfig) -> Result<Self, DocumentError> {
        if !matches!(wire.rootfs.r#type.as_str(), "" | "layers") {
            return Err(DocumentError::RootfsType {
                found: wire.rootfs.r#type,
            });
        }
        let diff_ids = wire.rootfs.diff_ids.iter().enumerate().map(|(position, text)| {
            text.parse().map_err(|source| DocumentError::Digest {
                place: format!("diff_ids[{position}]"),
                source,
            })
        });
        Ok(Self {
            diff_ids: diff_ids.collect::<Result<_, _>>()?,
            architecture: wire.architecture,
            os: wire.os,
            variant: wire.variant,
            os_version: wire.os_version,
            os_features: wire.os_features,
            created: wire.created,
            author: wire.author,
            docker_version: wire.docker_version,
            comment: wire.comment,
            config: wire.config,
            history: wire.history,
        })
    }
}

/// How to run a container of an image: the `config` member of the image configuration.
///
/// Serialised, it has the names of the specification and of docker, and leaves out what is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// The user, and perhaps the group, as name or number: `user`, `uid:gid` and so on.
    #[serde(deserialize_with = "lenient::text", skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The ports a container serves, as `80/tcp`; sorted.
    #[serde(
        deserialize_with = "lenient::go_set",
        serialize_with = "go_set",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub exposed_ports: Vec<String>,
    /// The environment, each entry as `NAME=value`.
    #[serde(deserialize_with = "lenient::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The command that is always run, with its first arguments.
    #[serde(deserialize_with = "lenient::one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The arguments, or without an entry point the command, that a user may replace.
    #[serde(deserialize_with = "lenient::one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// The directories that hold data of a container; sorted.
    #[serde(
        deserialize_with = "lenient::go_set",
        serialize_with = "go_set",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub volumes: Vec<String>,
    /// The directory to start in.
    #[serde(deserialize_with = "lenient::text", skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Free-form notes.
    #[serde(
        deserialize_with = "lenient::null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// The signal that ends a container, as name or number.
    #[serde(deserialize_with = "lenient::text", skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How many seconds a container has to end after its signal (docker).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Whether the command is escaped for Windows already.
    #[serde(
        deserialize_with = "lenient::null_is_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub args_escaped: bool,
    /// How to tell whether a container is well (docker).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for builds that start from the image (docker).
    #[serde(deserialize_with = "lenient::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// The shell of a build's commands (docker).
    #[serde(deserialize_with = "lenient::one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}

/// How docker tells whether a container is well; times are nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", command]`; empty to inherit.
    #[serde(deserialize_with = "lenient::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// The time between two checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    /// The time after which a check counts as failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// The time at the start in which failures do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<i64>,
    /// The time between two checks during the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<i64>,
    /// How many failures in a row make a container unwell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<i64>,
}

/// One step of an image's making.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, as written; RFC 3339 in a valid document.
    #[serde(deserialize_with = "lenient::text", skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(deserialize_with = "lenient::text", skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(deserialize_with = "lenient::text", skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark.
    #[serde(deserialize_with = "lenient::text", skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(
        deserialize_with = "lenient::null_is_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub empty_layer: bool,
}

/// An image configuration as it stands in a document, before its digests are looked at.
#[derive(Deserialize)]
pub(crate) struct WireConfig {
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    architecture: String,
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    os: String,
    #[serde(default, deserialize_with = "lenient::text")]
    variant: Option<String>,
    #[serde(default, rename = "os.version", deserialize_with = "lenient::text")]
    os_version: Option<String>,
    #[serde(default, rename = "os.features", deserialize_with = "lenient::null_is_default")]
    os_features: Vec<String>,
    #[serde(default, deserialize_with = "lenient::text")]
    created: Option<String>,
    #[serde(default, deserialize_with = "lenient::text")]
    author: Option<String>,
    #[serde(default, deserialize_with = "lenient::text")]
    docker_version: Option<String>,
    #[serde(default, deserialize_with = "lenient::text")]
    comment: Option<String>,
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    config: ContainerConfig,
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    rootfs: WireRootfs,
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    history: Vec<History>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireRootfs {
    #[serde(deserialize_with = "lenient::null_is_default")]
    r#type: String,
    #[serde(deserialize_with = "lenient::null_is_default")]
    diff_ids: Vec<String>,
}

/// Writes a list as Go writes a set: an object of empty objects.
fn go_set<S: serde::Serializer>(names: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(names.iter().map(|name| (name, BTreeMap::<String, String>::new())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &serde_json::Value) -> Result<ImageConfig, DocumentError> {
        ImageConfig::from_wire(serde_json::from_value(value.clone()).unwrap())
    }

    #[test]
    fn everything_docker_writes() {
        let diff_id = Digest::sha256("x");
        let container = json!({
            "User": "1000:1000", "ExposedPorts": {"80/tcp": {}, "443/tcp": {}}, "Env": ["A=b"],
            "Entrypoint": ["/init"], "Cmd": ["-v"], "Volumes": {"/data": {}}, "WorkingDir": "/srv",
            "Labels": {"a": "b"}, "StopSignal": "SIGQUIT", "StopTimeout": 3, "ArgsEscaped": true,
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000, "Retries": 3},
            "OnBuild": ["RUN x"], "Shell": ["/bin/sh", "-c"],
        });
        let config = read(&json!({
            "architecture": "arm64", "os": "linux", "variant": "v8", "created": "2024-01-01T00:00:00Z",
            "author": "a", "docker_version": "27.0", "comment": "c", "container": "deadbeef",
            "container_config": {"Hostname": "x"}, "config": container,
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "ADD"}, {"created_by": "CMD", "empty_layer": true}],
        }))
        .unwrap();
        assert_eq!(config.platform().to_string(), "linux/arm64");
        assert_eq!(config.diff_ids, [diff_id]);
        assert_eq!(config.config.exposed_ports, ["443/tcp", "80/tcp"]);
        assert_eq!(
            config.history.iter().map(|step| step.empty_layer).collect::<Vec<_>>(),
            [false, true]
        );
        assert_eq!(serde_json::to_value(&config.config).unwrap(), container);
    }

    #[test]
    fn nulls_and_odd_values_that_go_reads() {
        let config = read(&json!({
            "architecture": "vax", "os": null, "variant": "", "created": null, "os.features": null,
            "config": {
                "User": null, "ExposedPorts": null, "Env": null, "Entrypoint": "/init", "Cmd": null,
                "Volumes": {"/data": null}, "Labels": null, "Healthcheck": null, "OnBuild": null, "Shell": null,
                "ArgsEscaped": null, "Memory": 0,
            },
            "rootfs": {"type": "layers", "diff_ids": null}, "history": null,
        }))
        .unwrap();
        assert_eq!(
            (config.os.as_str(), config.architecture.as_str(), config.variant),
            ("", "vax", None)
        );
        assert_eq!(config.config.entrypoint, ["/init"]);
        assert_eq!(config.config.volumes, ["/data"]);
        assert_eq!(config.config.cmd, [""; 0]);
        assert_eq!((config.diff_ids.len(), config.history.len()), (0, 0));
        assert_eq!(serde_json::to_value(ContainerConfig::default()).unwrap(), json!({}));

        let empty = read(&json!({})).unwrap();
        assert!(empty.platform().is_empty());
    }

    #[test]
    fn refused() {
        let error =
            read(&json!({"rootfs": {"type": "layers", "diff_ids": [Digest::sha256(""), "sha256:1"]}})).unwrap_err();
        assert_eq!(error.to_string(), "diff_ids[1] has an invalid digest");
        let error = read(&json!({"rootfs": {"type": "btrfs"}})).unwrap_err();
        assert!(
            matches!(&error, DocumentError::RootfsType { found } if found == "btrfs"),
            "{error}"
        );
    }
}
