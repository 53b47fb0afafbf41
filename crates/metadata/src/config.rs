//! Image configurations: the document taken apart into what an inspection shows, and back.
//!
//! The reading is lenient on purpose. Whether the document is a valid configuration was decided before it came here;
//! a field that docker made up and some tool filled with the wrong type is left out rather than fatal. The document
//! itself is kept and has everything.

use rusqlite::{Row, Transaction, named_params};
use serde_json::{Map, Value};
use unlade_oci::{Digest, MediaType, Platform};

use crate::columns;
use crate::error::{Error, Failure};

/// An image configuration with every field that an inspection shows.
///
/// `None` is a field that the document does not have, or has as `null`. Lists and objects are as they stand there.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigRecord {
    /// The digest of `raw`.
    pub digest: Digest,
    /// Its media type, as the manifest says.
    pub media_type: MediaType,
    /// When the image was made, RFC 3339 as it stands there.
    pub created: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// The architecture; empty if the document names none.
    pub architecture: String,
    /// The architecture's variant.
    pub variant: Option<String>,
    /// The operating system; empty if the document names none.
    pub os: String,
    /// The operating system's version.
    pub os_version: Option<String>,
    /// Features of the operating system that the image needs.
    pub os_features: Option<Value>,
    /// The version of docker that made it.
    pub docker_version: Option<String>,
    /// A remark.
    pub comment: Option<String>,
    /// The container it was made from.
    pub container: Option<String>,
    /// The image it was made from.
    pub parent: Option<String>,
    /// How containers of the image are run.
    pub run: RunRecord,
    /// How it was made, step by step: an array.
    pub history: Option<Value>,
    /// The type of the root filesystem, `layers`.
    pub rootfs_type: Option<String>,
    /// The layers' diff IDs, lowest first, as they stand there.
    pub diff_ids: Vec<String>,
    /// The very bytes received.
    pub raw: Vec<u8>,
}

/// How containers of an image are run: the `config` object of a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunRecord {
    /// The host name.
    pub hostname: Option<String>,
    /// The domain name.
    pub domainname: Option<String>,
    /// The user, and perhaps group.
    pub user: Option<String>,
    /// Whether standard input is attached.
    pub attach_stdin: Option<bool>,
    /// Whether standard output is attached.
    pub attach_stdout: Option<bool>,
    /// Whether standard error is attached.
    pub attach_stderr: Option<bool>,
    /// Whether there is a terminal.
    pub tty: Option<bool>,
    /// Whether standard input is open.
    pub open_stdin: Option<bool>,
    /// Whether standard input closes after the first client.
    pub stdin_once: Option<bool>,
    /// The ports: an object whose keys are `80/tcp` and the like.
    pub exposed_ports: Option<Value>,
    /// The environment: an array of `NAME=value`.
    pub env: Option<Value>,
    /// The default arguments: an array.
    pub cmd: Option<Value>,
    /// The health check: an object.
    pub healthcheck: Option<Value>,
    /// Whether the command is escaped already (Windows).
    pub args_escaped: Option<bool>,
    /// The image it was made from.
    pub image: Option<String>,
    /// The volumes: an object whose keys are paths.
    pub volumes: Option<Value>,
    /// The working directory.
    pub working_dir: Option<String>,
    /// The entry point: an array.
    pub entrypoint: Option<Value>,
    /// Whether there is no network.
    pub network_disabled: Option<bool>,
    /// The MAC address.
    pub mac_address: Option<String>,
    /// Build triggers: an array.
    pub on_build: Option<Value>,
    /// The labels: an object.
    pub labels: Option<Value>,
    /// The signal that stops a container.
    pub stop_signal: Option<String>,
    /// How long stopping may take, in seconds.
    pub stop_timeout: Option<i64>,
    /// The shell of shell-form commands: an array.
    pub shell: Option<Value>,
    /// The memory limit in bytes.
    pub memory: Option<i64>,
    /// The limit of memory and swap in bytes.
    pub memory_swap: Option<i64>,
    /// The share of processor time.
    pub cpu_shares: Option<i64>,
}

impl ConfigRecord {
    /// Takes the configuration `raw` apart.
    ///
    /// Fails only if `raw` is not a JSON object.
    pub fn parse(digest: &Digest, media_type: &MediaType, raw: &[u8]) -> Result<Self, Error> {
        let config_error = |source| Error::Config {
            digest: digest.clone(),
            source,
        };
        let document: Value = serde_json::from_slice(raw).map_err(|source| config_error(Some(source)))?;
        let document = document.as_object().ok_or_else(|| config_error(None))?;
        let rootfs = document.get("rootfs").and_then(Value::as_object);
        let diff_ids = rootfs
            .and_then(|rootfs| rootfs.get("diff_ids"))
            .and_then(Value::as_array);
        Ok(Self {
            digest: digest.clone(),
            media_type: media_type.clone(),
            created: text(document, "created"),
            author: text(document, "author"),
            architecture: text(document, "architecture").unwrap_or_default(),
            variant: text(document, "variant"),
            os: text(document, "os").unwrap_or_default(),
            os_version: text(document, "os.version"),
            os_features: value(document, "os.features"),
            docker_version: text(document, "docker_version"),
            comment: text(document, "comment"),
            container: text(document, "container"),
            parent: text(document, "parent"),
            run: document
                .get("config")
                .and_then(Value::as_object)
                .map(RunRecord::of)
                .unwrap_or_default(),
            history: value(document, "history"),
            rootfs_type: rootfs.and_then(|rootfs| text(rootfs, "type")),
            diff_ids: diff_ids
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            raw: raw.to_vec(),
        })
    }

    /// Returns the platform that the configuration names.
    pub fn platform(&self) -> Platform {
        let features = self.os_features.as_ref().and_then(Value::as_array);
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
            os_version: self.os_version.clone(),
            os_features: features
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        }
    }

    pub(crate) fn insert(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let mut statement = transaction.prepare_cached(INSERT)?;
        let run = &self.run;
        statement.execute(named_params! {
            ":digest": self.digest.to_string(),
            ":media_type": self.media_type.as_str(),
            ":size": columns::integer(self.raw.len() as u64),
            ":created": self.created,
            ":author": self.author,
            ":architecture": self.architecture,
            ":variant": self.variant,
            ":os": self.os,
            ":os_version": self.os_version,
            ":os_features": json(self.os_features.as_ref()),
            ":docker_version": self.docker_version,
            ":comment": self.comment,
            ":container": self.container,
            ":parent": self.parent,
            ":hostname": run.hostname,
            ":domainname": run.domainname,
            ":user": run.user,
            ":attach_stdin": run.attach_stdin,
            ":attach_stdout": run.attach_stdout,
            ":attach_stderr": run.attach_stderr,
            ":tty": run.tty,
            ":open_stdin": run.open_stdin,
            ":stdin_once": run.stdin_once,
            ":exposed_ports": json(run.exposed_ports.as_ref()),
            ":env": json(run.env.as_ref()),
            ":cmd": json(run.cmd.as_ref()),
            ":healthcheck": json(run.healthcheck.as_ref()),
            ":args_escaped": run.args_escaped,
            ":image": run.image,
            ":volumes": json(run.volumes.as_ref()),
            ":working_dir": run.working_dir,
            ":entrypoint": json(run.entrypoint.as_ref()),
            ":network_disabled": run.network_disabled,
            ":mac_address": run.mac_address,
            ":on_build": json(run.on_build.as_ref()),
            ":labels": json(run.labels.as_ref()),
            ":stop_signal": run.stop_signal,
            ":stop_timeout": run.stop_timeout,
            ":shell": json(run.shell.as_ref()),
            ":memory": run.memory,
            ":memory_swap": run.memory_swap,
            ":cpu_shares": run.cpu_shares,
            ":history": json(self.history.as_ref()),
            ":rootfs_type": self.rootfs_type,
            ":diff_ids": columns::json(&self.diff_ids)?,
            ":created_at": columns::now(),
            ":raw": self.raw,
        })?;
        Ok(())
    }

    pub(crate) fn load(transaction: &Transaction<'_>, digest: &Digest) -> Result<Self, Failure> {
        let mut statement = transaction.prepare_cached("SELECT * FROM configs WHERE digest = ?1")?;
        let mut rows = statement.query([digest.to_string()])?;
        let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        Self::from_row(row)
    }

    fn from_row(row: &Row<'_>) -> Result<Self, Failure> {
        Ok(Self {
            digest: columns::digest(row, "digest")?,
            media_type: columns::media_type(row, "media_type")?,
            created: row.get("created")?,
            author: row.get("author")?,
            architecture: row.get("architecture")?,
            variant: row.get("variant")?,
            os: row.get("os")?,
            os_version: row.get("os_version")?,
            os_features: columns::from_optional_json(row, "os_features")?,
            docker_version: row.get("docker_version")?,
            comment: row.get("comment")?,
            container: row.get("container")?,
            parent: row.get("parent")?,
            run: RunRecord::from_row(row)?,
            history: columns::from_optional_json(row, "history")?,
            rootfs_type: row.get("rootfs_type")?,
            diff_ids: columns::from_json(row, "diff_ids")?,
            raw: row.get("raw")?,
        })
    }
}

impl RunRecord {
    fn of(config: &Map<String, Value>) -> Self {
        Self {
            hostname: text(config, "Hostname"),
            domainname: text(config, "Domainname"),
            user: text(config, "User"),
            attach_stdin: flag(config, "AttachStdin"),
            attach_stdout: flag(config, "AttachStdout"),
            attach_stderr: flag(config, "AttachStderr"),
            tty: flag(config, "Tty"),
            open_stdin: flag(config, "OpenStdin"),
            stdin_once: flag(config, "StdinOnce"),
            exposed_ports: value(config, "ExposedPorts"),
            env: value(config, "Env"),
            cmd: value(config, "Cmd"),
            healthcheck: value(config, "Healthcheck"),
            args_escaped: flag(config, "ArgsEscaped"),
            image: text(config, "Image"),
            volumes: value(config, "Volumes"),
            working_dir: text(config, "WorkingDir"),
            entrypoint: value(config, "Entrypoint"),
            network_disabled: flag(config, "NetworkDisabled"),
            mac_address: text(config, "MacAddress"),
            on_build: value(config, "OnBuild"),
            labels: value(config, "Labels"),
            stop_signal: text(config, "StopSignal"),
            stop_timeout: number(config, "StopTimeout"),
            shell: value(config, "Shell"),
            memory: number(config, "Memory"),
            memory_swap: number(config, "MemorySwap"),
            cpu_shares: number(config, "CpuShares"),
        }
    }

    fn from_row(row: &Row<'_>) -> Result<Self, Failure> {
        Ok(Self {
            hostname: row.get("hostname")?,
            domainname: row.get("domainname")?,
            user: row.get("user")?,
            attach_stdin: row.get("attach_stdin")?,
            attach_stdout: row.get("attach_stdout")?,
            attach_stderr: row.get("attach_stderr")?,
            tty: row.get("tty")?,
            open_stdin: row.get("open_stdin")?,
            stdin_once: row.get("stdin_once")?,
            exposed_ports: columns::from_optional_json(row, "exposed_ports")?,
            env: columns::from_optional_json(row, "env")?,
            cmd: columns::from_optional_json(row, "cmd")?,
            healthcheck: columns::from_optional_json(row, "healthcheck")?,
            args_escaped: row.get("args_escaped")?,
            image: row.get("image")?,
            volumes: columns::from_optional_json(row, "volumes")?,
            working_dir: row.get("working_dir")?,
            entrypoint: columns::from_optional_json(row, "entrypoint")?,
            network_disabled: row.get("network_disabled")?,
            mac_address: row.get("mac_address")?,
            on_build: columns::from_optional_json(row, "on_build")?,
            labels: columns::from_optional_json(row, "labels")?,
            stop_signal: row.get("stop_signal")?,
            stop_timeout: row.get("stop_timeout")?,
            shell: columns::from_optional_json(row, "shell")?,
            memory: row.get("memory")?,
            memory_swap: row.get("memory_swap")?,
            cpu_shares: row.get("cpu_shares")?,
        })
    }
}

const INSERT: &str = "
INSERT INTO configs (
    digest, media_type, size, created, author, architecture, variant, os, os_version, os_features, docker_version,
    comment, container, parent, hostname, domainname, user, attach_stdin, attach_stdout, attach_stderr, tty,
    open_stdin, stdin_once, exposed_ports, env, cmd, healthcheck, args_escaped, image, volumes, working_dir,
    entrypoint, network_disabled, mac_address, on_build, labels, stop_signal, stop_timeout, shell, memory,
    memory_swap, cpu_shares, history, rootfs_type, diff_ids, created_at, raw
) VALUES (
    :digest, :media_type, :size, :created, :author, :architecture, :variant, :os, :os_version, :os_features,
    :docker_version, :comment, :container, :parent, :hostname, :domainname, :user, :attach_stdin, :attach_stdout,
    :attach_stderr, :tty, :open_stdin, :stdin_once, :exposed_ports, :env, :cmd, :healthcheck, :args_escaped, :image,
    :volumes, :working_dir, :entrypoint, :network_disabled, :mac_address, :on_build, :labels, :stop_signal,
    :stop_timeout, :shell, :memory, :memory_swap, :cpu_shares, :history, :rootfs_type, :diff_ids, :created_at, :raw
) ON CONFLICT (digest) DO NOTHING";

fn text(object: &Map<String, Value>, key: &str) -> Option<String> {
    object.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn flag(object: &Map<String, Value>, key: &str) -> Option<bool> {
    object.get(key).and_then(Value::as_bool)
}

fn number(object: &Map<String, Value>, key: &str) -> Option<i64> {
    object.get(key).and_then(Value::as_i64)
}

fn value(object: &Map<String, Value>, key: &str) -> Option<Value> {
    object.get(key).filter(|value| !value.is_null()).cloned()
}

fn json(value: Option<&Value>) -> Option<String> {
    value.map(Value::to_string)
}
