//! containerd with a daemon of its own: everything of it lies on the filesystem that was made for the run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::super::{child, interrupt, program, system_calls};
use child::Usage;

/// How long the daemon may take to answer, or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon; it ends when dropped.
#[derive(Debug)]
pub(super) struct Daemon {
    server: Child,
    /// For the socket, whose path must be short, and for what is gone after a restart anyway.
    state: TempDir,
    disk: PathBuf,
}

/// Returns where the layers' directories are.
pub(super) fn snapshots(disk: &Path) -> PathBuf {
    disk.join("containerd/io.containerd.snapshotter.v1.overlayfs/snapshots")
}

impl Daemon {
    pub(super) fn start(disk: &Path) -> Result<Self> {
        let state = tempfile::Builder::new().prefix("containerd-").tempdir()?;
        let config = state.path().join("config.toml");
        let text = format!(
            "version = 2\nroot = '{}'\nstate = '{}'\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \
             '{}'\n[ttrpc]\naddress = '{}'\n",
            disk.join("containerd").display(),
            state.path().join("run").display(),
            state.path().join("socket").display(),
            state.path().join("ttrpc").display(),
        );
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let log = File::create(state.path().join("log")).context("cannot make a log for containerd")?;
        let mut command = program::daemon("containerd");
        program::isolate(&mut command, disk);
        command.arg("--config").arg(&config).stdin(Stdio::null());
        let server = command.stdout(log.try_clone()?).stderr(log).spawn();
        // From here on dropping it ends the server.
        let mut daemon = Self {
            server: server.context("cannot run containerd")?,
            state,
            disk: disk.to_owned(),
        };
        daemon.wait_until_it_answers()?;
        Ok(daemon)
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let since = Instant::now();
        while since.elapsed() < PATIENCE && self.server.try_wait()?.is_none() {
            if child::time(self.control().arg("version")).is_ok() {
                return Ok(());
            }
            interrupt::check()?;
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = fs::read_to_string(self.state.path().join("log")).unwrap_or_default();
        bail!("containerd does not start:\n{log}");
    }

    fn control(&self) -> Command {
        let mut command = Command::new("ctr");
        program::isolate(&mut command, &self.disk);
        command.arg("--address").arg(self.state.path().join("socket"));
        command
    }

    fn pull(&self, reference: &str) -> Command {
        let mut command = self.control();
        command.args([
            "images",
            "pull",
            "--plain-http",
            "--snapshotter",
            "overlayfs",
            reference,
        ]);
        command
    }

    /// Pulls, and adds what the daemon took to what its client took. Both have their memory at the same time.
    pub(super) fn watch(&self, reference: &str) -> Result<Usage> {
        let before = child::Counters::of(self.server.id())?;
        let client = child::watch(&mut self.pull(reference))?;
        let after = child::Counters::of(self.server.id())?;
        Ok(Usage {
            wall: client.wall,
            cpu: client.cpu + after.cpu.saturating_sub(before.cpu),
            peak: client.peak + after.peak,
            written: client
                .written
                .map(|written| written + after.written.saturating_sub(before.written)),
        })
    }

    /// Pulls while strace counts what the daemon and its client do.
    pub(super) fn count_calls(&self, reference: &str) -> Result<Option<u64>> {
        let counts = self.state.path().join("daemon-calls");
        let Some(strace) = system_calls::Attached::to(self.server.id(), &counts)? else {
            return Ok(None);
        };
        let client = system_calls::count(&self.pull(reference), self.state.path())?;
        let daemon = strace.finish()?;
        Ok(client.zip(daemon).map(|(client, daemon)| client + daemon))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It is asked to end first, since it holds the filesystem that is about to be unmounted.
        let asked =
            Pid::from_raw(self.server.id().cast_signed()).is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
        let since = Instant::now();
        while asked && since.elapsed() < PATIENCE && matches!(self.server.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ended = self.server.kill().and_then(|()| self.server.wait()).is_ok();
    }
}
