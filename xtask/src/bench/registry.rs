//! Debian's `docker-registry` on loopback, filled by `skopeo`.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::{child, program};

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A registry with its data in a directory of its own; it ends when dropped.
#[derive(Debug)]
pub(super) struct Registry {
    server: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Registry {
    pub(super) fn start(work: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("registry-").tempdir_in(work)?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let config = directory.path().join("config.yml");
        let data = directory.path().join("data");
        let text = format!(
            "version: 0.1\nlog:\n  accesslog:\n    disabled: true\n  level: error\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\nhttp:\n  addr: {address}\n",
            data.display()
        );
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let log = File::create(directory.path().join("log")).context("cannot make a log for the registry")?;
        let mut command = program::daemon("docker-registry");
        program::isolate(&mut command, directory.path());
        command.arg("serve").arg(&config).stdin(Stdio::null());
        let server = command
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot run docker-registry (Debian's package docker-registry has it)")?;
        // From here on dropping it ends the server.
        let mut registry = Self {
            server,
            address,
            directory,
        };
        registry.wait_until_it_answers()?;
        Ok(registry)
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let since = Instant::now();
        while since.elapsed() < PATIENCE && self.server.try_wait()?.is_none() {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        bail!("docker-registry does not start:\n{log}");
    }

    /// Pushes the tag `latest` of a layout, bytes unchanged, and returns the reference.
    pub(super) fn push(&self, layout: &Path, repository: &str) -> Result<String> {
        let reference = format!("{}/{repository}:latest", self.address);
        let mut skopeo = Command::new("skopeo");
        program::isolate(&mut skopeo, self.directory.path());
        skopeo.args([
            "--insecure-policy",
            "copy",
            "--all",
            "--preserve-digests",
            "--dest-tls-verify=false",
        ]);
        skopeo.arg(format!("oci:{}:latest", layout.display()));
        child::time(skopeo.arg(format!("docker://{reference}")))
            .with_context(|| format!("cannot push {repository}, with skopeo of Debian's package skopeo"))?;
        Ok(reference)
    }

    /// Keeps the server to the first `cores` cores.
    pub(super) fn keep_to(&self, cores: usize) -> Result<()> {
        let mut taskset = Command::new("taskset");
        taskset.args(["--all-tasks", "--pid", "--cpu-list", &super::cores::list(cores)]);
        child::time(taskset.arg(self.server.id().to_string())).context("cannot keep the registry to some cores")?;
        Ok(())
    }

    /// Returns the processor time that the server has taken so far.
    pub(super) fn cpu_time(&self) -> Result<Duration> {
        child::cpu_time(self.server.id())
    }

    /// Says which registry it is.
    pub(super) fn version() -> String {
        super::peers::version("docker-registry", &["--version"])
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Whether it had ended before or not, now it has.
        let _ended = self.server.kill().and_then(|()| self.server.wait()).is_ok();
    }
}
